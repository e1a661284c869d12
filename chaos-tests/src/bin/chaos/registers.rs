//! Writers, readers and watchers of a few processes that run nowhere: everything they ask and are told is kept, for the
//! judges of the managers.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use minder_chaos_tests::{
    Chance, Manager, World, all,
    history::{Op, Outcome, Record, Row, save},
    named,
    oracle::{
        managers::Look,
        watch::{Change, Event, Watched},
    },
};
use minder_client::{Client, Error, Write, v1};
use minder_model::{ProcessName, Spec};
use tonic::{Code, Status, transport::Endpoint};
use uuid::Uuid;

use crate::workload::Shared;

/// Few, so that writers meet.
const REGISTERS: u64 = 8;
/// Of one call, attempts at other managers included.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two calls of one writer.
const PAUSE_MS: u64 = 60;
/// A watch that says nothing for so long is opened elsewhere: its manager may be frozen or cut off.
const SILENT: Duration = Duration::from_secs(5);
/// Names of registers begin so.
const PREFIX: &str = "reg-";

/// What clients saw.
pub struct Registers {
    began: Instant,
    folder: PathBuf,
    records: Mutex<Vec<Record>>,
    watched: Mutex<Vec<Watched>>,
    looks: Mutex<Vec<Look>>,
}

/// A look that has begun.
pub struct Looking {
    call_us: u64,
    /// How often each manager had been started.
    starts: Vec<u64>,
}

impl Registers {
    pub fn new(folder: PathBuf) -> Self {
        let began = Instant::now();
        Self { began, folder, records: Mutex::default(), watched: Mutex::default(), looks: Mutex::default() }
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// The last revision that anybody was answered.
    pub fn last_answered(&self) -> u64 {
        self.records.lock().unwrap().iter().map(|record| record.revision).max().unwrap_or(0)
    }

    pub fn watched(&self) -> Vec<Watched> {
        self.watched.lock().unwrap().clone()
    }

    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().unwrap().clone()
    }

    /// Somebody is about to look at the managers.
    pub fn begin_look(&self, world: &World) -> Looking {
        Looking { call_us: self.now_us(), starts: world.managers.iter().map(Manager::starts).collect() }
    }

    /// How managers stand. One that does not answer says nothing, and of one that was started meanwhile nobody knows which
    /// start of it has answered.
    pub fn look_at(&self, world: &World, looking: &Looking, statuses: &[v1::ManagerStatus]) {
        let return_us = self.now_us();
        for status in statuses.iter().filter(|one| !one.state_hash.is_empty()) {
            let Some(member) = &status.member else { continue };
            let mut managers = world.managers.iter().zip(&looking.starts);
            let found = managers.find(|(manager, _)| manager.client_address == member.client_address);
            let Some((_, run)) = found.filter(|(manager, starts)| manager.starts() == **starts) else { continue };
            self.looks.lock().unwrap().push(Look {
                call_us: looking.call_us,
                return_us,
                manager: member.id,
                run: *run,
                term: status.term,
                committed: status.committed_index,
                applied: status.applied_index,
                state_hash: status.state_hash.clone(),
            });
        }
    }

    /// Writes all of it into the run's folder.
    pub fn save(&self) {
        save(&self.folder.join("history.jsonl"), &self.records()).unwrap();
        save(&self.folder.join("watched.jsonl"), &self.watched()).unwrap();
    }
}

/// One client, which makes one call at a time.
struct Caller {
    shared: Arc<Shared>,
    number: u64,
    client: Client,
    /// Another way in, for requests that are said again.
    other: Client,
    known: BTreeMap<String, u64>,
}

/// Writes and reads until all is over.
pub async fn write(shared: Arc<Shared>, number: usize, mut chance: Chance) {
    let client = |first| shared.world.client_from(first).with_deadline(PATIENCE);
    let known = BTreeMap::new();
    let mut caller = Caller {
        shared: shared.clone(),
        number: number as u64,
        client: client(number),
        other: client(number + 1),
        known,
    };
    while !shared.is_over() {
        {
            let _busy = shared.quiet.read().await;
            let register = format!("{PREFIX}{}", chance.below(REGISTERS));
            let value = Uuid::now_v7().to_string();
            let expect = Some(caller.known.get(&register).copied().unwrap_or_default());
            match chance.below(20) {
                0..9 => caller.put(register, value, None, &mut chance).await,
                9..13 => caller.put(register, value, expect, &mut chance).await,
                13 => caller.delete(register).await,
                _ => caller.read(register).await,
            }
        }
        tokio::time::sleep(Duration::from_millis(chance.below(PAUSE_MS))).await;
    }
}

impl Caller {
    async fn put(&mut self, process: String, value: String, expect: Option<u64>, chance: &mut Chance) {
        let spec = Spec {
            env: [("VALUE".to_owned(), value.clone())].into(),
            ..Spec::new(ProcessName::new(process.as_str()).unwrap(), "/bin/true")
        };
        let specs = [spec];
        let write = Write { request_id: Some(value.clone()), expect_revision: expect, ..Write::default() };
        let call_us = self.shared.registers.now_us();
        let result = self.client.apply(&specs, &write).await;
        // Said again at another manager, it must give the first answer.
        if let Ok(reply) = &result
            && chance.below(8) == 0
            && let Ok(again) = self.other.apply(&specs, &write).await
        {
            let (first, second) = (revision(reply), revision(&again));
            if first != second {
                self.shared.complain(format!("{process}: one request was answered with {first} and with {second}"));
            }
        }
        let op = Op::Put { process: process.clone(), value: value.clone(), expect };
        self.keep_write(call_us, op, result, |generation, revision| {
            vec![Row { process, value, generation, revision, running: true }]
        });
    }

    async fn delete(&mut self, process: String) {
        let call_us = self.shared.registers.now_us();
        let write = Write { request_id: Some(Uuid::now_v7().to_string()), ..Write::default() };
        let result = self.client.delete(vec![process.clone()], &write).await;
        self.keep_write(call_us, Op::Delete { process, expect: None }, result, |_, _| Vec::new());
    }

    fn keep_write(
        &mut self,
        call_us: u64,
        op: Op,
        result: Result<v1::WriteReply, Error>,
        rows: impl FnOnce(u64, u64) -> Vec<Row>,
    ) {
        let (outcome, revision, term, rows) = match result {
            Ok(reply) => {
                self.shared.gaps.acknowledged();
                let position = reply.position.unwrap_or_default();
                let generation = reply.processes.first().map_or(0, |change| change.generation);
                self.known.insert(op.process().unwrap().to_owned(), position.revision);
                (Outcome::Ok, position.revision, position.term, rows(generation, position.revision))
            }
            Err(error) => (outcome(&error), 0, 0, Vec::new()),
        };
        self.keep(call_us, op, outcome, revision, term, rows);
    }

    async fn read(&mut self, process: String) {
        let call_us = self.shared.registers.now_us();
        let result = self.client.processes(named(&[&process]), false).await;
        let op = Op::Read { process: Some(process.clone()), stale: false };
        match result {
            Ok(reply) => {
                let rows: Vec<Row> = reply.processes.iter().filter_map(row).collect();
                let position = reply.position.unwrap_or_default();
                self.known.insert(process, rows.first().map_or(0, |row| row.revision));
                self.keep(call_us, op, Outcome::Ok, position.revision, position.term, rows);
            }
            Err(error) => self.keep(call_us, op, outcome(&error), 0, 0, Vec::new()),
        }
    }

    fn keep(&self, call_us: u64, op: Op, outcome: Outcome, revision: u64, term: u64, rows: Vec<Row>) {
        let return_us = self.shared.registers.now_us();
        let record = Record { client: self.number, call_us, return_us, op, outcome, revision, term, rows };
        self.shared.registers.records.lock().unwrap().push(record);
    }
}

fn revision(reply: &v1::WriteReply) -> u64 {
    reply.position.as_ref().map_or(0, |position| position.revision)
}

/// A refusal that names no revision cannot be placed in the order of revisions; it changed nothing.
fn outcome(error: &Error) -> Outcome {
    match error {
        Error::Unknown { .. } | Error::Failed(_) => Outcome::Unknown,
        _ => Outcome::Failed,
    }
}

fn row(process: &v1::Process) -> Option<Row> {
    let spec = process.spec.as_ref()?;
    Some(Row {
        process: spec.name.clone(),
        value: spec.env.get("VALUE").cloned().unwrap_or_default(),
        generation: process.generation,
        revision: process.revision,
        running: process.wanted_running,
    })
}

/// Watches from the beginning until it has seen everything, at one manager after the other, and resumes where it stood; what
/// no manager remembers is listed instead.
pub async fn watch(shared: Arc<Shared>, number: usize) {
    let managers = shared.world.managers.len();
    let (mut after, mut at, mut listed) = (0, number, None);
    while !shared.has_seen_all(after) {
        let address = shared.world.managers[at % managers].client_address.clone();
        at += 1;
        let mut watched = Watched { client: number as u64, after, listed: listed.take(), events: Vec::new() };
        let end = watch_at(&shared, &address, &mut watched).await;
        after = watched.events.iter().rev().find(|event| !event.more).map_or(after, |event| event.revision);
        // What came of a revision that is not whole comes again.
        watched.events.retain(|event| event.revision <= after);
        if !watched.events.is_empty() || watched.listed.is_some() {
            shared.registers.watched.lock().unwrap().push(watched);
        }
        if end == Ended::Forgotten
            && let Some((revision, rows)) = list(&shared, number).await
        {
            (after, listed) = (revision, Some(rows));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How a watch at one manager ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It may go on elsewhere.
    Broken,
    /// This manager does not remember so far back.
    Forgotten,
}

impl Ended {
    fn by(status: &Status) -> Self {
        if status.code() == Code::OutOfRange { Self::Forgotten } else { Self::Broken }
    }
}

/// All registers, and the revision at which they are so.
async fn list(shared: &Shared, first: usize) -> Option<(u64, Vec<Row>)> {
    let client = shared.world.client_from(first).with_deadline(PATIENCE);
    let reply = client.processes(all(), false).await.ok()?;
    let rows = reply.processes.iter().filter_map(row).filter(|row| row.process.starts_with(PREFIX));
    Some((reply.position?.revision, rows.collect()))
}

/// Until the manager ends it, or says nothing for too long.
async fn watch_at(shared: &Shared, address: &str, watched: &mut Watched) -> Ended {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(Duration::from_secs(1));
    let Ok(channel) = endpoint.connect().await else { return Ended::Broken };
    let mut control = v1::control_client::ControlClient::new(channel);
    let opened = control.watch(v1::WatchRequest { after_revision: watched.after });
    let mut stream = match tokio::time::timeout(SILENT, opened).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Ended::by(&status),
        Err(_) => return Ended::Broken,
    };
    let mut seen = watched.after;
    while !shared.has_seen_all(seen) {
        match tokio::time::timeout(SILENT, stream.message()).await {
            Ok(Ok(Some(event))) => {
                seen = if event.more { seen } else { event.revision };
                watched.events.push(event_of(event));
            }
            Ok(Err(status)) => return Ended::by(&status),
            Ok(Ok(None)) | Err(_) => return Ended::Broken,
        }
    }
    Ended::Broken
}

/// Only registers are of interest: nobody else's changes are in the history.
fn event_of(event: v1::WatchEvent) -> Event {
    let progress = matches!(event.change, Some(v1::watch_event::Change::Progress(_)));
    let change = match event.change {
        Some(v1::watch_event::Change::ProcessPut(process)) => row(&process).map(Change::Put),
        Some(v1::watch_event::Change::ProcessDeleted(name)) => Some(Change::Deleted(name)),
        _ => None,
    };
    let change = change.filter(|change| match change {
        Change::Put(row) => row.process.starts_with(PREFIX),
        Change::Deleted(name) => name.starts_with(PREFIX),
    });
    Event { revision: event.revision, change, progress, more: event.more }
}
