//! Silence is not death. Who is silent, since when, and what that may be called: timers on the leader's monotonic clock,
//! the other managers' second opinion, and the leader's doubt in itself when many hosts fall silent at once. Nothing is
//! done to a host for its silence; this only decides what people are told.
//!
//! A sign of life moves no timer. A timer that is due looks at the last sign of life and is set anew for it, so a host
//! costs one timer in each suspect limit, the moment in which a host is suspect or lost is its own whatever the size of
//! the fleet, and nobody walks over all hosts.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use minder_model::HostName;

use crate::condition::{Condition, Doubt, SilenceLimits, Standing};

mod change;

pub use change::Change;

/// Rounds of questions to the other managers within one suspect limit.
const ROUNDS: u64 = 5;
/// An answer counts for as many rounds, so that one lost answer decides nothing.
const ROUNDS_FRESH: u64 = 3;

/// The silence of every host, as one leader hears it. All times are milliseconds of one monotonic clock.
#[derive(Debug, Clone)]
pub struct Silence {
    limits: SilenceLimits,
    led_since_ms: u64,
    /// Silence before this is the leader's own absence and counts for nobody.
    awake_since_ms: u64,
    looked_ms: u64,
    asked_ms: u64,
    hosts: BTreeMap<HostName, Entry>,
    timers: BTreeSet<(u64, HostName)>,
    silent: BTreeSet<HostName>,
    lost: BTreeSet<HostName>,
    /// Whether people were told that the leader suspects itself.
    doubt_told: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    heard_ms: Option<u64>,
    condition: Condition,
    /// Of the timer that is set, if one is.
    due_ms: Option<u64>,
    opinion: Option<Opinion>,
}

/// What the other managers said of a silent host.
#[derive(Debug, Clone)]
struct Opinion {
    said_ms: u64,
    heard_by: Vec<u64>,
}

impl Silence {
    /// Nobody is known; leadership began at `now_ms`.
    pub fn new(limits: SilenceLimits, now_ms: u64) -> Self {
        Self {
            limits,
            led_since_ms: now_ms,
            awake_since_ms: now_ms,
            looked_ms: now_ms,
            asked_ms: now_ms,
            hosts: BTreeMap::new(),
            timers: BTreeSet::new(),
            silent: BTreeSet::new(),
            lost: BTreeSet::new(),
            doubt_told: false,
        }
    }

    /// A host that the table knows: its silence counts from the beginning of leadership.
    pub fn expect(&mut self, host: &HostName) {
        if !self.hosts.contains_key(host) {
            let entry = Entry { heard_ms: None, condition: Condition::Unheard, due_ms: None, opinion: None };
            self.hosts.insert(host.clone(), entry);
            self.set_timer(host, self.led_since_ms + self.limits.suspect_ms);
        }
    }

    /// A host that is gone from the table.
    pub fn forget(&mut self, host: &HostName) {
        if let Some(Entry { due_ms: Some(due), .. }) = self.hosts.remove(host) {
            self.timers.remove(&(due, host.clone()));
        }
        self.silent.remove(host);
        self.lost.remove(host);
    }

    /// A sign of life that was given at `at_ms`. Says so when the host was silent before. One that is older than the suspect
    /// limit ends no silence.
    pub fn heard(&mut self, host: &HostName, at_ms: u64, now_ms: u64) -> Option<Change> {
        self.expect(host);
        let limits = self.limits;
        let entry = self.hosts.get_mut(host)?;
        let before = entry.heard_ms;
        entry.heard_ms = before.max(Some(at_ms));
        if entry.condition == Condition::Connected || now_ms.saturating_sub(at_ms) >= limits.suspect_ms {
            return None;
        }
        let from = core::mem::replace(&mut entry.condition, Condition::Connected);
        entry.opinion = None;
        self.silent.remove(host);
        self.lost.remove(host);
        self.set_timer(host, at_ms + limits.suspect_ms);
        let silent_ms = now_ms.saturating_sub(before?);
        Some(Change::Host {
            host: host.clone(),
            from,
            to: Condition::Connected,
            silent_ms: Some(silent_ms),
            doubt: None,
        })
    }

    /// Looks at the clock: what has changed by silence since the last look.
    pub fn look(&mut self, now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let away_ms = now_ms.saturating_sub(self.looked_ms);
        self.looked_ms = now_ms;
        if away_ms > self.limits.suspect_ms / 2 {
            self.awake_since_ms = now_ms;
            changes.push(Change::LeaderWasAway { away_ms });
        }
        while let Some((due, host)) = self.timers.pop_first() {
            if due > now_ms {
                self.timers.insert((due, host));
                break;
            }
            changes.extend(self.judge(&host, now_ms));
        }
        changes.extend(self.tell_doubt());
        changes
    }

    /// The hosts that the other managers are to be asked about now, if it is time for a round: at a fifth of the suspect
    /// limit while somebody is silent, at the whole of it while all that are silent are lost.
    pub fn questions(&mut self, now_ms: u64) -> Vec<HostName> {
        let pause = if self.silent.is_empty() { self.limits.suspect_ms } else { self.limits.suspect_ms / ROUNDS };
        if self.silent.is_empty() && self.lost.is_empty() || now_ms.saturating_sub(self.asked_ms) < pause {
            return Vec::new();
        }
        self.asked_ms = now_ms;
        self.silent.union(&self.lost).cloned().collect()
    }

    /// What the others answered about `asked`: which managers, by node id, have the connection of which host. Not called
    /// when none of them answered.
    pub fn opinions(
        &mut self,
        asked: &[HostName],
        heard_by: &BTreeMap<HostName, Vec<u64>>,
        now_ms: u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for host in asked {
            let heard_by = heard_by.get(host).cloned().unwrap_or_default();
            let Some(entry) = self.hosts.get_mut(host).filter(|entry| entry.condition != Condition::Connected) else {
                continue;
            };
            let heard = !heard_by.is_empty();
            entry.opinion = Some(Opinion { said_ms: now_ms, heard_by });
            if heard && entry.condition == Condition::Lost {
                changes.extend(self.judge(host, now_ms));
            }
        }
        changes
    }

    /// How a host stands.
    pub fn standing(&self, host: &HostName, now_ms: u64) -> Standing {
        let Some(entry) = self.hosts.get(host) else { return Standing::default() };
        let quiet = self.silent.contains(host);
        Standing {
            condition: entry.condition,
            silent_ms: entry.heard_ms.map(|heard| now_ms.saturating_sub(heard)),
            doubt: self.doubt(entry, now_ms).filter(|_| quiet),
        }
    }

    /// The word for a host.
    pub fn condition(&self, host: &HostName) -> Condition {
        self.hosts.get(host).map(|entry| entry.condition).unwrap_or_default()
    }

    /// How many hosts are spoken of how. Walks over all of them.
    pub fn conditions(&self) -> [(Condition, usize); 4] {
        let count = |condition| self.hosts.values().filter(|entry| entry.condition == condition).count();
        Condition::ALL.map(|condition| (condition, count(condition)))
    }

    /// Whether a host was heard of within the suspect limit.
    pub fn is_connected(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|entry| entry.condition == Condition::Connected)
    }

    /// How many hosts are silent and not lost, how many are lost, and how many are known.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.silent.len(), self.lost.len(), self.hosts.len())
    }

    /// The leader's doubt in itself, while it has one.
    pub fn self_doubt(&self) -> Option<Doubt> {
        self.is_mass().then(|| self.many_at_once())
    }

    /// A timer of this host was due, or an opinion came in.
    fn judge(&mut self, host: &HostName, now_ms: u64) -> Option<Change> {
        let limits = self.limits;
        let entry = self.hosts.get_mut(host)?;
        entry.due_ms = None;
        let last_ms = entry.heard_ms.unwrap_or(self.led_since_ms).max(self.awake_since_ms);
        let silent_ms = now_ms.saturating_sub(last_ms);
        if silent_ms < limits.suspect_ms && entry.condition != Condition::Lost {
            self.set_timer(host, last_ms + limits.suspect_ms);
            return None;
        }
        if entry.condition != Condition::Lost {
            self.silent.insert(host.clone());
        }
        let entry = self.hosts.get(host)?;
        let doubt = self.doubt(entry, now_ms);
        let (from, heard) = (entry.condition, entry.heard_ms);
        let to = match heard {
            _ if silent_ms >= limits.lost_ms && doubt.is_none() => Condition::Lost,
            Some(_) => Condition::Suspect,
            None => Condition::Unheard,
        };
        self.settle(host, to, now_ms, last_ms + limits.lost_ms);
        let silent_ms = heard.map(|heard| now_ms.saturating_sub(heard));
        (from != to).then(|| Change::Host { host: host.clone(), from, to, silent_ms, doubt })
    }

    fn settle(&mut self, host: &HostName, to: Condition, now_ms: u64, lost_at_ms: u64) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.condition = to;
        }
        if to == Condition::Lost {
            self.silent.remove(host);
            self.lost.insert(host.clone());
            return;
        }
        self.lost.remove(host);
        self.silent.insert(host.clone());
        // Beyond the limit it is looked at again with each round of questions.
        let again_ms = now_ms + (self.limits.suspect_ms / ROUNDS).max(1);
        self.set_timer(host, if lost_at_ms > now_ms { lost_at_ms } else { again_ms });
    }

    fn doubt(&self, entry: &Entry, now_ms: u64) -> Option<Doubt> {
        let fresh_ms = self.limits.suspect_ms / ROUNDS * ROUNDS_FRESH;
        let fresh = entry.opinion.as_ref().filter(|opinion| now_ms.saturating_sub(opinion.said_ms) <= fresh_ms);
        match fresh {
            Some(opinion) if !opinion.heard_by.is_empty() => return Some(Doubt::HeardBy(opinion.heard_by.clone())),
            // Another manager does not hear it either: it is not the leader alone.
            Some(_) => return None,
            None => {}
        }
        let last_ms = entry.heard_ms.unwrap_or(self.led_since_ms).max(self.awake_since_ms);
        let held = now_ms.saturating_sub(last_ms) < self.limits.lost_ms + self.limits.mass_hold_ms;
        (held && self.is_mass()).then(|| self.many_at_once())
    }

    fn many_at_once(&self) -> Doubt {
        Doubt::ManyAtOnce { silent: self.silent.len(), of: self.hosts.len() - self.lost.len() }
    }

    /// Whether so many are silent that the leader suspects itself. Those that were lost before do not count.
    fn is_mass(&self) -> bool {
        let (silent, of) = (self.silent.len() as u64, (self.hosts.len() - self.lost.len()) as u64);
        silent >= u64::from(self.limits.mass_hosts_min) && silent * 100 >= of * u64::from(self.limits.mass_percent)
    }

    fn tell_doubt(&mut self) -> Option<Change> {
        let doubts = self.is_mass();
        let told = core::mem::replace(&mut self.doubt_told, doubts);
        (told != doubts).then(|| Change::SelfDoubt { begins: doubts, doubt: self.many_at_once() })
    }

    fn set_timer(&mut self, host: &HostName, due_ms: u64) {
        if let Some(entry) = self.hosts.get_mut(host) {
            if let Some(before) = entry.due_ms.replace(due_ms) {
                self.timers.remove(&(before, host.clone()));
            }
            self.timers.insert((due_ms, host.clone()));
        }
    }
}
