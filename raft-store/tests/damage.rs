//! Every kind of file in a data folder, damaged in every way a disk knows: flipped, cut, zeroed, gone. Each case ends in
//! full recovery or in a refusal that says what is wrong; opening with less, or with something else, is a failure.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use common::{append, apply, copy, entry, log_id, open};
use minder_model::{ClusterId, ManagerId};
use minder_raft_store::{ExitReason, Identity, Verified, Vote, verify};
use openraft::{
    RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftStateMachine},
};

/// Places in a file that are damaged, spread over it.
const PLACES: u64 = 6;

/// A folder with something of everything: entries, rows and settings in table files, a snapshot, a purge, a WAL.
async fn folder(path: &Path, entries: u64) -> Verified {
    let mut opened = open(path).unwrap();
    opened.store.set_identity(&identity()).unwrap();
    opened.log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    let before = entries - 20;
    let more: Vec<_> = (before + 1..=entries).map(|index| entry(1, index)).collect();
    let entries: Vec<_> = (1..=before).map(|index| entry(1, index)).collect();
    append(&mut opened, entries.clone()).await.unwrap();
    apply(&mut opened, entries).await;
    opened.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    opened.log.purge(log_id(1, 40)).await.unwrap();
    drop(opened);
    // Opening turns the WAL into table files.
    let mut opened = open(path).unwrap();
    append(&mut opened, more.clone()).await.unwrap();
    apply(&mut opened, more).await;
    drop(opened);
    let crashed = tempfile::tempdir().unwrap();
    copy(path, crashed.path());
    verify(crashed.path()).unwrap()
}

fn identity() -> Identity {
    Identity { cluster: ClusterId::new("c").unwrap(), manager: ManagerId(1) }
}

/// Files below a folder that hold something, by the kind that their name tells.
fn files(folder: &Path, found: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if fs::metadata(&path).unwrap().len() > 0 {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let kind = name.rsplit_once('.').map_or(name.as_str(), |(_, extension)| extension);
            let kind = kind.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
            found.entry(kind).or_default().push(path);
        }
    }
}

/// What a folder holds once openraft has begun with it: rows that a cut took are applied again from the log.
async fn begun(folder: &Path, verified: Verified) -> Verified {
    let mut opened = open(folder).unwrap();
    let applied = opened.store.published().revision().0;
    let behind = opened.log.try_get_log_entries(applied + 1..).await.unwrap();
    apply(&mut opened, behind).await;
    assert_eq!(opened.store.identity().unwrap(), Some(identity()), "it does not know who it is");
    assert_eq!(opened.log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)), "it forgot its vote");
    Verified { state_hash: opened.store.published().state.hash(), ..verified }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Zero(u64),
    Cut(u64),
    Gone,
}

impl Damage {
    /// Every damage of a file of this kind. A WAL that is cut may look like one that a crash cut: `folder.rs` and
    /// `power_cut.rs` try that at length.
    fn all() -> impl Iterator<Item = Self> {
        let places = |make: fn(u64) -> Self| (0..PLACES).map(make);
        let cut = (1..PLACES).step_by(2).map(Self::Cut);
        places(Self::Flip).chain(places(Self::Zero).step_by(2)).chain(cut).chain([Self::Gone])
    }

    fn harm(self, path: &Path) {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let at = |place: u64| (length - 1) * (2 * place + 1) / (2 * PLACES);
        match self {
            Self::Flip(place) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at(place)).unwrap();
                file.write_all_at(&[byte[0] ^ 0x20], at(place)).unwrap();
            }
            Self::Zero(place) => {
                let begin = at(place) / 512 * 512;
                file.write_all_at(&vec![0; 512.min(length - begin) as usize], begin).unwrap();
            }
            Self::Cut(place) => file.set_len(at(place)).unwrap(),
            Self::Gone => fs::remove_file(path).unwrap(),
        }
    }
}

#[tokio::test]
async fn whatever_is_damaged_nothing_opens_with_less() {
    let whole = tempfile::tempdir().unwrap();
    let expected = folder(whole.path(), 140).await;
    assert_eq!(expected.entries, 100);
    let mut kinds = BTreeMap::new();
    files(whole.path(), &mut kinds);
    for kind in ["sst", "log", "MANIFEST", "CURRENT", "OPTIONS", "mark", "snapshot"] {
        assert!(kinds.contains_key(kind), "there is no {kind} among {kinds:?}");
    }
    let mut refused = BTreeSet::new();
    for (kind, paths) in kinds {
        for (path, damage) in paths.iter().flat_map(|path| Damage::all().map(move |damage| (path, damage))) {
            let folder = tempfile::tempdir().unwrap();
            copy(whole.path(), folder.path());
            let name = path.strip_prefix(whole.path()).unwrap();
            damage.harm(&folder.path().join(name));
            match verify(folder.path()) {
                Ok(found) => {
                    let found = begun(folder.path(), found).await;
                    assert_eq!(found, expected, "{damage:?} of {} opened as something else", name.display());
                }
                Err(error) => {
                    let reason = error.exit_reason();
                    assert_eq!(reason, ExitReason::Quarantine, "{damage:?} of {}: {error}", name.display());
                    assert!(error.to_string().contains("minder-manager reseed"), "{error}");
                    refused.insert(kind.clone());
                }
            }
        }
    }
    // Damage in these cannot be mended from the others, so at least one of each must have been refused.
    for kind in ["sst", "log", "MANIFEST", "mark"] {
        assert!(refused.contains(kind), "no damage of {kind} was noticed");
    }
}

/// How a disk damages a file, by chance.
#[derive(Debug, Clone, Copy)]
enum Chance {
    Flip,
    Cut,
    Zero,
    /// Two blocks change places, as misdirected writes leave them.
    Swap,
}

impl Chance {
    const ALL: [Self; 4] = [Self::Flip, Self::Cut, Self::Zero, Self::Swap];

    fn harm(self, rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
        let at = rng.usize(..bytes.len());
        let block = [64, 512, 4_096][rng.usize(..3)].min(bytes.len());
        let begin = |rng: &mut fastrand::Rng, length: usize| rng.usize(..length.div_ceil(block)) * block;
        match self {
            Self::Flip => bytes[at] ^= 1 << rng.u8(..8),
            Self::Cut => bytes.truncate(at),
            Self::Zero => {
                let from = begin(rng, bytes.len());
                let to = bytes.len().min(from + block);
                bytes[from..to].fill(0);
            }
            Self::Swap => {
                let (one, other) = (begin(rng, bytes.len()), begin(rng, bytes.len()));
                let length = block.min(bytes.len() - one.max(other));
                for at in 0..length {
                    bytes.swap(one + at, other + at);
                }
            }
        }
    }
}

/// `make drill-storage` tries hundreds of these, each seed others; here it is a few.
#[tokio::test]
async fn damage_by_chance_never_opens_with_less() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (damages, seed) = (number("MINDER_DAMAGES", 64), number("MINDER_SEED", 1));
    let whole = tempfile::tempdir().unwrap();
    let expected = folder(whole.path(), 140).await;
    let mut kinds = BTreeMap::new();
    files(whole.path(), &mut kinds);
    let kinds: Vec<(String, Vec<PathBuf>)> = kinds.into_iter().collect();
    let mut outcomes: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for number in 0..damages {
        let mut rng = fastrand::Rng::with_seed(seed << 32 | number);
        // Every kind of file meets every damage before chance repeats one.
        let (kind, paths) = &kinds[number as usize % kinds.len()];
        let chance = Chance::ALL[number as usize / kinds.len() % Chance::ALL.len()];
        let name = paths[rng.usize(..paths.len())].strip_prefix(whole.path()).unwrap();
        let mut bytes = fs::read(whole.path().join(name)).unwrap();
        let before = bytes.clone();
        // Blocks that are alike change places without harm; where all are, one bit is flipped instead.
        for chance in [chance; 20].into_iter().chain([Chance::Flip]) {
            if bytes == before {
                chance.harm(&mut rng, &mut bytes);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        copy(whole.path(), folder.path());
        fs::write(folder.path().join(name), &bytes).unwrap();
        let which = format!("damage {number} of seed {seed}, {chance:?} of {}", name.display());
        let outcome = match verify(folder.path()) {
            Ok(found) => {
                let found = begun(folder.path(), found).await;
                assert_eq!(found, expected, "{which}: opened as something else");
                0
            }
            Err(error) if error.exit_reason() == ExitReason::Quarantine => 2,
            Err(error) => {
                eprintln!("{which}: refused: {error}");
                1
            }
        };
        outcomes.entry(kind).or_default()[outcome] += 1;
    }
    let sum = |at: usize| outcomes.values().map(|counts| counts[at]).sum::<u64>();
    println!(
        "damages: {damages} (seed {seed}); {} recovered, {} refused, {} quarantined, 0 opened short",
        sum(0),
        sum(1),
        sum(2)
    );
    for (kind, [recovered, refused, quarantined]) in &outcomes {
        println!("  {kind:<10} {recovered:>4} recovered {refused:>4} refused {quarantined:>4} quarantined");
    }
}

/// Damage that comes while the folder is in use is found when the entry is read, and named.
#[tokio::test]
async fn an_entry_that_rots_under_a_running_manager_is_named() {
    let whole = tempfile::tempdir().unwrap();
    // Longer than what a start reads, and so keeps in memory.
    folder(whole.path(), 1_300).await;
    let mut opened = open(whole.path()).unwrap();
    assert!(opened.store.damage().is_none());
    let mut kinds = BTreeMap::new();
    files(whole.path(), &mut kinds);
    for path in &kinds["sst"] {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // Every entry holds this padding.
        for at in (0..bytes.len() - 8).filter(|at| &bytes[*at..*at + 8] == b"xxxxxxxx").step_by(50) {
            file.write_all_at(b"y", at as u64).unwrap();
        }
    }
    let Err(found) = opened.log.try_get_log_entries(41..60).await else { panic!("the damage was not found") };
    assert_eq!(found.kind(), std::io::ErrorKind::InvalidData, "{found}");
    let damage = opened.store.damage().unwrap();
    assert_eq!(damage.exit_reason(), ExitReason::Quarantine);
    assert!(damage.to_string().contains("is in quarantine"), "{damage}");
}
