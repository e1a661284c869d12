//! What goes wrong, by plan, and whether it did: a fault that nobody could have felt proves nothing.

use std::time::Duration;

use minder_proto::v1;
use minder_sim::Chance;

use crate::{
    disk::{self, Loss},
    manager,
    moments::{Awaited, Moment},
    net,
    options::{Fault, Options, Planned},
    trace,
    world::World,
};

/// What a message takes at most over a slow link.
const SLOW: Duration = Duration::from_millis(500);
/// Of a hundred pieces so many are lost.
const LOSSY: u64 = 15;
/// A slow sync takes at most this, in milliseconds.
const SLOW_SYNC_MS: u64 = 1_000;
/// A manager told to stop hands over first and has stopped within this, in milliseconds.
const STOPS_MS: u64 = 4_000;

/// All lose power within this of the time that the plan says, in milliseconds.
const ALL_WITHIN_MS: u64 = 1_500;
/// A manager that is left behind is away for so long at most, in milliseconds, and then gets a snapshot within this.
const AWAY_MS: u64 = 5_000;
const SNAPSHOT_WITHIN_MS: u64 = 1_500;

/// What nobody has felt is tried again for so long after the time of faults, in milliseconds.
pub const MAKE_UP_MS: u64 = 10_000;

/// Answers are under way for so long after the sync that they tell of, in milliseconds, and are waited for so long.
const ANSWERS_MS: u64 = 3;
const ANSWERS_WITHIN_MS: u64 = 1_000;

/// Not one manager alone has it.
const EVERYWHERE: usize = usize::MAX;

/// A fault that is under way.
struct Active {
    until_ms: u64,
    /// Ways between hosts that have it.
    ways: Vec<(String, String)>,
    /// The manager that has it.
    at: usize,
    /// When it hurts, of one that waits for that.
    moment: Option<Moment>,
    /// Where the log ended of a manager that is away until the others have forgotten that.
    away_at: Option<u64>,
    /// Disks are slow until then.
    slows: bool,
    /// It was felt already.
    felt: bool,
    planned: Planned,
}

impl Active {
    fn new(planned: Planned, at: usize, until_ms: u64) -> Self {
        Self { until_ms, ways: Vec::new(), at, moment: None, away_at: None, slows: false, felt: false, planned }
    }
}

/// All of them.
pub struct Faults {
    plan: Vec<Planned>,
    active: Vec<Active>,
    chance: Chance,
    /// Syncs of each manager, and when the last of them was seen, in milliseconds.
    synced: Vec<(u64, u64)>,
    /// Planned faults that nobody felt.
    pub missed: Vec<String>,
}

impl Faults {
    /// What the plan of a seed says.
    pub fn new(options: &Options) -> Self {
        Self {
            plan: options.plan.clone(),
            active: Vec::new(),
            chance: Chance::new(options.seed ^ 0x66_6175_6c74),
            synced: vec![(0, 0); options.managers + options.spare],
            missed: Vec::new(),
        }
    }

    /// Whether something planned has not been felt yet, or is not over.
    pub fn owes(&self) -> bool {
        !self.plan.is_empty() || !self.active.is_empty()
    }

    fn is_active(&self, fault: Fault) -> bool {
        self.active.iter().any(|active| active.planned.fault == fault)
    }

    /// Begins what is due and ends what is over.
    pub fn tick(world: &mut World) {
        let now = world.now_ms();
        for (at, synced) in world.faults.synced.iter_mut().enumerate() {
            if manager::syncs(at) != synced.0 {
                *synced = (manager::syncs(at), now);
            }
        }
        let (due, later) = std::mem::take(&mut world.faults.plan).into_iter().partition(|planned| planned.at_ms <= now);
        world.faults.plan = later;
        let mut due: Vec<Planned> = due;
        // What needs managers that serve begins before what stops them: many can be due when one comes back.
        due.sort_by_key(|planned| !planned.fault.is_of_links());
        for planned in due {
            if !Self::begin(world, planned) {
                world.faults.plan.push(planned);
            }
        }
        Self::end_what_is_over(world);
    }

    fn end_what_is_over(world: &mut World) {
        let now = world.now_ms();
        let mut at = 0;
        while at < world.faults.active.len() {
            if Self::is_over(world, at, now) {
                let active = world.faults.active.remove(at);
                Self::end(world, active);
            } else {
                at += 1;
            }
        }
    }

    /// Ends everything; what was planned and never began was not felt.
    pub fn heal(world: &mut World) {
        let end_ms = world.now_ms() + STOPS_MS;
        while !world.faults.active.is_empty() && world.now_ms() < end_ms && world.failure.is_none() {
            world.step();
            Self::end_what_is_over(world);
        }
        while let Some(active) = world.faults.active.pop() {
            Self::end(world, active);
        }
        let never = std::mem::take(&mut world.faults.plan);
        world.faults.missed.extend(never.iter().map(|planned| format!("one of the {}", planned.fault.name())));
        world.start_all();
    }

    /// After hosts were cut off and let in again: the fault of links that is under way holds on.
    pub fn reapply(world: &mut World) {
        for active in &world.faults.active {
            for (from, to) in &active.ways {
                match active.planned.fault {
                    Fault::Partition | Fault::OneWay => world.sim.partition_oneway(from.as_str(), to.as_str()),
                    Fault::Hold => world.sim.hold(from.as_str(), to.as_str()),
                    _ => {}
                }
            }
        }
    }

    /// The leader more often than others: it has the most to lose. None when nobody serves.
    fn some_manager(world: &mut World) -> Option<usize> {
        let serving: Vec<usize> = (0..world.shared.places.len()).filter(|at| world.serves(*at)).collect();
        // One that is being hurt already is left alone.
        let busy = |at: &usize| {
            world.faults.active.iter().any(|active| active.at == *at && active.planned.fault != Fault::SlowDisk)
        };
        let free: Vec<usize> = serving.into_iter().filter(|at| !busy(at)).collect();
        let statuses = world.shared.statuses();
        let leads = |at: &&usize| statuses.get(at).is_some_and(|(_, status)| status.role == "leader");
        let takes_part = |at: &usize| statuses.get(at).is_some_and(|(_, status)| status.voter);
        match free.iter().find(leads) {
            Some(leader) if world.faults.chance.percent(50) => Some(*leader),
            _ => {
                let voters: Vec<usize> = free.iter().copied().filter(takes_part).collect();
                (!voters.is_empty()).then(|| *world.faults.chance.pick(&voters))
            }
        }
    }

    /// The leader, if all who vote beside it have just synced something: their answers are under way.
    fn is_being_answered(world: &World) -> Option<usize> {
        let now = world.now_ms();
        let statuses = world.shared.statuses();
        let (leader, _) = statuses.iter().find(|(at, (_, status))| status.role == "leader" && world.serves(**at))?;
        let mut others = statuses.iter().filter(|(at, (_, status))| *at != leader && status.voter);
        others.all(|(at, _)| now - world.faults.synced[*at].1 <= ANSWERS_MS).then_some(*leader)
    }

    /// `false` when it cannot be begun yet.
    fn begin(world: &mut World, planned: Planned) -> bool {
        let Planned { fault, for_ms, .. } = planned;
        let until_ms = world.now_ms() + for_ms;
        let begun = match fault {
            Fault::Kill => Self::crash(world, Loss::Process, until_ms),
            Fault::PowerCut => Self::crash(world, Loss::Power, until_ms),
            Fault::PowerCutOfAll => Self::begin_at_all(world, planned),
            Fault::CrashAtSnapshot => Self::begin_at_snapshot(world, planned),
            Fault::Stop | Fault::PowerCutAtSync | Fault::SlowDisk => Self::begin_at_one(world, planned, until_ms),
            Fault::Partition | Fault::OneWay | Fault::SlowLinks | Fault::Loss | Fault::Hold => {
                Self::begin_on_ways(world, planned, until_ms)
            }
            // The operator does it.
            Fault::Membership | Fault::Transfer => true,
        };
        if begun {
            tracing::info!("{} for {for_ms} ms", fault.name());
            trace::note(&[world.now_ms(), fault as u64, for_ms]);
        }
        begun
    }

    fn crash(world: &mut World, loss: Loss, back_ms: u64) -> bool {
        let Some(at) = Self::some_manager(world) else { return false };
        Self::crash_one(world, at, loss, back_ms);
        trace::count(if loss == Loss::Power { Fault::PowerCut } else { Fault::Kill }.name(), 1);
        true
    }

    fn crash_one(world: &mut World, at: usize, loss: Loss, back_ms: u64) {
        match world.crash(at, loss, back_ms) {
            Ok(lost) => trace::count("bytes lost", lost),
            Err(error) => world.fail(format!("the harness: no image of a folder: {error}")),
        }
    }

    fn crash_all(world: &mut World, back_ms: u64) -> bool {
        let serving: Vec<usize> = (0..world.shared.places.len()).filter(|at| world.serves(*at)).collect();
        for at in &serving {
            let later = world.faults.chance.of(0..300);
            Self::crash_one(world, *at, Loss::Power, back_ms + later);
        }
        !serving.is_empty()
    }

    /// Soon all lose power. What hurts most is an answer that no disk has yet, so disks may be slow, and the cut may come with
    /// an answer.
    fn begin_at_all(world: &mut World, planned: Planned) -> bool {
        let now = world.now_ms();
        let slows = !world.faults.is_active(Fault::SlowDisk) && world.faults.chance.percent(60);
        let slow_ms = *world.faults.chance.pick(&[30, 200, SLOW_SYNC_MS]);
        if slows {
            world.slow_down_all(slow_ms);
        }
        let chance = &mut world.faults.chance;
        let moment = match chance.percent(50) {
            true => {
                Moment::after(Awaited::Answer(world.shared.acknowledgements() + chance.of(0..4)), now + ALL_WITHIN_MS)
            }
            false => Moment::after(Awaited::Nothing, now + chance.of(0..ALL_WITHIN_MS)),
        };
        world.faults.active.push(Active { moment: Some(moment), slows, ..Active::new(planned, EVERYWHERE, 0) });
        true
    }

    fn begin_at_snapshot(world: &mut World, planned: Planned) -> bool {
        // The others are to go on.
        if (0..world.shared.places.len()).any(|at| world.is_down(at)) {
            return false;
        }
        let Some(at) = Self::some_manager(world) else { return false };
        let now = world.now_ms();
        let mut active = Active::new(planned, at, 0);
        let mut latest_ms = now + SNAPSHOT_WITHIN_MS;
        if world.faults.chance.percent(70) {
            let log_end = world.shared.statuses().get(&at).map_or(0, |(_, status)| status.last_log_index);
            let loss = *world.faults.chance.pick(&[Loss::Process, Loss::Power]);
            Self::crash_one(world, at, loss, now + AWAY_MS);
            latest_ms += AWAY_MS;
            (active.away_at, active.felt) = (Some(log_end), true);
        }
        active.moment = Some(Moment::after(Awaited::snapshot(at), latest_ms));
        world.faults.active.push(active);
        true
    }

    /// It comes back once the leader's log begins after the end of its own.
    fn is_forgotten(world: &World, at: usize, log_end: u64) -> bool {
        let forgets = |status: &v1::ManagerStatus| status.role == "leader" && status.purged_index > log_end;
        world.shared.statuses().iter().any(|(other, (_, status))| *other != at && forgets(status))
    }

    fn end_at_snapshot(world: &mut World, active: &Active, back_ms: u64) -> bool {
        let at = active.at;
        if !world.serves(at) {
            return false;
        }
        let loss = *world.faults.chance.pick(&[Loss::Process, Loss::Power]);
        Self::crash_one(world, at, loss, back_ms);
        if world.faults.chance.percent(50) {
            let folder = world.shared.places[at].folder();
            match disk::damage_snapshot(&folder, &mut world.faults.chance) {
                Ok(damaged) => trace::count("snapshots damaged", u64::from(damaged)),
                Err(error) => world.fail(format!("the harness: no snapshot to damage: {error}")),
            }
        }
        true
    }

    fn begin_at_one(world: &mut World, planned: Planned, until_ms: u64) -> bool {
        // A power cut of all that is to come may have slowed disks down.
        if planned.fault == Fault::SlowDisk && world.faults.is_active(Fault::PowerCutOfAll) {
            return false;
        }
        let Some(at) = Self::some_manager(world) else { return false };
        let mut active = Active::new(planned, at, until_ms);
        match planned.fault {
            Fault::Stop => world.shared.places[at].stop(),
            Fault::PowerCutAtSync => active.moment = Some(Moment::after(Awaited::sync(at), u64::MAX)),
            Fault::SlowDisk if world.faults.chance.percent(40) => {
                active.at = EVERYWHERE;
                world.slow_down_all(SLOW_SYNC_MS);
            }
            Fault::SlowDisk => manager::slow_down(at, SLOW_SYNC_MS),
            _ => {}
        }
        world.faults.active.push(active);
        true
    }

    /// One fault of links at a time: two on one link cannot be told apart.
    fn begin_on_ways(world: &mut World, planned: Planned, until_ms: u64) -> bool {
        let fault = planned.fault;
        let serving = (0..world.shared.places.len()).filter(|at| world.serves(*at)).count();
        if serving < 2 || world.faults.active.iter().any(|active| !active.ways.is_empty()) {
            return false;
        }
        // What is held hurts most when it is answers to a leader that goes on to be asked, so half of the holds wait for them.
        let waits = fault == Fault::Hold && planned.for_ms.is_multiple_of(2);
        let ways = match Self::is_being_answered(world).filter(|_| waits) {
            Some(leader) => Self::ways_to_managers(world, leader),
            None if waits && world.now_ms() < planned.at_ms + ANSWERS_WITHIN_MS => return false,
            None => {
                let Some(at) = Self::some_manager(world) else { return false };
                Self::choose_ways(world, fault, at)
            }
        };
        for (from, to) in &ways {
            net::watch(from, to, if fault == Fault::Loss { LOSSY } else { 0 });
            match fault {
                Fault::Partition | Fault::OneWay => world.sim.partition_oneway(from.as_str(), to.as_str()),
                Fault::SlowLinks => world.sim.set_link_max_message_latency(from.as_str(), to.as_str(), SLOW),
                Fault::Hold => world.sim.hold(from.as_str(), to.as_str()),
                _ => {}
            }
        }
        let all: Vec<String> = ways.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        tracing::info!("{}: {}", fault.name(), all.join(" "));
        // The manager itself may be hurt otherwise meanwhile.
        world.faults.active.push(Active { ways, ..Active::new(planned, EVERYWHERE, until_ms) });
        true
    }

    /// All ways between a manager and the others.
    fn ways_to_managers(world: &World, at: usize) -> Vec<(String, String)> {
        let names = || world.shared.places.iter().map(|place| place.name.clone());
        let chosen = &world.shared.places[at].name;
        let others = names().filter(|other| other != chosen);
        others.flat_map(|other| [(chosen.clone(), other.clone()), (other, chosen.clone())]).collect()
    }

    fn choose_ways(world: &mut World, fault: Fault, at: usize) -> Vec<(String, String)> {
        let chosen = world.shared.places[at].name.clone();
        let hosts = world.hosts();
        let managers = world.shared.places.len();
        let Faults { chance, .. } = &mut world.faults;
        let alone = fault == Fault::Hold || chance.percent(60);
        // With managers alone cut off from each other the leader keeps its clients, which is the harder case.
        let of_managers = chance.percent(40);
        let inside: Vec<&String> =
            hosts.iter().filter(|host| **host == chosen || !alone && chance.percent(40)).collect();
        let both = fault != Fault::OneWay;
        let outward = chance.percent(50);
        let mut ways = Vec::new();
        for one in &inside {
            for other in hosts.iter().filter(|other| !inside.contains(other)) {
                let between_managers = hosts[..managers].contains(one) && hosts[..managers].contains(other);
                if of_managers && !between_managers {
                    continue;
                }
                if both || outward {
                    ways.push(((*one).clone(), other.clone()));
                }
                if both || !outward {
                    ways.push((other.clone(), (*one).clone()));
                }
            }
        }
        ways
    }

    fn is_over(world: &mut World, index: usize, now: u64) -> bool {
        let Active { at, away_at, .. } = world.faults.active[index];
        if away_at.is_some_and(|log_end| world.is_down(at) && Self::is_forgotten(world, at, log_end)) {
            world.start(at);
            trace::count("managers left behind", 1);
        }
        if !world.is_down(at) {
            world.faults.active[index].away_at = None;
        }
        let serves = world.serves(at);
        let shared = world.shared.clone();
        let Faults { active, chance, .. } = &mut world.faults;
        let active = &mut active[index];
        let is_due = active.moment.as_mut().is_some_and(|moment| moment.is_due(now, &shared, chance));
        match active.planned.fault {
            Fault::PowerCutAtSync => is_due || !serves,
            Fault::PowerCutOfAll | Fault::CrashAtSnapshot => is_due,
            Fault::Stop => {
                let ended = shared.places[at].ended().is_some_and(|ended| ended.code == 0);
                ended || now > active.until_ms + STOPS_MS || !serves
            }
            _ => now >= active.until_ms,
        }
    }

    fn end(world: &mut World, active: Active) {
        let Active { until_ms, ref ways, at, moment, felt, planned, .. } = active;
        let fault = planned.fault;
        let mut felt = u64::from(felt);
        for (from, to) in ways {
            let (sent, lost) = net::unwatch(from, to);
            felt += if fault == Fault::Loss { lost } else { sent };
            let (from, to) = (from.as_str(), to.as_str());
            match fault {
                Fault::Partition | Fault::OneWay => world.sim.repair_oneway(from, to),
                Fault::Hold => world.sim.release(from, to),
                Fault::SlowLinks => {
                    let usual = Duration::from_millis(world.options.latency_ms);
                    world.sim.set_link_max_message_latency(from, to, usual);
                }
                _ => {}
            }
        }
        let back_ms = match moment {
            Some(_) => world.now_ms() + planned.for_ms,
            None => until_ms.max(world.now_ms() + 50),
        };
        let happened = moment.is_some_and(|moment| moment.has_happened());
        match fault {
            Fault::SlowDisk if at == EVERYWHERE => {
                felt = world.speed_up_all();
            }
            Fault::SlowDisk => felt = manager::speed_up(at),
            Fault::Stop => {
                if world.shared.places[at].ended().is_some_and(|ended| ended.code == 0) {
                    world.stopped(at, back_ms);
                    felt = 1;
                } else if world.serves(at) {
                    world.fail(format!("{} was told to stop and has not within {STOPS_MS} ms", at + 1));
                }
            }
            Fault::PowerCutAtSync if world.serves(at) && happened => {
                Self::crash_one(world, at, Loss::Power, back_ms);
                felt = 1;
            }
            Fault::PowerCutOfAll => {
                if active.slows {
                    let _ = world.speed_up_all();
                }
                felt = u64::from(Self::crash_all(world, back_ms));
                trace::count("power cuts of all at an answer", u64::from(happened && felt > 0));
            }
            Fault::CrashAtSnapshot => felt |= u64::from(Self::end_at_snapshot(world, &active, back_ms)),
            _ => {}
        }
        let now = world.now_ms();
        match felt {
            0 if now + planned.for_ms + 500 < world.options.faults_ms + MAKE_UP_MS => {
                world.faults.plan.push(Planned { at_ms: now + 100, ..planned });
            }
            0 => world.faults.missed.push(format!("one of the {}", fault.name())),
            _ => trace::count(fault.name(), 1),
        }
    }
}
