//! A sequence of proposals, chosen by the bytes out of a small world in which everything meets everything: four processes,
//! four hosts, two labels, repeated requests, expected revisions.

use std::collections::BTreeMap;

use minder_model::{
    Assignment, ClusterId, CommandVersion, HostName, ProcessName, RequestId, Revision, Signal, Spec, check_spec,
};
use minder_state::{Command, Expect, Order, OrderKind, Proposal, State};

use super::frames;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];
const PROCESSES: [&str; 4] = ["a", "b", "c", "d"];
const LABELS: [(&str, &str); 2] = [("zone", "x"), ("zone", "y")];
const TERMS: [&str; 12] = ["a", "b", "*", "@h1", "a@h2", "b:2", "c:2@h3", "@*", "d*", "a:0", "", "*@h4"];

/// As many as it takes for everything to meet everything.
const PROPOSALS_MAX: u64 = 60;

/// Takes choices off the front of the input; no more bytes are zeros.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn host(&mut self) -> HostName {
        HostName::new(self.of(&HOSTS)).expect("a name")
    }

    fn process(&mut self) -> ProcessName {
        ProcessName::new(self.of(&PROCESSES)).expect("a name")
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let chosen = self.below(4);
        LABELS.iter().take(chosen).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn spec(&mut self) -> Spec {
        let mut spec = Spec::new(self.process(), "/bin/program");
        spec.instances = self.below(4) as u32;
        spec.args = (0..self.below(3)).map(|at| format!("--at={at}")).collect();
        match self.below(4) {
            0 => spec.selector = self.labels(),
            hosts => spec.hosts = (0..hosts).map(|_| self.host()).collect(),
        }
        spec.labels = self.labels();
        spec
    }

    fn command(&mut self) -> Command {
        match self.below(8) {
            0 => Command::CreateCluster(ClusterId::new("c").expect("a name"), CommandVersion::NEWEST),
            // Specs are checked before they are proposed.
            1 | 2 => {
                let specs: Vec<Spec> = (0..=self.below(3)).map(|_| self.spec()).collect();
                Command::apply(specs.into_iter().filter(|spec| check_spec(spec).is_ok()))
            }
            3 => Command::Delete((0..=self.below(2)).map(|_| self.process()).collect()),
            4 => Command::Order(self.order()),
            5 => Command::RegisterHost(self.host(), "address:1".into(), self.labels()),
            6 => {
                let labels = self.labels().into_iter().map(|(key, value)| (key, Some(value)));
                let unset = [("zone".to_owned(), None)].into_iter();
                let host = self.host();
                Command::LabelHost(host, if self.below(3) == 0 { unset.collect() } else { labels.collect() })
            }
            _ => Command::RemoveHost(self.host()),
        }
    }

    fn order(&mut self) -> Order {
        let kind = match self.below(6) {
            0 => OrderKind::Start,
            1 => OrderKind::Stop,
            2 => OrderKind::Restart,
            3 => OrderKind::Retry,
            4 => OrderKind::Signal(Signal::HUP),
            _ => OrderKind::Reload,
        };
        let terms = (0..self.below(3)).map(|_| self.of(&TERMS).to_owned()).collect();
        Order { terms, labels: Vec::new(), all: self.below(8) == 0, kind }
    }
}

pub fn run(input: &[u8]) {
    let mut choices = Choices(input);
    let mut state = State::default();
    let mut held: BTreeMap<HostName, Assignment> = BTreeMap::new();
    let mut index = 0;
    while !choices.0.is_empty() && index < PROPOSALS_MAX {
        index += 1;
        let request = format!("r{}", if choices.below(8) == 0 { choices.below(256) } else { 256 + index as usize });
        let expect = match choices.below(8) {
            0 => Expect::Revision(Revision(choices.below(16) as u64)),
            _ => Expect::Anything,
        };
        let proposal = Proposal {
            request: RequestId::new(request).expect("a name"),
            time_ms: index * 1_000,
            actor: "fuzz".into(),
            expect,
            command: choices.command(),
        };
        let read = Proposal::from_bytes(&proposal.to_bytes()).expect("its own form is refused");
        assert_eq!(read, proposal);
        let applied = state.apply(Revision(index), &proposal);
        assert_eq!(state.remembered(&proposal.request).as_ref(), Some(&applied.reply), "the answer is not remembered");
        follow(&state, &mut held, &applied.touched.into_iter().collect::<Vec<_>>());
    }
    frames::whole(&state);
    let rows: Vec<_> = state.rows().collect();
    let mut again = State::default();
    rows.iter().for_each(|(key, value)| again.load_row(key, value).expect("its own row is refused"));
    assert_eq!(again.hash(), state.hash(), "the hash is not that of the rows");
}

/// Slaves that hold what was assigned before take what is assigned now, and nobody else's assignment has changed.
fn follow(state: &State, held: &mut BTreeMap<HostName, Assignment>, touched: &[HostName]) {
    for host in HOSTS.map(|host| HostName::new(host).expect("a name")) {
        let before = held.entry(host.clone()).or_insert_with(|| Assignment::empty(host.clone()));
        let now = state.assignment(&host);
        if touched.contains(&host) {
            let delta = now.delta_from((before.revision > Revision::ZERO).then_some(&*before));
            assert_eq!(before.after(&delta).as_ref(), Ok(&now), "a slave refuses what {host} is assigned");
            *before = now;
        } else {
            assert_eq!(*before, now, "the assignment of {host} changed and nobody was told");
        }
        for item in before.items.values() {
            assert!(state.run_spec(&item.spec).is_some(), "an item without its run spec");
        }
    }
}
