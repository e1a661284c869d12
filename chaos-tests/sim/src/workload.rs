//! What operators think of: mostly changes of what is there.

use crate::{
    ask::{Ask, Behaviour, POLICIES, Plan, Run, Target, What, Where},
    world::World,
};

impl World {
    /// The next write of an operator, and the revision that it expects.
    pub fn next_ask(&mut self, operator: usize) -> (Ask, Option<u64>) {
        let work = self.options.work;
        if work.flaps && self.operators[operator].in_haste.is_empty() && self.chance.percent(30) {
            self.operators[operator].in_haste = self.some_flapping();
        }
        if let Some(ask) = self.operators[operator].in_haste.pop() {
            return (ask, None);
        }
        let ask = match self.chance.of(0..100) {
            0..45 => self.some_apply(),
            45..52 => Ask::Delete(vec![self.some_process()]),
            52..62 if work.selectors => {
                let zone = self.chance.percent(80).then(|| self.chance.of(0..2));
                Ask::Label(self.some_host(), zone)
            }
            62..65 if work.host_removals => Ask::RemoveHost(self.some_host()),
            65..100 if work.orders => self.some_order(),
            _ => self.some_apply(),
        };
        let one = match &ask {
            Ask::Apply(plans) if plans.len() == 1 => Some(plans[0].process),
            Ask::Delete(processes) => processes.first().copied(),
            _ => None,
        };
        let expects = work.expectations && self.chance.percent(40);
        let seen = one.map(|process| {
            let page = &self.operators[operator].page;
            page.0.get(&process).map_or(0, |(_, revision, _)| *revision)
        });
        (ask, seen.filter(|_| expects))
    }

    /// As of a script that replaces a process by deleting it and writing it anew, a few times over.
    fn some_flapping(&mut self) -> Vec<Ask> {
        let process = self.some_process();
        let Some(known) = self.oracles.model.processes().get(&process) else { return Vec::new() };
        let apply = Ask::Apply(vec![known.plan.clone()]);
        let times = 1 + self.chance.below(8);
        (0..times).flat_map(|_| [apply.clone(), Ask::Delete(vec![process])]).collect()
    }

    fn some_process(&mut self) -> usize {
        self.chance.below(self.options.processes)
    }

    fn some_host(&mut self) -> usize {
        self.chance.below(self.options.hosts)
    }

    fn some_apply(&mut self) -> Ask {
        let first = self.some_process();
        let count = if self.chance.percent(25) { 2 } else { 1 };
        let processes = (0..count).map(|more| (first + more) % self.options.processes);
        let mut processes: Vec<usize> = processes.collect();
        processes.dedup();
        if processes.len() == 2 && processes[0] == processes[1] {
            processes.pop();
        }
        Ask::Apply(processes.into_iter().map(|process| self.some_plan(process)).collect())
    }

    fn some_plan(&mut self, process: usize) -> Plan {
        let known = self.oracles.model.processes().get(&process).map(|known| known.plan.clone());
        let mut plan = known.unwrap_or_else(|| self.new_plan(process));
        match self.chance.below(6) {
            0 => plan.run.launch = self.chance.of(0..4),
            1 => plan.run.policy = self.chance.below(POLICIES),
            2 => plan.run.behaviour = self.some_behaviour(),
            3 => plan.place = self.some_place(),
            4 => plan.instances = 1 + self.chance.below(2) as u32,
            _ => plan = self.new_plan(process),
        }
        plan
    }

    fn new_plan(&mut self, process: usize) -> Plan {
        let after = self.options.work.order_on_hosts && process > 0 && self.chance.percent(60);
        Plan {
            process,
            run: Run {
                launch: self.chance.of(0..4),
                behaviour: self.some_behaviour(),
                policy: self.chance.below(POLICIES),
                after: after.then(|| self.chance.below(process)),
            },
            place: self.some_place(),
            instances: 1 + u32::from(self.chance.percent(25)),
            elsewhere: self.chance.percent(20).then(|| (self.some_host(), 9)),
        }
    }

    fn some_place(&mut self) -> Where {
        if self.options.work.selectors && self.chance.percent(50) {
            return Where::Zone(self.chance.of(0..2));
        }
        let hosts: Vec<usize> = (0..self.options.hosts).filter(|_| self.chance.percent(70)).collect();
        if hosts.is_empty() { Where::Hosts(vec![self.some_host()]) } else { Where::Hosts(hosts) }
    }

    fn some_behaviour(&mut self) -> Behaviour {
        let programs = self.options.programs;
        let allowed = [
            (true, Behaviour::Steady),
            (programs.crash_loops, Behaviour::CrashLoop),
            (programs.ends, Behaviour::Ends),
            (programs.start_failures, Behaviour::Unstartable),
            (programs.deaf, Behaviour::Deaf),
            (programs.forks, Behaviour::Forks),
        ];
        let allowed: Vec<Behaviour> = allowed.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect();
        if self.chance.percent(30) { Behaviour::Steady } else { *self.chance.pick(&allowed) }
    }

    fn some_order(&mut self) -> Ask {
        let what = *self.chance.pick(&[
            What::Stop,
            What::Stop,
            What::Start,
            What::Start,
            What::Restart,
            What::Retry,
            What::Signal,
        ]);
        if self.chance.percent(10) {
            return Ask::Order(what, Vec::new());
        }
        let targets = 1 + usize::from(self.chance.percent(15));
        Ask::Order(what, (0..targets).map(|_| self.some_target()).collect())
    }

    fn some_target(&mut self) -> Target {
        match self.chance.below(5) {
            0 | 1 => Target::Process(self.some_process()),
            2 => Target::Instance(self.some_process(), 1 + self.chance.below(2) as u32),
            3 => Target::On(self.some_process(), self.some_host()),
            _ => Target::Host(self.some_host()),
        }
    }
}
