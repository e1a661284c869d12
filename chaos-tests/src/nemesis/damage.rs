//! Damaged files of a manager that is down: it comes back whole, or refuses with a code that says so. Either way it is then
//! re-seeded by the documented commands, for it may still carry damage that nobody has met.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};

use super::{
    Nemesis, Outcome, a_while,
    membership::{CHANGED_WITHIN, until_done},
    nothing,
};
use crate::{Chance, Lease, Manager, Needs, World, bin};

/// Exit codes that are an answer to damage: storage error, quarantine, emptied folder, newer format.
const REFUSALS: [i32; 4] = [10, 11, 12, 13];
/// What is torn out of a file at the most.
const TORN_BYTES_MAX: u64 = 4_096;

pub(super) const NEMESES: [Nemesis; 1] =
    [Nemesis { name: "damaged-files", needs: Needs::Manager, weight: 2, lacks: nothing, run }];

fn run(world: Arc<World>, lease: Lease, mut chance: Chance) -> BoxFuture<'static, Outcome> {
    async move {
        let _alone = world.changing.lock().await;
        let manager = &world.managers[lease.managers[0]];
        let others = world.client_from(lease.managers[0] + 1);
        let Some(id) = id_of(&world, manager).await else {
            return Outcome::Unclear(format!("nobody says which id {} has", manager.name));
        };
        manager.kill();
        let Some(damage) = damage(&manager.data, &mut chance) else {
            let _ = manager.start();
            return Outcome::Unclear(format!("{} has no files", manager.name));
        };
        let met = match manager.start() {
            Ok(_) => {
                a_while(&mut chance, 200..2_000).await;
                match manager.program().ended() {
                    Some(code) if !REFUSALS.contains(&code) => {
                        return Outcome::Broken(format!("{}: {damage}: ended with {code}", manager.name));
                    }
                    Some(code) => format!("refused later with {code}"),
                    None => "came back".into(),
                }
            }
            Err(not_ready) => match not_ready.code {
                Some(code) if REFUSALS.contains(&code) => format!("refused with {code}"),
                code => return Outcome::Broken(format!("{}: {damage}: does not start: {code:?}", manager.name)),
            },
        };
        manager.kill();
        match seed_again(manager, &others, id).await {
            Ok(()) => Outcome::Installed(format!("{}: {damage}: {met}", manager.name)),
            Err(why) => Outcome::Broken(format!("{}: {damage}: {met}, and was not re-seeded: {why}", manager.name)),
        }
    }
    .boxed()
}

async fn id_of(world: &World, manager: &Manager) -> Option<u64> {
    let statuses = world.client_from(0).managers(false).await.ok()?.managers;
    let members = statuses.into_iter().filter_map(|status| status.member);
    members.filter(|member| member.client_address == manager.client_address).map(|member| member.id).next()
}

/// One file, one damage.
fn damage(folder: &Path, chance: &mut Chance) -> Option<String> {
    let mut files = Vec::new();
    list(folder, &mut files);
    files.sort();
    if files.is_empty() {
        return None;
    }
    let path = &files[chance.below(files.len() as u64) as usize];
    let file = File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let at = chance.below(length);
    let name = path.strip_prefix(folder).unwrap().display();
    Some(match chance.below(3) {
        0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << chance.below(8);
            file.write_all_at(&byte, at).unwrap();
            format!("a bit of {name} at {at} of {length}")
        }
        1 => {
            file.set_len(at).unwrap();
            format!("{name} cut off at {at} of {length}")
        }
        _ => {
            let torn = (length - at).min(1 + chance.below(TORN_BYTES_MAX));
            file.write_all_at(&vec![0; torn as usize], at).unwrap();
            format!("{torn} bytes of {name} at {at} of {length}")
        }
    })
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list(&entry.path(), files),
            Ok(metadata) if metadata.len() > 0 => files.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// As deploy/runbooks/manager-damaged.md has it.
async fn seed_again(manager: &Manager, others: &minder_client::Client, id: u64) -> Result<(), String> {
    let output = Command::new(bin("minder-manager")).args(["reseed", "--data"]).arg(&manager.data).output().unwrap();
    if !output.status.success() {
        return Err(format!("reseed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    until_done(|| async { others.remove_manager(id.to_string(), |_| ()).await.map(drop) })
        .await
        .map_err(|why| format!("remove within {CHANGED_WITHIN:?}: {why}"))?;
    manager.start().map_err(|not_ready| format!("start: {not_ready:?}"))?;
    let add = || async {
        manager.back_when_emptied();
        others.add_manager(manager.peer_address.clone(), String::new(), |_| ()).await.map(drop)
    };
    until_done(add).await.map_err(|why| format!("add within {CHANGED_WITHIN:?}: {why}"))?;
    // Kept for whoever wants to know; here nobody does, and the disk is small.
    for entry in fs::read_dir(&manager.data).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("quarantine-") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
