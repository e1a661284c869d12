//! What a seed stands for, printed with every failure. Each class of trouble is on or off by itself (swarm testing): a run
//! with everything at once hides what a run with two of them shows.

use std::fmt;

use minder_sim::Chance;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A manager is killed and comes back.
    Kill,
    /// A manager is told to stop and comes back.
    Stop,
    /// A manager's machine loses power: what was not synced is gone, and nobody is told.
    PowerCut,
    /// Power is cut right after a sync.
    PowerCutAtSync,
    /// All of them lose power at once, half of the time just after somebody was answered; disks may be slow before it.
    PowerCutOfAll,
    /// A manager crashes just after a snapshot was made there or sent to it, which may be damaged then. Most are away first until
    /// the others have forgotten what they lack.
    CrashAtSnapshot,
    /// Managers and clients are cut off from each other, both ways.
    Partition,
    /// Or one way only.
    OneWay,
    /// Messages take up to half a second.
    SlowLinks,
    /// Pieces of connections are lost and come again.
    Loss,
    /// What a manager sends and what is sent to it waits, and comes all at once.
    Hold,
    /// A manager's syncs take up to a second.
    SlowDisk,
    /// Managers come and go.
    Membership,
    /// Leadership is handed over by order.
    Transfer,
}

impl Fault {
    /// All of them, with how many seeds of a hundred have each.
    const ALL: [(Self, u64); 14] = [
        (Self::Kill, 60),
        (Self::Stop, 35),
        (Self::PowerCut, 55),
        (Self::PowerCutAtSync, 40),
        (Self::PowerCutOfAll, 35),
        (Self::CrashAtSnapshot, 40),
        (Self::Partition, 55),
        (Self::OneWay, 45),
        (Self::SlowLinks, 35),
        (Self::Loss, 35),
        (Self::Hold, 35),
        (Self::SlowDisk, 40),
        (Self::Membership, 40),
        (Self::Transfer, 30),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kills",
            Self::Stop => "stops",
            Self::PowerCut => "power cuts",
            Self::PowerCutAtSync => "power cuts after a sync",
            Self::PowerCutOfAll => "power cuts of all",
            Self::CrashAtSnapshot => "crashes at a snapshot",
            Self::Partition => "partitions",
            Self::OneWay => "one-way partitions",
            Self::SlowLinks => "slow links",
            Self::Loss => "losses",
            Self::Hold => "holds",
            Self::SlowDisk => "slow disks",
            Self::Membership => "changes of managers",
            Self::Transfer => "transfers",
        }
    }

    /// It is on the ways between hosts.
    pub fn is_of_links(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay | Self::SlowLinks | Self::Loss | Self::Hold)
    }

    /// The operator does it, not the plan.
    pub fn is_of_operator(self) -> bool {
        matches!(self, Self::Membership | Self::Transfer)
    }
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// When it begins, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
    /// How long it lasts, in milliseconds.
    pub for_ms: u64,
}

/// Everything that a seed fixes before the run begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Managers: 3 or 5.
    pub managers: usize,
    /// Managers beside them that may be added.
    pub spare: usize,
    /// Clients with one call under way each.
    pub callers: usize,
    /// Between two calls of one client, at most, in milliseconds.
    pub pause_ms: u64,
    /// What a message takes at most on a good day, in milliseconds.
    pub latency_ms: u64,
    /// Entries from one snapshot to the next.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot.
    pub keep: u64,
    /// How long things go wrong, in milliseconds.
    pub faults_ms: u64,
    /// From one change of the operator to the next, about, in milliseconds.
    pub change_every_ms: u64,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// What goes wrong when.
    pub plan: Vec<Planned>,
}

/// The cluster forms before this.
const QUIET_MS: u64 = 1_500;
/// A manager is left behind within about this.
const LEFT_BEHIND_MS: u64 = 4_000;
/// What comes after the faults takes about this long.
const AFTER_MS: u64 = 9_000;

impl Options {
    /// What the seed stands for, in a run of about so many seconds.
    pub fn of(seed: u64, seconds: u64) -> Self {
        let mut chance = Chance::new(seed);
        let drawn = Fault::ALL.iter().filter(|(_, percent)| chance.percent(*percent));
        let mut faults: Vec<Fault> = drawn.map(|(fault, _)| *fault).collect();
        if faults.iter().all(|fault| fault.is_of_operator()) {
            faults.push(Fault::Kill);
        }
        let faults_ms = (seconds * 1_000).saturating_sub(AFTER_MS).max(QUIET_MS * 2);
        let spare = if faults.contains(&Fault::Membership) { 1 + chance.below(2) } else { 0 };
        let every_ms = *chance.pick(&[700, 1_300, 2_500]);
        let plan = plan(&faults, faults_ms, every_ms, &mut chance);
        Self {
            seed,
            managers: if chance.percent(75) { 3 } else { 5 },
            spare,
            callers: 4 + chance.below(3),
            pause_ms: *chance.pick(&[40, 80, 160]),
            latency_ms: chance.of(2..9),
            snapshot_every: *chance.pick(&[40, 120, 400]),
            keep: *chance.pick(&[0, 20, 100]),
            faults_ms,
            change_every_ms: *chance.pick(&[800, 1_600]),
            faults,
            plan,
        }
    }
}

/// Each class once, in any order, and then what comes. Faults of links come one after the other.
fn plan(faults: &[Fault], faults_ms: u64, every_ms: u64, chance: &mut Chance) -> Vec<Planned> {
    let all: Vec<Fault> = faults.iter().copied().filter(|fault| !fault.is_of_operator()).collect();
    let mut first = all.clone();
    let (mut plan, mut now, mut links_ms) = (Vec::new(), QUIET_MS, 0);
    while !all.is_empty() {
        now += chance.of(every_ms / 3..every_ms * 5 / 3);
        let each_was_there = first.is_empty();
        let fault = match first.len() {
            0 => *chance.pick(&all),
            left => first.swap_remove(chance.below(left)),
        };
        // While all are down nothing else happens, and nothing else is to happen while one is left behind.
        let is_long = matches!(fault, Fault::PowerCutOfAll | Fault::CrashAtSnapshot);
        if each_was_there && is_long && all.len() > 1 && chance.percent(60) {
            continue;
        }
        let for_ms = match fault {
            Fault::SlowLinks | Fault::Loss | Fault::SlowDisk => chance.of(600..2_500),
            Fault::Hold => chance.of(300..2_000),
            Fault::Partition | Fault::OneWay => chance.of(400..3_000),
            _ => chance.of(50..2_500),
        };
        let at_ms = if fault.is_of_links() { now.max(links_ms) } else { now };
        // The last ones need time to be felt.
        if at_ms + for_ms + 500 > faults_ms {
            break;
        }
        if fault.is_of_links() {
            links_ms = at_ms + for_ms + 100;
        }
        if fault == Fault::CrashAtSnapshot {
            now = at_ms + LEFT_BEHIND_MS;
        }
        plan.push(Planned { at_ms, fault, for_ms });
    }
    plan
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} managers and {} spare, {} clients with pauses up to {} ms; messages take up to {} ms; a snapshot in {} \
             entries, {} kept behind it",
            self.managers, self.spare, self.callers, self.pause_ms, self.latency_ms, self.snapshot_every, self.keep
        )?;
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        write!(f, "faults for {} s, {} planned: {}", self.faults_ms as f64 / 1_000.0, self.plan.len(), names.join(", "))
    }
}
