//! A pretended kernel with its processes, and the shims on it, after slave/shim and slave/src/os. Pids are few, so that
//! they are used again soon. What the kernel knows is the truth that oracles judge by.

use std::collections::BTreeMap;

use minder_model::{Incarnation, InstanceKey, Signal};

use crate::{
    ask::Behaviour,
    chance::Chance,
    host::What,
    network::Node,
    planted::Planted,
    world::{Event, World, say},
};

/// One start of an instance: the name of its bundle and of its cgroup.
pub type Leaf = (InstanceKey, Incarnation);

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its cgroup.
    pub leaf: Leaf,
    /// When it began, as the kernel counts.
    pub ticks: u64,
    /// It is the program itself and no child of it.
    pub main: bool,
    deaf: bool,
    /// It is about to end on a signal.
    ending: bool,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
    /// The machine was restarted under it.
    Reboot,
}

/// What became of one start.
#[derive(Debug, Clone)]
pub struct Truth {
    /// When its program began, in the world's time.
    pub began_at: u64,
    /// What it was started with.
    pub launched: (u64, Behaviour),
    /// How it ended.
    pub end: Option<End>,
    /// When.
    pub ended_at: u64,
    /// Its shim was killed: nobody can know how it ended.
    pub unseen: bool,
    /// Somebody told it to end: its slave, by its shim.
    pub told: bool,
    /// Somebody else killed it.
    pub killed: bool,
    /// Signals of orders that reached it.
    pub signals: u64,
}

/// How far a start is, as its shim writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It runs.
    Running,
    /// It is over, others of its tree may not be.
    Draining,
    /// All is over.
    Ended,
    /// It could not be started.
    StartFailed,
}

/// What a shim writes down.
#[derive(Debug, Clone)]
pub struct ShimRecord {
    /// In this boot.
    pub boot: u64,
    /// The program.
    pub main_pid: u32,
    /// And when it began.
    pub main_ticks: u64,
    /// How far it is.
    pub stage: Stage,
    /// How it ended.
    pub end: Option<End>,
    /// Wall clock at its start.
    pub started_ms: u64,
    /// Wall clock at its end.
    pub ended_ms: u64,
}

/// The folder of one start.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What was to be started.
    pub launched: (u64, Behaviour),
    /// What its shim wrote down.
    pub record: Option<ShimRecord>,
    /// Its shim lives.
    pub shim: bool,
    /// The slave has let it begin.
    pub let_go: bool,
    /// The slave has told it to end, if before its program began.
    told: bool,
    /// It ends the tree.
    killing: bool,
    /// The slave, by its epoch, that listens to it.
    pub attended: Option<u64>,
    /// Without a shim: the program is held by its slave.
    pub held: bool,
}

impl Bundle {
    /// One that was just made by a slave, with a shim that waits.
    pub fn new(launched: (u64, Behaviour), slave: u64) -> Self {
        let attended = Some(slave);
        Self { launched, record: None, shim: true, let_go: false, told: false, killing: false, attended, held: false }
    }
}

/// One host's kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Counts boots.
    pub boot: u64,
    /// By pid.
    pub processes: BTreeMap<u32, Process>,
    /// Folders.
    pub bundles: BTreeMap<Leaf, Bundle>,
    /// What became of each start.
    pub truths: BTreeMap<Leaf, Truth>,
    next_pid: u32,
    pids: u32,
    ticks: u64,
}

/// The first pid after a boot.
const FIRST_PID: u32 = 100;

impl Kernel {
    /// A machine that was just switched on.
    pub fn new(pids: u32) -> Self {
        Self {
            boot: 1,
            processes: BTreeMap::new(),
            bundles: BTreeMap::new(),
            truths: BTreeMap::new(),
            next_pid: 0,
            pids,
            ticks: 0,
        }
    }

    /// Living processes of a start.
    pub fn members<'a>(&'a self, leaf: &'a Leaf) -> impl Iterator<Item = (u32, &'a Process)> {
        self.processes.iter().filter(move |(_, process)| process.leaf == *leaf).map(|(pid, process)| (*pid, process))
    }

    /// Living processes of an instance, whichever start.
    pub fn living<'a>(&'a self, key: &'a InstanceKey) -> impl Iterator<Item = (u32, &'a Process)> {
        let of_key = move |(_, process): &(&u32, &Process)| process.leaf.0 == *key;
        self.processes.iter().filter(of_key).map(|(pid, process)| (*pid, process))
    }

    fn fork(&mut self, leaf: &Leaf, main: bool, deaf: bool) -> (u32, u64) {
        let mut pid = FIRST_PID + self.next_pid % self.pids;
        while self.processes.contains_key(&pid) {
            self.next_pid += 1;
            pid = FIRST_PID + self.next_pid % self.pids;
        }
        self.next_pid += 1;
        self.ticks += 1;
        let process = Process { leaf: leaf.clone(), ticks: self.ticks, main, deaf, ending: false };
        self.processes.insert(pid, process);
        (pid, self.ticks)
    }

    /// The power goes and comes back. What was in files may be there still.
    pub fn restart(&mut self, now: u64, chance: &mut Chance) {
        for process in std::mem::take(&mut self.processes).into_values().filter(|process| process.main) {
            if let Some(truth) = self.truths.get_mut(&process.leaf) {
                (truth.end, truth.ended_at) = (Some(End::Reboot), now);
            }
        }
        self.boot += 1;
        (self.next_pid, self.ticks) = (0, 0);
        self.bundles.retain(|leaf, _| {
            let kept = chance.percent(60);
            if let Some(truth) = self.truths.get_mut(leaf).filter(|_| !kept) {
                truth.unseen = true;
            }
            kept
        });
        for (leaf, bundle) in &mut self.bundles {
            (bundle.shim, bundle.attended, bundle.held, bundle.killing) = (false, None, false, false);
            // What a shim wrote down last may not have reached the disk.
            if let Some(record) = &mut bundle.record
                && record.stage != Stage::Ended
                && chance.percent(30)
            {
                bundle.record = None;
                if let Some(truth) = self.truths.get_mut(leaf) {
                    truth.unseen = true;
                }
            }
        }
    }
}

impl World {
    /// A shim begins with its program, if it was let go.
    pub fn shim_starts(&mut self, host: usize, boot: u64, leaf: Leaf) {
        let (now, wall_ms) = (self.now, self.wall_ms(host));
        let steady = !self.faulty;
        let Some(bundle) = self.hosts[host].kernel_of(boot).and_then(|kernel| kernel.bundles.get_mut(&leaf)) else {
            return;
        };
        if !bundle.shim || !bundle.let_go || bundle.record.as_ref().is_some_and(|record| record.main_pid != 0) {
            return;
        }
        let (launched, told) = (bundle.launched, bundle.told);
        let behaviour = if steady && launched.1 != Behaviour::Forks { Behaviour::Steady } else { launched.1 };
        let blank = ShimRecord {
            boot,
            main_pid: 0,
            main_ticks: 0,
            stage: Stage::StartFailed,
            end: None,
            started_ms: wall_ms,
            ended_ms: wall_ms,
        };
        // By night most starts fail later than at once: whatever begins anew every second makes a night as long as a day.
        let fails = self.pace == 1 || self.chance.percent(5);
        if behaviour == Behaviour::Unstartable && fails {
            bundle.record = Some(blank.clone());
            return self.tell_slave(host, &leaf, What::Over(Some(blank)));
        }
        let kernel = &mut self.hosts[host].kernel;
        let (pid, ticks) = kernel.fork(&leaf, true, behaviour == Behaviour::Deaf);
        let record = ShimRecord { main_pid: pid, main_ticks: ticks, stage: Stage::Running, ended_ms: 0, ..blank };
        if let Some(bundle) = kernel.bundles.get_mut(&leaf) {
            bundle.record = Some(record.clone());
        }
        let truth =
            Truth { began_at: now, launched, end: None, ended_at: 0, unseen: false, told, killed: false, signals: 0 };
        kernel.truths.insert(leaf.clone(), truth);
        say!(self, Node::Host(host), "{} start {} runs as {pid}", leaf.0, leaf.1);
        self.judge_start(host, &leaf);
        if behaviour == Behaviour::Forks {
            for _ in 0..2 {
                self.hosts[host].kernel.fork(&leaf, false, true);
            }
        }
        self.plan_end(host, boot, pid, ticks, behaviour);
        self.tell_slave(host, &leaf, What::Running(record));
    }

    fn plan_end(&mut self, host: usize, boot: u64, pid: u32, ticks: u64, behaviour: Behaviour) {
        let (wait, end) = match behaviour {
            Behaviour::CrashLoop | Behaviour::Unstartable => (self.chance.of(5..900), End::Code(1)),
            Behaviour::Ends | Behaviour::Forks if self.faulty => {
                let end = *self.chance.pick(&[End::Code(0), End::Code(0), End::Code(3), End::Signal(11)]);
                (self.chance.of(500..20_000), end)
            }
            _ => return,
        };
        self.after(self.paced(wait), Event::ProgramEnds { host, boot, pid, ticks, end });
    }

    /// A process ends, by itself or by a signal; a pid that belongs to another by now is left alone.
    pub fn program_ends(&mut self, host: usize, boot: u64, pid: u32, ticks: u64, end: End) {
        let now = self.now;
        let Some(kernel) = self.hosts[host].kernel_of(boot) else { return };
        if kernel.processes.get(&pid).is_none_or(|process| process.ticks != ticks) {
            return;
        }
        let Some(process) = kernel.processes.remove(&pid) else { return };
        let leaf = process.leaf;
        if process.main {
            if let Some(truth) = kernel.truths.get_mut(&leaf) {
                (truth.end, truth.ended_at) = (Some(end), now);
            }
            say!(self, Node::Host(host), "{} start {} ended: {end:?}", leaf.0, leaf.1);
        }
        self.judge_end(host, &leaf, process.main);
        let wall_ms = self.wall_ms(host);
        let kernel = &mut self.hosts[host].kernel;
        let held = |(leaf, bundle): (&Leaf, &Bundle)| {
            let holds = bundle.held && bundle.record.as_ref().is_some_and(|record| record.main_pid == pid);
            holds.then(|| leaf.clone())
        };
        let orphans: Vec<Leaf> = kernel.bundles.iter().filter_map(held).collect();
        if let Some(bundle) = kernel.bundles.get_mut(&leaf)
            && bundle.shim
            && process.main
            && let Some(record) = &mut bundle.record
        {
            (record.end, record.ended_ms, record.stage) = (Some(end), wall_ms, Stage::Draining);
            bundle.killing = true;
            if self.planted == Some(Planted::EndBeforeEmpty) {
                let record = ShimRecord { stage: Stage::Ended, ..record.clone() };
                self.tell_slave(host, &leaf, What::Over(Some(record)));
            }
            let wait = self.chance.of(1..5);
            self.after(wait, Event::ShimKills { host, boot, leaf: leaf.clone() });
        }
        for orphan in orphans {
            self.orphan_ended(host, &orphan);
        }
    }

    /// A shim that ends its tree looks at it.
    pub fn shim_kills(&mut self, host: usize, boot: u64, leaf: Leaf) {
        let Some(kernel) = self.hosts[host].kernel_of(boot) else { return };
        let Some(bundle) = kernel.bundles.get(&leaf).filter(|bundle| bundle.shim && bundle.killing) else { return };
        let draining = bundle.record.as_ref().is_some_and(|record| record.stage == Stage::Draining);
        let mut members: Vec<(u32, u64, bool)> =
            kernel.members(&leaf).map(|(pid, process)| (pid, process.ticks, process.main)).collect();
        if members.is_empty() {
            if draining
                && let Some(bundle) = kernel.bundles.get_mut(&leaf)
                && let Some(record) = &mut bundle.record
            {
                record.stage = Stage::Ended;
                bundle.killing = false;
                let record = record.clone();
                self.tell_slave(host, &leaf, What::Over(Some(record)));
            }
            return;
        }
        if self.planted == Some(Planted::KillOfMainAlone) {
            members.retain(|(_, _, main)| *main);
            if members.is_empty() {
                if let Some(bundle) = self.hosts[host].kernel.bundles.get_mut(&leaf)
                    && let Some(record) = &mut bundle.record
                {
                    record.stage = Stage::Ended;
                    bundle.killing = false;
                    let record = record.clone();
                    self.tell_slave(host, &leaf, What::Over(Some(record)));
                }
                return;
            }
        } else if members.len() > 1 && self.chance.percent(30) {
            // A child that was forked between two looks.
            members.pop();
        }
        for (pid, ticks, _) in members {
            self.program_ends(host, boot, pid, ticks, End::Signal(Signal::KILL.number()));
        }
        self.after(10, Event::ShimKills { host, boot, leaf });
    }

    /// What a slave asks of an incarnation: the signal of a stop or of an order.
    pub fn signal_incarnation(&mut self, host: usize, leaf: &Leaf, signal: Signal, stops: bool) {
        let boot = self.hosts[host].kernel.boot;
        let kernel = &mut self.hosts[host].kernel;
        let Some(bundle) = kernel.bundles.get(leaf).filter(|bundle| bundle.shim || bundle.held) else { return };
        let Some(record) = bundle.record.as_ref().filter(|record| record.stage == Stage::Running) else { return };
        let (pid, ticks) = (record.main_pid, record.main_ticks);
        let Some(process) = kernel.processes.get_mut(&pid).filter(|process| process.ticks == ticks) else { return };
        if !stops {
            if let Some(truth) = kernel.truths.get_mut(leaf) {
                truth.signals += 1;
            }
            return self.judge_signal(host, leaf);
        }
        let ends = !process.deaf && !std::mem::replace(&mut process.ending, true);
        self.told_to_end(host, leaf);
        if ends {
            let end = if self.chance.percent(50) { End::Code(0) } else { End::Signal(signal.number()) };
            let wait = self.chance.of(1..700);
            self.after(wait, Event::ProgramEnds { host, boot, pid, ticks, end });
        }
    }

    fn told_to_end(&mut self, host: usize, leaf: &Leaf) {
        if let Some(truth) = self.hosts[host].kernel.truths.get_mut(leaf) {
            truth.told = true;
        }
        if let Some(bundle) = self.hosts[host].kernel.bundles.get_mut(leaf) {
            bundle.told = true;
        }
        self.judge_told(host, leaf);
    }

    /// A slave has the whole tree of an incarnation killed.
    pub fn kill_incarnation(&mut self, host: usize, leaf: &Leaf) {
        let boot = self.hosts[host].kernel.boot;
        self.told_to_end(host, leaf);
        let Some(bundle) = self.hosts[host].kernel.bundles.get_mut(leaf) else { return };
        if bundle.shim && bundle.record.as_ref().is_none_or(|record| record.stage != Stage::Ended) {
            bundle.killing = true;
            self.after(1, Event::ShimKills { host, boot, leaf: leaf.clone() });
        } else if bundle.held {
            self.end_leaf(host, leaf);
        }
    }

    /// Ends every process of a start: what has a cgroup can be ended without a shim.
    pub fn end_leaf(&mut self, host: usize, leaf: &Leaf) {
        let boot = self.hosts[host].kernel.boot;
        let members: Vec<(u32, u64)> =
            self.hosts[host].kernel.members(leaf).map(|(pid, process)| (pid, process.ticks)).collect();
        for (pid, ticks) in members {
            self.program_ends(host, boot, pid, ticks, End::Signal(Signal::KILL.number()));
        }
    }

    /// Somebody kills a shim. Its program goes on.
    pub fn kill_shim(&mut self, host: usize, leaf: &Leaf) {
        let kernel = &mut self.hosts[host].kernel;
        let Some(bundle) = kernel.bundles.get_mut(leaf).filter(|bundle| bundle.shim) else { return };
        bundle.shim = false;
        bundle.killing = false;
        let attended = bundle.attended.take();
        if let Some(truth) = kernel.truths.get_mut(leaf) {
            truth.unseen = true;
        }
        say!(self, Node::Host(host), "the shim of {} start {} is killed", leaf.0, leaf.1);
        if let Some(epoch) = attended {
            self.after(2, Event::AttendAgain { host, epoch, leaf: leaf.clone(), newborn: true });
        }
    }

    /// A slave looks for the shim of a start, and makes do without where there is none.
    pub fn attend_again(&mut self, host: usize, epoch: u64, leaf: Leaf, newborn: bool) {
        if self.hosts[host].slave.as_ref().is_none_or(|slave| slave.epoch != epoch) {
            return;
        }
        let kernel = &mut self.hosts[host].kernel;
        let Some(bundle) = kernel.bundles.get_mut(&leaf) else {
            self.end_leaf(host, &leaf);
            return self.give_news(host, &leaf, What::Over(None));
        };
        bundle.attended = Some(epoch);
        let record = bundle.record.clone();
        if bundle.shim && bundle.let_go {
            let what = match record.as_ref().map(|record| record.stage) {
                Some(Stage::Running) => record.map(What::Running),
                Some(Stage::Ended) if self.planted == Some(Planted::ExitLost) => Some(What::Over(None)),
                Some(Stage::Ended | Stage::StartFailed) => Some(What::Over(record)),
                Some(Stage::Draining) | None => None,
            };
            what.into_iter().for_each(|what| self.give_news(host, &leaf, what));
            return;
        }
        bundle.shim = false;
        let Some(record) = record.filter(|record| record.main_pid != 0 || record.stage == Stage::StartFailed) else {
            let what = if newborn { What::NoShim } else { What::Over(None) };
            return self.give_news(host, &leaf, what);
        };
        let same = |process: &Process| {
            process.ticks == record.main_ticks && record.boot == kernel.boot || self.planted == Some(Planted::PidAlone)
        };
        if record.stage == Stage::Running && kernel.processes.get(&record.main_pid).is_some_and(same) {
            if let Some(bundle) = kernel.bundles.get_mut(&leaf) {
                bundle.held = true;
            }
            return self.give_news(host, &leaf, What::Running(record));
        }
        self.end_leaf(host, &leaf);
        self.give_news(host, &leaf, What::Over(Some(record)));
    }

    /// A program that its slave held without a shim is gone.
    fn orphan_ended(&mut self, host: usize, leaf: &Leaf) {
        let Some(bundle) = self.hosts[host].kernel.bundles.get_mut(leaf) else { return };
        bundle.held = false;
        let record = bundle.record.clone();
        self.end_leaf(host, leaf);
        self.tell_slave(host, leaf, What::Over(record));
    }

    /// Tells whoever listens to a start.
    fn tell_slave(&mut self, host: usize, leaf: &Leaf, what: What) {
        let attended = self.hosts[host].kernel.bundles.get(leaf).and_then(|bundle| bundle.attended);
        let slave = self.hosts[host].slave.as_ref().map(|slave| slave.epoch);
        if attended.is_some() && attended == slave {
            self.give_news(host, leaf, what);
        }
    }

    fn give_news(&mut self, host: usize, leaf: &Leaf, what: What) {
        let wait = self.chance.of(1..6);
        let Some(slave) = &mut self.hosts[host].slave else { return };
        // One connection to each shim, which keeps its order.
        slave.news_at = slave.news_at.max(self.now + wait);
        let (epoch, wait) = (slave.epoch, slave.news_at - self.now);
        self.after(wait, Event::News { host, epoch, leaf: leaf.clone(), what });
    }
}
