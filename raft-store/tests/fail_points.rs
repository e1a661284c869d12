//! Every named step of the store, in six short lives: killed there, failed with EIO, failed with ENOSPC. What is left must be
//! everything that was acknowledged, or be refused by name. The points are read from the source, so a new one is walked
//! without anybody thinking of it. `make drill-storage` tries each fault at every passage of every point; here it is one passage
//! for each fault.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;
#[path = "folder/scenario.rs"]
mod scenario;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use scenario::{Outcome, SCENARIOS, Said, foreign_snapshot, judge, live};

/// Set in the process that lives: the scenario, its folder, and the snapshot it takes in.
const SCENARIO: &str = "MINDER_TEST_SCENARIO";
/// What is done at a point.
const ACTIONS: [&str; 3] = ["kill", "5", "28"];
/// Points that are no part of these lives: the identity is written once, by `init`.
const ELSEWHERE: [&str; 1] = ["identity-write"];

/// Not a test of its own: the process that the others start.
#[test]
fn scenario_process() {
    let Ok(asked) = std::env::var(SCENARIO) else { return };
    let words: Vec<&str> = asked.split('\n').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(Path::new(words[1]), words[0], Path::new(words[2])));
}

fn run(name: &str, folder: &Path, snapshot: &Path, variable: (&str, &str)) -> Said {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scenario_process", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, format!("{name}\n{}\n{}", folder.display(), snapshot.display()))
        .env(variable.0, variable.1)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    Said::read(&String::from_utf8_lossy(&output.stdout))
}

/// The names of all points, from the source.
fn points() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for name in text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(names.insert(name.to_owned()), "two points are named {name}");
            }
        }
    }
    names
}

/// How often each point is passed in a life without any fault.
fn passages(name: &str, snapshot: &Path) -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passages");
    let said = run(name, &folder.path().join("data"), snapshot, ("MINDER_STORE_PASSAGES", file.to_str().unwrap()));
    assert!(said.finished, "{name} without a fault: {said:?}");
    let mut counted = BTreeMap::new();
    for line in fs::read_to_string(&file).unwrap().lines() {
        *counted.entry(line.to_owned()).or_default() += 1;
    }
    counted
}

/// One life with one fault in it.
struct Life {
    scenario: &'static str,
    point: String,
    passage: u64,
    action: &'static str,
}

impl Life {
    async fn live(&self, snapshot: &Path) -> Result<Outcome, String> {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let asked = format!("{} {} {}", self.point, self.passage, self.action);
        let said = run(self.scenario, &data, snapshot, ("MINDER_STORE_FAIL_POINT", &asked));
        match (self.action, &said.failed) {
            ("kill", None) if !said.finished => {}
            // Old snapshots that stay cost room and nothing else.
            (_, None) if said.finished && self.point == "snapshot-prune" && self.action != "kill" => {}
            // The last rows are written at the end; where they are not, the next start applies them again.
            (_, None) if said.finished && self.point.starts_with("apply-") => {}
            (action, Some(_)) if action != "kill" => {}
            _ => return Err(format!("the fault did not end it: {said:?}")),
        }
        if said.went_on {
            return Err("something was acknowledged after a failure".into());
        }
        match judge(&data, self.scenario, &said).await? {
            Outcome::Recovered => Ok(Outcome::Recovered),
            other => Err(format!("{other:?}, but nothing is damaged here")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_each_named_step() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: there are no fail points in a build without debug assertions");
        return;
    }
    let every_passage = std::env::var_os("MINDER_EVERY_PASSAGE").is_some();
    let folder = tempfile::tempdir().unwrap();
    let snapshot = foreign_snapshot(folder.path()).await;
    let mut unseen = points();
    let count = unseen.len();
    let mut lives = Vec::new();
    for (scenario, _) in SCENARIOS {
        for (point, passed) in passages(scenario, &snapshot) {
            unseen.remove(&point);
            let faults: Vec<(u64, &str)> = match every_passage {
                true => (1..=passed).flat_map(|passage| ACTIONS.map(|action| (passage, action))).collect(),
                false => [1, passed, passed.div_ceil(2)].into_iter().zip(ACTIONS).collect(),
            };
            let life = |(passage, action)| Life { scenario, point: point.clone(), passage, action };
            lives.extend(faults.into_iter().map(life));
        }
    }
    assert_eq!(unseen, ELSEWHERE.map(String::from).into(), "points that no scenario passes");
    let total = lives.len();
    let failed = all(lives, &snapshot).await;
    assert!(failed.is_empty(), "{} of {total}:\n{}", failed.len(), failed.join("\n"));
    println!("storage faults: {count} points, {total} lives with a fault in 6 scenarios, all recovered");
}

/// Lives them two at a time; gives what went wrong.
async fn all(lives: Vec<Life>, snapshot: &Path) -> Vec<String> {
    let queue = std::sync::Arc::new(std::sync::Mutex::new(lives));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (queue, snapshot): (_, PathBuf) = (queue.clone(), snapshot.into());
        workers.push(tokio::spawn(async move {
            let mut failed = Vec::new();
            loop {
                let next = queue.lock().unwrap().pop();
                let Some(life) = next else { return failed };
                if let Err(why) = life.live(&snapshot).await {
                    let Life { scenario, point, passage, action } = life;
                    failed.push(format!("{scenario}: {point}, passage {passage}, {action}: {why}"));
                }
            }
        }));
    }
    let mut failed = Vec::new();
    for worker in workers {
        failed.extend(worker.await.unwrap());
    }
    failed
}
