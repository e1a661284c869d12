//! What a change and a question look at in a large table: counted, not timed.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{HostName, ProcessName, RequestId, Revision, Selection, Spec};
use minder_state::{Command, Expect, Order, OrderKind, Proposal, State};

const HOSTS: usize = 60;
const PROCESSES: usize = 40;

fn host(number: usize) -> HostName {
    HostName::new(format!("h{number}")).unwrap()
}

fn everywhere(name: &str) -> Spec {
    Spec {
        selector: [("all".to_owned(), "yes".to_owned())].into(),
        ..Spec::new(ProcessName::new(name).unwrap(), "/bin/sleep")
    }
}

fn write(state: &mut State, index: u64, command: Command) {
    let request = RequestId::new(format!("r{index}")).unwrap();
    let proposal = Proposal { request, time_ms: 0, actor: String::new(), expect: Expect::Anything, command };
    state.apply(Revision(index), &proposal);
}

fn register(state: &mut State, index: u64, number: usize) {
    let labels = [("all".to_owned(), "yes".to_owned())].into();
    write(state, index, Command::RegisterHost(host(number), format!("h{number}:1"), labels));
}

/// Every process on every host.
fn table() -> State {
    let mut state = State::default();
    (0..HOSTS).for_each(|number| register(&mut state, number as u64 + 1, number));
    let specs = (0..PROCESSES).map(|number| everywhere(&format!("p{number}")));
    write(&mut state, 1_000, Command::apply(specs));
    state
}

#[test]
fn a_selection_looks_at_what_it_names_and_at_nothing_else() {
    let state = table();
    for (terms, looked_at, selected) in [
        (&["p7@h3"][..], 1, 1),
        (&["p7@h3", "p9@h3"], 2, 2),
        (&["p7:2@h3"], 1, 0),
        (&["p7"], HOSTS, HOSTS),
        (&["p7", "p8@h1"], HOSTS + HOSTS, HOSTS + 1),
        (&["@h3"], PROCESSES, PROCESSES),
        (&["p*@h3"], PROCESSES, PROCESSES),
        (&["nobody@nowhere"], 0, 0),
        (&["p1*"], HOSTS * PROCESSES, HOSTS * 11),
        (&["p7@h1*"], HOSTS, 11),
    ] {
        let selection = Selection::parse(terms, &[] as &[&str]).unwrap();
        assert_eq!(state.candidates(&selection).count(), looked_at, "{terms:?}");
        let found: Vec<_> = state.selected(&selection).map(|(instance, _)| instance).collect();
        assert_eq!(found.len(), selected, "{terms:?}");
        assert!(found.is_sorted_by(|one, other| one < other), "{terms:?}: host by host, each once");
        let everything = state.selected(&ALL).map(|(instance, _)| instance);
        let meant = everything.filter(|instance| selection.matches(instance, &Default::default()));
        assert_eq!(found, meant.collect::<Vec<_>>(), "{terms:?}");
    }
}

static ALL: std::sync::LazyLock<Selection> = std::sync::LazyLock::new(Selection::all);

#[test]
fn a_change_on_one_host_leaves_the_others_memory_as_it_is() {
    let mut state = table();
    let before: Vec<_> = (0..HOSTS).map(|number| state.assignment(&host(number))).collect();
    let read_again = state.assignment(&host(0));
    assert!(read_again.items.is_same(&before[0].items), "what is read is shared, not copied");
    let one = Spec { hosts: vec![host(3)], ..Spec::new(ProcessName::new("one").unwrap(), "/bin/sleep") };
    write(&mut state, 2_000, Command::apply([one]));
    for (number, before) in before.iter().enumerate() {
        let now = state.assignment(&host(number));
        assert_eq!(now.items.is_same(&before.items), number != 3, "h{number}");
        assert_eq!(before.items.len(), PROCESSES, "what was read before stays as it was");
    }
    assert_eq!(state.assignment(&host(3)).items.len(), PROCESSES + 1);
}

#[test]
fn a_host_that_comes_gets_what_selects_it_also_in_a_table_that_was_loaded() {
    let mut state = table();
    let unselecting = Spec { hosts: vec![host(1)], selector: Default::default(), ..everywhere("p0") };
    write(&mut state, 2_000, Command::apply([unselecting]));
    write(&mut state, 2_001, Command::Delete(vec![ProcessName::new("p1").unwrap()]));
    let mut loaded = State::default();
    state.rows().for_each(|(key, value)| loaded.load_row(&key, &value).unwrap());
    loaded.compact();
    for mut state in [state, loaded] {
        register(&mut state, 3_000, HOSTS);
        assert_eq!(state.assignment(&host(HOSTS)).items.len(), PROCESSES - 2);
        assert_eq!(state.assignment(&host(1)).items.len(), PROCESSES - 1);
    }
}

#[test]
fn a_commands_reach_is_what_it_may_touch_and_is_not_counted_further_than_wanted() {
    let state = table();
    let all = (HOSTS * PROCESSES) as u64;
    let looks = HOSTS as u64 / 16;
    let named = |name: &str, hosts: usize, instances: u32| Spec {
        hosts: (0..hosts).map(host).collect(),
        instances,
        ..Spec::new(ProcessName::new(name).unwrap(), "/bin/sleep")
    };
    let order = |terms: &[&str], all: bool| {
        let terms = terms.iter().map(|term| (*term).to_owned()).collect();
        Command::Order(Order { terms, labels: Vec::new(), all, kind: OrderKind::Restart })
    };
    let elsewhere = Spec { selector: [("all".to_owned(), "no".to_owned())].into(), ..everywhere("new") };
    let delete = |names: &[&str]| Command::Delete(names.iter().map(|name| ProcessName::new(*name).unwrap()).collect());
    for (command, reach) in [
        (Command::apply([everywhere("new")]), HOSTS as u64 + looks),
        (Command::apply([elsewhere]), looks),
        (Command::apply([named("new", 5, 7), named("other", 1, 1)]), 36),
        // What is removed counts as well.
        (Command::apply([named("p1", 1, 1)]), HOSTS as u64),
        (delete(&["p1", "p2", "nobody"]), 2 * HOSTS as u64),
        (order(&["p7@h3"], false), 1),
        (order(&["p7"], false), HOSTS as u64),
        (order(&[], true), all),
        (order(&["nobody"], false), 0),
        (Command::RemoveHost(host(1)), 0),
    ] {
        assert_eq!(state.reach(&command, u64::MAX), reach, "{command:?}");
        assert_eq!(state.reach(&command, 2), reach.min(2), "{command:?}");
        let at_most = state.outline().reach_at_most(&command);
        assert!(at_most >= reach, "{command:?} reaches {reach}, at most {at_most} was said");
    }
}

#[test]
fn the_outline_counts_every_instance_also_of_a_table_that_was_loaded() {
    let mut state = table();
    write(&mut state, 2_000, Command::apply([Spec { instances: 3, ..everywhere("p0") }]));
    write(&mut state, 2_001, Command::Delete(vec![ProcessName::new("p1").unwrap()]));
    write(&mut state, 2_002, Command::RemoveHost(host(1)));
    let mut loaded = State::default();
    state.rows().for_each(|(key, value)| loaded.load_row(&key, &value).unwrap());
    let everything = Command::Delete(Vec::new());
    let counted = ((HOSTS - 1) * (PROCESSES + 1)) as u64;
    for state in [&state, &loaded] {
        assert_eq!(state.selected(&ALL).count() as u64, counted);
        assert_eq!(state.outline().reach_at_most(&everything), counted);
        assert!(state.outline().has_host(&host(2)) && !state.outline().has_host(&host(1)));
    }
}
