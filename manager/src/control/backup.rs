//! Backups, streamed by whichever manager is asked: the leader only says up to where it must have come.

use std::{sync::Arc, time::Duration};

use minder_model::Revision;
use minder_proto::v1;
use minder_state::{BackupHeader, State, backup_pieces};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, linearize};
use crate::{
    clock::wall_ms,
    core::Core,
    forward::{is_forwarded, leader_elsewhere, mark_forwarded, while_leading},
};

/// Pieces of a quarter of a MiB that wait for a slow reader.
const PIECES_QUEUED: usize = 4;
/// A reader that takes nothing for this long has gone; its thread is needed.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// How long the leader may take to say where it stands, and this manager to come there.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(5);
/// While it comes there, this manager is looked at this often.
const LOOK: Duration = Duration::from_millis(5);

type Sender = mpsc::Sender<Result<v1::BackupChunk, Status>>;

pub async fn save(
    core: &Arc<Core>,
    request: tonic::Request<v1::SaveBackupRequest>,
) -> Result<Answers<v1::BackupChunk>, Status> {
    let forwarded = is_forwarded(&request);
    let request = request.into_inner();
    if !request.options.as_ref().is_some_and(|options| options.stale) {
        catch_up(core, forwarded).await?;
    }
    if request.position_only {
        let (_, revision) = core.node.snapshot_state();
        let chunk = v1::BackupChunk { position: Some(core.position(revision)), ..Default::default() };
        return Ok(Box::pin(tokio_stream::once(Ok(chunk))));
    }
    let busy = |_| Status::resource_exhausted("this manager is saving other backups; try again when they are through");
    let permit = core.backups.clone().try_acquire_owned().map_err(busy)?;
    let (header, state) = core.node.backup(wall_ms()).ok_or_else(|| {
        Status::failed_precondition("this manager belongs to no cluster yet, so there is nothing to back up")
    })?;
    tracing::info!(revision = %header.revision, "a backup is being saved");
    let position = core.position(header.revision);
    let (sender, receiver) = mpsc::channel(PIECES_QUEUED);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || send(&runtime, &header, &state, position, &sender, permit));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Waits until this manager has applied everything that was acknowledged before.
async fn catch_up(core: &Core, forwarded: bool) -> Result<(), Status> {
    let Some(leader) = leader_elsewhere(core, forwarded).await? else {
        return linearize(core).await.map(|_| ());
    };
    let mut control = v1::control_client::ControlClient::new(leader.channel);
    let mut request =
        mark_forwarded(tonic::Request::new(v1::SaveBackupRequest { position_only: true, ..Default::default() }));
    request.set_timeout(CATCH_UP_DEADLINE);
    let asked = async { control.save_backup(request).await?.into_inner().message().await };
    let position = while_leading(core, leader.id, asked).await?.and_then(|chunk| chunk.position);
    let revision = Revision(position.ok_or_else(|| Status::internal("the leader says no position"))?.revision);
    let caught_up = async {
        while core.node.snapshot_state().1 < revision {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(CATCH_UP_DEADLINE, caught_up).await.map_err(|_| {
        Status::unavailable(format!(
            "this manager did not come to revision {revision} within {CATCH_UP_DEADLINE:?}; ask another one"
        ))
    })
}

/// Encodes the table piece by piece, as fast as the reader takes them, on a thread of its own.
fn send(
    runtime: &tokio::runtime::Handle,
    header: &BackupHeader,
    state: &State,
    position: v1::Position,
    sender: &Sender,
    _permit: OwnedSemaphorePermit,
) {
    let mut position = Some(position);
    for data in backup_pieces(header, state) {
        let chunk = v1::BackupChunk { position: position.take(), data: data.into() };
        let sent = runtime.block_on(async { tokio::time::timeout(PIECE_DEADLINE, sender.send(Ok(chunk))).await });
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!(revision = %header.revision, "whoever saved a backup has gone before its end");
            return;
        }
    }
}
