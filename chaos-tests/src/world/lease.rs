//! Who may be hurt at the same time. Faults overlap, but a manager or machine is hurt by one fault at a time, and as long as
//! a fault does not say otherwise a majority of the managers is well: then writes must go on, and they are judged by it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Instant,
};

/// What a fault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The leader, out of a majority that goes on.
    Leader,
    /// Another one, out of a majority that goes on.
    Follower,
    /// Any, likewise.
    Manager,
    /// Any, and writes may be refused meanwhile.
    ManagerAndWrites,
    /// All of them, one after the other; a majority goes on.
    EachManager,
    /// All of them at once; nothing goes on.
    AllManagers,
    /// A machine.
    Host,
    /// Nothing for itself alone: what it does hurts nobody's standing.
    Nothing,
}

/// What was taken; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    /// Managers, by number.
    pub managers: Vec<usize>,
    /// The leader when it was taken, if that was asked.
    pub leader: Option<usize>,
    /// Machines, by number.
    pub hosts: Vec<usize>,
    /// Managers of a majority that are not well meanwhile.
    impaired: usize,
    exempt: bool,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    managers: BTreeSet<usize>,
    hosts: BTreeSet<usize>,
    impaired: usize,
    exempt: usize,
    exempt_since: Option<Instant>,
    /// Times in which writes may have stood still for good reasons.
    excused: Vec<(Instant, Instant)>,
}

/// All that is taken.
#[derive(Debug)]
pub struct Leases {
    /// So many may be unwell at once.
    spare: usize,
    taken: Arc<Mutex<Taken>>,
}

impl Leases {
    /// For a cluster of so many.
    pub fn new(voters: usize) -> Self {
        Self { spare: (voters - 1) / 2, taken: Arc::default() }
    }

    /// Takes what a fault needs, drawing by `pick`, which gets a bound; nothing when somebody has it.
    pub fn take(
        &self,
        needs: Needs,
        members: &[usize],
        leader: Option<usize>,
        hosts: usize,
        mut pick: impl FnMut(u64) -> u64,
    ) -> Option<Lease> {
        let mut taken = self.taken.lock().unwrap();
        let mut one_of = |some: Vec<usize>| (!some.is_empty()).then(|| some[pick(some.len() as u64) as usize]);
        let free = |manager: &usize| !taken.managers.contains(manager);
        let (managers, impaired, exempt) = match needs {
            Needs::Leader => (vec![leader.filter(free)?], 1, false),
            Needs::Follower => {
                leader?;
                let others = members.iter().copied().filter(|one| Some(*one) != leader && free(one));
                (vec![one_of(others.collect())?], 1, false)
            }
            Needs::Manager | Needs::ManagerAndWrites => {
                let any = members.iter().copied().filter(free);
                (vec![one_of(any.collect())?], 1, needs == Needs::ManagerAndWrites)
            }
            Needs::EachManager | Needs::AllManagers => {
                if !taken.managers.is_empty() {
                    return None;
                }
                (members.to_vec(), 1, needs == Needs::AllManagers)
            }
            Needs::Host | Needs::Nothing => (Vec::new(), 0, false),
        };
        if impaired + taken.impaired > self.spare {
            return None;
        }
        let hosts = match needs {
            Needs::Host => vec![one_of((0..hosts).filter(|host| !taken.hosts.contains(host)).collect())?],
            _ => Vec::new(),
        };
        taken.managers.extend(&managers);
        taken.hosts.extend(&hosts);
        taken.impaired += impaired;
        if exempt {
            taken.exempt += 1;
            taken.exempt_since.get_or_insert_with(Instant::now);
        }
        drop(taken);
        Some(Lease { managers, leader, hosts, impaired, exempt, taken: self.taken.clone() })
    }

    /// Whether anything is taken.
    pub fn is_idle(&self) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.managers.is_empty() && taken.hosts.is_empty()
    }

    /// Times in which writes may have stood still for good reasons.
    pub fn excused(&self) -> Vec<(Instant, Instant)> {
        let taken = self.taken.lock().unwrap();
        let now = taken.exempt_since.map(|since| (since, Instant::now()));
        taken.excused.iter().copied().chain(now).collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap();
        taken.managers.retain(|manager| !self.managers.contains(manager));
        taken.hosts.retain(|host| !self.hosts.contains(host));
        taken.impaired -= self.impaired;
        if self.exempt {
            taken.exempt -= 1;
            if taken.exempt == 0 {
                let since = taken.exempt_since.take().unwrap();
                taken.excused.push((since, Instant::now()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_stays_well_and_nobody_is_hurt_twice() {
        let leases = Leases::new(3);
        let take = |needs| leases.take(needs, &[0, 1, 2], Some(1), 2, |_| 0);
        let leader = take(Needs::Leader).unwrap();
        assert_eq!(leader.managers, [1]);
        assert!(take(Needs::Follower).is_none() && take(Needs::AllManagers).is_none());
        let (first, second) = (take(Needs::Host).unwrap(), take(Needs::Host).unwrap());
        assert_eq!((first.hosts.as_slice(), second.hosts.as_slice()), (&[0][..], &[1][..]));
        drop(leader);
        let all = take(Needs::AllManagers).unwrap();
        assert_eq!((all.managers.len(), leases.excused().len()), (3, 1));
        assert!(take(Needs::Manager).is_none());
        drop(all);
        assert_eq!(leases.excused().len(), 1);
        assert_eq!(take(Needs::Follower).unwrap().managers, [0]);
    }
}
