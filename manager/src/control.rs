//! The `Control` service. This file only routes: each kind of call has its own file.

mod apply;
mod backup;
mod drill;
mod events;
mod hosts;
mod init;
mod instances;
mod log_stream;
mod managers;
mod membership;
mod order;
mod processes;
mod room;
mod version;
mod watch;
mod wire;
mod write;

pub use room::Room;

use std::{pin::Pin, sync::Arc};

use minder_model::Revision;
use minder_proto::v1;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use self::membership::Change;
use crate::core::Core;

/// The `Control` service of one manager.
pub struct ControlService {
    core: Arc<Core>,
}

impl ControlService {
    /// Answers for this manager.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// Every streaming answer.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Puts an answer into its envelope, or the answering manager's position beside the refusal.
fn answer<T>(core: &Core, result: Result<T, Status>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|status| wire::with_position(core, status))
}

/// A point in the log that everything acknowledged before this call lies before, applied here.
async fn linearize(core: &Core) -> Result<Revision, Status> {
    core.node.confirm().await.map_err(|error| wire::read_error(core, &error))
}

#[tonic::async_trait]
impl v1::control_server::Control for ControlService {
    type WatchStream = Answers<v1::WatchEvent>;
    type WatchInstancesStream = Answers<v1::ListInstancesReply>;
    type EventsStream = Answers<v1::Event>;
    type LogsStream = Answers<v1::LogChunk>;
    type SaveBackupStream = Answers<v1::BackupChunk>;
    type AddManagerStream = Answers<v1::MembershipProgress>;
    type RemoveManagerStream = Answers<v1::MembershipProgress>;
    type PromoteManagerStream = Answers<v1::MembershipProgress>;
    type DemoteManagerStream = Answers<v1::MembershipProgress>;
    type SetManagerAddressStream = Answers<v1::MembershipProgress>;

    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        answer(&self.core, init::init(&self.core, request.into_inner()).await)
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::WriteReply>, Status> {
        answer(&self.core, apply::apply(&self.core, request.into_inner()).await)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::WriteReply>, Status> {
        answer(&self.core, apply::delete(&self.core, request.into_inner()).await)
    }

    async fn order(&self, request: Request<v1::OrderRequest>) -> Result<Response<v1::WriteReply>, Status> {
        answer(&self.core, order::order(&self.core, request.into_inner()).await)
    }

    async fn label_host(&self, request: Request<v1::LabelHostRequest>) -> Result<Response<v1::WriteReply>, Status> {
        answer(&self.core, hosts::label(&self.core, request.into_inner()).await)
    }

    async fn remove_host(&self, request: Request<v1::RemoveHostRequest>) -> Result<Response<v1::WriteReply>, Status> {
        answer(&self.core, hosts::remove(&self.core, request.into_inner()).await)
    }

    async fn get_processes(
        &self,
        request: Request<v1::GetProcessesRequest>,
    ) -> Result<Response<v1::GetProcessesReply>, Status> {
        answer(&self.core, processes::get(&self.core, request).await)
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesReply>, Status> {
        answer(&self.core, instances::list(&self.core, request.into_inner()).await)
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainReply>, Status> {
        answer(&self.core, instances::explain(&self.core, request.into_inner()).await)
    }

    async fn list_hosts(&self, request: Request<v1::ListHostsRequest>) -> Result<Response<v1::ListHostsReply>, Status> {
        answer(&self.core, hosts::list(&self.core, request.into_inner()).await)
    }

    async fn get_host(&self, request: Request<v1::GetHostRequest>) -> Result<Response<v1::GetHostReply>, Status> {
        answer(&self.core, hosts::get(&self.core, request.into_inner()).await)
    }

    async fn get_host_history(
        &self,
        request: Request<v1::GetHostHistoryRequest>,
    ) -> Result<Response<v1::GetHostHistoryReply>, Status> {
        answer(&self.core, hosts::history(&self.core, request.into_inner()).await)
    }

    async fn get_managers(
        &self,
        request: Request<v1::GetManagersRequest>,
    ) -> Result<Response<v1::GetManagersReply>, Status> {
        answer(&self.core, managers::get(&self.core, request.into_inner()).await)
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        answer(&self.core, self.core.places.stream(watch::watch(&self.core, request.into_inner())))
    }

    async fn watch_instances(
        &self,
        request: Request<v1::WatchInstancesRequest>,
    ) -> Result<Response<Self::WatchInstancesStream>, Status> {
        let opened = instances::watch(&self.core, request.into_inner()).await;
        answer(&self.core, self.core.places.stream(opened))
    }

    async fn events(&self, request: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        answer(&self.core, self.core.places.stream(events::events(&self.core, request.into_inner())))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let opened = log_stream::logs(&self.core, request.into_inner()).await;
        answer(&self.core, self.core.places.stream(opened))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        answer(&self.core, managers::transfer(&self.core, request.into_inner()).await)
    }

    async fn save_backup(
        &self,
        request: Request<v1::SaveBackupRequest>,
    ) -> Result<Response<Self::SaveBackupStream>, Status> {
        answer(&self.core, backup::save(&self.core, request).await)
    }

    async fn add_manager(
        &self,
        request: Request<v1::AddManagerRequest>,
    ) -> Result<Response<Self::AddManagerStream>, Status> {
        answer(&self.core, membership::change(&self.core, Change::Add(request.into_inner())))
    }

    async fn remove_manager(
        &self,
        request: Request<v1::RemoveManagerRequest>,
    ) -> Result<Response<Self::RemoveManagerStream>, Status> {
        answer(&self.core, membership::change(&self.core, Change::Remove(request.into_inner())))
    }

    async fn promote_manager(
        &self,
        request: Request<v1::PromoteManagerRequest>,
    ) -> Result<Response<Self::PromoteManagerStream>, Status> {
        answer(&self.core, membership::change(&self.core, Change::Promote(request.into_inner())))
    }

    async fn demote_manager(
        &self,
        request: Request<v1::DemoteManagerRequest>,
    ) -> Result<Response<Self::DemoteManagerStream>, Status> {
        answer(&self.core, membership::change(&self.core, Change::Demote(request.into_inner())))
    }

    async fn set_manager_address(
        &self,
        request: Request<v1::SetManagerAddressRequest>,
    ) -> Result<Response<Self::SetManagerAddressStream>, Status> {
        answer(&self.core, membership::change(&self.core, Change::SetAddress(request.into_inner())))
    }

    async fn upgrade_managers(
        &self,
        request: Request<v1::UpgradeManagersRequest>,
    ) -> Result<Response<v1::UpgradeManagersReply>, Status> {
        answer(&self.core, version::upgrade(&self.core, request.into_inner()).await)
    }

    async fn get_presence(
        &self,
        request: Request<v1::GetPresenceRequest>,
    ) -> Result<Response<v1::GetPresenceReply>, Status> {
        Ok(Response::new(self.core.presences.answer(&self.core, request.into_inner())))
    }

    async fn drill(&self, request: Request<v1::DrillRequest>) -> Result<Response<v1::DrillReply>, Status> {
        answer(&self.core, drill::drill(&self.core, request).await)
    }
}
