//! The order of processes on a host: names that make sense, and no ring of processes that wait for each other.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec,
    vec::Vec,
};

use super::{Check, FieldError, groups::groups};
use crate::{id::ProcessName, limits::ORDER_NAMES_MAX, spec::Spec};

/// Names of one ring that a message shows.
const SHOWN_MAX: usize = 8;

pub(super) fn check_names(check: &mut Check, spec: &Spec) {
    for (field, names) in [("after", &spec.after), ("requires", &spec.requires)] {
        check.that(names.len() <= ORDER_NAMES_MAX, field, || {
            format!("has {} processes, the limit is {ORDER_NAMES_MAX}", names.len())
        });
        for (at, name) in names.iter().enumerate() {
            let path = format!("{field}[{at}]");
            check.that(*name != spec.name, &path, || format!("{name} cannot wait for itself"));
            check.that(!names[..at].contains(name), &path, || format!("names {name} twice"));
        }
    }
}

/// Rings among specs that are declared together, and with those that are `there` already: each once, with the number of
/// the spec that closes it. Where they run does not matter, for that may change without a word on the order.
pub fn check_order<'a>(
    specs: &'a [Spec],
    there: impl Fn(&ProcessName) -> Option<&'a Spec>,
) -> Vec<(usize, FieldError)> {
    let by_name: BTreeMap<&ProcessName, &Spec> = specs.iter().map(|spec| (&spec.name, spec)).collect();
    let spec_of = |name: &ProcessName| by_name.get(name).copied().or_else(|| there(name));
    let before = |name: &ProcessName| spec_of(name).into_iter().flat_map(Spec::comes_after).collect();
    let groups = groups(specs.iter().map(|spec| &spec.name), before);
    let mut told: BTreeSet<&ProcessName> = BTreeSet::new();
    let mut found = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        if told.contains(&spec.name) {
            continue;
        }
        let Some(group) = groups.get(&spec.name) else { continue };
        // One that waits for itself has been told so.
        let of_group = |next: &&ProcessName| groups.get(*next) == Some(group);
        let within =
            |name: &ProcessName| before(name).into_iter().filter(of_group).filter(|next| *next != name).collect();
        let Some(ring) = ring(&spec.name, within) else { continue };
        if !ring.iter().any(|name| told.contains(name)) {
            let place = |names: &[ProcessName]| names.iter().position(|name| Some(name) == ring.get(1).copied());
            let path = match (place(&spec.after), place(&spec.requires)) {
                (Some(at), _) => format!("spec.after[{at}]"),
                (None, at) => format!("spec.requires[{}]", at.unwrap_or_default()),
            };
            let waits = said(&ring[1..]);
            found.push((at, FieldError::new(path, format!("{} waits for {waits}: none would ever start", spec.name))));
        }
        told.extend(ring);
    }
    found
}

/// The shortest ring that `name` is part of, beginning with it, each followed by one that it comes after.
pub fn ring<'a>(
    name: &'a ProcessName,
    before: impl Fn(&ProcessName) -> Vec<&'a ProcessName>,
) -> Option<Vec<&'a ProcessName>> {
    let mut came_by: BTreeMap<&ProcessName, &ProcessName> = BTreeMap::new();
    let mut open = VecDeque::from([name]);
    while let Some(here) = open.pop_front() {
        for next in before(here) {
            if next == name {
                let mut ring = vec![here];
                while let Some(by) = ring.last().filter(|last| **last != name).and_then(|last| came_by.get(*last)) {
                    ring.push(by);
                }
                ring.reverse();
                return Some(ring);
            }
            if !came_by.contains_key(next) {
                came_by.insert(next, here);
                open.push_back(next);
            }
        }
    }
    None
}

/// A ring without its first member, as what that one waits for.
pub fn said(ring: &[&ProcessName]) -> String {
    let mut text = String::new();
    for name in ring.iter().take(SHOWN_MAX) {
        text.push_str(name.as_str());
        text.push_str(", which waits for ");
    }
    if ring.len() > SHOWN_MAX {
        text.push_str(&format!("{} more, which wait for ", ring.len() - SHOWN_MAX));
    }
    text.push_str("it");
    text
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::check_spec;

    fn spec(name: &str, after: &[&str], requires: &[&str]) -> Spec {
        let names = |names: &[&str]| names.iter().map(|name| ProcessName::new(*name).unwrap()).collect();
        let name = ProcessName::new(name).unwrap();
        Spec { after: names(after), requires: names(requires), ..Spec::new(name, "/bin/true") }
    }

    #[test]
    fn names_are_others_and_each_is_there_once() {
        let complaints = |spec: Spec| check_spec(&spec).err().map(|errors| errors.to_string()).unwrap_or_default();
        assert_eq!(complaints(spec("app", &["db", "net"], &["db"])), "");
        assert_eq!(complaints(spec("app", &["db", "app"], &[])), "spec.after[1]: app cannot wait for itself");
        assert_eq!(complaints(spec("app", &[], &["db", "db"])), "spec.requires[1]: names db twice");
        let many: Vec<String> = (0..=ORDER_NAMES_MAX).map(|at| format!("p{at}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(complaints(spec("app", &many, &[])).starts_with("spec.after: has 33 processes"));
    }

    #[test]
    fn rings_are_named_once_with_their_path() {
        let rings = |specs: &[Spec]| -> Vec<(usize, String)> {
            check_order(specs, |_| None).into_iter().map(|(at, error)| (at, error.to_string())).collect()
        };
        assert!(rings(&[spec("a", &["b", "elsewhere"], &[]), spec("b", &[], &["c"]), spec("c", &[], &[])]).is_empty());
        let three = [spec("z", &["a"], &[]), spec("a", &["x"], &["b"]), spec("b", &["c"], &[]), spec("c", &["a"], &[])];
        let text = "spec.requires[0]: a waits for b, which waits for c, which waits for it: none would ever start";
        assert_eq!(rings(&three), [(1, text.to_string())]);
        let two = [spec("a", &["x", "b"], &[]), spec("b", &["a"], &[]), spec("c", &["d"], &[]), spec("d", &["c"], &[])];
        let text =
            |one: &str, other: &str| format!("{one} waits for {other}, which waits for it: none would ever start");
        let expected =
            [(0, format!("spec.after[1]: {}", text("a", "b"))), (2, format!("spec.after[0]: {}", text("c", "d")))];
        assert_eq!(rings(&two), expected);
    }

    #[test]
    fn a_ring_may_be_closed_with_what_is_there_already() {
        let there = [spec("b", &["c"], &[]), spec("c", &[], &["a"]), spec("x", &["y"], &[]), spec("y", &["x"], &[])];
        let rings = |specs: &[Spec]| -> Vec<String> {
            let found = check_order(specs, |name| there.iter().find(|spec| spec.name == *name));
            found.into_iter().map(|(at, error)| alloc::format!("{at} {error}")).collect()
        };
        let ring = "1 spec.after[0]: a waits for b, which waits for c, which waits for it: none would ever start";
        assert_eq!(rings(&[spec("z", &["b", "x"], &[]), spec("a", &["b"], &[])]), [ring]);
        // One that is changed by the same request counts as it will be.
        assert!(rings(&[spec("c", &[], &[]), spec("a", &["b"], &[])]).is_empty());
    }

    #[test]
    fn long_rings_are_told_in_short() {
        let names: Vec<ProcessName> = (0..20).map(|at| ProcessName::new(format!("p{at}")).unwrap()).collect();
        let text = said(&names.iter().collect::<Vec<_>>());
        assert!(text.ends_with("p7, which waits for 12 more, which wait for it"), "{text}");
    }
}
