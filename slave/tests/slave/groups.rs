//! The cgroup that a slave has made. It keeps it over its own end, for its processes go on in it; the stage, which ends
//! both, removes it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use minder_model::Digest;

/// A group is busy for a moment after its last process has ended.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 300;

/// The directory of a process' cgroup v2.
fn group_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    mounts.iter().map(|mount| Path::new(mount).join(path)).find(|path| path.join("cgroup.procs").exists())
}

/// Removes what the slave of this data folder has made, with whatever is still in it. It must have ended, and have been
/// started from here: its group is below this process' own.
pub fn remove_group(data: &Path) {
    let name = format!("minder-{}", Digest::of(data.as_os_str().as_encoded_bytes()).short());
    let Some(group) = group_of(std::process::id()).map(|own| own.join(name)).filter(|group| group.is_dir()) else {
        return;
    };
    for _ in 0..LOOKS {
        // Files of a group are no folders and go with it.
        let leaves = fs::read_dir(&group).into_iter().flatten().flatten().map(|entry| entry.path());
        for leaf in leaves.filter(|leaf| leaf.is_dir()) {
            // A kernel before 5.14 has no such file.
            let _ = fs::write(leaf.join("cgroup.kill"), "1");
            let _ = fs::remove_dir(leaf);
        }
        if fs::remove_dir(&group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    eprintln!("{} is left: somebody in it does not end", group.display());
}
