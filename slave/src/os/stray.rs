//! Where strays are: processes in a leaf, or of a bundle, that the ledger does not account for.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use minder_model::{Incarnation, InstanceKey, STRAY_PIDS_MAX, Stray};
use minder_shim::{identity, protocol::Request, tree};
use tokio::io::AsyncWriteExt;

use super::{bundle::Bundle, cgroup, orphan::Orphan};

/// Those that are being ended are looked at this often.
const END_INTERVAL: Duration = Duration::from_millis(50);

/// One group of them. That they are strays is found out once; whether they still are there, at each look.
#[derive(Debug, Clone)]
pub struct StrayPlace {
    /// The instance they were started for, by the name of their place.
    pub key: InstanceKey,
    /// Which of its starts.
    pub incarnation: Incarnation,
    leaf: PathBuf,
    bundle: Bundle,
}

impl StrayPlace {
    /// Those of this start.
    pub fn new(key: InstanceKey, incarnation: Incarnation, leaf: PathBuf, bundle: Bundle) -> Self {
        Self { key, incarnation, leaf, bundle }
    }

    /// Their leaf; empty where there is none.
    pub fn leaf(&self) -> &Path {
        &self.leaf
    }

    /// Who they are now, as they are told; nothing once none is left.
    pub fn look(&self) -> Option<Stray> {
        let mut pids = if cgroup::is_populated(&self.leaf) { cgroup::processes(&self.leaf) } else { self.by_record() };
        let there = !pids.is_empty() || cgroup::is_populated(&self.leaf);
        pids.truncate(STRAY_PIDS_MAX);
        there.then(|| Stray { instance: self.key.to_string(), incarnation: self.incarnation.0, pids })
    }

    /// The main process, where its shim has left its identity and it still is the very one.
    fn by_record(&self) -> Vec<u32> {
        let record = self.bundle.record().ok().flatten();
        let record = record.filter(|record| record.boot_id == identity::boot_id());
        let main = record.map(|record| (record.main_pid, record.main_ticks));
        main.filter(|(pid, ticks)| identity::is_alive(*pid, *ticks)).map(|(pid, _)| pid).into_iter().collect()
    }

    /// Ends them, by their shim, their leaf or their main process, and clears their place. Who hangs in the kernel is
    /// waited for: nothing may start beside him.
    pub async fn end(&self) {
        while self.look().is_some() {
            self.say(Request::KillTree).await;
            tree::kill_cgroup(&self.leaf);
            if let Ok(Some(main)) =
                self.bundle.record().map(|record| record.and_then(|record| Orphan::hold(&record).ok()?))
            {
                main.kill();
            }
            tokio::time::sleep(END_INTERVAL).await;
        }
        // A shim stays until it hears that its end was taken note of.
        while matches!(self.bundle.close(), Ok(false)) {
            self.say(Request::Release).await;
            tokio::time::sleep(END_INTERVAL).await;
        }
        self.bundle.remove();
        if !self.leaf.as_os_str().is_empty() {
            // What cannot be removed is tried again by the next slave.
            let _ = std::fs::remove_dir(&self.leaf);
        }
    }

    async fn say(&self, request: Request) {
        if let Ok(mut shim) = self.bundle.connect().await {
            // A shim that goes before it has read this has nobody any more.
            let _ = shim.write_all(&request.encode()).await;
        }
    }
}
