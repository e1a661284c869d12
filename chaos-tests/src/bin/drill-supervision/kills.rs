//! Slave kills at random moments over many processes: some only run, some crash all the time, some are being restarted
//! and stopped by order. No unwanted restart, no double, no exit code and no log line lost.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use minder_chaos_tests::{Chance, Cluster, ClusterShape, all, eventually_within, named};
use minder_client::{Client, Write, v1};
use minder_model::{Bytes, Millis};

use crate::{
    PATIENCE, Shape,
    account::{Account, Lines, is_free},
    spec,
};

/// A slave is killed after up to this long, and away for up to the other.
const LIFE_MS: u64 = 600;
const AWAY_MS: u64 = 200;
/// Orders under way at a time.
const ORDERING: u64 = 4;
/// A history keeps the last ten exits, and nobody crashes more than ten times in this.
const LOOK: Duration = Duration::from_millis(800);

/// Exits that were told, by instance and incarnation.
type Told = BTreeMap<(String, u64), String>;

/// What was seen.
#[derive(Debug, Default)]
struct Figures {
    starts: usize,
    ends: usize,
    orders: usize,
    lines: u64,
    unwanted: usize,
    doubles: usize,
    missing: usize,
    lost_exits: usize,
    wrong_exits: usize,
    lost_lines: u64,
    wrong_lines: u64,
}

/// Runs it and says how it went.
pub async fn run(shape: Shape) {
    let (steady, crashing) = (shape.processes * 6 / 10, shape.processes * 2 / 10);
    let ordered = shape.processes - steady - crashing;
    println!(
        "\n{} slave kills over {} processes (seed {}): {steady} only run, {crashing} crash, {ordered} are restarted and stopped",
        shape.kills, shape.processes, shape.seed
    );
    let mut cluster = Cluster::start(ClusterShape { managers: 1, slaves: 1 }).await;
    let folder = cluster.path().join("accounts");
    std::fs::create_dir(&folder).unwrap();
    let specs = [("steady", steady), ("crashing", crashing), ("ordered", ordered)].map(|(name, count)| {
        let kind = if name == "ordered" { "steady" } else { name };
        let mut spec = spec(name, kind, &folder, shape.seed);
        spec.instances = count as u32;
        spec.restart.delay = Millis(100);
        spec.restart.delay_max = Millis(100);
        spec.restart.limit = 0;
        spec.logs.max_size = Bytes::from_mib(64);
        spec
    });
    cluster.client().apply(&specs, &Write::default()).await.unwrap();
    let instances = instances(&[("steady", steady), ("crashing", crashing), ("ordered", ordered)]);
    until_all(&folder, &instances, "all have begun", |account| account.starts() > 0).await;

    let done = Arc::new(AtomicBool::new(false));
    let client = Arc::new(cluster.client());
    let watching = tokio::spawn(watch(client.clone(), done.clone()));
    let ordering: Vec<_> = (0..ORDERING)
        .map(|worker| {
            let own = (1..=ordered).filter(|index| *index as u64 % ORDERING == worker);
            let own: Vec<String> = own.map(|index| format!("ordered:{index}")).collect();
            let chance = Chance::new(shape.seed + worker + 1);
            tokio::spawn(order(client.clone(), folder.clone(), own, chance, done.clone()))
        })
        .collect();
    let begin = Instant::now();
    kill_again_and_again(&mut cluster, shape).await;
    println!("killed {} times in {:.0?}", shape.kills, begin.elapsed());
    done.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    for worker in ordering {
        expected.extend(worker.await.unwrap());
    }
    let before: BTreeMap<String, usize> = starts(&folder, &instances);
    let crashes =
        |instance: &str, account: &Account| !instance.starts_with("crashing") || account.starts() > before[instance];
    eventually_within(PATIENCE, "who crashes is restarted", || async {
        instances.iter().all(|one| crashes(one, &Account::read(&folder, one))).then_some(())
    })
    .await;
    cluster.client().order(v1::OrderKind::Stop, 0, all(), &Write::default()).await.unwrap();
    eventually_within(PATIENCE, "all are stopped", || async {
        let seen = cluster.client().instances(all()).await.ok()?.instances;
        let stopped = |one: &v1::Instance| one.status.as_ref().is_some_and(|s| s.phase() == v1::Phase::Stopped);
        seen.iter().all(stopped).then_some(())
    })
    .await;
    let mut told = watching.await.unwrap();
    look(&client, &mut told).await;
    let logs = cluster.path().join("slave-1/logs");
    let figures = judge(&folder, &logs, &instances, &expected, &told);
    println!(
        "{} starts, {} ends, {} orders, {} log lines\n\
         unwanted restarts {}, doubles {}, exit codes lost {} and wrong {}, log lines lost {} and torn {}, \
         ended without an account {}",
        figures.starts,
        figures.ends,
        figures.orders,
        figures.lines,
        figures.unwanted,
        figures.doubles,
        figures.lost_exits,
        figures.wrong_exits,
        figures.lost_lines,
        figures.wrong_lines,
        figures.missing,
    );
    let bad = figures.unwanted + figures.doubles + figures.missing + figures.lost_exits + figures.wrong_exits;
    assert_eq!((bad, figures.lost_lines + figures.wrong_lines), (0, 0), "{figures:?}");
}

async fn kill_again_and_again(cluster: &mut Cluster, shape: Shape) {
    let mut chance = Chance::new(shape.seed);
    for _ in 0..shape.kills {
        tokio::time::sleep(Duration::from_millis(chance.below(LIFE_MS))).await;
        cluster.slaves[0].kill();
        tokio::time::sleep(Duration::from_millis(chance.below(AWAY_MS))).await;
        tokio::task::block_in_place(|| cluster.slaves[0].start());
    }
}

/// Restarts and stops its own instances, one after the other, and waits for each to be done. Gives how often each should
/// have begun, and counts the orders as it goes.
async fn order(
    client: Arc<Client>,
    folder: PathBuf,
    own: Vec<String>,
    mut chance: Chance,
    done: Arc<AtomicBool>,
) -> BTreeMap<String, usize> {
    let mut expected: BTreeMap<String, usize> = own.iter().map(|one| (one.clone(), 1)).collect();
    while !done.load(Ordering::Relaxed) && !own.is_empty() {
        let one = &own[chance.below(own.len() as u64) as usize];
        let begun = expected.get_mut(one).unwrap();
        let give = |kind| {
            let (client, one) = (client.clone(), one.clone());
            async move { client.order(kind, 0, named(&[&one]), &Write::default()).await.unwrap() }
        };
        if chance.below(2) == 0 {
            give(v1::OrderKind::Restart).await;
        } else {
            give(v1::OrderKind::Stop).await;
            wait(&format!("{one} is stopped"), || is_free(&folder, one)).await;
            tokio::time::sleep(Duration::from_millis(chance.below(500))).await;
            assert_eq!(Account::read(&folder, one).starts(), *begun, "{one} was stopped and did not stay so");
            give(v1::OrderKind::Start).await;
        }
        *begun += 1;
        wait(&format!("{one} begins again"), || Account::read(&folder, one).starts() >= *begun).await;
    }
    expected
}

async fn wait(what: &str, holds: impl Fn() -> bool) {
    eventually_within(PATIENCE, what, || async { holds().then_some(()) }).await;
}

async fn until_all(folder: &Path, instances: &[String], what: &str, holds: impl Fn(&Account) -> bool) {
    let all = || instances.iter().all(|one| holds(&Account::read(folder, one)));
    eventually_within(PATIENCE, what, || async { all().then_some(()) }).await;
}

fn starts(folder: &Path, instances: &[String]) -> BTreeMap<String, usize> {
    instances.iter().map(|one| (one.clone(), Account::read(folder, one).starts())).collect()
}

/// Every exit that a manager ever told.
async fn watch(client: Arc<Client>, done: Arc<AtomicBool>) -> Told {
    let mut told = Told::new();
    while !done.load(Ordering::Relaxed) {
        look(&client, &mut told).await;
        tokio::time::sleep(LOOK).await;
    }
    told
}

async fn look(client: &Client, told: &mut Told) {
    let Ok(reply) = client.instances(all()).await else { return };
    for status in reply.instances.into_iter().filter_map(|one| one.status) {
        for exit in &status.exits {
            let key = (format!("{}:{}", status.process, status.index), exit.incarnation);
            told.insert(key, how(exit));
        }
    }
}

/// An exit in the account's words.
fn how(exit: &v1::ExitRecord) -> String {
    match exit.status.as_ref().and_then(|status| status.kind.as_ref()) {
        _ if exit.start_failure.is_some() => String::from("start failure"),
        Some(v1::exit_status::Kind::Code(code)) => format!("c{code}"),
        Some(v1::exit_status::Kind::Signal(signal)) => format!("s{}", signal.signal),
        other => format!("{other:?}"),
    }
}

fn instances(processes: &[(&str, usize)]) -> Vec<String> {
    processes.iter().flat_map(|(name, count)| (1..=*count).map(move |index| format!("{name}:{index}"))).collect()
}

fn judge(folder: &Path, logs: &Path, instances: &[String], expected: &BTreeMap<String, usize>, told: &Told) -> Figures {
    let mut figures = Figures::default();
    for one in instances {
        let account = Account::read(folder, one);
        let lines = Lines::read(&logs.join(one));
        figures.starts += account.starts();
        figures.ends += account.ends();
        figures.lines += lines.count;
        figures.wrong_lines += lines.wrong;
        figures.doubles += account.doubles + account.begun_twice();
        figures.missing += account.starts() - account.ends();
        let wanted = match expected.get(one) {
            Some(expected) => {
                figures.orders += expected - 1;
                *expected
            }
            None if one.starts_with("steady") => 1,
            // As often as it has ended.
            None => account.starts(),
        };
        figures.unwanted += account.starts().abs_diff(wanted);
        for life in &account.lives {
            let Some((end, put_out)) = &life.end else { continue };
            figures.lost_lines += put_out - lines.of(life.incarnation).min(*put_out);
            match told.get(&(one.clone(), life.incarnation)) {
                Some(told) if told == end => {}
                Some(told) => {
                    println!("{one} {}: ended with {end}, told as {told}", life.incarnation);
                    figures.wrong_exits += 1;
                }
                None => {
                    println!("{one} {}: ended with {end}, not told", life.incarnation);
                    figures.lost_exits += 1;
                }
            }
        }
    }
    figures
}
