//! What came of it, for people, and the verdict.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use minder_chaos_tests::{
    Gaps, Outcome, World,
    history::{self, Record},
    now,
    oracle::{self, Verdict},
    promise::{Finding, Fleet, judge, read_accounts},
};

use crate::{Settings, fleet, schedule::Fault, settle::Settled, workload::Workload};

/// Writes go on within this as long as a majority is well, on a machine that others may keep busy.
const GAP_MAX: Duration = Duration::from_secs(20);
/// A gap that follows a leader's death begins within this.
const AFTER_KILL: Duration = Duration::from_secs(3);
/// Findings of one kind that are shown.
const SHOWN: usize = 8;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything that was tried happened, and every promise held.
    Pass,
    /// A promise is broken.
    Broken,
    /// Something could not be seen to happen, or not be judged.
    Inconclusive,
}

impl End {
    pub fn is_pass(self) -> bool {
        self == Self::Pass
    }

    pub fn is_broken(self) -> bool {
        self == Self::Broken
    }
}

/// Everything that is told at the end.
pub struct Report {
    settings: Settings,
    began: Instant,
    skipped: Vec<(&'static str, String)>,
    faults: Vec<Fault>,
    settled: Vec<Duration>,
    broken: Vec<(String, String)>,
    inconclusive: Vec<String>,
    findings: Vec<Finding>,
    managers: Vec<(&'static str, Verdict)>,
    operations: BTreeMap<String, usize>,
    gaps: Vec<Duration>,
}

impl Report {
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            began: Instant::now(),
            skipped: Vec::new(),
            faults: Vec::new(),
            settled: Vec::new(),
            broken: Vec::new(),
            inconclusive: Vec::new(),
            findings: Vec::new(),
            managers: Vec::new(),
            operations: BTreeMap::new(),
            gaps: Vec::new(),
        }
    }

    /// A promise is broken.
    pub fn broken(&mut self, promise: &str, how: String) {
        println!("BROKEN {promise}: {how}");
        self.broken.push((promise.into(), how));
    }

    /// Whether going on would show nothing new.
    pub fn is_hopeless(&self) -> bool {
        !self.broken.is_empty()
    }

    pub fn skipped(&mut self, skipped: Vec<(&'static str, String)>) {
        self.skipped = skipped;
    }

    /// What a round brought.
    pub fn faults(&mut self, faults: Vec<Fault>) {
        for fault in &faults {
            if let Outcome::Broken(how) = &fault.outcome {
                self.broken(fault.kind, how.clone());
            }
        }
        self.faults.extend(faults);
    }

    /// Whether all was well after it.
    pub fn settled(&mut self, settled: Settled) {
        match settled {
            Ok(took) => self.settled.push(took),
            Err(why) => self.broken("once faults end, all is well again", why),
        }
    }

    /// Has everything judged.
    pub async fn judge(&mut self, world: &World, workload: &Workload) {
        let shared = &workload.shared;
        for complaint in shared.complaints().into_iter().chain(world.complaints()) {
            self.broken("nothing odd happens", complaint);
        }
        shared.registers.save();
        self.judge_managers(workload);
        self.judge_fleet(world);
        self.judge_gaps(world, &shared.gaps);
        let mut outcomes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for fault in &self.faults {
            let (all, installed) = outcomes.entry(fault.kind).or_default();
            *all += 1;
            *installed += usize::from(matches!(fault.outcome, Outcome::Installed(_)));
        }
        for (kind, (all, _)) in outcomes.into_iter().filter(|(_, (_, installed))| *installed == 0) {
            self.inconclusive.push(format!("{kind} was tried {all} times and never seen to happen"));
        }
    }

    fn judge_managers(&mut self, workload: &Workload) {
        let registers = &workload.shared.registers;
        let (records, watched, looks) = (registers.records(), registers.watched(), registers.looks());
        let chain = oracle::watch::chain(&watched, 0);
        self.managers = vec![
            ("history by the witness of revisions", oracle::witness::check(&records, &chain)),
            ("history by a search", oracle::search::check(&records, 20, 2_000_000)),
            ("watches", oracle::watch::check(&watched, &chain)),
            ("equal states at equal index", oracle::managers::equal_states(&looks)),
            ("terms and indexes never go back", oracle::managers::never_back(&looks)),
        ];
        for (what, verdict) in self.managers.clone() {
            match verdict {
                Verdict::Holds { .. } => {}
                Verdict::Broken(findings) => findings.into_iter().for_each(|how| self.broken(what, how)),
                Verdict::Inconclusive(why) => self.inconclusive.push(format!("{what}: {why}")),
            }
        }
        for record in records {
            *self.operations.entry(operation(&record)).or_default() += 1;
        }
    }

    fn judge_fleet(&mut self, world: &World) {
        let logs = world.hosts.iter().map(|host| {
            let folder = host.data.join("logs").join(fleet::CHATTY);
            (folder, fleet::LOGS_BYTES_MAX)
        });
        let fleet = Fleet {
            accounts: read_accounts(&world.accounts()),
            notes: world.journal.notes(),
            ended_at: now(),
            policies: fleet::policies(),
            logs: logs.collect(),
        };
        self.findings = judge(&fleet);
        for finding in &self.findings {
            if finding.checked == 0 {
                self.inconclusive.push(format!("{}: there was nothing to judge", finding.promise));
            }
        }
        let broken: Vec<(&str, String)> = self
            .findings
            .iter()
            .flat_map(|finding| finding.broken.iter().take(SHOWN).map(|how| (finding.promise, how.clone())))
            .collect();
        broken.into_iter().for_each(|(promise, how)| self.broken(promise, how));
    }

    fn judge_gaps(&mut self, world: &World, gaps: &Gaps) {
        let excused = world.leases.excused();
        let is_excused =
            |from: Instant, to: Instant| excused.iter().any(|(begin, end)| from < *end + GAP_MAX && *begin < to);
        let paused = |from: Instant, to: Instant| self.faults.iter().all(|fault| fault.over < from || fault.begun > to);
        let long = gaps.between().into_iter().filter(|(from, to)| *to - *from > GAP_MAX);
        // Writers are quiet while it is looked at whether all is well.
        let broken: Vec<String> = long
            .filter(|(from, to)| !is_excused(*from, *to) && !paused(*from, *to))
            .map(|(from, to)| format!("no write for {:.1?}, {:.0?} after the begin", to - from, from - self.began))
            .collect();
        broken.into_iter().for_each(|how| self.broken("writes go on while a majority is well", how));
        let kills = self.faults.iter().filter(|fault| fault.kind == "kill-leader");
        self.gaps = kills.filter_map(|kill| gaps.longest_within(kill.begun, kill.begun + AFTER_KILL)).collect();
        self.gaps.sort();
    }

    /// How it ended.
    pub fn verdict(&self) -> End {
        match (self.broken.is_empty(), self.inconclusive.is_empty()) {
            (false, _) => End::Broken,
            (true, false) => End::Inconclusive,
            (true, true) => End::Pass,
        }
    }

    /// What repeats it.
    pub fn line(&self) -> String {
        let Settings { duration, seed, shape, kinds } = &self.settings;
        let minutes = duration.as_secs_f64() / 60.0;
        let kinds = if kinds.is_empty() { String::new() } else { format!(" KINDS={}", kinds.join(",")) };
        format!("make chaos MINUTES={minutes} SEED={seed} MANAGERS={} HOSTS={}{kinds}", shape.managers, shape.hosts)
    }
}

fn operation(record: &Record) -> String {
    let what = match &record.op {
        history::Op::Put { expect: None, .. } => "write",
        history::Op::Put { .. } => "compare-and-set",
        history::Op::Delete { .. } => "delete",
        history::Op::Order { .. } => "order",
        history::Op::Read { .. } => "read",
    };
    format!("{what} {:?}", record.outcome).to_lowercase()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        for fault in &self.faults {
            let place = match fault.outcome {
                Outcome::Installed(_) => 0,
                Outcome::Unclear(_) => 1,
                Outcome::Broken(_) => 2,
            };
            kinds.entry(fault.kind).or_default()[place] += 1;
        }
        writeln!(
            f,
            "\n{} faults of {} kinds in {:.0?}, seed {}",
            self.faults.len(),
            kinds.len(),
            self.began.elapsed(),
            self.settings.seed
        )?;
        for (kind, [installed, unclear, broken]) in kinds {
            let more =
                if unclear + broken > 0 { format!(", {unclear} unclear, {broken} broken") } else { String::new() };
            writeln!(f, "  {kind:<24} {installed} installed{more}")?;
        }
        for (kind, why) in &self.skipped {
            writeln!(f, "  {kind:<24} skipped: {why}")?;
        }
        let operations: Vec<String> = self.operations.iter().map(|(what, count)| format!("{what} {count}")).collect();
        writeln!(f, "operations: {}", operations.join(", "))?;
        writeln!(f, "longest gap of writes after a leader's death: {}", spread(&self.gaps))?;
        let mut settled = self.settled.clone();
        settled.sort();
        writeln!(f, "well again after the last fault: {}", spread(&settled))?;
        for (what, verdict) in &self.managers {
            writeln!(f, "  {what}: {verdict}")?;
        }
        for finding in &self.findings {
            let broken = if finding.broken.is_empty() {
                "holds".into()
            } else {
                format!("BROKEN {} times", finding.broken.len())
            };
            writeln!(f, "  {}: {broken} ({} checked)", finding.promise, finding.checked)?;
        }
        for (promise, how) in &self.broken {
            writeln!(f, "BROKEN {promise}: {how}")?;
        }
        for why in &self.inconclusive {
            writeln!(f, "inconclusive: {why}")?;
        }
        write!(f, "verdict: {:?}", self.verdict())
    }
}

/// Of durations in order.
fn spread(sorted: &[Duration]) -> String {
    let at = |percent: usize| sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default();
    match sorted.last() {
        None => "none".into(),
        Some(worst) => format!(
            "{} times, p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, worst {worst:.1?}",
            sorted.len(),
            at(50),
            at(90),
            at(99)
        ),
    }
}
