//! A manager that is nothing but a table in memory and a list of troubles to make. It listens on a free port and ends
//! with its owner.
#![allow(dead_code)]

mod fixtures;

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex},
};

use fixtures::{host, member};
use minder_proto::v1::{self, control_server::Control};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status};

#[derive(Default)]
pub struct Table {
    pub revision: u64,
    pub processes: BTreeMap<String, v1::ProcessSpec>,
    pub stopped: Vec<String>,
    /// Phases by process where they are not what is wanted, with the reason.
    pub phases: BTreeMap<String, (v1::Phase, &'static str, &'static str)>,
    /// Answers given instead of the right one, in turn.
    pub troubles: VecDeque<Status>,
    /// Answers lost after the write was done, in turn.
    pub lost: VecDeque<Status>,
    pub request_ids: Vec<String>,
    pub writes: BTreeMap<String, u64>,
    pub leader_address: String,
    /// Watches: what each call sends before it breaks.
    pub watches: VecDeque<Vec<v1::WatchEvent>>,
    pub watched_from: Vec<u64>,
    /// Version of commands; 0 is said by a manager that has no word for it.
    pub version: u32,
    /// A request that holds this process is refused.
    pub refused_from: Option<String>,
    /// This manager belongs to no cluster.
    pub outside: bool,
}

pub struct Fake {
    pub address: String,
    pub table: Arc<Mutex<Table>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let table = Arc::new(Mutex::new(Table::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let service = v1::control_server::ControlServer::new(Service { table: table.clone() });
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            async {
                let _ = stopped.await;
            },
        ));
        Self { address, table, stop: Some(stop) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

struct Service {
    table: Arc<Mutex<Table>>,
}

impl Service {
    fn look<T>(&self, answer: impl FnOnce(&mut Table) -> Result<T, Status>) -> Result<Response<T>, Status> {
        let mut table = self.table.lock().unwrap();
        match table.troubles.pop_front() {
            Some(trouble) => Err(trouble),
            None => answer(&mut table).map(Response::new),
        }
    }

    /// A write under a request id that was seen before gives the first answer's revision and does nothing.
    fn write(
        &self,
        options: Option<v1::WriteOptions>,
        change: impl FnOnce(&mut Table, bool) -> Result<v1::WriteReply, Status>,
    ) -> Result<Response<v1::WriteReply>, Status> {
        self.look(|table| {
            let options = options.unwrap_or_default();
            table.request_ids.push(options.request_id.clone());
            let known = table.writes.get(&options.request_id).copied();
            let mut reply = change(table, options.dry_run || known.is_some())?;
            if known.is_none() && !options.dry_run {
                table.revision += 1;
                table.writes.insert(options.request_id, table.revision);
            }
            let revision = known.unwrap_or(table.revision);
            reply.position = Some(v1::Position { revision, ..table.position() });
            reply.dry_run = options.dry_run;
            match table.lost.pop_front() {
                Some(status) => Err(status),
                None => Ok(reply),
            }
        })
    }
}

impl Table {
    fn position(&self) -> v1::Position {
        v1::Position { revision: self.revision, term: 1, leader_id: 1, leader_address: self.leader_address.clone() }
    }

    fn instances(&self, selection: Option<v1::Selection>) -> Vec<v1::Instance> {
        let wire = selection.unwrap_or_default();
        let parsed = minder_model::Selection::parse(&wire.terms, &wire.labels).unwrap();
        let all = wire.all || parsed.is_empty();
        let mut found = Vec::new();
        for spec in self.processes.values() {
            for host in &spec.hosts {
                let instance = minder_model::InstanceRef {
                    host: minder_model::HostName::new(host.clone()).unwrap(),
                    key: minder_model::InstanceKey::parse(&spec.name).unwrap(),
                };
                if all || parsed.matches(&instance, &spec.labels) {
                    found.push(self.instance(spec, host));
                }
            }
        }
        found
    }

    fn instance(&self, spec: &v1::ProcessSpec, host: &str) -> v1::Instance {
        let stopped = self.stopped.contains(&spec.name);
        let usual = if stopped { v1::Phase::Stopped } else { v1::Phase::Running };
        let (phase, owed, why) = self.phases.get(&spec.name).copied().unwrap_or((usual, "", ""));
        let pid = if phase == v1::Phase::Running { 4_242 } else { 0 };
        v1::Instance {
            name: Some(v1::InstanceName { host: host.into(), process: spec.name.clone(), index: 1 }),
            wanted_running: !stopped,
            generation_wanted: 1,
            status: Some(v1::InstanceStatus { phase: phase.into(), pid, generation: 1, ..Default::default() }),
            owed: owed.into(),
            why: why.into(),
            labels: spec.labels.clone(),
            assignment_revision_seen: self.revision,
            ..Default::default()
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Service {
    type WatchStream = Answers<v1::WatchEvent>;
    type WatchInstancesStream = Answers<v1::ListInstancesReply>;
    type EventsStream = Answers<v1::Event>;
    type LogsStream = Answers<v1::LogChunk>;
    type AddManagerStream = Answers<v1::MembershipProgress>;
    type RemoveManagerStream = Answers<v1::MembershipProgress>;
    type PromoteManagerStream = Answers<v1::MembershipProgress>;
    type DemoteManagerStream = Answers<v1::MembershipProgress>;
    type SetManagerAddressStream = Answers<v1::MembershipProgress>;
    type SaveBackupStream = Answers<v1::BackupChunk>;

    /// A backup that breaks off.
    async fn save_backup(
        &self,
        _request: Request<v1::SaveBackupRequest>,
    ) -> Result<Response<Self::SaveBackupStream>, Status> {
        let begin = v1::BackupChunk { data: b"MNDRBAK1".to_vec().into(), ..Default::default() };
        let pieces = [Ok(begin), Err(Status::unavailable("this manager is stopping"))];
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        let peers = request.into_inner().peer_addresses;
        self.look(|_| {
            let member = |(at, peer): (usize, String)| v1::ManagerMember {
                id: at as u64 + 1,
                peer_address: peer,
                client_address: String::new(),
            };
            let managers = peers.into_iter().enumerate().map(member).collect();
            Ok(v1::InitReply { cluster_id: "c1".into(), managers })
        })
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::WriteReply>, Status> {
        let request = request.into_inner();
        self.write(request.options, |table, rehearse| {
            let refused = |spec: &&v1::ProcessSpec| Some(&spec.name) == table.refused_from.as_ref();
            if let Some(spec) = request.specs.iter().find(refused) {
                return Err(Status::failed_precondition(format!("{} is not wanted here", spec.name)));
            }
            let mut reply = v1::WriteReply::default();
            for spec in request.specs {
                let kind = match table.processes.get(&spec.name) {
                    None => v1::ProcessChangeKind::Created,
                    Some(known) if *known == spec => v1::ProcessChangeKind::Unchanged,
                    Some(_) => v1::ProcessChangeKind::Changed,
                };
                reply.processes.push(v1::ProcessChange {
                    name: spec.name.clone(),
                    kind: kind.into(),
                    generation: 1,
                    instances: spec.hosts.len() as u64,
                });
                if !rehearse {
                    table.processes.insert(spec.name.clone(), spec);
                }
            }
            Ok(reply)
        })
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::WriteReply>, Status> {
        let request = request.into_inner();
        self.write(request.options, |table, rehearse| {
            let mut reply = v1::WriteReply::default();
            for name in request.processes {
                if !table.processes.contains_key(&name) {
                    return Err(Status::not_found(format!("there is no process named {name}")));
                }
                let kind = v1::ProcessChangeKind::Deleted.into();
                reply.processes.push(v1::ProcessChange { name: name.clone(), kind, generation: 1, instances: 1 });
                if !rehearse {
                    table.processes.remove(&name);
                }
            }
            Ok(reply)
        })
    }

    async fn order(&self, request: Request<v1::OrderRequest>) -> Result<Response<v1::WriteReply>, Status> {
        let request = request.into_inner();
        let kind = request.kind();
        self.write(request.options.clone(), |table, rehearse| {
            let instances = table.instances(request.selection);
            if instances.is_empty() {
                return Err(Status::not_found("nothing matches the selection"));
            }
            for name in instances.iter().filter_map(|instance| instance.name.clone()).filter(|_| !rehearse) {
                table.stopped.retain(|stopped| *stopped != name.process);
                if kind == v1::OrderKind::Stop {
                    table.stopped.push(name.process);
                }
            }
            let names = instances.into_iter().filter_map(|instance| instance.name).collect::<Vec<_>>();
            Ok(v1::WriteReply { instance_count: names.len() as u64, instances: names, ..Default::default() })
        })
    }

    async fn label_host(&self, request: Request<v1::LabelHostRequest>) -> Result<Response<v1::WriteReply>, Status> {
        self.write(request.into_inner().options, |_, _| Ok(v1::WriteReply::default()))
    }

    async fn remove_host(&self, request: Request<v1::RemoveHostRequest>) -> Result<Response<v1::WriteReply>, Status> {
        self.write(request.into_inner().options, |_, _| Ok(v1::WriteReply::default()))
    }

    async fn get_processes(
        &self,
        request: Request<v1::GetProcessesRequest>,
    ) -> Result<Response<v1::GetProcessesReply>, Status> {
        let wire = request.into_inner().selection.unwrap_or_default();
        self.look(|table| {
            let parsed = minder_model::Selection::parse(&wire.terms, &wire.labels).unwrap();
            let name = |spec: &v1::ProcessSpec| minder_model::ProcessName::new(spec.name.clone()).unwrap();
            let meant = |spec: &&v1::ProcessSpec| wire.all || parsed.matches_process(&name(spec), &spec.labels);
            let processes = table.processes.values().filter(meant).map(|spec| v1::Process {
                hosts: spec.hosts.clone(),
                spec: Some(spec.clone()),
                generation: 1,
                revision: 1,
                wanted_running: true,
                changed_by: "fake".into(),
                ..Default::default()
            });
            Ok(v1::GetProcessesReply { processes: processes.collect(), position: Some(table.position()) })
        })
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesReply>, Status> {
        let selection = request.into_inner().selection;
        self.look(|table| {
            Ok(v1::ListInstancesReply { position: Some(table.position()), instances: table.instances(selection) })
        })
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainReply>, Status> {
        let name = request.into_inner().instance.unwrap_or_default();
        self.look(|table| {
            let spec = table.processes.get(&name.process).cloned().unwrap_or_default();
            let instance = Some(table.instance(&spec, &name.host));
            let sentences = vec!["It runs as wanted.".into()];
            Ok(v1::ExplainReply { position: Some(table.position()), instance, sentences, spec: Some(spec) })
        })
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Result<Response<v1::ListHostsReply>, Status> {
        self.look(|table| {
            Ok(v1::ListHostsReply { position: Some(table.position()), hosts: vec![host()], ..Default::default() })
        })
    }

    async fn get_host(&self, request: Request<v1::GetHostRequest>) -> Result<Response<v1::GetHostReply>, Status> {
        let asked = request.into_inner().host;
        self.look(|table| match asked == host().name || asked == host().address {
            true => Ok(v1::GetHostReply { position: Some(table.position()), host: Some(host()) }),
            false => Err(Status::not_found(format!("there is no host named {asked}"))),
        })
    }

    async fn get_managers(&self, _: Request<v1::GetManagersRequest>) -> Result<Response<v1::GetManagersReply>, Status> {
        self.look(|table| {
            let role = if table.outside { "no cluster" } else { "leader" }.into();
            let manager = v1::ManagerStatus {
                member: Some(member()),
                role,
                voter: true,
                command_version: 2,
                ..Default::default()
            };
            Ok(v1::GetManagersReply {
                position: Some(table.position()),
                cluster_id: if table.outside { String::new() } else { "c1".into() },
                managers: vec![manager],
                cluster_version: table.version,
            })
        })
    }

    async fn get_host_history(
        &self,
        request: Request<v1::GetHostHistoryRequest>,
    ) -> Result<Response<v1::GetHostHistoryReply>, Status> {
        let host = request.into_inner().host;
        // Twenty minutes with a gap in the middle.
        let sample = |step: u32| v1::MachineSample {
            at_s: 1_000_000_005 + step * 15,
            cpu_permille: step * 10,
            load_permille: 1_500,
            memory_used_mib: 3_000 + step,
            disk_used_permille: 700,
            received_kib_s: 64,
            sent_kib_s: 2_048,
        };
        let samples = (0..80).filter(|step| !(30..40).contains(step)).map(sample).collect();
        self.look(|table| {
            Ok(v1::GetHostHistoryReply { position: Some(table.position()), host, step_seconds: 15, samples })
        })
    }

    async fn upgrade_managers(
        &self,
        request: Request<v1::UpgradeManagersRequest>,
    ) -> Result<Response<v1::UpgradeManagersReply>, Status> {
        let raised = if request.into_inner().finalize { 2 } else { 0 };
        self.look(|table| {
            table.version = table.version.max(raised);
            Ok(v1::UpgradeManagersReply {
                position: Some(table.position()),
                version: table.version.max(1),
                managers: vec![v1::ManagerVersion { member: Some(member()), command_version: 2 }],
            })
        })
    }

    async fn get_presence(&self, _: Request<v1::GetPresenceRequest>) -> Result<Response<v1::GetPresenceReply>, Status> {
        self.look(|_| Ok(v1::GetPresenceReply::default()))
    }

    async fn drill(&self, request: Request<v1::DrillRequest>) -> Result<Response<v1::DrillReply>, Status> {
        let request = request.into_inner();
        self.look(|_| match request.kind() {
            v1::DrillKind::LeaderKill => Err(Status::failed_precondition("manager 1 (c:1) allows no drills")),
            _ => Ok(v1::DrillReply { manager_id: 1, manager_address: "c:1".into(), host: request.host }),
        })
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let after = request.into_inner().after_revision;
        let answer = self.look(|table| {
            table.watched_from.push(after);
            Ok(table.watches.pop_front().unwrap_or_default())
        })?;
        let sent = tokio_stream::iter(answer.into_inner().into_iter().map(Ok));
        Ok(Response::new(Box::pin(sent.chain(tokio_stream::once(Err(Status::unavailable("the leader is gone")))))))
    }

    async fn watch_instances(
        &self,
        request: Request<v1::WatchInstancesRequest>,
    ) -> Result<Response<Self::WatchInstancesStream>, Status> {
        let selection = request.into_inner().selection;
        let reply = self.look(|table| {
            Ok(v1::ListInstancesReply { position: Some(table.position()), instances: table.instances(selection) })
        })?;
        let first = tokio_stream::once(Ok(reply.into_inner()));
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let event = v1::Event {
            time_ms: 1_000,
            kind: "phase".into(),
            host: "h1".into(),
            process: "web".into(),
            index: 1,
            text: "STARTING to RUNNING".into(),
            ..Default::default()
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(event)]))))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let selection = request.into_inner().selection;
        let instances = self.look(|table| Ok(table.instances(selection)))?.into_inner();
        let chunk = |instance: v1::Instance| {
            let piece = |data: &'static str| {
                Ok(v1::LogChunk {
                    instance: instance.name.clone(),
                    stream: "stdout".into(),
                    data: data.into(),
                    ..Default::default()
                })
            };
            [piece("one\ntw"), piece("o\n")]
        };
        let pieces: Vec<_> = instances.into_iter().flat_map(chunk).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let to = request.into_inner().to;
        self.look(|table| Ok(v1::TransferLeaderReply { position: Some(table.position()), leader_id: to.max(1) }))
    }

    async fn add_manager(
        &self,
        request: Request<v1::AddManagerRequest>,
    ) -> Result<Response<Self::AddManagerStream>, Status> {
        let address = request.into_inner().peer_address;
        let step = format!("manager 17 at {address} follows as a learner");
        let behind = v1::MembershipProgress {
            step: "the new manager catches up".into(),
            entries: 3,
            entries_total: 30,
            ..Default::default()
        };
        self.steps(vec![v1::MembershipProgress { step, ..Default::default() }, behind], Some((17, true)), &[])
    }

    async fn remove_manager(
        &self,
        request: Request<v1::RemoveManagerRequest>,
    ) -> Result<Response<Self::RemoveManagerStream>, Status> {
        let manager = request.into_inner().manager;
        if manager == "9" {
            return Err(Status::not_found("there is no manager 9 in this cluster"));
        }
        let step = format!("manager {manager} is removed");
        let warning = "2 managers vote, which stand no more failures than 1; an odd number is better";
        self.steps(vec![v1::MembershipProgress { step, ..Default::default() }], None, &[warning])
    }

    async fn promote_manager(
        &self,
        _: Request<v1::PromoteManagerRequest>,
    ) -> Result<Response<Self::PromoteManagerStream>, Status> {
        self.steps(vec![], Some((3, true)), &[])
    }

    async fn demote_manager(
        &self,
        _: Request<v1::DemoteManagerRequest>,
    ) -> Result<Response<Self::DemoteManagerStream>, Status> {
        self.steps(vec![], Some((3, false)), &[])
    }

    async fn set_manager_address(
        &self,
        request: Request<v1::SetManagerAddressRequest>,
    ) -> Result<Response<Self::SetManagerAddressStream>, Status> {
        self.steps(vec![], Some((request.into_inner().id, true)), &[])
    }
}

impl Service {
    /// Steps of a change of managers, and the last one.
    fn steps(
        &self,
        mut steps: Vec<v1::MembershipProgress>,
        member: Option<(u64, bool)>,
        warnings: &[&str],
    ) -> Result<Response<Answers<v1::MembershipProgress>>, Status> {
        self.look(|table| {
            steps.push(v1::MembershipProgress {
                position: Some(table.position()),
                done: true,
                warnings: warnings.iter().map(ToString::to_string).collect(),
                member: member.map(|(id, _)| v1::ManagerMember {
                    id,
                    peer_address: "m4:7702".into(),
                    client_address: "m4:7701".into(),
                }),
                voter: member.is_some_and(|(_, voter)| voter),
                ..Default::default()
            });
            let answers: Answers<v1::MembershipProgress> =
                Box::pin(tokio_stream::iter(steps.clone().into_iter().map(Ok)));
            Ok(answers)
        })
    }
}
