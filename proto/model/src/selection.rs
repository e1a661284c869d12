//! Which instances a person means: one grammar for every verb.
//!
//! `api` (process), `api:2` (second instance on each host), `api@web-1` (on one host), `@web-1` (everything on a
//! host), `web-*` and `*@db-*` (wildcards), `role=api,zone=b` (process labels, with `-l`).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::fmt;

use crate::id::{HostName, InstanceKey, InstanceRef, ProcessName};

/// Why a selection is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionError(String);

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for SelectionError {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    process: String,
    index: Option<u32>,
    host: String,
}

/// A parsed selection. An empty one selects nothing; [`Selection::all`] selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    terms: Vec<Term>,
    /// Those of the terms that are nothing but a name: a large apply waits for thousands of them.
    names: BTreeSet<String>,
    /// And those that are more.
    patterns: Vec<Term>,
    labels: BTreeMap<String, String>,
    all: bool,
}

/// Where instances can be that one term of a selection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// On the host of this name.
    Host(&'a str),
    /// Wherever the process of this name is.
    Process(&'a str),
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Reads selection terms and `key=value` labels (several in one text by commas). Terms are alternatives; labels
    /// narrow them. With labels and no term, the labels alone select.
    pub fn parse<T: AsRef<str>, L: AsRef<str>>(terms: &[T], labels: &[L]) -> Result<Self, SelectionError> {
        let mut selection = Self::default();
        for text in terms {
            let term = Term::parse(text.as_ref())?;
            match term.is_a_name() {
                true => drop(selection.names.insert(term.process.clone())),
                false => selection.patterns.push(term.clone()),
            }
            selection.terms.push(term);
        }
        for pair in labels.iter().flat_map(|text| text.as_ref().split(',')).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                SelectionError(format!("{pair:?} is no label selection; write KEY=VALUE, several with commas"))
            })?;
            selection.labels.insert(key.into(), value.into());
        }
        selection.all = selection.terms.is_empty() && !selection.labels.is_empty();
        Ok(selection)
    }

    /// The names of the processes that are meant, when the terms are nothing but names: whoever has an index need not walk.
    pub fn names(&self) -> Option<impl Iterator<Item = ProcessName>> {
        let only_names = !self.all && self.patterns.is_empty();
        // A term may be a little longer than a name; nothing has such a name.
        only_names.then(|| self.names.iter().filter_map(|name| ProcessName::new(name.as_str()).ok()))
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && !self.all
    }

    /// The places in which everything is that is meant, so that nobody looks anywhere else; nothing when it can be
    /// anywhere.
    pub fn places(&self) -> Option<Vec<Place<'_>>> {
        self.terms.iter().map(Term::place).collect::<Option<_>>().filter(|_| !self.all)
    }

    /// The names of the only processes that are meant; nothing when it can be any.
    pub fn named_processes(&self) -> Option<BTreeSet<&str>> {
        let named = self.terms.iter().map(|term| is_plain(&term.process).then_some(term.process.as_str()));
        named.collect::<Option<_>>().filter(|_| !self.all)
    }

    /// Whether this instance of a process with these labels is meant.
    pub fn matches(&self, instance: &InstanceRef, process_labels: &BTreeMap<String, String>) -> bool {
        let labelled = self.labels.iter().all(|(key, value)| process_labels.get(key) == Some(value));
        let named = || self.names.contains(instance.key.process.as_str());
        let fits = || self.patterns.iter().any(|term| term.matches(&instance.key, &instance.host));
        labelled && (self.all || named() || fits())
    }

    /// Whether a whole process is meant: a term without a host or instance number names it.
    pub fn matches_process(&self, process: &ProcessName, process_labels: &BTreeMap<String, String>) -> bool {
        let labelled = self.labels.iter().all(|(key, value)| process_labels.get(key) == Some(value));
        let fits =
            |term: &Term| term.host == "*" && term.index.is_none() && wildcard_matches(&term.process, process.as_str());
        labelled && (self.all || self.names.contains(process.as_str()) || self.patterns.iter().any(fits))
    }

    /// Whether a host itself is meant: a term names it and nothing on it.
    pub fn matches_host(&self, host: &HostName) -> bool {
        self.all || self.terms.iter().any(|term| term.process == "*" && wildcard_matches(&term.host, host.as_str()))
    }

    /// Terms that match none of these instances, for a message that says so.
    pub fn unmatched<'a>(&self, instances: impl Iterator<Item = &'a InstanceRef> + Clone) -> Vec<String> {
        let lonely = |term: &&Term| !instances.clone().any(|instance| term.matches(&instance.key, &instance.host));
        self.terms.iter().filter(lonely).map(|term| format!("{term}")).collect()
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, SelectionError> {
        let bad = |why: &str| {
            SelectionError(format!(
                "{text:?} selects nothing: {why}; write NAME, NAME:INSTANCE, NAME@HOST or @HOST, with * as a wildcard"
            ))
        };
        let (instance, host) = text.split_once('@').unwrap_or((text, "*"));
        let (process, index) = match instance.split_once(':') {
            None => (instance, None),
            Some((process, number)) => {
                let index = number.parse::<u32>().ok().filter(|index| *index > 0);
                (process, Some(index.ok_or_else(|| bad("instances are numbered from 1"))?))
            }
        };
        let process = if process.is_empty() && text.contains('@') { "*" } else { process };
        for (what, part) in [("process", process), ("host", host)] {
            let plain: String = part.chars().filter(|c| *c != '*').collect();
            if part.is_empty() || (!plain.is_empty() && HostName::new(format!("x{plain}")).is_err()) {
                return Err(bad(&format!("{part:?} is no {what} name")));
            }
        }
        Ok(Self { process: process.into(), index, host: host.into() })
    }

    fn place(&self) -> Option<Place<'_>> {
        match () {
            () if is_plain(&self.host) => Some(Place::Host(&self.host)),
            () if is_plain(&self.process) => Some(Place::Process(&self.process)),
            () => None,
        }
    }

    /// It means one process, wherever that runs.
    fn is_a_name(&self) -> bool {
        self.index.is_none() && self.host == "*" && !self.process.contains('*')
    }

    fn matches(&self, key: &InstanceKey, host: &HostName) -> bool {
        self.index.is_none_or(|index| index == key.index)
            && wildcard_matches(&self.process, key.process.as_str())
            && wildcard_matches(&self.host, host.as_str())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.process)?;
        if let Some(index) = self.index {
            write!(f, ":{index}")?;
        }
        if self.host != "*" {
            write!(f, "@{}", self.host)?;
        }
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    !text.contains('*')
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters. Linear in both, no recursion.
fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_select_what_they_say() {
        for (term, instance, host, expected) in [
            ("api", "api", "h1", true),
            ("api", "api:2", "h1", true),
            ("api:2", "api", "h1", false),
            ("api@h1", "api", "h1", true),
            ("api@h1", "api", "h2", false),
            ("@h1", "web", "h1", true),
            ("w*", "web", "h1", true),
            ("*b", "web", "h1", true),
            ("w*b@h*", "web", "h1", true),
            ("*", "web", "h1", true),
            ("x*", "web", "h1", false),
            ("we", "web", "h1", false),
        ] {
            let selection = Selection::parse(&[term], &[] as &[&str]).unwrap();
            let instance =
                InstanceRef { host: HostName::new(host).unwrap(), key: InstanceKey::parse(instance).unwrap() };
            assert_eq!(selection.matches(&instance, &BTreeMap::new()), expected, "{term} {instance}");
        }
        for bad in ["", "a b", "api:0", "api@", "a/b"] {
            assert!(Selection::parse(&[bad], &[] as &[&str]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_narrow_terms_and_select_alone() {
        let instance = InstanceRef { host: HostName::new("h").unwrap(), key: InstanceKey::parse("api").unwrap() };
        let labels = [(String::from("role"), String::from("x"))].into();
        let none: [&str; 0] = [];
        assert!(Selection::parse(&none, &["role=x"]).unwrap().matches(&instance, &labels));
        assert!(!Selection::parse(&["api"], &["role=y"]).unwrap().matches(&instance, &labels));
        assert!(Selection::parse(&none, &none).unwrap().is_empty());
        assert!(!Selection::parse(&none, &none).unwrap().matches(&instance, &labels));
    }
}
