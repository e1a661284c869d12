//! Watches: in order, each change once, no gap, whole revisions, and a resumed one goes on exactly where it stood.
//!
//! What the longest watch showed is [`chain`]ed into the sequence of all changes, by which reads and writes are judged and
//! other watchers are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::history::Row;

/// One watch, from its opening to its end. A watcher that goes on elsewhere has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Who watched.
    pub client: u64,
    /// Changes after this revision were asked for.
    pub after: u64,
    /// All processes at `after`, by a read, when the watcher could not go on where it stood; it has missed what was
    /// between.
    pub listed: Option<Vec<Row>>,
    /// What came, in the order it came.
    pub events: Vec<Event>,
}

/// What a watch told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The write that changed something, or up to where nothing changed.
    pub revision: u64,
    /// The change; none for a word of progress and for what is no process.
    pub change: Option<Change>,
    /// Says only that nothing changed up to here.
    pub progress: bool,
    /// More changes of this revision follow.
    pub more: bool,
}

/// A change of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is this now.
    Put(Row),
    /// It is gone.
    Deleted(String),
}

/// One step in the sequence of all changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// What one write changed of processes.
    Changes(Vec<Change>),
    /// What was between is not known; these are all processes now.
    Listed(Vec<Row>),
}

/// Every change of processes, by revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The steps.
    pub links: BTreeMap<u64, Link>,
    /// Stretches of which nothing is known: after the first revision, up to the second one, which is listed.
    pub blind: Vec<(u64, u64)>,
    /// Nothing is known after this.
    pub upto: u64,
}

/// The chain of one watcher, which began at revision 0 on an empty table.
pub fn chain(watched: &[Watched], client: u64) -> Chain {
    let mut chain = Chain::default();
    for watch in watched.iter().filter(|watch| watch.client == client) {
        if let Some(rows) = &watch.listed {
            chain.blind.push((chain.upto, watch.after));
            chain.links.insert(watch.after, Link::Listed(rows.clone()));
            chain.upto = chain.upto.max(watch.after);
        }
        let whole = watch.events.iter().rev().find(|event| !event.more).map_or(0, |event| event.revision);
        for event in watch.events.iter().filter(|event| event.revision <= whole) {
            if let Some(change) = &event.change
                && let Link::Changes(changes) =
                    chain.links.entry(event.revision).or_insert_with(|| Link::Changes(Vec::new()))
            {
                changes.push(change.clone());
            }
        }
        chain.upto = chain.upto.max(whole);
    }
    chain
}

/// Judges each watcher by itself and against the chain.
pub fn check(watched: &[Watched], chain: &Chain) -> Verdict {
    let mut findings = Vec::new();
    let mut reached: BTreeMap<u64, u64> = BTreeMap::new();
    let mut checked = 0;
    for watch in watched {
        checked += watch.events.len();
        let stood = reached.get(&watch.client).copied();
        match stood {
            Some(stood) if watch.listed.is_none() && watch.after != stood => findings.push(format!(
                "watcher {} asked for what comes after {} although it had everything up to {stood}",
                watch.client, watch.after
            )),
            Some(stood) if watch.after < stood => findings.push(format!(
                "watcher {} was listed revision {} after it had seen {stood}: the table went back",
                watch.client, watch.after
            )),
            _ => {}
        }
        let end = order(watch, &mut findings);
        compare(watch, end, chain, &mut findings);
        reached.insert(watch.client, end);
    }
    Verdict::of(findings, checked)
}

/// Looks at the order within one watch; gives the last revision that came whole.
fn order(watch: &Watched, findings: &mut Vec<String>) -> u64 {
    let mut whole = watch.after;
    let mut open: Option<u64> = None;
    for event in &watch.events {
        let revision = event.revision;
        let fits = match open {
            Some(open) => revision == open && !event.progress,
            None => revision > whole,
        };
        if !fits {
            let before = open.map_or_else(|| format!("{whole} was whole"), |open| format!("{open} was to go on"));
            findings.push(format!("watcher {}: revision {revision} came when {before}", watch.client));
        }
        open = event.more.then_some(revision);
        if !event.more {
            whole = whole.max(revision);
        }
    }
    whole
}

/// Looks for gaps and differences in what one watch should have told.
fn compare(watch: &Watched, end: u64, chain: &Chain, findings: &mut Vec<String>) {
    let mut told: BTreeMap<u64, Vec<&Change>> = BTreeMap::new();
    for event in watch.events.iter().filter(|event| event.revision <= end) {
        told.entry(event.revision).or_default().extend(&event.change);
    }
    told.retain(|_, changes| !changes.is_empty());
    // What the chain does not know cannot be compared: it has lists in the place of it.
    let is_known = |revision: u64| {
        let is_blind = chain.blind.iter().any(|(after, upto)| *after < revision && revision <= *upto);
        !is_blind && !matches!(chain.links.get(&revision), Some(Link::Listed(_)))
    };
    let (begin, end) = (watch.after, end.min(chain.upto));
    if begin >= end {
        return;
    }
    let mut expected = chain.links.range(begin + 1..=end).filter_map(|(revision, link)| match link {
        Link::Changes(changes) if is_known(*revision) => Some((*revision, changes)),
        Link::Changes(_) | Link::Listed(_) => None,
    });
    for (revision, changes) in told.range(begin + 1..=end).filter(|(revision, _)| is_known(**revision)) {
        match expected.next() {
            Some((at, same)) if at == *revision && same.iter().eq(changes.iter().copied()) => {}
            Some((at, _)) if at < *revision => {
                return findings.push(format!("watcher {}: revision {at} never came", watch.client));
            }
            _ => {
                return findings
                    .push(format!("watcher {}: revision {revision} is not what others were told", watch.client));
            }
        }
    }
    if let Some((revision, _)) = expected.next() {
        findings.push(format!("watcher {}: revision {revision} never came", watch.client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: u64, process: &str, more: bool) -> Event {
        let row =
            Row { process: process.into(), value: format!("v{revision}"), generation: 1, revision, running: true };
        Event { revision, change: Some(Change::Put(row)), progress: false, more }
    }

    fn progress(revision: u64) -> Event {
        Event { revision, change: None, progress: true, more: false }
    }

    fn watched(client: u64, after: u64, events: Vec<Event>) -> Watched {
        Watched { client, after, listed: None, events }
    }

    fn whole() -> Watched {
        watched(1, 0, vec![put(3, "a", false), put(5, "a", true), put(5, "b", false), progress(6), put(7, "c", false)])
    }

    #[test]
    fn a_watch_that_resumes_where_it_stood_is_good() {
        let first = watched(2, 0, vec![put(3, "a", false), put(5, "a", true)]);
        let second = watched(2, 3, vec![put(5, "a", true), put(5, "b", false), put(7, "c", false)]);
        let all = [whole(), first, second];
        assert_eq!(check(&all, &chain(&all, 1)), Verdict::Holds { checked: 10 });
    }

    #[test]
    fn planted_mistakes_are_found() {
        for (what, watches, expected) in [
            ("twice", vec![watched(2, 0, vec![put(3, "a", false), put(3, "a", false)])], "3 was whole"),
            ("out of order", vec![watched(2, 0, vec![put(5, "a", false), put(3, "a", false)])], "revision 3 came"),
            ("a gap", vec![watched(2, 0, vec![put(3, "a", false), put(7, "c", false)])], "revision 5 never came"),
            ("a gap at the end", vec![watched(2, 0, vec![put(3, "a", false), progress(6)])], "revision 5 never came"),
            ("split", vec![watched(2, 0, vec![put(3, "a", true), put(5, "a", false)])], "3 was to go on"),
            ("half a revision", vec![watched(2, 3, vec![put(5, "a", false)])], "not what others were told"),
            ("another change", vec![watched(2, 3, vec![put(5, "x", true), put(5, "b", false)])], "not what others"),
            (
                "resumed off by one",
                vec![
                    watched(2, 0, vec![put(3, "a", false)]),
                    watched(2, 3, vec![put(3, "a", false), put(5, "a", true), put(5, "b", false)]),
                ],
                "revision 3 came when 3 was whole",
            ),
            (
                "resumed too late",
                vec![watched(2, 0, vec![put(3, "a", false)]), watched(2, 5, vec![put(7, "c", false)])],
                "although it had everything up to 3",
            ),
        ] {
            let chain = chain(&[whole()], 1);
            match check(&watches, &chain) {
                Verdict::Broken(findings) => {
                    assert!(findings.iter().any(|found| found.contains(expected)), "{what}: {findings:?}");
                }
                other => panic!("{what}: {other}"),
            }
        }
    }

    #[test]
    fn what_lies_before_a_list_is_not_asked_for() {
        let rows = vec![Row { process: "a".into(), value: "v5".into(), generation: 1, revision: 5, running: true }];
        let mut late = watched(1, 5, vec![put(7, "c", false)]);
        late.listed = Some(rows);
        let all = [watched(1, 0, vec![put(3, "a", false)]), late, whole_of(2)];
        assert_eq!(check(&all, &chain(&all, 1)), Verdict::Holds { checked: 7 });
        assert!(matches!(check(&[], &Chain::default()), Verdict::Inconclusive(_)));
    }

    /// The chain's own watcher was told nothing between two lists, and another one was.
    #[test]
    fn a_watch_is_compared_before_and_after_what_the_chain_does_not_know() {
        let mut late = watched(1, 6, vec![put(7, "c", false)]);
        late.listed = Some(Vec::new());
        let found = |other: Watched| {
            let all = [watched(1, 0, vec![put(3, "a", false)]), late.clone(), other];
            check(&all, &chain(&all, 1))
        };
        assert_eq!(found(whole_of(2)), Verdict::Holds { checked: 7 });
        let told = |first, last| watched(2, 0, vec![put(3, first, false), put(5, "b", false), put(7, last, false)]);
        assert_eq!(found(told("a", "c")), Verdict::Holds { checked: 5 });
        assert!(matches!(found(told("x", "c")), Verdict::Broken(_)), "before the list");
        assert!(matches!(found(told("a", "x")), Verdict::Broken(_)), "after it");
    }

    fn whole_of(client: u64) -> Watched {
        Watched { client, ..whole() }
    }
}
