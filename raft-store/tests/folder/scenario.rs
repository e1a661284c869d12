//! Six short lives of a store, each a list of steps, and the judge of what is left of one that was cut short.
//!
//! A child process takes the steps and says each that was acknowledged. The judge knows the steps and nothing of the store:
//! the log must be the one after the acknowledged steps, or after one more, and the state must be what its entries give.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use minder_model::Revision;
use minder_raft_store::{Entry, EntryPayload, OpenError, Opened, SnapshotFile, Vote};
use minder_state::State;
use openraft::{
    RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftStateMachine},
};

use super::common::{append, apply, entry, log_id, open};

/// Up to where the snapshot goes that the last scenario takes in.
pub const SNAPSHOT_INDEX: u64 = 60;
/// The term of its last entry, which contradicts the log of the one that takes it in.
const SNAPSHOT_TERM: u64 = 2;

/// Term of the entry that is tried after a failure.
const TRIED_TERM: u64 = 99;

#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// This term, for oneself.
    Vote(u64),
    /// Entries of this term from here to there.
    Append(u64, u64, u64),
    /// Everything in the log that is not applied yet.
    Apply,
    /// Entries after this one go.
    Truncate(u64),
    /// Entries up to this one go; its term.
    Purge(u64, u64),
    /// A snapshot of the state.
    Build,
    /// The snapshot of somebody else comes in.
    Receive,
    /// It takes the place of the state.
    Install,
}

use Step::{Append, Apply, Build, Install, Purge, Receive, Truncate, Vote as Give};

/// Every scenario and its steps.
pub const SCENARIOS: [(&str, &[Step]); 6] = [
    ("append", &[Give(1), Append(1, 1, 1), Append(1, 2, 9), Apply, Append(1, 10, 12), Append(1, 13, 13), Apply]),
    ("vote", &[Give(1), Append(1, 1, 3), Give(2), Give(5), Append(5, 4, 6), Apply, Give(6)]),
    (
        "truncate",
        &[Give(1), Append(1, 1, 10), Truncate(7), Give(2), Append(2, 8, 12), Truncate(8), Append(2, 9, 10), Apply],
    ),
    (
        "purge",
        &[
            Give(1),
            Append(1, 1, 10),
            Apply,
            Build,
            Purge(1, 4),
            Append(1, 11, 14),
            Purge(1, 10),
            Append(1, 15, 15),
            Apply,
        ],
    ),
    (
        "build",
        &[
            Append(1, 1, 5),
            Apply,
            Build,
            Append(1, 6, 9),
            Apply,
            Build,
            Append(1, 10, 11),
            Apply,
            Build,
            Append(1, 12, 12),
        ],
    ),
    (
        "install",
        &[
            Give(1),
            Append(1, 1, 3),
            Apply,
            Append(1, 4, SNAPSHOT_INDEX + 2),
            Give(SNAPSHOT_TERM),
            Receive,
            Truncate(3),
            Install,
            Purge(SNAPSHOT_TERM, SNAPSHOT_INDEX),
            Append(SNAPSHOT_TERM, SNAPSHOT_INDEX + 1, SNAPSHOT_INDEX + 2),
            Apply,
        ],
    ),
];

/// The steps of one scenario.
pub fn steps(name: &str) -> &'static [Step] {
    SCENARIOS.iter().find(|(found, _)| *found == name).unwrap().1
}

/// Writes the snapshot that the last scenario takes in.
pub async fn foreign_snapshot(folder: &Path) -> PathBuf {
    let mut opened = open(&folder.join("foreign")).unwrap();
    let entries: Vec<Entry> = (1..=SNAPSHOT_INDEX).map(|index| entry(SNAPSHOT_TERM, index)).collect();
    append(&mut opened, entries.clone()).await.unwrap();
    apply(&mut opened, entries).await;
    let built = opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let path = folder.join("foreign.snapshot");
    std::fs::copy(built.snapshot.path(), &path).unwrap();
    path
}

/// Takes the steps in a folder and says on standard output how many were acknowledged. A step that fails ends it, as it
/// ends a manager; what it says then begins with `failed`. After a failed sync nothing may be acknowledged any more.
pub async fn live(folder: &Path, name: &str, snapshot: &Path) {
    let mut opened = match open(folder) {
        Ok(opened) => opened,
        Err(error) => return println!("\nfailed to open: {error}"),
    };
    say("opened", 0);
    let mut received = None;
    for (at, step) in steps(name).iter().enumerate() {
        match take(&mut opened, *step, snapshot, &mut received).await {
            Ok(()) => say("done", at + 1),
            Err(error) => {
                println!("\nfailed {at}: {error}");
                if !matches!(step, Give(_) | Append(..) | Truncate(_) | Purge(..)) {
                    return;
                }
                // Whoever would go on regardless gets nothing acknowledged once the log is not to be trusted.
                let last = opened.log.get_log_state().await.unwrap().last_log_id.map_or(0, |last| last.index);
                if append(&mut opened, vec![entry(TRIED_TERM, last + 1)]).await.is_ok() {
                    println!("went on");
                }
                return;
            }
        }
    }
    say("finished", steps(name).len());
}

fn say(what: &str, count: usize) {
    println!("\n{what} {count}");
    std::io::stdout().flush().unwrap();
}

async fn take(
    opened: &mut Opened,
    step: Step,
    snapshot: &Path,
    received: &mut Option<SnapshotFile>,
) -> std::io::Result<()> {
    match step {
        Give(term) => opened.log.save_vote(&Vote::new_committed(term, 1)).await,
        Append(term, from, to) => append(opened, (from..=to).map(|index| entry(term, index)).collect()).await,
        Apply => {
            let applied = opened.store.published().revision().0;
            let entries = opened.log.try_get_log_entries(applied + 1..).await?;
            let stream = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
            opened.machine.apply(stream).await
        }
        Truncate(after) => {
            let last = term_at(opened, after).await?;
            opened.log.truncate_after(Some(log_id(last, after))).await
        }
        Purge(term, upto) => opened.log.purge(log_id(term, upto)).await,
        Build => opened.machine.get_snapshot_builder().await.build_snapshot().await.map(drop),
        Receive => {
            let mut receiver = opened.store.receive_snapshot()?;
            for piece in std::fs::read(snapshot)?.chunks(4_000) {
                receiver.write(piece)?;
            }
            *received = Some(receiver.finish()?);
            Ok(())
        }
        Install => {
            let snapshot = received.take().expect("it was received");
            let meta = snapshot.meta().clone();
            opened.machine.install_snapshot(&meta, snapshot).await
        }
    }
}

async fn term_at(opened: &mut Opened, index: u64) -> std::io::Result<u64> {
    let found = opened.log.try_get_log_entries(index..=index).await?;
    Ok(found.first().map_or(0, |entry| entry.log_id.leader_id.term))
}

/// What the child said.
#[derive(Debug, Default, Clone)]
pub struct Said {
    /// Steps that were acknowledged.
    pub done: usize,
    /// The folder was opened.
    pub opened: bool,
    /// All steps were taken.
    pub finished: bool,
    /// What failed, in its words.
    pub failed: Option<String>,
    /// Something was acknowledged after a failure.
    pub went_on: bool,
}

impl Said {
    pub fn read(output: &str) -> Self {
        let mut said = Self::default();
        for line in output.lines() {
            match line.split_once(' ') {
                Some(("opened", _)) => said.opened = true,
                Some(("done", count)) => said.done = count.parse().unwrap_or(said.done),
                Some(("finished", _)) => said.finished = true,
                Some(("failed", why)) => said.failed = Some(why.to_owned()),
                Some(("went", "on")) => said.went_on = true,
                Some(_) | None => {}
            }
        }
        said
    }
}

/// The log after some steps: terms by index, where it begins, the last vote, and whether a snapshot was installed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Model {
    terms: BTreeMap<u64, u64>,
    purged: u64,
    vote: u64,
    installed: bool,
}

impl Model {
    fn after(steps: &[Step]) -> Self {
        let mut model = Self::default();
        for step in steps {
            match *step {
                Give(term) => model.vote = term,
                Append(term, from, to) => model.terms.extend((from..=to).map(|index| (index, term))),
                Truncate(after) => drop(model.terms.split_off(&(after + 1))),
                Purge(_, upto) => {
                    model.purged = upto;
                    model.terms = model.terms.split_off(&(upto + 1));
                }
                // The next start installs it at the latest.
                Receive => {
                    model.installed = true;
                    model.purged = SNAPSHOT_INDEX;
                    model.terms.clear();
                }
                Install | Apply | Build => {}
            }
        }
        model
    }

    /// What may be there when so many steps were acknowledged: all of them, or one more that was under way, or without those
    /// at the end that are not synced, for nothing is promised by them: what was truncated or purged may be there again.
    fn possible(steps: &[Step], done: usize) -> Vec<Self> {
        let lazy = |step: &&Step| matches!(step, Truncate(_) | Purge(..) | Apply | Build);
        let undone = steps[..done].iter().rev().take_while(lazy).count();
        (done - undone..=(done + 1).min(steps.len())).map(|count| Self::after(&steps[..count])).collect()
    }

    fn last(&self) -> u64 {
        self.terms.last_key_value().map_or(self.purged, |(last, _)| *last)
    }
}

/// What became of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything that was acknowledged is there.
    Recovered,
    /// It is not opened, and says why.
    Refused,
    /// It is not opened, and must never vote again.
    Quarantined,
}

/// Opens what is left and compares it with what was acknowledged. The error says what is missing or wrong.
pub async fn judge(folder: &Path, name: &str, said: &Said) -> Result<Outcome, String> {
    let mut opened = match open(folder) {
        Ok(opened) => opened,
        Err(OpenError::Quarantine { .. }) => return Ok(Outcome::Quarantined),
        Err(_) => return Ok(Outcome::Refused),
    };
    let possible = Model::possible(steps(name), said.done);
    let vote = opened.log.read_vote().await.map_err(text)?.map_or(0, |vote| vote.leader_id.term);
    if possible.iter().all(|model| model.vote != vote) {
        return Err(format!("vote {vote} is there after {} steps", said.done));
    }
    let log = opened.log.get_log_state().await.map_err(text)?;
    let purged = log.last_purged_log_id.map_or(0, |purged| purged.index);
    let mut entries = opened.log.try_get_log_entries(..).await.map_err(text)?;
    // What was tried after the failure was not acknowledged: it may be there or not.
    entries.retain(|entry| entry.log_id.leader_id.term != TRIED_TERM);
    let last = entries.last().map_or(purged, |entry| entry.log_id.index);
    let found: BTreeMap<u64, u64> =
        entries.iter().map(|entry| (entry.log_id.index, entry.log_id.leader_id.term)).collect();
    let fits = |model: &Model| {
        let from = model.purged.max(purged) + 1;
        model.last() == last && found.range(from..).eq(model.terms.range(from..))
    };
    if !possible.iter().any(fits) {
        return Err(format!(
            "the log is {found:?} after {purged}, possible after {} steps are {possible:?}",
            said.done
        ));
    }
    state_fits(&mut opened, &entries, &possible, said.done).await?;
    let end = opened.log.get_log_state().await.map_err(text)?.last_log_id.map_or(0, |last| last.index);
    let next = end.max(opened.store.published().revision().0) + 1;
    append(&mut opened, vec![entry(100, next)]).await.map_err(|error| format!("it cannot go on: {error}"))?;
    Ok(Outcome::Recovered)
}

/// The state is that of its entries, and goes on with those that the log has.
async fn state_fits(opened: &mut Opened, entries: &[Entry], possible: &[Model], done: usize) -> Result<(), String> {
    let applied = opened.store.published().revision().0;
    let must_be_installed = possible.iter().all(|model| model.installed);
    if must_be_installed && applied < SNAPSHOT_INDEX {
        return Err(format!("a snapshot up to {SNAPSHOT_INDEX} was installed, the state stands at {applied}"));
    }
    let furthest =
        possible.iter().map(|model| model.last().max(if model.installed { SNAPSHOT_INDEX } else { 0 })).max();
    if furthest.is_none_or(|furthest| applied > furthest) {
        return Err(format!("the state stands at {applied} after {done} steps"));
    }
    let behind: Vec<Entry> = entries.iter().filter(|entry| entry.log_id.index > applied).cloned().collect();
    apply(opened, behind).await;
    let published = opened.store.published();
    let mut expected = State::default();
    for index in 1..=published.revision().0 {
        let EntryPayload::Normal(proposal) = entry(1, index).payload else { continue };
        expected.apply(Revision(index), proposal.proposal());
    }
    match expected.hash() == published.state.hash() {
        true => Ok(()),
        false => Err(format!("the state at {} is not that of its entries", published.revision().0)),
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
