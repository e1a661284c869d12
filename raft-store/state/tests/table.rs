//! The table's rules as tables, and its invariants as properties: replicas agree, rows load back to the same state,
//! requests are answered once, placement follows specs and labels.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use minder_model::{
    ClusterId, CommandVersion, Digest, Generation, HostName, InstanceKey, Override, ProcessName,
    REQUESTS_REMEMBERED_MAX, RequestId, Revision, Selection, Spec, Wanted,
};
use minder_state::{
    Applied, Change, Command, Expect, Order, OrderKind, Outcome, ProcessChangeKind, Proposal, Refusal, State,
};
use proptest::prelude::*;

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn process(name: &str) -> ProcessName {
    ProcessName::new(name).unwrap()
}

fn spec(name: &str, hosts: &[&str]) -> Spec {
    Spec { hosts: hosts.iter().map(|name| host(name)).collect(), ..Spec::new(process(name), "/bin/sleep") }
}

fn order(terms: &[&str], kind: OrderKind) -> Command {
    Command::Order(Order { terms: terms.iter().map(ToString::to_string).collect(), labels: vec![], all: false, kind })
}

fn register(name: &str, labels: &[(&str, &str)]) -> Command {
    let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Command::RegisterHost(host(name), format!("{name}:1"), labels)
}

/// A table under test: counts the log, draws request ids.
#[derive(Default)]
struct Table {
    state: State,
    index: u64,
}

impl Table {
    fn propose(&mut self, request: &str, expect: Expect, command: Command) -> Applied {
        self.index += 1;
        let proposal = Proposal {
            request: RequestId::new(request).unwrap(),
            time_ms: self.index * 10,
            actor: "test".into(),
            expect,
            command,
        };
        self.state.apply(Revision(self.index), &proposal)
    }

    fn write(&mut self, command: Command) -> Applied {
        let request = format!("r{}", self.index + 1);
        self.propose(&request, Expect::Anything, command)
    }

    fn refusal(&mut self, command: Command) -> Refusal {
        match self.write(command).reply.outcome {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self, name: &str) -> Vec<String> {
        self.state.items(&host(name)).map(|(key, _)| key.to_string()).collect()
    }

    fn wanted(&self, name: &str, key: &str) -> Wanted {
        self.state.item(&host(name), &InstanceKey::parse(key).unwrap()).unwrap().wanted
    }
}

fn kinds(applied: &Applied) -> Vec<ProcessChangeKind> {
    match &applied.reply.outcome {
        Outcome::Processes(changes) => changes.iter().map(|change| change.kind).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spec_is_created_changed_left_alone_and_deleted() {
    let mut table = Table::default();
    let first = table.write(Command::apply([spec("app", &["h1", "h2"])]));
    assert_eq!(kinds(&first), [ProcessChangeKind::Created]);
    assert_eq!(first.touched.len(), 2);
    let again = table.write(Command::apply([spec("app", &["h1", "h2"])]));
    assert_eq!(kinds(&again), [ProcessChangeKind::Unchanged]);
    assert!(again.touched.is_empty() && again.changes.is_empty());
    let mut changed = spec("app", &["h1", "h2"]);
    changed.args = vec!["9".into()];
    assert_eq!(kinds(&table.write(Command::apply([changed]))), [ProcessChangeKind::Changed]);
    assert_eq!(table.state.process(&process("app")).unwrap().generation, Generation(2));
    let gone = table.write(Command::Delete(vec![process("app")]));
    assert_eq!(kinds(&gone), [ProcessChangeKind::Deleted]);
    assert_eq!(gone.changes, [Change::ProcessDeleted(process("app"))]);
    assert!(table.keys("h1").is_empty());
    assert_eq!(table.refusal(Command::Delete(vec![process("app")])), Refusal::NoSuchProcess(process("app")));
}

#[test]
fn a_changed_placement_touches_only_the_hosts_it_concerns() {
    let mut table = Table::default();
    table.write(Command::apply([spec("app", &["h1", "h2"])]));
    let before = table.state.assignment_revision(&host("h1"));
    let moved = table.write(Command::apply([spec("app", &["h1", "h3"])]));
    assert_eq!(moved.touched, [host("h2"), host("h3")].into());
    assert_eq!(table.state.assignment_revision(&host("h1")), before);
    assert!(table.keys("h2").is_empty());
    assert_eq!(table.keys("h3"), ["app"]);
}

#[test]
fn instances_and_overrides_are_placed_per_host() {
    let mut table = Table::default();
    let mut app = spec("app", &["h1", "h2", "h3"]);
    app.instances = 3;
    app.overrides.entry(host("h2")).or_default().instances = Some(1);
    app.overrides.entry(host("h3")).or_default().instances = Some(0);
    app.overrides.entry(host("h2")).or_default().args = Some(vec!["other".into()]);
    table.write(Command::apply([app.clone()]));
    assert_eq!(table.keys("h1"), ["app", "app:2", "app:3"]);
    assert_eq!(table.keys("h2"), ["app"]);
    assert!(table.keys("h3").is_empty());
    let digests: Vec<Digest> = ["h1", "h2"].map(|name| table.state.items(&host(name)).next().unwrap().1.spec).to_vec();
    assert_ne!(digests[0], digests[1]);
    app.instances = 1;
    table.write(Command::apply([app]));
    assert_eq!(table.keys("h1"), ["app"]);
}

#[test]
fn selectors_follow_labels() {
    let mut table = Table::default();
    let mut app = spec("app", &[]);
    app.selector = BTreeMap::from([("role".into(), "web".into())]);
    table.write(register("h1", &[("role", "web")]));
    table.write(register("h2", &[("role", "db")]));
    table.write(Command::apply([app]));
    assert_eq!((table.keys("h1").len(), table.keys("h2").len()), (1, 0));
    table.write(Command::LabelHost(host("h2"), [("role".to_string(), Some("web".to_string()))].into()));
    assert_eq!(table.keys("h2"), ["app"]);
    table.write(Command::LabelHost(host("h2"), [("role".to_string(), None)].into()));
    assert!(table.keys("h2").is_empty(), "the slave's own label counts again");
    table.write(register("h3", &[("role", "web")]));
    assert_eq!(table.keys("h3"), ["app"]);
    table.write(order(&["app"], OrderKind::Stop));
    table.write(register("h4", &[("role", "web")]));
    assert_eq!(table.wanted("h4", "app"), Wanted::Stopped, "a stopped process stays stopped on new hosts");
    table.write(Command::RemoveHost(host("h3")));
    assert!(table.keys("h3").is_empty());
}

#[test]
fn orders_reach_what_they_select_and_nothing_else() {
    let mut table = Table::default();
    table.write(Command::apply([spec("a", &["h1", "h2"]), spec("b", &["h1"])]));
    table.write(order(&["a@h1"], OrderKind::Stop));
    assert_eq!(table.wanted("h1", "a"), Wanted::Stopped);
    assert_eq!(table.wanted("h2", "a"), Wanted::Running);
    assert_eq!(table.state.process(&process("a")).unwrap().wanted, Wanted::Running);
    table.write(order(&["a"], OrderKind::Stop));
    assert_eq!(table.state.process(&process("a")).unwrap().wanted, Wanted::Stopped);
    let mut changed = spec("a", &["h1", "h2"]);
    changed.args = vec!["1".into()];
    table.write(Command::apply([changed]));
    assert_eq!(table.wanted("h1", "a"), Wanted::Stopped, "a changed spec does not start what was stopped");
    let restart = table.write(order(&["*@h1"], OrderKind::Restart));
    assert!(matches!(restart.reply.outcome, Outcome::Instances(2, _)));
    let item = *table.state.item(&host("h1"), &InstanceKey::parse("b").unwrap()).unwrap();
    assert_eq!((item.restart_at, item.wanted), (Revision(table.index), Wanted::Running));
    assert!(
        matches!(table.refusal(order(&["a"], OrderKind::Reload)), Refusal::Invalid(why) if why.starts_with("a has no reload"))
    );
    assert_eq!(table.refusal(order(&["a", "nope"], OrderKind::Stop)), Refusal::NothingMatched(vec!["nope".into()]));
    assert_eq!(table.wanted("h1", "a"), Wanted::Running, "a refused order changes nothing");
}

#[test]
fn expected_revisions_guard_every_process_touched() {
    let mut table = Table::default();
    let create = Command::apply([spec("a", &["h"])]);
    let created = table.propose("x1", Expect::Revision(Revision::ZERO), create.clone());
    let again = table.propose("x2", Expect::Revision(Revision::ZERO), create);
    assert_eq!(
        again.reply.outcome,
        Outcome::Refused(Refusal::Conflict(process("a"), Revision::ZERO, created.reply.revision))
    );
    let stale = table.propose("x3", Expect::Revision(Revision(99)), order(&["a"], OrderKind::Stop));
    assert!(matches!(stale.reply.outcome, Outcome::Refused(Refusal::Conflict(..))));
    let fresh = table.propose("x4", Expect::Revision(created.reply.revision), order(&["a"], OrderKind::Stop));
    assert!(matches!(fresh.reply.outcome, Outcome::Instances(1, _)));
}

#[test]
fn a_repeated_request_gets_the_first_answer_and_changes_nothing() {
    let mut table = Table::default();
    let first = table.propose("same", Expect::Anything, Command::apply([spec("a", &["h"])]));
    let hash = table.state.hash();
    let second = table.propose("same", Expect::Anything, Command::apply([spec("a", &["h"])]));
    assert_eq!(second.reply, first.reply);
    assert!(second.rows.is_empty() && second.changes.is_empty() && second.touched.is_empty());
    assert_eq!(table.state.hash(), hash);
}

#[test]
fn remembered_answers_are_bounded_and_the_oldest_goes_first() {
    let mut table = Table::default();
    for at in 0..=REQUESTS_REMEMBERED_MAX {
        table.propose(&format!("q{at}"), Expect::Anything, Command::Delete(vec![]));
    }
    assert!(table.state.remembered(&RequestId::new("q0").unwrap()).is_none());
    assert!(table.state.remembered(&RequestId::new("q1").unwrap()).is_some());
}

#[test]
fn limits_are_named() {
    let mut table = Table::default();
    let mut many = spec("a", &["h"]);
    many.instances = 1_000;
    for name in ["a", "b", "c", "d", "e"] {
        many.name = process(name);
        table.write(Command::apply([many.clone()]));
    }
    many.name = process("f");
    match table.refusal(Command::apply([many])) {
        Refusal::LimitExceeded(text) => assert!(text.contains("h would have 6000 instances, the limit is 5000")),
        other => panic!("{other:?}"),
    }
    assert!(table.state.process(&process("f")).is_none());
}

#[test]
fn one_spec_on_many_hosts_runs_as_it_does_on_each_alone() {
    let names: Vec<String> = (0..50).map(|at| format!("h{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut everywhere = spec("app", &names);
    let own = Override { args: Some(vec!["9".into()]), instances: Some(2), ..Override::default() };
    everywhere.overrides = [(host("h7"), own.clone()), (host("h8"), Override { instances: Some(0), ..own })].into();
    let mut table = Table::default();
    let applied = table.write(Command::apply([everywhere.clone()]));
    assert!(matches!(&applied.reply.outcome, Outcome::Processes(changes) if changes[0].instances == 50));
    for name in names.into_iter().map(host) {
        let count = everywhere.instances_on(&name) as usize;
        let items: Vec<_> = table.state.items(&name).collect();
        assert_eq!(items.len(), count, "{name}");
        assert!(items.iter().all(|(_, item)| item.spec == everywhere.resolve(&name).digest()), "{name}");
    }
}

#[test]
fn names_are_looked_up_and_mean_what_a_walk_finds() {
    let mut table = Table::default();
    for (name, hosts) in [("b", &["h2", "h1"][..]), ("a", &["h1", "h3"]), ("c", &["h3"]), ("ab", &["h1"])] {
        let mut spec = spec(name, hosts);
        spec.instances = 2;
        spec.labels = BTreeMap::from([("odd".into(), (name == "a").to_string())]);
        table.write(Command::apply([spec]));
    }
    for (names, labels) in [(&["a", "b"][..], &[][..]), (&["b", "nobody"], &[]), (&["a", "b", "c"], &["odd=true"])] {
        let found = |terms: &[&str]| -> Vec<String> {
            let selection = Selection::parse(terms, labels).unwrap();
            table.state.selected(&selection).map(|(instance, _)| instance.to_string()).collect()
        };
        // A pattern that fits nothing has the table walked.
        let walked: Vec<&str> = names.iter().copied().chain(["no*thing"]).collect();
        assert_eq!(found(names), found(&walked));
        assert!(!found(names).is_empty());
    }
}

fn commands() -> impl Strategy<Value = Command> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let host_name = prop_oneof![Just("h1"), Just("h2"), Just("h3")];
    let kind =
        prop_oneof![Just(OrderKind::Start), Just(OrderKind::Stop), Just(OrderKind::Restart), Just(OrderKind::Retry)];
    prop_oneof![
        4 => (name.clone(), proptest::sample::subsequence(vec!["h1", "h2", "h3"], 0..=3), 1..4_u32, any::<bool>(), 0..3_u8)
            .prop_map(|(name, hosts, instances, by_label, arg)| {
                let mut spec = spec(name, if by_label { &[] } else { &hosts });
                if by_label {
                    spec.selector = BTreeMap::from([("role".into(), "web".into())]);
                }
                spec.instances = instances;
                spec.args = vec![arg.to_string()];
                Command::apply([spec])
            }),
        1 => name.clone().prop_map(|name| Command::Delete(vec![process(name)])),
        3 => (name, host_name.clone(), kind).prop_map(|(name, host, kind)| order(&[&format!("{name}@{host}")], kind)),
        2 => (host_name.clone(), any::<bool>())
            .prop_map(|(name, web)| register(name, if web { &[("role", "web")] } else { &[] })),
        1 => (host_name.clone(), proptest::option::of(Just("web".to_string())))
            .prop_map(|(name, value)| Command::LabelHost(host(name), [("role".to_string(), value)].into())),
        1 => host_name.prop_map(|name| Command::RemoveHost(host(name))),
        1 => versions().prop_map(|version| Command::CreateCluster(ClusterId::new("c").unwrap(), version)),
        1 => versions().prop_map(Command::RaiseVersion),
    ]
}

fn versions() -> impl Strategy<Value = CommandVersion> {
    (CommandVersion::FIRST.0..=CommandVersion::NEWEST.0).prop_map(CommandVersion)
}

fn rows(state: &State) -> BTreeMap<Vec<u8>, Vec<u8>> {
    state.rows().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What RocksDB holds after each write is what the state says it is, and loads back to the same state and hash.
    #[test]
    fn rows_written_one_by_one_are_the_state(script in proptest::collection::vec(commands(), 1..40)) {
        let mut table = Table::default();
        let mut disk: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for command in script {
            for row in table.write(command).rows {
                match row.value {
                    Some(value) => disk.insert(row.key, value),
                    None => disk.remove(&row.key),
                };
            }
            prop_assert_eq!(&rows(&table.state), &disk);
        }
        let mut loaded = State::default();
        for (key, value) in &disk {
            loaded.load_row(key, value).unwrap();
        }
        prop_assert_eq!(loaded.hash(), table.state.hash());
        prop_assert_eq!(rows(&loaded), disk);
        for name in ["h1", "h2", "h3"] {
            prop_assert_eq!(loaded.assignment(&host(name)), table.state.assignment(&host(name)));
        }
    }

    /// Indexes that are derived agree with what they are derived from.
    #[test]
    fn every_item_has_its_process_its_run_spec_and_its_place(script in proptest::collection::vec(commands(), 1..40)) {
        let mut table = Table::default();
        for command in script {
            let before = table.state.clone();
            let applied = table.write(command);
            for name in ["h1", "h2", "h3"].map(host) {
                let same = before.assignment(&name).items == table.state.assignment(&name).items;
                prop_assert_eq!(same, !applied.touched.contains(&name), "touched says what changed on {}", name);
                let placed = |key: &InstanceKey| table.state.hosts_of(&key.process).any(|other| *other == name);
                for (key, item) in table.state.items(&name) {
                    prop_assert!(table.state.process(&key.process).is_some());
                    prop_assert!(placed(key));
                    prop_assert_eq!(table.state.run_spec(&item.spec).unwrap().digest(), item.spec);
                }
            }
        }
    }

    /// Any bytes are a proposal or a named error.
    #[test]
    fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Proposal::from_bytes(&bytes);
        let _ = State::default().load_row(&bytes, &bytes);
    }

    #[test]
    fn proposals_read_back(command in commands(), time_ms in any::<u64>(), revision in proptest::option::of(any::<u64>())) {
        let proposal = Proposal {
            request: RequestId::new("r").unwrap(),
            time_ms,
            actor: "somebody".into(),
            expect: revision.map_or(Expect::Anything, |revision| Expect::Revision(Revision(revision))),
            command,
        };
        prop_assert_eq!(Proposal::from_bytes(&proposal.to_bytes()).unwrap(), proposal);
    }
}

#[test]
fn rows_that_contradict_each_other_are_refused_and_change_nothing() {
    let mut table = Table::default();
    table.write(Command::CreateCluster(ClusterId::new("c").unwrap(), CommandVersion::FIRST));
    table.write(register("h1", &[]));
    table.write(Command::apply([spec("a", &["h1"])]));
    let rows: Vec<_> = table.state.rows().collect();
    let mut state = State::default();
    rows.iter().for_each(|(key, value)| state.load_row(key, value).unwrap());
    let hash = state.hash();
    for (key, value) in &rows {
        assert!(state.load_row(key, value).unwrap_err().to_string().contains("twice"), "{key:?}");
    }
    // A process under another's name, an instance 0, a second answer at one revision.
    let of = |tag: u8| rows.iter().find(|(key, _)| key[0] == tag).unwrap().clone();
    let (mut item, same_item) = of(5);
    let last = item.len() - 1;
    item[last] = 0;
    let request = [&[7][..], b"another"].concat();
    for (key, value) in [([&[3][..], b"other"].concat(), of(3).1), (item, same_item), (request, of(7).1)] {
        assert!(state.load_row(&key, &value).is_err(), "{key:?}");
    }
    assert_eq!((state.hash(), state.rows().collect::<Vec<_>>()), (hash, rows.clone()));
    assert!(state.complete().is_ok());
    let mut without = State::default();
    rows.iter().filter(|(key, _)| key[0] != 4).for_each(|(key, value)| without.load_row(key, value).unwrap());
    assert!(without.complete().unwrap_err().to_string().contains("instances need it"));
    assert!(without.rows().all(|(key, _)| key[0] != 4), "a run spec that is not there is a row");
}
