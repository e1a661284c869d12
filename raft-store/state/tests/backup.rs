//! A backup gives the same state, or a named refusal: whatever bit is flipped, wherever it is cut, in pieces of any size.
//! A cluster rebuilt from it assigns everything anew, above everything its predecessor can have given.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_model::{ClusterId, CommandVersion, HostName, ProcessName, RequestId, Revision, Spec};
use minder_state::{
    BackupError, BackupHeader, BackupReader, Command, Expect, Proposal, RebuildError, State, backup_pieces,
};

fn write(state: &mut State, index: u64, command: Command) {
    let request = RequestId::new(format!("r{index}")).unwrap();
    let proposal = Proposal { request, time_ms: index, actor: "test".into(), expect: Expect::Anything, command };
    state.apply(Revision(index), &proposal);
}

fn host() -> HostName {
    HostName::new("h").unwrap()
}

fn table(processes: u64) -> State {
    let mut state = State::default();
    write(&mut state, 1, Command::CreateCluster(ClusterId::new("first").unwrap(), CommandVersion::FIRST));
    for index in 2..processes + 2 {
        let mut spec = Spec::new(ProcessName::new(format!("p{index}")).unwrap(), "/bin/true");
        spec.hosts = [host()].into();
        spec.env = [("PADDING".to_owned(), "x".repeat(1_000))].into();
        write(&mut state, index, Command::apply([spec]));
    }
    state
}

fn bytes(state: &State) -> Vec<u8> {
    let header = BackupHeader::of(state, Revision(77), 5, "0.0.0", 123).unwrap();
    backup_pieces(&header, state).flatten().collect()
}

fn read(bytes: &[u8], piece: usize) -> Result<(BackupHeader, State), BackupError> {
    let mut reader = BackupReader::default();
    let mut state = State::default();
    for piece in bytes.chunks(piece) {
        reader.push(piece, |key, value| state.load_row(key, value))?;
    }
    reader.finish().map(|(header, _)| (header, state))
}

#[test]
fn the_same_state_comes_back_in_pieces_of_any_size() {
    let state = table(700);
    let bytes = bytes(&state);
    assert!(bytes.len() > 3 * 256 * 1024, "{} bytes are one frame", bytes.len());
    for piece in [usize::MAX, 1 << 20, 4_097, 61] {
        let (header, back) = read(&bytes, piece).unwrap();
        assert_eq!((header.revision, header.term, header.cluster.as_str()), (Revision(77), 5, "first"));
        assert_eq!((back.hash(), header.state_hash()), (state.hash(), state.hash()));
    }
}

#[test]
fn damage_is_never_taken_for_a_backup() {
    let whole = bytes(&table(3));
    read(&whole, 100).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(read(&flipped, 1_000).is_err(), "the flip at byte {at} was not noticed");
        let cut = read(&whole[..at], 1_000).unwrap_err();
        assert_eq!(cut, BackupError::Short, "cut at byte {at}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert_eq!(read(&longer, 1_000).unwrap_err(), BackupError::More);
    assert_eq!(read(b"something else entirely", 1_000).unwrap_err(), BackupError::NoBackup);
}

#[test]
fn a_rebuilt_cluster_is_another_one_and_assigns_everything_anew() {
    let mut state = table(2);
    let before = state.assignment(&host());
    // A cluster that was never rebuilt is stored as the version before knows it: a map of two fields.
    assert_eq!(minder_model::encode(state.cluster().unwrap())[0], 0xa2);
    let since = state.rebuild(ClusterId::new("second").unwrap(), Revision(3), 9).unwrap();
    let cluster = state.cluster().unwrap().clone();
    assert_eq!(cluster.id.as_str(), "second");
    let rebuilt = cluster.rebuilt.unwrap();
    assert_eq!((rebuilt.predecessor.as_str(), rebuilt.revision, rebuilt.since), ("first", Revision(3), since));
    assert!(since > Revision(1_000_000_000));
    // What every host has is offered again, above whatever it holds, and asks for nothing new.
    let after = state.assignment(&host());
    assert_eq!((after.revision, after.digest()), (since, before.digest()));
    before.after(&after.delta_from(None)).unwrap();
    assert_eq!(state.assignment(&HostName::new("other").unwrap()).revision, since);
    let mut loaded = State::default();
    state.rows().for_each(|(key, value)| loaded.load_row(&key, &value).unwrap());
    assert_eq!(loaded.hash(), state.hash());
    assert_eq!(State::default().rebuild(ClusterId::new("x").unwrap(), Revision(0), 0), Err(RebuildError::NoCluster));
}
