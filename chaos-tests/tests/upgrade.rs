//! Managers are upgraded one at a time under writes, and go back one at a time, as long as nobody has said that there is
//! no way back. `deploy/setup/previous` makes the older program.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use minder_chaos_tests::{Cluster, ClusterShape, all, bin, eventually};
use minder_client::{Client, Error, Write, v1};
use minder_model::{CommandVersion, ProcessName, Spec};

const WRITERS: usize = 3;
/// A folder that needs a newer program.
const EXIT_NEWER: Option<i32> = Some(13);

/// The folder of the programs of the version before this one, if they were made.
fn previous() -> Option<PathBuf> {
    let folder = std::env::var_os("MINDER_PREVIOUS_BIN_DIR").filter(|folder| !folder.is_empty())?;
    let folder = PathBuf::from(folder);
    assert!(folder.join("minder-manager").exists(), "{} lacks the manager", folder.display());
    Some(folder)
}

fn present() -> PathBuf {
    bin("minder-manager").parent().unwrap().to_owned()
}

fn spec(name: String) -> Spec {
    Spec::new(ProcessName::new(name).unwrap(), "/bin/true")
}

/// What goes on all the time: writes that are remembered when they are acknowledged, and a look at every manager's table.
struct Watched {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Watched {
    fn start(cluster: &Cluster) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let writers = (0..WRITERS).map(|writer| {
            tokio::spawn(write(cluster.client_from(writer), writer, Arc::clone(&acknowledged), stop.clone()))
        });
        let each =
            (0..cluster.managers.len()).map(|at| cluster.client_of(at).with_deadline(Duration::from_millis(300)));
        let looker = tokio::spawn(compare(each.collect(), stop.clone()));
        let tasks = writers.chain([looker]).collect();
        Self { stop, acknowledged, tasks }
    }

    /// Waits for some more writes: the cluster works.
    async fn goes_on(&self) {
        let count = || self.acknowledged.lock().unwrap().len();
        let before = count();
        eventually("writes are acknowledged", || async { (count() >= before + 10 * WRITERS).then_some(()) }).await;
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        Arc::try_unwrap(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

async fn write(client: Client, writer: usize, acknowledged: Arc<Mutex<Vec<String>>>, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("w{writer}-{number}");
        match client.apply(&[spec(name.clone())], &Write::default()).await {
            Ok(_) => acknowledged.lock().unwrap().push(name),
            // Nobody was promised anything.
            Err(Error::Unknown { .. } | Error::Unreachable(_)) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// At the same index all managers have the same table, whatever their versions.
async fn compare(managers: Vec<Client>, stop: Arc<AtomicBool>) {
    let mut seen: BTreeMap<u64, (String, usize)> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for (at, manager) in managers.iter().enumerate() {
            let Ok(reply) = manager.managers(true).await else { continue };
            let status = &reply.managers[0];
            let (hash, by) = seen.entry(status.applied_index).or_insert_with(|| (status.state_hash.clone(), at));
            assert_eq!(
                *hash, status.state_hash,
                "managers {by} and {at} have applied the same up to {}",
                status.applied_index
            );
        }
    }
    assert!(seen.len() > 100, "only {} tables were looked at", seen.len());
}

/// Stops a manager in order and starts it from another folder; it follows when this is over.
async fn replace(cluster: &mut Cluster, at: usize, programs: &Path) {
    assert_eq!(cluster.managers[at].stop(), Some(0), "{}", cluster.managers[at].log());
    cluster.managers[at].move_to(programs);
    cluster.managers[at].start();
    let furthest = cluster.statuses().await.iter().map(|status| status.applied_index).max().unwrap();
    let own = cluster.client_of(at);
    eventually("it follows and has caught up", || async {
        let reply = own.managers(true).await.ok()?;
        let status = &reply.managers[0];
        let follows = matches!(status.role.as_str(), "follower" | "leader");
        (follows && status.applied_index >= furthest).then_some(())
    })
    .await;
}

async fn replace_all(cluster: &mut Cluster, programs: &Path, watched: &Watched) {
    for at in 0..cluster.managers.len() {
        replace(cluster, at, programs).await;
        watched.goes_on().await;
    }
}

/// Has this manager lead.
async fn let_lead(cluster: &Cluster, at: usize) {
    let id = cluster.client_of(at).managers(true).await.unwrap().managers[0].member.clone().unwrap().id;
    eventually("it leads", || async {
        let _ = cluster.client().transfer_leader(id).await;
        (cluster.leader().await == at).then_some(())
    })
    .await;
}

/// More than managers of before take at once.
fn large(name: &str) -> Vec<Spec> {
    (0..CommandVersion::FIRST.apply_specs_max() + 1).map(|number| spec(format!("{name}-{number}"))).collect()
}

fn refused(result: Result<impl std::fmt::Debug, Error>, words: &str) {
    match result {
        Err(Error::Refused(text)) => assert!(text.contains(words), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// One of the managers is of this version and leads: what the others do not know stays out of the log.
async fn nothing_new_is_used(cluster: &Cluster) {
    let client = cluster.client();
    refused(client.upgrade_managers(true).await, "knows commands up to version 1");
    refused(client.apply(&large("early"), &Write::default()).await, "knows commands up to version 1");
    assert_eq!(client.managers(false).await.unwrap().cluster_version, 1);
    // In parts that everybody takes it goes through.
    let mut told = Vec::new();
    let reply = client.apply_all(&large("parts"), &Write::default(), |done| told.push(done.specs)).await.unwrap();
    assert_eq!((reply.processes.len(), told), (1_001, vec![1_000]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_are_upgraded_one_by_one_and_go_back_until_it_is_final() {
    let Some(previous) = previous() else {
        eprintln!("skipped: no programs of the version before; say MINDER_PREVIOUS_BIN_DIR=$(deploy/setup/previous)");
        return;
    };
    let present = present();
    let shape = ClusterShape { managers: 3, slaves: 0 };
    let mut cluster = Cluster::start_from(shape, "", &[], Some(&previous)).await;
    let watched = Watched::start(&cluster);
    watched.goes_on().await;

    replace(&mut cluster, 0, &present).await;
    let_lead(&cluster, 0).await;
    nothing_new_is_used(&cluster).await;
    replace_all(&mut cluster, &present, &watched).await;
    replace_all(&mut cluster, &previous, &watched).await;
    replace_all(&mut cluster, &present, &watched).await;

    let client = cluster.client();
    refused(client.apply(&large("late"), &Write::default()).await, "minderctl manager upgrade --finalize");
    assert_eq!(client.upgrade_managers(true).await.unwrap().version, 2);
    assert_eq!(client.apply(&large("late"), &Write::default()).await.unwrap().processes.len(), 1_001);
    watched.goes_on().await;

    let acknowledged = watched.end().await;
    let there: Vec<String> = client.processes(all(), false).await.unwrap().processes.into_iter().map(name).collect();
    for name in &acknowledged {
        assert!(there.contains(name), "{name} was acknowledged and is lost");
    }
    println!("{} writes acknowledged over ten changes of a manager's program, none lost", acknowledged.len());
    cluster.wait_until_in_step().await;

    // There is no way back, and the old program says so.
    assert_eq!(cluster.managers[1].stop(), Some(0));
    cluster.managers[1].move_to(&previous);
    assert_eq!(cluster.managers[1].try_start().unwrap_err().code, EXIT_NEWER, "{}", cluster.managers[1].log());
    cluster.managers[1].move_to(&present);
    cluster.managers[1].start();
    cluster.wait_until_in_step().await;
    let old = cluster.start_manager();
    refused(client.add_manager(old, String::new(), |_| ()).await.map(drop), "knows commands up to version 1");
}

fn name(process: v1::Process) -> String {
    process.spec.unwrap().name
}
