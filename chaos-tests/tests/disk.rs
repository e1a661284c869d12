//! Disks: one that fills up refuses writes in time and takes them again by itself, large writes do not fill it, and a
//! cluster at rest writes nothing at all.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use minder_chaos_tests::{Cluster, ClusterShape, Program, all, eventually};
use minder_client::{Client, Error, Write, v1};
use minder_model::{HostName, ProcessName, Spec};

/// A tmpfs of this many MiB; gone when dropped. `None`, with the reason on standard error, where it cannot be had.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn new(mib: u64) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "minder-test"]).arg(disk.folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(disk);
        }
        eprintln!("disk full: no tmpfs can be mounted here (not root?); not tried");
        std::mem::forget(disk);
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

/// One manager with a configuration of its own, and a client of it.
async fn manager(folder: &Path, data: &Path, config: &str) -> (Program, Client) {
    let file = folder.join("manager.toml");
    fs::write(&file, config).unwrap();
    let args =
        ["--config", text(&file), "--data", text(data), "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let mut manager = Program::new("manager", "minder-manager", args.map(String::from).to_vec(), folder);
    let ready = manager.start();
    let (address, peer) = ready.strip_prefix("client=").unwrap().split_once(" peer=").unwrap();
    let client = Client::new(vec![address.to_owned()]).unwrap();
    client.init(vec![peer.to_owned()]).await.unwrap();
    (manager, client)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A write of about half a MiB that leaves the table as large as it was.
async fn large_write(client: &Client, number: u64) -> Result<v1::WriteReply, Error> {
    large_write_as(client, number, &Write::default()).await
}

async fn large_write_as(client: &Client, number: u64, write: &Write) -> Result<v1::WriteReply, Error> {
    let host = HostName::new("nowhere").unwrap();
    let padding = format!("{number:08}").repeat(3_500);
    let specs = (0..18).map(|name| {
        let env = [("PADDING".to_owned(), padding.clone())].into();
        let hosts = [host.clone()].into();
        Spec { env, hosts, ..Spec::new(ProcessName::new(format!("p{name}")).unwrap(), "/bin/true") }
    });
    client.apply(&specs.collect::<Vec<_>>(), write).await
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        // A file may go while it is looked at.
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_in_time_and_takes_them_again_by_itself() {
    let Some(disk) = SmallDisk::new(400) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = disk.path().join("data");
    let (mut manager, client) = manager(folder.path(), &data, "disk_floor_mib = 128").await;
    let first = Write { request_id: Some("first".into()), ..Write::default() };
    let answer = large_write_as(&client, 0, &first).await.unwrap();
    let filler = disk.path().join("filler");
    fill(&filler, 300 << 20);
    let begin = Instant::now();
    let refused = loop {
        match large_write(&client, 1).await {
            Ok(_) => assert!(begin.elapsed() < Duration::from_secs(5), "writes go on below the floor"),
            Err(error) => break error,
        }
    };
    let said = refused.to_string();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    assert!(said.contains("below the floor of 128 MiB") && said.contains("disk_floor_mib"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(2), "it took {:.1?} to say so", begin.elapsed());
    let again = large_write_as(&client, 0, &first).await;
    assert_eq!(again.unwrap(), answer, "what was carried out has its answer, and takes no room");
    // Everything but writes goes on.
    assert_eq!(client.processes(all(), false).await.unwrap().processes.len(), 18);
    assert!(manager.runs());
    fs::remove_file(&filler).unwrap();
    eventually("writes go on by themselves", || async { large_write(&client, 2).await.ok() }).await;
    // Many at once do not get past the floor together: what is in flight counts.
    fill(&filler, 180 << 20);
    let (done, refused) = flood(&client, 600).await;
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused: {}", manager.log());
    assert!(manager.runs() && folder_bytes(&data) < 220 << 20);
    fs::remove_file(&filler).unwrap();
    eventually("writes go on by themselves", || async { large_write(&client, 3).await.ok() }).await;
    assert_eq!(manager.stop(), Some(0));
}

fn fill(path: &Path, bytes: u64) {
    let file = fs::File::create(path).unwrap();
    nix::fcntl::posix_fallocate(file, 0, bytes as i64).unwrap();
}

async fn flood(client: &Client, writes: u64) -> (usize, usize) {
    let all = futures::future::join_all((0..writes).map(|number| large_write(client, 100 + number))).await;
    let done = all.iter().filter(|result| result.is_ok()).count();
    (done, all.len() - done)
}

/// Bytes, not only entries, bound the log: what large writes leave on the disk does not grow with their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_writes_do_not_fill_the_disk() {
    let writes = std::env::var("MINDER_LARGE_WRITES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (config, kept_kib_max) = match writes {
        60 => ("[raft]\nsnapshot_every_mib = 8\nkeep_mib = 2", 9_000),
        _ => ("", 340_000),
    };
    let (mut manager, client) = manager(folder.path(), &data, config).await;
    let mut most = 0;
    for number in 0..writes {
        large_write(&client, number).await.unwrap();
        most = most.max(folder_bytes(&data));
    }
    eventually("the log is purged by its bytes", || async {
        let status = client.managers(false).await.ok()?.managers.into_iter().next()?;
        let kept = status.last_log_index - status.purged_index;
        (status.purged_index > 0 && kept * 500 < kept_kib_max).then_some(())
    })
    .await;
    let bytes = folder_bytes(&data);
    println!("{writes} writes of 0.5 MiB: at most {} MiB on disk, {} MiB at the end", most >> 20, bytes >> 20);
    // It starts again from what is left.
    assert_eq!(manager.stop(), Some(0));
    manager.start();
}

/// After a failed sync the page cache may have dropped what was written, and the next sync would succeed: the node ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_a_sync_ends_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    let (mut manager, client) = manager(folder.path(), &folder.path().join("data"), "").await;
    let said = folder.path().join("strace");
    let pid = manager.pid().to_string();
    let inject = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"];
    let strace = Command::new("strace").args(["-f", "-q", "-o", text(&said)]).args(inject).args(["-p", &pid]).spawn();
    let Ok(mut strace) = strace else {
        return eprintln!("failed sync: there is no strace here; not tried");
    };
    let status = format!("/proc/{pid}/status");
    let traced = || fs::read_to_string(&status).is_ok_and(|text| !text.contains("TracerPid:\t0"));
    for _ in 0..500 {
        if traced() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if !traced() {
        let _ = strace.kill();
        return eprintln!("failed sync: strace may not attach here; not tried");
    }
    let write = tokio::spawn(async move {
        loop {
            if let Err(error) = large_write(&client, 1).await {
                break error;
            }
        }
    });
    let code = manager.wait_for_exit();
    strace.wait().unwrap();
    assert_eq!(code, Some(10), "{}", manager.log());
    assert!(manager.log().contains("look at the disk"), "{}", manager.log());
    let answer = write.await.unwrap();
    assert!(matches!(answer, Error::Unknown { .. } | Error::Unreachable(_)), "{answer:?}");
    // The disk is well again: so is the manager.
    manager.start();
}

/// What a process has caused to be written to disks so far, in bytes.
fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_at_rest_writes_nothing() {
    let cluster = Cluster::start(ClusterShape { managers: 3, slaves: 1 }).await;
    let host = HostName::new("host-1").unwrap();
    let args = vec!["1000".to_owned()];
    let spec = Spec { hosts: [host].into(), args, ..Spec::new(ProcessName::new("app").unwrap(), "/bin/sleep") };
    cluster.client().apply(&[spec], &Write::default()).await.unwrap();
    cluster.wait_until_running(all(), 1).await;
    cluster.wait_until_in_step().await;
    let pids: Vec<u32> = cluster.managers.iter().chain(&cluster.slaves).map(Program::pid).collect();
    let folders: Vec<PathBuf> = (1..=3).map(|number| cluster.path().join(format!("manager-{number}"))).collect();
    let look = || -> Vec<u64> {
        pids.iter().map(|pid| written(*pid)).chain(folders.iter().map(|folder| folder_bytes(folder))).collect()
    };
    // What was just written is on its way for a moment; then there must be a stretch without any of it.
    eventually("nothing is written for three seconds", || async {
        let before = look();
        tokio::time::sleep(Duration::from_secs(3)).await;
        (look() == before).then_some(())
    })
    .await;
}
