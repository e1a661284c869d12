//! The desired table once more, written from the documentation and not from `minder-state`: what each write must answer
//! and what each host should run at each revision. The oracles compare with this.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use crate::ask::{Ask, Place, Plan, Run, Target, What, Where};

/// One instance as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Version of the process.
    pub generation: u64,
    /// How it is run.
    pub run: Run,
    /// Whether it is to run.
    pub running: bool,
    /// Last restart order.
    pub restart_at: u64,
    /// Last retry, start or restart order.
    pub retry_at: u64,
    /// Last signal order.
    pub signal_at: u64,
    /// Last start or restart order.
    pub start_at: u64,
}

/// What a host should run.
pub type Slice = BTreeMap<Place, Item>;

/// A process as it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What was written.
    pub plan: Plan,
    /// Its version.
    pub generation: u64,
    /// The write that last changed it.
    pub revision: u64,
    /// What instances yet to come are told.
    pub running: bool,
}

/// A host that announced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its address' number.
    pub address: u64,
    /// Its zone.
    pub zone: Option<u64>,
    /// The write that last changed it.
    pub revision: u64,
}

/// What a write answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing that needs words.
    Done,
    /// For each process: which, `c`reated, `m`odified, `u`nchanged or `d`eleted, its generation, its instances.
    Processes(Vec<(usize, char, u64, u64)>),
    /// So many instances.
    Instances(u64),
    /// A process is at another revision: expected, actual.
    Conflict(usize, u64, u64),
    /// There is none of that name.
    NoProcess(usize),
    /// There is none of that name.
    NoHost(usize),
    /// The selection, or a part of it, fits nothing.
    Nothing,
    /// The cluster has its identity.
    Exists,
    /// A process names the host.
    InUse(usize, usize),
    /// Something that no ask here should get.
    Other(String),
}

/// What everybody can read of the table.
pub type Page = (BTreeMap<usize, (u64, u64, bool)>, BTreeMap<usize, (Option<u64>, u64)>);

/// The table, and what it was at each revision.
#[derive(Debug, Default)]
pub struct Model {
    created: bool,
    processes: BTreeMap<usize, Process>,
    hosts: BTreeMap<usize, Host>,
    slices: BTreeMap<usize, Slice>,
    touched: BTreeSet<usize>,
    answers: BTreeMap<u64, (u64, Said)>,
    history: BTreeMap<usize, BTreeMap<u64, Slice>>,
    pages: Vec<Page>,
}

impl Model {
    /// The entry of the next index; one without an ask changes nothing.
    pub fn commit(&mut self, ask: Option<(u64, &Ask, Option<u64>)>) {
        let index = self.pages.len() as u64 + 1;
        if let Some((request, ask, expected)) = ask
            && !self.answers.contains_key(&request)
        {
            let said = self.write(index, ask, expected).unwrap_or_else(|refusal| refusal);
            self.answers.insert(request, (index, said));
        }
        for host in std::mem::take(&mut self.touched) {
            let slice = self.slices.get(&host).cloned().unwrap_or_default();
            self.history.entry(host).or_default().insert(index, slice);
        }
        let process =
            |(process, known): (&usize, &Process)| (*process, (known.generation, known.revision, known.running));
        let host = |(host, known): (&usize, &Host)| (*host, (known.zone, known.revision));
        self.pages.push((self.processes.iter().map(process).collect(), self.hosts.iter().map(host).collect()));
    }

    /// The last index.
    pub fn index(&self) -> u64 {
        self.pages.len() as u64
    }

    /// What a request got: at which index, and what.
    pub fn answer(&self, request: u64) -> Option<&(u64, Said)> {
        self.answers.get(&request)
    }

    /// What everybody reads at an index.
    pub fn page(&self, index: u64) -> Option<&Page> {
        self.pages.get((index as usize).checked_sub(1)?)
    }

    /// What a host should run, as of an index: the revision of its last change until then, and the slice.
    pub fn slice(&self, host: usize, index: u64) -> (u64, Slice) {
        let last = self.history.get(&host).and_then(|changes| changes.range(..=index).next_back());
        last.map_or_else(|| (0, Slice::new()), |(revision, slice)| (*revision, slice.clone()))
    }

    /// One instance, as of an index.
    pub fn item(&self, host: usize, place: Place, index: u64) -> Option<Item> {
        let (_, slice) = self.history.get(&host)?.range(..=index).next_back()?;
        slice.get(&place).copied()
    }

    /// Every value one instance had from one index to another, both included.
    pub fn items_between(&self, host: usize, place: Place, from: u64, to: u64) -> Vec<Option<Item>> {
        let range = (Bound::Excluded(from), Bound::Included(to.max(from + 1)));
        let changes = self.history.get(&host).into_iter().flat_map(|changes| changes.range(range));
        let changes = changes.filter(|(revision, _)| **revision <= to);
        let first = [self.item(host, place, from)];
        first.into_iter().chain(changes.map(|(_, slice)| slice.get(&place).copied())).collect()
    }

    /// Processes that are declared now.
    pub fn processes(&self) -> &BTreeMap<usize, Process> {
        &self.processes
    }

    fn write(&mut self, index: u64, ask: &Ask, expected: Option<u64>) -> Result<Said, Said> {
        match ask {
            Ask::Create if self.created => Err(Said::Exists),
            Ask::Create => {
                self.created = true;
                Ok(Said::Done)
            }
            Ask::Apply(plans) => {
                plans.iter().try_for_each(|plan| self.expect(plan.process, expected))?;
                Ok(Said::Processes(plans.iter().map(|plan| self.apply(index, plan)).collect()))
            }
            Ask::Delete(processes) => {
                for process in processes {
                    self.processes.get(process).ok_or(Said::NoProcess(*process))?;
                    self.expect(*process, expected)?;
                }
                let once: BTreeSet<usize> = processes.iter().copied().collect();
                Ok(Said::Processes(once.into_iter().map(|process| self.delete(process)).collect()))
            }
            Ask::Order(what, targets) => self.order(index, *what, targets, expected),
            Ask::Register(host, address) => Ok(self.register(index, *host, *address)),
            Ask::Label(host, zone) => {
                let known = self.hosts.get_mut(host).ok_or(Said::NoHost(*host))?;
                if known.zone != *zone {
                    (known.zone, known.revision) = (*zone, index);
                    self.place_host(*host);
                }
                Ok(Said::Done)
            }
            Ask::RemoveHost(host) => self.remove_host(*host),
        }
    }

    fn expect(&self, process: usize, expected: Option<u64>) -> Result<(), Said> {
        let actual = self.processes.get(&process).map_or(0, |known| known.revision);
        match expected {
            Some(expected) if expected != actual => Err(Said::Conflict(process, expected, actual)),
            Some(_) | None => Ok(()),
        }
    }

    fn apply(&mut self, index: u64, plan: &Plan) -> (usize, char, u64, u64) {
        let kind = match self.processes.get_mut(&plan.process) {
            Some(known) if known.plan == *plan => 'u',
            Some(known) => {
                known.plan = plan.clone();
                known.generation += 1;
                known.revision = index;
                'm'
            }
            None => {
                let process = Process { plan: plan.clone(), generation: 1, revision: index, running: true };
                self.processes.insert(plan.process, process);
                'c'
            }
        };
        let hosts = self.hosts_of(plan);
        let all: Vec<usize> = self.slices.keys().copied().collect();
        all.into_iter().filter(|host| !hosts.contains(host)).for_each(|host| self.unplace(plan.process, host));
        hosts.iter().for_each(|host| self.place(plan.process, *host));
        let generation = self.processes[&plan.process].generation;
        (plan.process, kind, generation, hosts.len() as u64 * u64::from(plan.instances))
    }

    fn hosts_of(&self, plan: &Plan) -> BTreeSet<usize> {
        match &plan.place {
            Where::Hosts(hosts) => hosts.iter().copied().collect(),
            Where::Zone(zone) => {
                let in_zone = self.hosts.iter().filter(|(_, host)| host.zone == Some(*zone));
                in_zone.map(|(host, _)| *host).collect()
            }
        }
    }

    fn place(&mut self, process: usize, host: usize) {
        let known = &self.processes[&process];
        let (run, count) = (known.plan.run_on(host), known.plan.instances);
        let slice = self.slices.entry(host).or_default();
        let before = slice.clone();
        slice.retain(|(other, index), _| *other != process || *index <= count);
        for index in 1..=count {
            let item = slice.entry((process, index)).or_insert(Item {
                generation: known.generation,
                run,
                running: known.running,
                restart_at: 0,
                retry_at: 0,
                signal_at: 0,
                start_at: 0,
            });
            if item.run != run {
                (item.run, item.generation) = (run, known.generation);
            }
        }
        if *slice != before {
            self.touched.insert(host);
        }
    }

    fn unplace(&mut self, process: usize, host: usize) {
        let Some(slice) = self.slices.get_mut(&host) else { return };
        let before = slice.len();
        slice.retain(|(other, _), _| *other != process);
        if slice.len() != before {
            self.touched.insert(host);
        }
    }

    fn delete(&mut self, process: usize) -> (usize, char, u64, u64) {
        let hosts: Vec<usize> = self.slices.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.unplace(process, host));
        let generation = self.processes.remove(&process).map_or(0, |known| known.generation);
        (process, 'd', generation, 0)
    }

    fn order(&mut self, index: u64, what: What, targets: &[Target], expected: Option<u64>) -> Result<Said, Said> {
        let fits = |target: &Target, host: usize, (process, number): Place| match *target {
            Target::Process(other) => other == process,
            Target::Instance(other, at) => (other, at) == (process, number),
            Target::On(other, there) => (other, there) == (process, host),
            Target::Host(there) => there == host,
        };
        let every = self.slices.iter().flat_map(|(host, slice)| slice.keys().map(|place| (*host, *place)));
        let meant = |(host, place): &(usize, Place)| {
            targets.is_empty() || targets.iter().any(|target| fits(target, *host, *place))
        };
        let selected: Vec<(usize, Place)> = every.filter(meant).collect();
        let lonely = |target: &Target| !selected.iter().any(|(host, place)| fits(target, *host, *place));
        if selected.is_empty() || targets.iter().any(lonely) {
            return Err(Said::Nothing);
        }
        let processes: BTreeSet<usize> = selected.iter().map(|(_, (process, _))| *process).collect();
        processes.iter().try_for_each(|process| self.expect(*process, expected))?;
        if let What::Start | What::Stop = what {
            let whole = |process: &usize| targets.is_empty() || targets.contains(&Target::Process(*process));
            for process in processes.iter().filter(|process| whole(process)) {
                if let Some(known) = self.processes.get_mut(process)
                    && known.running != (what == What::Start)
                {
                    (known.running, known.revision) = (what == What::Start, index);
                }
            }
        }
        for (host, place) in &selected {
            let Some(item) = self.slices.get_mut(host).and_then(|slice| slice.get_mut(place)) else { continue };
            let before = *item;
            match what {
                What::Start => (item.running, item.retry_at, item.start_at) = (true, index, index),
                What::Stop => item.running = false,
                What::Restart => {
                    (item.running, item.retry_at, item.start_at, item.restart_at) = (true, index, index, index);
                }
                What::Retry => item.retry_at = index,
                What::Signal => item.signal_at = index,
            }
            if *item != before {
                self.touched.insert(*host);
            }
        }
        Ok(Said::Instances(selected.len() as u64))
    }

    fn register(&mut self, index: u64, host: usize, address: u64) -> Said {
        match self.hosts.get_mut(&host) {
            Some(known) if known.address == address => return Said::Done,
            Some(known) => (known.address, known.revision) = (address, index),
            None => {
                self.hosts.insert(host, Host { address, zone: None, revision: index });
            }
        }
        self.place_host(host);
        Said::Done
    }

    fn place_host(&mut self, host: usize) {
        let zone = self.hosts.get(&host).and_then(|known| known.zone);
        let by_zone: Vec<(usize, u64)> = self
            .processes
            .iter()
            .filter_map(|(process, known)| match known.plan.place {
                Where::Zone(zone) => Some((*process, zone)),
                Where::Hosts(_) => None,
            })
            .collect();
        for (process, asked) in by_zone {
            if zone == Some(asked) { self.place(process, host) } else { self.unplace(process, host) }
        }
    }

    fn remove_host(&mut self, host: usize) -> Result<Said, Said> {
        self.hosts.get(&host).ok_or(Said::NoHost(host))?;
        let names = |known: &Process| matches!(&known.plan.place, Where::Hosts(hosts) if hosts.contains(&host));
        if let Some((process, _)) = self.processes.iter().find(|(_, known)| names(known)) {
            return Err(Said::InUse(host, *process));
        }
        let all: BTreeSet<usize> =
            self.slices.get(&host).into_iter().flatten().map(|((process, _), _)| *process).collect();
        all.into_iter().for_each(|process| self.unplace(process, host));
        self.hosts.remove(&host);
        Ok(Said::Done)
    }
}
