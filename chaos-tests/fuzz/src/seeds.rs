//! Inputs that the real writers make, so that a fuzzer begins with bytes that are accepted. `minder-fuzz --seeds` writes
//! them into the repository's corpus; a test sees that they are up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
};

use minder_model::{
    Assignment, Cause, ClusterId, CommandVersion, ExitRecord, ExitStatus, HostName, InstanceKey, LocalStop,
    MachineFacts, MachineUsage, ProbeState, ProbeStatus, ProcessName, RequestId, Revision, Signal, Spec, encode,
};
use minder_proto::convert::{spec as specs, status as statuses};
use minder_raft_store::{
    Entry, EntryPayload, LogId, ManagerNode, Membership, SnapshotMeta, StoredMembership, encode_entry,
    encode_snapshot_meta,
};
use minder_shim::{
    launch::{Daemon, EnvFile, Launch},
    output::{Output, Tail},
    protocol::{self, Request, Scope},
    record::{End, Record, Stage},
};
use minder_state::{BackupHeader, Command, Expect, Order, OrderKind, Proposal, State, backup_pieces};
use minder_supervisor::Live;
use prost::Message;

use crate::{corpus, targets};

/// A target's name, a file's name and its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Every input that is made.
pub fn made() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add =
        |target: &'static str, name: &str, bytes: Vec<u8>| seeds.push((target, format!("made-{name}"), bytes));
    let specs = specs();
    for spec in &specs {
        let wire = specs::spec_to_wire(spec);
        add("wire-spec", &format!("spec-{}", spec.name), wire.encode_to_vec());
        add("forms", &format!("spec-{}", spec.name), chosen(0, encode(spec)));
        add("forms", &format!("run-spec-{}", spec.name), chosen(1, spec.resolve(&host()).to_bytes()));
    }
    statuses(&mut add);
    let state = state(&specs);
    forms(&mut add, &state);
    frames(&mut add, &state);
    shims(&mut add);
    slaves(&mut add, &state, &specs);
    seeds
}

fn chosen(which: u8, bytes: Vec<u8>) -> Vec<u8> {
    [vec![which], bytes].concat()
}

fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes(), bytes].concat()
}

fn host() -> HostName {
    HostName::new("host-1").expect("a name")
}

fn key() -> InstanceKey {
    InstanceKey::new(ProcessName::new("api").expect("a name"), 2)
}

/// Specs that say something in every field.
fn specs() -> Vec<Spec> {
    let path = corpus::folder(targets::find("yaml").expect("a target")).join("everything.yaml");
    minder_client::document::read(&[path.display().to_string()]).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn proposals(specs: &[Spec]) -> Vec<Proposal> {
    let order = Order {
        terms: vec!["api@host-1".into()],
        labels: vec!["tier=web".into()],
        all: false,
        kind: OrderKind::Signal(Signal::HUP),
    };
    let labels = BTreeMap::from([("zone".to_owned(), "x".to_owned())]);
    let commands = [
        Command::CreateCluster(ClusterId::new("c-1").expect("a name"), CommandVersion::FIRST),
        Command::RegisterHost(host(), "10.0.0.1:7400".into(), labels.clone()),
        Command::apply(specs.iter().cloned()),
        Command::Order(order),
        Command::LabelHost(
            host(),
            BTreeMap::from([("zone".to_owned(), None), ("rack".to_owned(), Some("7".to_owned()))]),
        ),
        Command::Delete(vec![ProcessName::new("gone").expect("a name")]),
        Command::RemoveHost(HostName::new("host-9").expect("a name")),
    ];
    let propose = |(at, command)| Proposal {
        request: RequestId::new(format!("r-{at}")).expect("a name"),
        time_ms: 1_700_000_000_000,
        actor: "ann".into(),
        expect: if at == 5 { Expect::Revision(Revision(7)) } else { Expect::Anything },
        command,
    };
    commands.into_iter().enumerate().map(propose).collect()
}

fn state(specs: &[Spec]) -> State {
    let mut state = State::default();
    for (at, proposal) in proposals(specs).iter().enumerate() {
        state.apply(Revision(at as u64 + 1), proposal);
    }
    state
}

fn exit(incarnation: u64, status: ExitStatus) -> ExitRecord {
    let wire = minder_proto::v1::ExitRecord {
        incarnation,
        generation: 3,
        started_at_ms: 5,
        ended_at_ms: 9,
        cpu_ms: 2,
        last_stdout: "bye".into(),
        ..Default::default()
    };
    let record = statuses::exit_record_from_wire(wire).expect("an exit");
    ExitRecord { status, ..record }
}

fn statuses(add: &mut impl FnMut(&'static str, &str, Vec<u8>)) {
    let wire = minder_proto::v1::InstanceStatus {
        process: "api".into(),
        index: 2,
        spec_digest: vec![7; 32].into(),
        generation: 3,
        incarnation: 4,
        pid: 77,
        restarts: 2,
        ..Default::default()
    };
    let mut status = statuses::instance_status_from_wire(wire).expect("a status");
    status.cause = Cause::StoppedLocally(LocalStop { by: "ann".into(), at_ms: 7, start_at: Revision(3) });
    status.health =
        Some(ProbeStatus { state: ProbeState::Failing, failures: 2, message: "refused".into(), since_ms: 7 });
    let before = status.clone();
    status.exits = vec![exit(1, ExitStatus::Code(3)), exit(2, ExitStatus::Signal(Signal::KILL, true))];
    let form = |status| statuses::instance_status_to_wire(status).encode_to_vec();
    add("wire-status", "status", chosen(0, form(&status)));
    add("wire-status", "added", chosen(6, [piece(&form(&before)), piece(&form(&status))].concat()));
    add(
        "wire-status",
        "cause",
        chosen(3, statuses::cause_to_wire(&Cause::LimitReached(ExitStatus::OutOfMemory, 9)).encode_to_vec()),
    );
    add("wire-status", "exit", chosen(5, statuses::exit_record_to_wire(&status.exits[1]).encode_to_vec()));
    let facts = MachineFacts { cores: 2, cpu_model: "a cpu".into(), os: "Debian".into(), ..MachineFacts::default() };
    add("wire-status", "facts", chosen(1, statuses::machine_facts_to_wire(&facts).encode_to_vec()));
    let usage = MachineUsage { cpu_permille: 7, load_permille: vec![1, 2, 3], ..MachineUsage::default() };
    add("wire-status", "usage", chosen(2, statuses::machine_usage_to_wire(&usage).encode_to_vec()));
    let sample =
        minder_proto::v1::MachineSample { at_s: 15, cpu_permille: 999, load_permille: 70, ..Default::default() };
    add("wire-status", "sample", chosen(7, sample.encode_to_vec()));
    add("forms", "status", chosen(5, encode(&status)));
}

fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(minder_raft_store::CommittedLeaderId { term, node_id: node }, index)
}

fn membership() -> Membership {
    let node = |id| (id, ManagerNode { peer_address: format!("h:{id}"), client_address: format!("c:{id}") });
    Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], BTreeMap::from_iter((1..=4).map(node)))
        .expect("a membership")
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(3, 1, 77)),
        last_membership: StoredMembership::new(Some(log_id(2, 1, 5)), membership()),
    }
}

fn forms(add: &mut impl FnMut(&'static str, &str, Vec<u8>), state: &State) {
    let small = Spec::new(ProcessName::new("small").expect("a name"), "/bin/small");
    for (at, proposal) in proposals(&[small]).iter().enumerate() {
        add("forms", &format!("proposal-{at}"), chosen(7, proposal.to_bytes()));
        let entry =
            Entry { log_id: log_id(3, 1, 70 + at as u64), payload: EntryPayload::Normal(proposal.clone().into()) };
        add("forms", &format!("entry-{at}"), chosen(8, encode_entry(&entry)));
    }
    let changed = Entry { log_id: log_id(3, 1, 77), payload: EntryPayload::Membership(membership()) };
    add("forms", "entry-membership", chosen(8, encode_entry(&changed)));
    add("forms", "coverage", chosen(11, encode_snapshot_meta(&meta())));
    let assignment = state.assignment(&host());
    add("forms", "assignment", chosen(2, encode(&assignment)));
    add("forms", "delta", chosen(3, encode(&assignment.delta_from(Some(&Assignment::empty(host()))))));
    add("forms", "record", chosen(4, encode(&record())));
    let remembered = state.remembered(&RequestId::new("r-2").expect("a name"));
    add("forms", "reply", chosen(6, remembered.map(|reply| encode(&reply)).unwrap_or_default()));
}

fn record() -> minder_supervisor::Record {
    let mut record = minder_supervisor::Record::new(key(), 5);
    record.live = Some(Live {
        incarnation: minder_model::Incarnation(4),
        generation: minder_model::Generation(3),
        spec: Default::default(),
        launch: Default::default(),
        stopping: true,
        stop_mono_ms: Some(9),
    });
    record.window = vec![1, 2, 3];
    record.exits = vec![exit(1, ExitStatus::Reboot)];
    record
}

fn frames(add: &mut impl FnMut(&'static str, &str, Vec<u8>), state: &State) {
    let rows: Vec<_> = state.rows().collect();
    add("rows", "table", rows.iter().flat_map(|(key, value)| [piece(key), piece(value)].concat()).collect());
    let frame: Vec<u8> = rows
        .iter()
        .flat_map(|(key, value)| {
            [&(key.len() as u32).to_le_bytes()[..], &(value.len() as u32).to_le_bytes(), key, value].concat()
        })
        .collect();
    add("snapshot", "mended", chosen(1, [piece(&encode_snapshot_meta(&meta())), piece(&frame)].concat()));
    let mut whole = Vec::new();
    minder_raft_store::write_snapshot(&mut whole, state, &meta()).expect("a snapshot in memory");
    add("snapshot", "whole", chosen(0, whole));
    let header = BackupHeader::of(state, Revision(7), 3, "1.0.0", 1_700_000_000_000).expect("a cluster");
    let backup: Vec<u8> = backup_pieces(&header, state).flatten().collect();
    add("backup", "whole", chosen(0, backup.clone()));
    let mut bodies = Vec::new();
    let mut rest = &backup[8..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (body, after) = after[32..].split_at(u32::from_le_bytes(*length) as usize);
        bodies.extend(piece(body));
        rest = after;
    }
    add("backup", "mended", chosen(1, bodies));
}

fn shims(add: &mut impl FnMut(&'static str, &str, Vec<u8>)) {
    let launch = Launch {
        command: b"/bin/program".to_vec(),
        args: vec![b"-x".to_vec(), Vec::new()],
        env: vec![(b"A".to_vec(), b"1".to_vec())],
        umask: Some(0o27),
        limits: vec![(7, 1, u64::MAX)],
        nice: Some(-3),
        daemon: Some(Daemon { pid_file: b"/run/x".to_vec(), launch_timeout_ms: 7 }),
        env_files: vec![EnvFile { path: b"/etc/x".to_vec(), may_be_missing: true }],
        no_new_privileges: true,
        ..Launch::default()
    };
    add("bundle", "launch-2", chosen(0, launch.encode()));
    let plain = Launch { env_files: Vec::new(), no_new_privileges: false, ..launch };
    add("bundle", "launch-1", chosen(0, plain.encode()));
    let record = Record {
        sequence: 3,
        stage: Stage::Ended,
        boot_id: "5e9e3b5a-6d3c-4f6e-9a53-a1a5f7f0c001".into(),
        end: End::Signal(11, true),
        ..Record::default()
    };
    add("bundle", "record", chosen(2, record.encode()));
    let mut tail = Tail::default();
    tail.push(b"last words\n");
    add("bundle", "output", chosen(3, Output::encode(&tail, &tail)));
    let requests = [
        Request::Hello { version: 1 },
        Request::Signal { signal: 15, scope: Scope::All },
        Request::KillTree,
        Request::Release,
    ];
    let stream: Vec<u8> = requests.iter().flat_map(Request::encode).chain(protocol::encode_record(&record)).collect();
    add("shim", "stream", chosen(5, stream));
}

fn slaves(add: &mut impl FnMut(&'static str, &str, Vec<u8>), state: &State, specs: &[Spec]) {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("minder-fuzz-{}-{number}", std::process::id()));
    let mut ledger = minder_slave::ledger::Ledger::open(&folder, &host()).expect("a ledger");
    ledger.join(ClusterId::new("c-1").expect("a name"));
    ledger.change(state.assignment(&host()).delta_from(None)).expect("the first assignment");
    for spec in specs {
        ledger.add_run_spec(&spec.resolve(&host()).to_bytes());
    }
    ledger.save().expect("a ledger");
    ledger.put_record(&record());
    ledger.save().expect("a ledger");
    let mut journal = std::fs::read(folder.join("ledger")).expect("a journal");
    std::fs::remove_dir_all(&folder).expect("a folder of its own");
    let (frames, end) = minder_slave::journal::parse(&journal).expect("a whole journal");
    // Of the room behind the last frame a little says as much as all of it.
    journal.truncate(end + 64);
    add("ledger", "lines", frames.iter().flat_map(|frame| piece(frame)).collect());
    add("journal", "file", journal);
}
