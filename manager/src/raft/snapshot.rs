//! Snapshots between managers: a file in pieces, each with its own deadline, so that a large one takes as long as it
//! takes while a stuck one is given up.

use std::time::Duration;

use minder_proto::v1::{self, peer_client::PeerClient};
use minder_raft_store::{Raft, SnapshotFile, Store, TypeConfig, decode_snapshot_meta};
use openraft::{
    StorageError,
    errors::{ErrorSource, StreamingError, Unreachable},
    impls::BoxedErrorSource,
    raft::SnapshotResponse,
    storage::Snapshot,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{network::failed, wire};

/// Small enough to share a connection fairly, large enough to be quick.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait to be sent: the next is read while one is on its way.
const PIECES_QUEUED: usize = 4;
/// A piece that cannot be handed over for this long means that the peer makes no progress.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// After the last piece the receiver checks and installs the whole: seconds for hundreds of megabytes.
const INSTALL_DEADLINE: Duration = Duration::from_secs(60);

type SendError = StreamingError<TypeConfig>;

/// Sends a whole snapshot, `first` being its announcement, and waits until the peer has installed it.
pub async fn send(
    mut client: PeerClient<Channel>,
    file: SnapshotFile,
    first: v1::SnapshotChunk,
) -> Result<SnapshotResponse<TypeConfig>, SendError> {
    let (pieces, queue) = mpsc::channel(PIECES_QUEUED);
    let feeding = feed(file, first, pieces);
    let call = client.install_snapshot(ReceiverStream::new(queue));
    tokio::pin!(feeding, call);
    // The call takes what the feeder reads, so both are driven; an answer before the end is a refusal.
    let answered = tokio::select! {
        answered = &mut call => answered,
        fed = &mut feeding => {
            fed?;
            tokio::time::timeout(PIECE_DEADLINE + INSTALL_DEADLINE, call)
                .await
                .map_err(|_| Unreachable::from_string("the snapshot was sent but not installed in time"))?
        }
    };
    let reply = answered.map_err(|status| failed(&status))?.into_inner();
    let vote = wire::vote_from_wire(reply.vote).map_err(|status| failed(&status))?;
    Ok(SnapshotResponse::new(vote))
}

/// Reads the file and hands its pieces over, as fast as the peer takes them.
async fn feed(
    file: SnapshotFile,
    first: v1::SnapshotChunk,
    pieces: mpsc::Sender<v1::SnapshotChunk>,
) -> Result<(), SendError> {
    let mut next = first;
    let mut offset = 0;
    loop {
        let handed = tokio::time::timeout(PIECE_DEADLINE, pieces.send(next)).await;
        if !matches!(handed, Ok(Ok(()))) {
            return Err(Unreachable::from_string("the snapshot makes no progress").into());
        }
        let mut data = vec![0; PIECE_BYTES];
        let read = file.read_at(&mut data, offset).map_err(|error| {
            let signature = Some(file.meta().signature());
            StreamingError::StorageError(StorageError::read_snapshot(signature, BoxedErrorSource::from_error(&error)))
        })?;
        if read == 0 {
            return Ok(());
        }
        data.truncate(read);
        offset += read as u64;
        next = v1::SnapshotChunk { data: data.into(), ..Default::default() };
    }
}

/// Takes in a snapshot that began with `first`, checks it, installs it.
pub async fn receive(
    store: &Store,
    raft: &Raft,
    first: v1::SnapshotChunk,
    mut pieces: Streaming<v1::SnapshotChunk>,
) -> Result<v1::SnapshotReply, Status> {
    let vote = wire::vote_from_wire(first.vote)?;
    let meta = decode_snapshot_meta(&first.meta).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let refused = |error: std::io::Error| Status::data_loss(format!("snapshot: {error}"));
    let mut receiver = store.receive_snapshot().map_err(refused)?;
    loop {
        let piece = tokio::time::timeout(PIECE_DEADLINE, pieces.message()).await;
        match piece.map_err(|_| Status::deadline_exceeded("the snapshot makes no progress"))?? {
            // A piece goes to the page cache: quick enough for the async thread it is on.
            Some(piece) => receiver.write(&piece.data).map_err(refused)?,
            None => break,
        }
    }
    let snapshot = minder_raft_store::blocking(|| receiver.finish()).await.map_err(refused)?;
    if *snapshot.meta() != meta {
        return Err(Status::data_loss("the snapshot does not cover what it was announced to"));
    }
    tracing::info!(bytes = snapshot.bytes(), "snapshot received; installing it");
    let installed = raft.install_full_snapshot(vote, Snapshot { meta, snapshot });
    let response = tokio::time::timeout(INSTALL_DEADLINE, installed)
        .await
        .map_err(|_| Status::deadline_exceeded("the snapshot was not installed in time"))?
        .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
    Ok(v1::SnapshotReply { vote: Some(wire::vote_to_wire(&response.vote)) })
}
