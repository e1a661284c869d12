//! Every call of the contract, by its name.

use minder_model::Spec;
use minder_proto::{convert::spec::spec_to_wire, v1};
use tonic::Streaming;

use crate::{
    client::{Client, Control, Write},
    error::Error,
    watch::{DesiredWatch, InstanceWatch},
};

impl Client {
    /// Writes specs, all or none.
    pub async fn apply(&self, specs: &[Spec], write: &Write) -> Result<v1::WriteReply, Error> {
        let options = self.options(write);
        let id = options.request_id.clone();
        let request = v1::ApplyRequest { specs: specs.iter().map(spec_to_wire).collect(), options: Some(options) };
        self.write(request, &id, |mut control, request| async move { control.apply(request).await }).await
    }

    /// Forgets processes and stops what runs of them.
    pub async fn delete(&self, processes: Vec<String>, write: &Write) -> Result<v1::WriteReply, Error> {
        let options = self.options(write);
        let id = options.request_id.clone();
        let request = v1::DeleteRequest { processes, options: Some(options) };
        self.write(request, &id, |mut control, request| async move { control.delete(request).await }).await
    }

    /// Starts, stops, restarts, retries or signals instances. `signal` matters for a signal only.
    pub async fn order(
        &self,
        kind: v1::OrderKind,
        signal: u32,
        selection: v1::Selection,
        write: &Write,
    ) -> Result<v1::WriteReply, Error> {
        let options = self.options(write);
        let id = options.request_id.clone();
        let request =
            v1::OrderRequest { selection: Some(selection), kind: kind.into(), signal, options: Some(options) };
        self.write(request, &id, |mut control, request| async move { control.order(request).await }).await
    }

    /// Sets and unsets labels of a host.
    pub async fn label_host(
        &self,
        host: &str,
        set: impl IntoIterator<Item = (String, String)>,
        unset: Vec<String>,
        write: &Write,
    ) -> Result<v1::WriteReply, Error> {
        let options = self.options(write);
        let id = options.request_id.clone();
        let request =
            v1::LabelHostRequest { host: host.into(), set: set.into_iter().collect(), unset, options: Some(options) };
        self.write(request, &id, |mut control, request| async move { control.label_host(request).await }).await
    }

    /// Forgets a host that is gone.
    pub async fn remove_host(&self, host: &str, write: &Write) -> Result<v1::WriteReply, Error> {
        let options = self.options(write);
        let id = options.request_id.clone();
        let request = v1::RemoveHostRequest { host: host.into(), options: Some(options) };
        self.write(request, &id, |mut control, request| async move { control.remove_host(request).await }).await
    }

    /// Forms a cluster of the managers at these peer addresses. Once in a cluster's life; the first manager of this
    /// client's list is asked.
    pub async fn init(&self, peer_addresses: Vec<String>) -> Result<v1::InitReply, Error> {
        let request = v1::InitRequest { peer_addresses };
        self.read(request, |mut control, request| async move { control.init(request).await }, |_| None).await
    }

    /// The declared processes that a selection names; an empty one names all.
    pub async fn processes(&self, selection: v1::Selection, stale: bool) -> Result<v1::GetProcessesReply, Error> {
        let options = Some(v1::ReadOptions { stale });
        let request = v1::GetProcessesRequest { selection: Some(selection), options };
        self.read(
            request,
            |mut control, request| async move { control.get_processes(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// The selected instances, wanted and seen; an empty selection selects all.
    pub async fn instances(&self, selection: v1::Selection) -> Result<v1::ListInstancesReply, Error> {
        let request = v1::ListInstancesRequest { selection: Some(selection) };
        self.read(
            request,
            |mut control, request| async move { control.list_instances(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// Why an instance is in its state, what comes next, what to do.
    pub async fn explain(&self, instance: v1::InstanceName) -> Result<v1::ExplainReply, Error> {
        let request = v1::ExplainRequest { instance: Some(instance) };
        self.read(
            request,
            |mut control, request| async move { control.explain(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// The hosts whose names fit one of the patterns; none means all.
    pub async fn hosts(&self, patterns: Vec<String>) -> Result<v1::ListHostsReply, Error> {
        let request = v1::ListHostsRequest { patterns };
        self.read(
            request,
            |mut control, request| async move { control.list_hosts(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// One host, by name or by the address its slave announced.
    pub async fn host(&self, host: &str) -> Result<v1::GetHostReply, Error> {
        let request = v1::GetHostRequest { host: host.into() };
        self.read(
            request,
            |mut control, request| async move { control.get_host(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// The last hour of a machine, by its name or the address its slave announced.
    pub async fn host_history(&self, host: &str) -> Result<v1::GetHostHistoryReply, Error> {
        let request = v1::GetHostHistoryRequest { host: host.into() };
        self.read(
            request,
            |mut control, request| async move { control.get_host_history(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// How the managers stand; with `local`, what the asked one knows by itself. One that belongs to no cluster can tell
    /// of itself alone, and does when none of the others knows more.
    pub async fn managers(&self, local: bool) -> Result<v1::GetManagersReply, Error> {
        let mut reply = self.ask_for_managers(local).await?;
        for _ in 1..self.servers().len() {
            if local || !reply.cluster_id.is_empty() {
                break;
            }
            self.ask_another();
            // It was answered once, so nobody has to wait for one who is away.
            let Ok(another) = self.ask_for_managers(local).await else { break };
            reply = another;
        }
        self.learn_managers(reply.managers.iter().filter_map(|manager| manager.member.as_ref()));
        Ok(reply)
    }

    async fn ask_for_managers(&self, local: bool) -> Result<v1::GetManagersReply, Error> {
        let send = |mut control: Control, request| async move { control.get_managers(request).await };
        self.read(v1::GetManagersRequest { local }, send, |reply: &v1::GetManagersReply| reply.position.as_ref()).await
    }

    /// Which version of commands the cluster takes and which its managers know. With `finalize` it takes from then on what
    /// all of them know, and there is no way back.
    pub async fn upgrade_managers(&self, finalize: bool) -> Result<v1::UpgradeManagersReply, Error> {
        let request = v1::UpgradeManagersRequest { finalize, actor: self.actor().to_owned() };
        self.read(
            request,
            |mut control, request| async move { control.upgrade_managers(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// Hands leadership to a manager by node id; 0 lets the leader choose.
    pub async fn transfer_leader(&self, to: u64) -> Result<v1::TransferLeaderReply, Error> {
        let request = v1::TransferLeaderRequest { to };
        self.read(
            request,
            |mut control, request| async move { control.transfer_leader(request).await },
            |reply| reply.position.as_ref(),
        )
        .await
    }

    /// Does harm on purpose, where the managers and slaves concerned let it be done, or only says whether they do. Said once
    /// at the most: when the answer is lost, nobody knows.
    pub async fn drill(&self, request: v1::DrillRequest) -> Result<v1::DrillReply, Error> {
        self.once(request, |mut control, request| async move { control.drill(request).await }).await
    }

    /// The table as a backup, in pieces that `minder_state::BackupReader` takes. Ends with an error when its manager goes:
    /// what came so far is worth nothing then. A stale one is what the asked manager has, also without a leader.
    pub async fn save_backup(&self, stale: bool) -> Result<Streaming<v1::BackupChunk>, Error> {
        let request = v1::SaveBackupRequest { options: Some(v1::ReadOptions { stale }), position_only: false };
        let opened =
            self.open(request, |mut control, request| async move { control.save_backup(request).await }).await?;
        Ok(opened.1)
    }

    /// Follows the selected instances: the whole at once, and again each time one of them changes.
    pub fn watch_instances(&self, selection: v1::Selection) -> InstanceWatch<'_> {
        InstanceWatch::new(self, selection)
    }

    /// Follows the desired state after a revision.
    pub fn watch(&self, after_revision: u64) -> DesiredWatch<'_> {
        DesiredWatch::new(self, after_revision)
    }

    /// What happened in the fleet, newest last. Ends with an error when its manager goes; ask again then.
    pub async fn events(&self, request: v1::EventsRequest) -> Result<Streaming<v1::Event>, Error> {
        let opened = self.open(request, |mut control, request| async move { control.events(request).await }).await?;
        Ok(opened.1)
    }

    /// Output of instances. Ends with an error when its manager goes; ask again then.
    pub async fn logs(&self, request: v1::LogsRequest) -> Result<Streaming<v1::LogChunk>, Error> {
        let opened = self.open(request, |mut control, request| async move { control.logs(request).await }).await?;
        Ok(opened.1)
    }
}
