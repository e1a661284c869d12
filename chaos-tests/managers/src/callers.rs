//! Writers and readers of a few processes that run nowhere, each with one call under way, through all managers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use minder_chaos_tests::history::{Op, Outcome, Record, Row};
use minder_proto::v1;
use minder_sim::Chance;
use tonic::{Code, Response, Status};

use crate::{
    seam,
    shared::{Control, PREFIX, Shared},
};

/// Few, so that writers meet.
const REGISTERS: usize = 6;
/// One attempt at one manager.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Attempts of one write; the last ones come from somebody who does not give up.
const ATTEMPTS: usize = 4;
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// One client, which makes one call at a time.
pub struct Caller {
    shared: Arc<Shared>,
    number: u64,
    chance: Chance,
    controls: Vec<Control>,
    /// The manager to ask next.
    at: usize,
    drawn: u64,
    /// The revision of each process as it was seen last.
    known: BTreeMap<String, u64>,
}

impl Caller {
    /// The client of this number, which begins at the manager of that number.
    pub fn new(shared: Arc<Shared>, number: usize, chance: Chance) -> turmoil::Result<Self> {
        let controls = (0..shared.places.len()).map(|at| shared.control(at)).collect::<Result<_, _>>()?;
        let number = number as u64;
        Ok(Self { shared, number, chance, controls, at: number as usize, drawn: 0, known: BTreeMap::new() })
    }

    /// Writes and reads until all is over, with pauses of up to so many milliseconds.
    pub async fn call_on(mut self, pause_ms: u64) {
        self.shared.until_formed().await;
        while !self.shared.is_over() {
            self.call().await;
            let pause = self.chance.of(0..pause_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.shared.callers(false);
    }

    /// Once all is over: reads everything through every manager that takes part, and writes through each.
    pub async fn audit(mut self) {
        while !self.shared.is_to_audit() {
            tokio::time::sleep(AGAIN).await;
        }
        let statuses = self.shared.statuses();
        let members: Vec<usize> = statuses.into_iter().filter(|(_, (_, one))| one.voter).map(|(at, _)| at).collect();
        for at in members {
            loop {
                self.at = at;
                if self.read(None).await {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            self.at = at;
            self.put(format!("{PREFIX}{at}"), None).await;
            self.at = at;
            self.read(None).await;
        }
        self.shared.audited();
    }

    async fn call(&mut self) {
        let process = format!("{PREFIX}{}", self.chance.below(REGISTERS));
        let expect = Some(self.known.get(&process).copied().unwrap_or_default());
        match self.chance.below(20) {
            0..8 => self.put(process, None).await,
            8..12 => self.put(process, expect).await,
            12 => self.delete(process, None).await,
            13 => self.delete(process, expect.filter(|at| *at > 0)).await,
            14 => drop(self.read(None).await),
            _ => drop(self.read(Some(process)).await),
        }
        // Some stay with one manager, most go round.
        if self.chance.percent(40) {
            self.at = self.chance.below(self.controls.len());
        }
    }

    /// Declares a process with a new value.
    pub async fn put(&mut self, process: String, expect: Option<u64>) {
        let value = self.draw();
        let spec = v1::ProcessSpec {
            name: process.clone(),
            command: "/bin/true".into(),
            env: [("VALUE".to_owned(), value.clone())].into(),
            ..Default::default()
        };
        let options = options(&value, expect);
        let op = Op::Put { process: process.clone(), value: value.clone(), expect };
        let request = v1::ApplyRequest { specs: vec![spec], options: Some(options) };
        let call_us = seam::now_us();
        let result = self.write(request, async |control, request| control.apply(request).await).await;
        self.keep_write(call_us, op, result, |reply, revision| {
            let generation = reply.processes.first().map_or(0, |change| change.generation);
            vec![Row { process, value, generation, revision, running: true }]
        });
    }

    async fn delete(&mut self, process: String, expect: Option<u64>) {
        let options = options(&self.draw(), expect);
        let request = v1::DeleteRequest { processes: vec![process.clone()], options: Some(options) };
        let call_us = seam::now_us();
        let result = self.write(request, async |control, request| control.delete(request).await).await;
        self.keep_write(call_us, Op::Delete { process, expect }, result, |_, _| Vec::new());
    }

    fn draw(&mut self) -> String {
        self.drawn += 1;
        format!("c{}-{}", self.number, self.drawn)
    }

    /// Asks one manager after the other under one request id, until one knows. Now and then a request that was answered is
    /// said again, which must give the same answer.
    async fn write<Q: Clone>(
        &mut self,
        request: Q,
        send: impl AsyncFn(&mut Control, Q) -> Result<Response<v1::WriteReply>, Status>,
    ) -> Result<v1::WriteReply, Status> {
        let mut last = Status::unavailable("nobody was asked");
        let attempts = 1 + self.chance.below(ATTEMPTS);
        let mut maybe_done = false;
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
                self.at += 1;
            }
            match self.attempt(request.clone(), &send).await {
                Ok(reply) => {
                    if self.chance.below(6) == 0 {
                        self.say_again(request, &reply, &send).await;
                    }
                    return Ok(reply);
                }
                Err(status) => {
                    maybe_done |= is_unknown(status.code());
                    let decided = matches!(status.code(), Code::Aborted | Code::NotFound);
                    last = status;
                    if decided {
                        break;
                    }
                }
            }
        }
        match maybe_done && !matches!(last.code(), Code::Aborted | Code::NotFound) {
            true => Err(Status::unavailable(last.message())),
            false => Err(last),
        }
    }

    async fn attempt<Q>(
        &mut self,
        request: Q,
        send: &impl AsyncFn(&mut Control, Q) -> Result<Response<v1::WriteReply>, Status>,
    ) -> Result<v1::WriteReply, Status> {
        let at = self.at % self.controls.len();
        match tokio::time::timeout(PATIENCE, send(&mut self.controls[at], request)).await {
            Ok(result) => result.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }

    async fn say_again<Q>(
        &mut self,
        request: Q,
        first: &v1::WriteReply,
        send: &impl AsyncFn(&mut Control, Q) -> Result<Response<v1::WriteReply>, Status>,
    ) {
        self.at += 1;
        match self.attempt(request, send).await {
            Ok(again) if position(&again).revision != position(first).revision => self.shared.complain(format!(
                "one request of client {} was answered with revision {} and, said again, with {}",
                self.number,
                position(first).revision,
                position(&again).revision
            )),
            Err(status) if matches!(status.code(), Code::Aborted | Code::NotFound) => self.shared.complain(format!(
                "one request of client {} was answered with revision {} and, said again, refused: {}",
                self.number,
                position(first).revision,
                status.message()
            )),
            Ok(_) | Err(_) => {}
        }
    }

    fn keep_write(
        &mut self,
        call_us: u64,
        op: Op,
        result: Result<v1::WriteReply, Status>,
        rows: impl FnOnce(&v1::WriteReply, u64) -> Vec<Row>,
    ) {
        let (outcome, revision, term, rows) = match result {
            Ok(reply) => {
                self.shared.acknowledged();
                let v1::Position { revision, term, .. } = position(&reply);
                if let Some(process) = op.process() {
                    let gone = matches!(op, Op::Delete { .. });
                    self.known.insert(process.to_owned(), if gone { 0 } else { revision });
                }
                (Outcome::Ok, revision, term, rows(&reply, revision))
            }
            Err(status) => {
                let (revision, term) = (number(&status, "minder-revision"), number(&status, "minder-term"));
                match status.code() {
                    Code::Aborted if revision > 0 => (Outcome::Conflict, revision, term, Vec::new()),
                    Code::NotFound if revision > 0 => (Outcome::Absent, revision, term, Vec::new()),
                    code if is_unknown(code) => (Outcome::Unknown, 0, 0, Vec::new()),
                    _ => (Outcome::Failed, 0, 0, Vec::new()),
                }
            }
        };
        self.keep(call_us, op, outcome, revision, term, rows);
    }

    /// Reads one process, or all; `true` when it was answered.
    pub async fn read(&mut self, process: Option<String>) -> bool {
        let call_us = seam::now_us();
        let (terms, all) = (process.iter().cloned().collect(), process.is_none());
        let request = v1::GetProcessesRequest {
            selection: Some(v1::Selection { terms, all, ..Default::default() }),
            options: Some(v1::ReadOptions { stale: false }),
        };
        let at = self.at % self.controls.len();
        let answered = tokio::time::timeout(PATIENCE, self.controls[at].get_processes(request)).await;
        let op = Op::Read { process: process.clone(), stale: false };
        let Ok(Ok(reply)) = answered else {
            self.at += 1;
            self.keep(call_us, op, Outcome::Failed, 0, 0, Vec::new());
            return false;
        };
        let reply = reply.into_inner();
        let rows: Vec<Row> = reply.processes.iter().filter_map(row).collect();
        if let Some(process) = process {
            self.known.insert(process, rows.first().map_or(0, |row| row.revision));
        }
        let v1::Position { revision, term, .. } = reply.position.unwrap_or_default();
        self.keep(call_us, op, Outcome::Ok, revision, term, rows);
        true
    }

    fn keep(&self, call_us: u64, op: Op, outcome: Outcome, revision: u64, term: u64, rows: Vec<Row>) {
        let return_us = seam::now_us();
        self.shared.keep(Record { client: self.number, call_us, return_us, op, outcome, revision, term, rows });
    }
}

fn options(request_id: &str, expect_revision: Option<u64>) -> v1::WriteOptions {
    v1::WriteOptions { request_id: request_id.into(), expect_revision, ..Default::default() }
}

fn position(reply: &v1::WriteReply) -> v1::Position {
    reply.position.clone().unwrap_or_default()
}

fn number(status: &Status, name: &str) -> u64 {
    let text = status.metadata().get(name).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A write that ended so may have happened, or may happen yet.
fn is_unknown(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal)
}

/// A process as an answer shows it.
pub fn row(process: &v1::Process) -> Option<Row> {
    let spec = process.spec.as_ref()?;
    Some(Row {
        process: spec.name.clone(),
        value: spec.env.get("VALUE").cloned().unwrap_or_default(),
        generation: process.generation,
        revision: process.revision,
        running: process.wanted_running,
    })
}
