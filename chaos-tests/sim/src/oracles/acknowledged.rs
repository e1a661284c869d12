//! Promise 1: an acknowledged write is never lost, and reads never go back. By the revision witness: what was answered is
//! compared with what the table, replayed in the order of the log, must have answered; what was answered before a call
//! began lies below what that call gets.

use minder_state::{Outcome, ProcessChangeKind, Proposal, Refusal, Reply};

use crate::{
    ask::number_of,
    model::Said,
    network::Node,
    operators::{Answer, Asked, Call},
    world::{World, say},
};

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    floor: u64,
    answers: Vec<(u64, u64, Said)>,
    /// Calls that were answered.
    pub calls: u64,
}

impl Acknowledged {
    /// The latest revision that anybody was told.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Somebody was told this revision: by an answer, or by a watch at whichever manager.
    pub fn told(&mut self, revision: u64) {
        self.floor = self.floor.max(revision);
    }
}

/// The number of a request by its id.
pub fn request_number(proposal: &Proposal) -> u64 {
    number_of(proposal.request.as_str()) as u64
}

impl World {
    /// An entry is decided: the judges' table takes it.
    pub fn judge_commit(&mut self, proposal: Option<&Proposal>) {
        let request = proposal.map(request_number);
        let asked = request.and_then(|request| Some((request, self.oracles.asks.get(request).cloned()?)));
        let entry = asked.as_ref().map(|(request, (ask, expected))| (*request, ask, *expected));
        self.oracles.model.commit(entry);
    }

    /// An operator has an answer.
    pub fn judge_answer(&mut self, operator: usize, call: &Call, answer: &Answer) {
        self.oracles.acknowledged.calls += 1;
        let revision = match (answer, &call.what) {
            (Answer::Written(reply), Asked::Write(request)) => {
                let (revision, said) = (reply.revision.0, said(&reply.outcome));
                say!(self, Node::Operator(operator), "is told {said:?} at revision {revision}");
                if revision <= call.floor {
                    let floor = call.floor;
                    self.fail(1, format!("a write that began after revision {floor} was told got revision {revision}"));
                }
                if self.oracles.model.index() >= revision {
                    self.judge_acknowledged(*request, revision, &said);
                }
                self.oracles.acknowledged.answers.push((*request, revision, said));
                revision
            }
            (Answer::Read(revision, page), Asked::Read) => {
                say!(self, Node::Operator(operator), "reads revision {revision}");
                if *revision < call.floor {
                    let floor = call.floor;
                    self.fail(
                        1,
                        format!("a read that began after revision {floor} was told shows revision {revision}"),
                    );
                }
                let expected = self.oracles.model.page(*revision);
                if *revision > 0 && expected != Some(page) {
                    let what = format!("a read at revision {revision} shows {page:?}, the log says {expected:?}");
                    self.fail(1, what);
                }
                *revision
            }
            (Answer::Written(_) | Answer::Read(..) | Answer::Unavailable, Asked::Write(_) | Asked::Read) => return,
        };
        self.oracles.acknowledged.told(revision);
    }

    fn judge_acknowledged(&mut self, request: u64, revision: u64, told: &Said) {
        let expected = self.oracles.model.answer(request).cloned();
        if expected.as_ref() != Some(&(revision, told.clone())) {
            let what =
                format!("request {request} was told {told:?} at revision {revision}; by the log it got {expected:?}");
            self.fail(1, what);
        }
    }

    /// At the end: everything that was ever acknowledged is in the log.
    pub fn judge_everything_acknowledged(&mut self) {
        for (request, revision, told) in self.oracles.acknowledged.answers.clone() {
            self.judge_acknowledged(request, revision, &told);
        }
    }

    /// A manager's own reply is compared as well, whoever gets it.
    pub(super) fn judge_reply(&mut self, manager: usize, index: u64, request: u64, reply: &Reply) {
        let told = (reply.revision.0, said(&reply.outcome));
        let expected = self.oracles.model.answer(request).cloned();
        if expected.as_ref() != Some(&told) {
            let what = format!(
                "manager {manager} answers request {request} at index {index} with {told:?}; by the log it gets {expected:?}"
            );
            self.fail(1, what);
        }
    }
}

fn said(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Done => Said::Done,
        Outcome::Processes(changes) => Said::Processes(
            changes
                .iter()
                .map(|change| {
                    let kind = match change.kind {
                        ProcessChangeKind::Created => 'c',
                        ProcessChangeKind::Changed => 'm',
                        ProcessChangeKind::Unchanged => 'u',
                        ProcessChangeKind::Deleted => 'd',
                    };
                    (number_of(change.name.as_str()), kind, change.generation.0, change.instances)
                })
                .collect(),
        ),
        Outcome::Instances(count, _) => Said::Instances(*count),
        Outcome::Counted(counts) => Said::Other(format!("{counts:?}")),
        Outcome::Refused(refusal) => match refusal {
            Refusal::Conflict(process, expected, actual) => {
                Said::Conflict(number_of(process.as_str()), expected.0, actual.0)
            }
            Refusal::NoSuchProcess(process) => Said::NoProcess(number_of(process.as_str())),
            Refusal::NoSuchHost(host) => Said::NoHost(number_of(host.as_str())),
            Refusal::NothingMatched(_) => Said::Nothing,
            Refusal::ClusterExists(_) => Said::Exists,
            Refusal::HostInUse(host, process) => Said::InUse(number_of(host.as_str()), number_of(process.as_str())),
            Refusal::LimitExceeded(what) | Refusal::Invalid(what) => Said::Other(what.clone()),
            // Nobody here asks for as much as needs a newer version, or is remembered by its counts.
            Refusal::NeedsVersion(..) => Said::Other(refusal.to_string()),
        },
    }
}
