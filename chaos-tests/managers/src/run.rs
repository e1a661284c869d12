//! One run: faults while clients go on; then healing and a demand for progress; then power is cut everywhere at once, and
//! what was acknowledged must be there.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    disk::Loss,
    faults::{Faults, MAKE_UP_MS},
    judge::{Judgement, judge},
    options::{Fault, Options},
    planted::Planted,
    trace,
    world::World,
};

/// A cluster forms within this, in milliseconds.
const FORMS_MS: u64 = 5_000;
/// Once faults end, writes are acknowledged again within this: a connection that lost something is given up after four
/// seconds, an election takes one.
const PROGRESS_MS: u64 = 7_000;
/// And acknowledged writes of it that show that it is no accident.
const PROGRESS_WRITES: u64 = 10;
/// What the operator could not do while things went wrong works within this.
const OPERATOR_MS: u64 = 12_000;
/// Clients go on for this long after the faults end.
const CALM_MS: u64 = 2_000;
/// Whoever has a call under way is through within this.
const LAST_CALLS_MS: u64 = 8_000;
/// All managers have the same entries applied within this.
const IN_STEP_MS: u64 = 8_000;

/// What a run came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// `passed`, or what is wrong.
    pub judgement: String,
    /// It passed.
    pub passed: bool,
    /// It could not be judged.
    pub inconclusive: bool,
    /// Hash of everything that happened.
    pub hash: u64,
    /// How much that was.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Calls, of whatever outcome.
    pub calls: u64,
    /// Terms in which somebody was seen to lead.
    pub terms: u64,
    /// Faults that were felt, and other things, by name.
    pub counts: BTreeMap<String, u64>,
}

/// Runs the world of a seed to its end or its first broken promise.
pub fn run(options: &Options, planted: Option<Planted>, root: &Path) -> turmoil::Result<Run> {
    let mut world = World::new(options.clone(), planted, root)?;
    go_through(&mut world);
    let judgement = match (world.failure.clone(), world.faults.missed.first()) {
        (Some(failure), _) => Judgement::Failed(failure),
        (None, missed) => match (judge(&world.shared), missed) {
            (Judgement::Passed, Some(missed)) => Judgement::Inconclusive(format!("nobody felt {missed}")),
            (judged, _) => judged,
        },
    };
    tracing::info!("{judgement}");
    world.shared.save(root)?;
    let (records, watched, looks) = world.shared.seen();
    let all = [serde_json::to_string(&records)?, serde_json::to_string(&watched)?, serde_json::to_string(&looks)?];
    all.iter().for_each(|text| trace::note_text(text));
    let (hash, events, counts) = trace::sum();
    let run = Run {
        seed: options.seed,
        judgement: judgement.to_string(),
        passed: judgement == Judgement::Passed,
        inconclusive: matches!(judgement, Judgement::Inconclusive(_)),
        hash,
        events,
        simulated_ms: world.now_ms(),
        acknowledged: world.shared.acknowledgements(),
        calls: records.len() as u64,
        terms: world.shared.terms() as u64,
        counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    };
    Ok(run)
}

fn go_through(world: &mut World) {
    world.demand("the cluster forms", FORMS_MS, |world| is_so(world.shared.is_formed(), "nobody has an answer"));
    world.run_until(world.options.faults_ms);
    world.run_while(world.options.faults_ms + MAKE_UP_MS, |world| world.faults.owes());
    world.shared.end_changes();
    Faults::heal(world);
    progress(world, "progress after the faults");
    world.demand("the operator is done", OPERATOR_MS, |world| {
        is_so(world.shared.operator_is_at_rest(), "a change of managers or a transfer does not work")
    });
    count_operations(world);
    let calm = world.now_ms() + CALM_MS;
    world.run_until(calm);
    world.shared.end();
    world.demand("the last calls end", LAST_CALLS_MS, |world| {
        is_so(world.shared.callers_left() == 0, "some client still waits")
    });
    in_step(world, "managers are in step");
    lose_all_power(world);
    world.shared.audit();
    world.demand("everything is there after power was lost", PROGRESS_MS, |world| {
        is_so(world.shared.is_audited(), "no manager has answered")
    });
    world.shared.end_watches();
    world.demand("watchers see everything", LAST_CALLS_MS, |world| {
        is_so(world.shared.watchers_left() == 0, "some watcher still waits")
    });
    in_step(world, "managers are in step after power was lost");
}

fn is_so(so: bool, otherwise: &str) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn count_operations(world: &World) {
    let done = [(Fault::Membership, world.shared.changes()), (Fault::Transfer, world.shared.transfers())];
    done.into_iter().filter(|(_, times)| *times > 0).for_each(|(fault, times)| trace::count(fault.name(), times));
}

fn progress(world: &mut World, what: &str) {
    let before = world.shared.acknowledgements();
    world.demand(what, PROGRESS_MS, |world| {
        let written = world.shared.acknowledgements() - before;
        is_so(written >= PROGRESS_WRITES, &format!("{written} writes were acknowledged"))
    });
}

/// Every manager that takes part has applied the same entries and has the same state.
fn in_step(world: &mut World, what: &str) {
    world.demand(what, IN_STEP_MS, |world| {
        let statuses = world.shared.statuses();
        let takes_part = |role: &str| matches!(role, "leader" | "follower" | "learner");
        let of_members: Vec<_> = statuses
            .iter()
            .filter(|(at, (run, status))| *run == world.shared.places[**at].starts() && takes_part(&status.role))
            .map(|(at, (_, status))| (at, status.applied_index, status.state_hash.clone(), status.role.clone()))
            .collect();
        let leads = of_members.iter().filter(|(_, _, _, role)| role == "leader").count();
        let first = of_members.first().ok_or("no manager takes part")?;
        let same = of_members.iter().all(|one| (one.1, &one.2) == (first.1, &first.2));
        is_so(same && leads == 1 && of_members.len() >= 2, &format!("{of_members:?}"))
    });
}

fn lose_all_power(world: &mut World) {
    if world.failure.is_some() {
        return;
    }
    let back = world.now_ms() + 500;
    for at in 0..world.shared.places.len() {
        if world.serves(at)
            && let Err(error) = world.crash(at, Loss::Power, back)
        {
            world.fail(format!("the harness: no image of a folder: {error}"));
        }
    }
}
