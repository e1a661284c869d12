//! One run: faults first, judged at every step; then healing and a demand for progress; in a long life a night of hours
//! in which little happens, the same demand, and the next day; at last a cold restart of everything, and the demand again.

use crate::{
    ask::{Ask, What},
    network::Node,
    operators::Asked,
    options::Options,
    planted::Planted,
    world::{World, say},
};

/// Once faults end, everything is as it should be within this, in milliseconds: a stop's grace, the longest wait of a
/// restart policy, a silence's end and some.
pub const CONVERGED_MS_MAX: u64 = 90_000;
/// It must stay so for this long.
const STEADY_MS: u64 = 1_500;
/// By night everybody takes this many times as long: a fault in 5 to 33 minutes, a call in 2 to 13.
const NIGHT_PACE: u64 = 200;
/// Operators go on for this long after the faults end.
const CALM_MS: u64 = 6_000;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The promise that was broken.
    pub failure: Option<String>,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Events.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Faults by name.
    pub faults: std::collections::BTreeMap<&'static str, u64>,
    /// Entries that were decided.
    pub entries: u64,
    /// Calls that were answered.
    pub calls: u64,
    /// Programs that began.
    pub starts: u64,
    /// Elections.
    pub elections: u64,
    /// Restarts by policy that were judged.
    pub restarts_judged: u64,
    /// The last lines of each node, and all of them; with lines only.
    pub lines: Option<(String, String)>,
}

/// Runs the world of a seed to its end or its first broken promise. A panic is a broken promise as well.
pub fn run(options: &Options, planted: Option<Planted>, with_lines: bool) -> Run {
    let ran = std::panic::catch_unwind(|| run_to_the_end(options, planted, with_lines));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        Run { failure: Some(format!("panic: {}", text.unwrap_or_default())), ..Run::default() }
    })
}

fn run_to_the_end(options: &Options, planted: Option<Planted>, with_lines: bool) -> Run {
    let mut world = World::new(options.clone(), planted, with_lines);
    world.live(options.faults_ms);
    for _ in 0..options.nights {
        for (pace, ms) in [(NIGHT_PACE, options.night_ms), (1, options.faults_ms)] {
            if world.failure.is_none() {
                world.begin_again(pace);
                world.live(ms);
            }
        }
    }
    if world.failure.is_none() {
        world.restart_everything();
    }
    if world.failure.is_none() {
        world.judge_everything_acknowledged();
    }
    let lines = with_lines.then(|| (world.trace.last(), world.trace.whole()));
    let hashes: Vec<u8> = world.managers.iter().flat_map(|manager| manager.state.hash().to_bytes()).collect();
    hashes.iter().for_each(|byte| world.trace.note(&[u64::from(*byte)]));
    Run {
        failure: world.failure.clone(),
        hash: world.trace.hash(),
        events: world.trace.events(),
        simulated_ms: world.now,
        faults: world.faults.clone(),
        entries: world.agreement.log.len() as u64,
        calls: world.oracles.acknowledged.calls,
        starts: world.oracles.starts,
        elections: world.agreement.elections,
        restarts_judged: world.oracles.restarts_judged(),
        lines,
    }
}

impl World {
    /// A day or a night, and its end.
    fn live(&mut self, ms: u64) {
        self.run_until(self.now + ms);
        if self.failure.is_none() {
            self.heal();
        }
    }

    fn heal(&mut self) {
        say!(self, Node::World, "the faults end");
        self.end_faults();
        self.run_until(self.now + CALM_MS);
        if self.failure.is_none() {
            self.settle("after the faults");
        }
    }

    /// Waits until everything is as it should be.
    fn settle(&mut self, when: &str) {
        let begin = self.now;
        self.stop_operating();
        let begun = self.call_now(Asked::Read);
        self.end_local_stops();
        let mut retried = false;
        let mut steady_since = None;
        while self.failure.is_none() {
            self.run_until(self.now + 250);
            let served = begun && self.operators.iter().all(|operator| operator.call.is_none());
            if served && !retried {
                retried = true;
                let request = self.oracles.asks.take(Ask::Order(What::Retry, Vec::new()), None);
                self.call_now(Asked::Write(request));
                continue;
            }
            let open = if served { self.not_converged() } else { Some("a call is not answered".into()) };
            match open {
                None => {
                    let since = *steady_since.get_or_insert(self.now);
                    if self.now >= since + STEADY_MS {
                        return;
                    }
                }
                Some(open) => {
                    steady_since = None;
                    if self.now > begin + CONVERGED_MS_MAX {
                        self.fail(10, format!("{when}: not as it should be after {CONVERGED_MS_MAX} ms: {open}"));
                    }
                }
            }
        }
    }

    fn call_now(&mut self, what: Asked) -> bool {
        let free = (0..self.operators.len()).find(|operator| self.operators[*operator].call.is_none());
        if let Some(operator) = free {
            self.begin_call(operator, what);
        }
        true
    }

    fn restart_everything(&mut self) {
        say!(self, Node::World, "everything is restarted");
        for manager in 0..self.managers.len() {
            self.kill_manager(manager);
        }
        for host in 0..self.hosts.len() {
            if self.chance.percent(50) {
                self.cut_power(host);
            } else {
                self.kill_slave(host);
            }
        }
        self.run_until(self.now + 500);
        for manager in 0..self.managers.len() {
            self.start_manager(manager);
        }
        for host in 0..self.hosts.len() {
            self.switch_on(host);
            self.start_slave(host);
        }
        self.settle("after a cold restart");
    }
}
