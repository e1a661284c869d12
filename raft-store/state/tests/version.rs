//! The version of commands: what is newer than the cluster waits, what came later is stored only where it is used, and what
//! only a newer program understands is refused by name.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{ClusterId, CommandVersion, HostName, ProcessName, RequestId, Revision, Spec};
use minder_state::{Applied, Command, Expect, Outcome, ProcessCounts, Proposal, Refusal, Reply, State};

const FIRST: CommandVersion = CommandVersion::FIRST;
const LARGE: CommandVersion = CommandVersion::LARGE_APPLIES;

#[derive(Default)]
struct Table {
    state: State,
    index: u64,
}

impl Table {
    fn begun(version: CommandVersion) -> Self {
        let mut table = Self::default();
        table.write(Command::CreateCluster(ClusterId::new("c").unwrap(), version));
        table
    }

    fn propose(&mut self, request: &str, command: Command) -> Applied {
        self.index += 1;
        self.state.apply(Revision(self.index), &Proposal { time_ms: 10, ..proposal(request, command) })
    }

    fn write(&mut self, command: Command) -> Applied {
        let request = format!("r{}", self.index);
        self.propose(&request, command)
    }
}

fn proposal(request: &str, command: Command) -> Proposal {
    let request = RequestId::new(request).unwrap();
    Proposal { request, time_ms: 1, actor: "a".into(), expect: Expect::Anything, command }
}

fn many(count: usize) -> Command {
    let spec = |at: usize| {
        let name = ProcessName::new(format!("p{at}")).unwrap();
        Spec { hosts: vec![HostName::new("h").unwrap()], ..Spec::new(name, "/bin/true") }
    };
    Command::apply((0..count).map(spec))
}

#[test]
fn what_is_newer_than_the_cluster_is_refused_until_the_version_is_raised() {
    let mut table = Table::begun(FIRST);
    let more = FIRST.apply_specs_max() + 1;
    assert_eq!(many(more - 1).needs(), FIRST);
    assert_eq!(many(more).needs(), LARGE);
    let refused = table.write(many(more));
    assert_eq!(refused.reply.outcome, Outcome::Refused(Refusal::NeedsVersion(LARGE, FIRST)));
    assert!(table.state.processes().next().is_none());
    assert_eq!(table.write(Command::RaiseVersion(LARGE)).reply.outcome, Outcome::Done);
    // Who comes late with an older one changes nothing.
    table.write(Command::RaiseVersion(FIRST));
    assert_eq!(table.state.version(), LARGE);
    assert!(matches!(table.write(many(more)).reply.outcome, Outcome::Processes(changes) if changes.len() == more));
    assert_eq!(Table::begun(LARGE).state.version(), LARGE);
}

/// Managers of before read and write the same bytes as long as nobody has raised the version.
#[test]
fn what_came_later_is_stored_only_where_it_says_something() {
    let create = |version| proposal("r", Command::CreateCluster(ClusterId::new("c").unwrap(), version));
    let first = [1, 0xa5, 0, 0x61, b'r', 1, 1, 2, 0x61, b'a', 3, 0x82, 0, 0x80, 4, 0x82, 0, 0x81, 0x61, b'c'];
    assert_eq!(create(FIRST).to_bytes(), first);
    assert_eq!(Proposal::from_bytes(&first).unwrap(), create(FIRST));
    let newer = create(CommandVersion::NEWEST).to_bytes();
    assert_eq!(newer[0], CommandVersion::NEWEST.0);
    assert_eq!(Proposal::from_bytes(&newer).unwrap(), create(CommandVersion::NEWEST));
    let (_, row) = Table::begun(FIRST).state.rows().next().unwrap();
    assert_eq!(row, [0xa2, 0, 0x61, b'c', 1, 10]);
}

#[test]
fn a_proposal_and_a_table_of_a_newer_program_are_refused_by_name() {
    let mut newer = proposal("r", Command::Delete(vec![])).to_bytes();
    newer[0] = CommandVersion::NEWEST.0 + 1;
    let error = Proposal::from_bytes(&newer).unwrap_err().to_string();
    assert!(error.contains("needs commands of version 3, this program knows those up to 2"), "{error}");
    let mut raises = proposal("r", Command::RaiseVersion(CommandVersion(CommandVersion::NEWEST.0 + 1))).to_bytes();
    raises[0] = FIRST.0;
    let error = Proposal::from_bytes(&raises).unwrap_err().to_string();
    assert!(error.contains("needs commands of version 3"), "{error}");
    let mut table = Table::begun(CommandVersion::NEWEST);
    table.write(Command::RaiseVersion(CommandVersion(CommandVersion::NEWEST.0 + 1)));
    let (key, row) = table.state.rows().next().unwrap();
    let error = State::default().load_row(&key, &row).unwrap_err().to_string();
    assert!(error.contains("takes commands of version 3, this program knows those up to 2"), "{error}");
}

#[test]
fn a_large_apply_is_remembered_by_its_counts() {
    let mut table = Table::begun(LARGE);
    table.write(many(1));
    let first = table.propose("big", many(200)).reply;
    assert!(matches!(&first.outcome, Outcome::Processes(changes) if changes.len() == 200));
    let again = table.propose("big", many(200));
    let counts = ProcessCounts { created: 199, unchanged: 1, instances: 200, ..ProcessCounts::default() };
    assert_eq!(again.reply, Reply { outcome: Outcome::Counted(counts), ..first });
    assert!(again.rows.is_empty());
    // A small one, and one in a cluster of before, is remembered whole.
    let mut before = Table::begun(FIRST);
    for (table, count) in [(&mut table, Outcome::PROCESSES_REMEMBERED_MAX), (&mut before, 200)] {
        let first = table.propose("whole", many(count)).reply;
        assert_eq!(table.propose("whole", many(count)).reply, first);
    }
}
