//! What goes wrong: one fault at a time is begun, and several may be under way.

use crate::{
    host::Step,
    kernel::{End, Leaf},
    network::Node,
    world::{Event, World, say},
};

impl World {
    /// One fault, of a class that this seed has.
    pub fn fault(&mut self) {
        if !self.faulty {
            return;
        }
        let wait = self.chance.of(1..self.options.fault_every_ms * 2);
        self.after(self.paced(wait), Event::Fault);
        let on = self.options.faults.names();
        if on.is_empty() {
            return;
        }
        let name = *self.chance.pick(&on);
        if self.begin_fault(name) {
            *self.faults.entry(name).or_default() += 1;
        }
    }

    /// `false` where there is nothing that it could happen to, and for classes that work by themselves.
    fn begin_fault(&mut self, name: &str) -> bool {
        match name {
            "manager_kills" => self.fault_manager_kill(),
            "manager_pauses" => self.fault_manager_pause(),
            "partitions" => self.fault_partition(false),
            "one_way" => self.fault_partition(true),
            "slave_kills" => self.fault_slave_kill(),
            "slave_kills_in_turns" => self.fault_slave_kill_in_turn(),
            "slave_pauses" => self.fault_slave_pause(),
            "shim_kills" => self.fault_shim_kill(),
            "power_cuts" => self.fault_power_cut(),
            "program_kills" => self.fault_program_kill(),
            "clock_steps" => self.fault_clock_step(),
            "transfers" => self.fault_transfer(),
            _ => false,
        }
    }

    /// The leader more often than others: it has the most to lose.
    fn some_manager(&mut self) -> usize {
        match self.agreement.leader {
            Some(leader) if self.chance.percent(60) => leader,
            Some(_) | None => self.chance.below(self.managers.len()),
        }
    }

    fn fault_manager_kill(&mut self) -> bool {
        let manager = self.some_manager();
        if !self.managers[manager].up {
            return false;
        }
        self.kill_manager(manager);
        let wait = self.chance.of(100..8_000);
        self.after(wait, Event::StartManager { manager });
        true
    }

    fn fault_manager_pause(&mut self) -> bool {
        let manager = self.some_manager();
        let wait = self.chance.of(300..8_000);
        let known = &mut self.managers[manager];
        if !known.up || known.paused_until > self.now {
            return false;
        }
        known.paused_until = self.now + wait;
        known.slept_ms += wait;
        say!(self, Node::Manager(manager), "is paused for {wait} ms");
        true
    }

    fn fault_partition(&mut self, one_way: bool) -> bool {
        let nodes: Vec<Node> = (0..self.managers.len())
            .map(Node::Manager)
            .chain((0..self.hosts.len()).map(Node::Host))
            .chain((0..self.operators.len()).map(Node::Operator))
            .collect();
        let whole = self.chance.percent(50);
        let inside: Vec<Node> = if whole {
            vec![Node::Manager(self.some_manager())]
        } else {
            nodes.iter().copied().filter(|_| self.chance.percent(50)).collect()
        };
        // With others cut off from managers alone the leader keeps its hosts, which is the harder case.
        let managers_alone = self.chance.percent(40);
        for one in &nodes {
            for other in nodes.iter().filter(|other| inside.contains(one) && !inside.contains(other)) {
                let between_managers = matches!((one, other), (Node::Manager(_), Node::Manager(_)));
                if managers_alone && !between_managers {
                    continue;
                }
                self.network.block(*one, *other);
                if !one_way {
                    self.network.block(*other, *one);
                }
            }
        }
        say!(self, Node::World, "cuts off {inside:?}{}", if one_way { ", one way" } else { "" });
        let wait = self.chance.of(500..15_000);
        self.after(wait, Event::HealLinks);
        true
    }

    fn some_host_with_slave(&mut self) -> Option<usize> {
        let host = self.chance.below(self.hosts.len());
        self.hosts[host].slave.is_some().then_some(host)
    }

    fn fault_slave_kill(&mut self) -> bool {
        let Some(host) = self.some_host_with_slave() else { return false };
        self.kill_slave(host);
        let wait = self.chance.of(20..10_000);
        self.after(wait, Event::StartSlave { host });
        true
    }

    fn fault_slave_kill_in_turn(&mut self) -> bool {
        let Some(host) = self.some_host_with_slave() else { return false };
        let steps = [Step::BeforeWriting, Step::BeforeSync, Step::BeforeActing, Step::WhileActing];
        self.hosts[host].kill_at = Some(*self.chance.pick(&steps));
        true
    }

    fn fault_slave_pause(&mut self) -> bool {
        let Some(host) = self.some_host_with_slave() else { return false };
        let until = self.now + self.chance.of(200..8_000);
        let now = self.now;
        let Some(slave) = &mut self.hosts[host].slave else { return false };
        // One pause may go on into the next.
        let from = slave.paused_until.max(now);
        if until > from {
            slave.pauses.push((from, until));
            slave.paused_until = until;
        }
        say!(self, Node::Host(host), "its slave is paused");
        true
    }

    fn fault_shim_kill(&mut self) -> bool {
        let host = self.chance.below(self.hosts.len());
        let shims = self.hosts[host].kernel.bundles.iter().filter(|(_, bundle)| bundle.shim);
        let leaves: Vec<Leaf> = shims.map(|(leaf, _)| leaf.clone()).collect();
        if leaves.is_empty() {
            return false;
        }
        let leaf = self.chance.pick(&leaves).clone();
        self.kill_shim(host, &leaf);
        true
    }

    fn fault_power_cut(&mut self) -> bool {
        let host = self.chance.below(self.hosts.len());
        if self.hosts[host].off {
            return false;
        }
        self.cut_power(host);
        let wait = self.chance.of(500..12_000);
        self.after(wait, Event::SwitchOn { host });
        true
    }

    /// Everything on a host ends at once, and nobody is told.
    pub fn cut_power(&mut self, host: usize) {
        say!(self, Node::Host(host), "loses power");
        let now = self.now;
        let mut chance = self.chance.fork();
        let machine = &mut self.hosts[host];
        machine.slave = None;
        machine.kill_at = None;
        machine.off = true;
        machine.kernel.restart(now, &mut chance);
        machine.file.lose_power(&mut chance);
    }

    /// The host comes up again.
    pub fn switch_on(&mut self, host: usize) {
        if !self.hosts[host].off {
            return;
        }
        self.hosts[host].off = false;
        self.hosts[host].booted_at = self.now;
        // Its kernel knows nothing of the streams of before.
        for connection in self.network.of(Node::Host(host)) {
            self.end_stream(connection, crate::network::Way::Up);
        }
        self.start_slave(host);
    }

    fn fault_program_kill(&mut self) -> bool {
        let host = self.chance.below(self.hosts.len());
        let kernel = &mut self.hosts[host].kernel;
        let all: Vec<(u32, u64, Leaf)> = kernel
            .processes
            .iter()
            .filter(|(_, process)| process.main)
            .map(|(pid, process)| (*pid, process.ticks, process.leaf.clone()))
            .collect();
        if all.is_empty() {
            return false;
        }
        let (pid, ticks, leaf) = self.chance.pick(&all).clone();
        let boot = self.hosts[host].kernel.boot;
        if let Some(truth) = self.hosts[host].kernel.truths.get_mut(&leaf) {
            truth.killed = true;
        }
        let signal = *self.chance.pick(&[9, 11, 6]);
        self.program_ends(host, boot, pid, ticks, End::Signal(signal));
        true
    }

    fn fault_clock_step(&mut self) -> bool {
        let step = self.chance.of(0..7_200_000) as i64 - 3_600_000;
        if self.chance.percent(50) {
            let manager = self.chance.below(self.managers.len());
            self.managers[manager].skew_ms = step;
        } else {
            let host = self.chance.below(self.hosts.len());
            self.hosts[host].skew_ms = step;
        }
        true
    }

    /// Leadership goes on to others, a few times in a row.
    fn fault_transfer(&mut self) -> bool {
        let times = 1 + self.chance.of(0..8);
        let every = self.chance.of(100..500);
        (0..times).for_each(|time| self.after(time * every, Event::HandOver));
        true
    }

    /// Nobody waits for silence first, so the old leader's sessions are still open when the new one's begin.
    pub fn hand_over(&mut self) {
        let works =
            self.agreement.leader.is_some_and(|leader| self.managers[leader].ready && self.has_majority(leader));
        if works && self.faulty {
            self.elect();
        }
    }

    /// Nothing goes wrong any more; pauses run out.
    pub fn end_faults(&mut self) {
        self.faulty = false;
        self.network.heal();
        self.network.latency_ms_max = 8;
        for manager in 0..self.managers.len() {
            self.start_manager(manager);
        }
        for host in 0..self.hosts.len() {
            self.hosts[host].kill_at = None;
            self.switch_on(host);
            self.start_slave(host);
        }
    }
}
