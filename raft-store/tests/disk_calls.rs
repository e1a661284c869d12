//! Every call with which the store and RocksDB below it write to the disk, sync it or name files, in six short lives: the
//! process is killed at it, or it fails with EIO or ENOSPC. What is left must be everything that was acknowledged, or be
//! refused by name; a kill alone must always be recovered from. `make drill-storage` tries every call; here it is some.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "folder/mod.rs"]
mod common;
#[path = "folder/scenario.rs"]
mod scenario;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use scenario::{Outcome, SCENARIOS, Said, foreign_snapshot, judge, live};

/// Set in the process that lives: the scenario, its folder, and the snapshot it takes in.
const SCENARIO: &str = "MINDER_TEST_SCENARIO";
const FAULTS: [&str; 3] = ["kill", "5", "28"];
/// Of the calls one in so many is tried, unless every one is asked for.
const STRIDE: u64 = 16;

/// Not a test of its own: the process that the others start.
#[test]
fn scenario_process() {
    let Ok(asked) = std::env::var(SCENARIO) else { return };
    let words: Vec<&str> = asked.split('\n').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(Path::new(words[1]), words[0], Path::new(words[2])));
}

/// What every life needs.
struct Bench {
    folder: tempfile::TempDir,
    snapshot: PathBuf,
}

impl Bench {
    /// Compiles what is loaded before libc. Whoever compiles Rust has a C compiler: it links.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/folder/fault.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([folder.path().join("fault.so").as_os_str(), source.as_ref()])
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(compiled.success(), "{source} does not compile");
        let snapshot = foreign_snapshot(folder.path()).await;
        Self { folder, snapshot }
    }

    fn run(&self, name: &str, data: &Path, variables: &[(&str, String)]) -> Said {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "scenario_process", "--nocapture", "--test-threads=1"])
            .env(SCENARIO, format!("{name}\n{}\n{}", data.display(), self.snapshot.display()))
            .env("LD_PRELOAD", self.folder.path().join("fault.so"))
            .env("MINDER_FAULT_FOLDER", data)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        Said::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// How many calls a life without any fault makes.
    fn calls(&self, name: &str) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let counted = folder.path().join("counted");
        let variables = [("MINDER_FAULT_COUNT", counted.display().to_string())];
        let said = self.run(name, &folder.path().join("data"), &variables);
        assert!(said.finished, "{name} without a fault: {said:?}");
        fs::metadata(&counted).unwrap().len()
    }

    async fn live(&self, name: &str, call: u64, fault: &str) -> Result<Outcome, String> {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let variables = [("MINDER_FAULT_AT", call.to_string()), ("MINDER_FAULT", fault.to_owned())];
        let said = self.run(name, &data, &variables);
        if said.went_on {
            return Err(format!("something was acknowledged after a failure: {said:?}"));
        }
        match judge(&data, name, &said).await? {
            Outcome::Recovered => Ok(Outcome::Recovered),
            other if fault == "kill" => Err(format!("{other:?} after a kill alone: {said:?}")),
            other => Ok(other),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_each_call_that_reaches_the_disk() {
    let every = std::env::var_os("MINDER_EVERY_PASSAGE").is_some();
    let bench = Arc::new(Bench::new().await);
    let mut lives = Vec::new();
    for (name, _) in SCENARIOS {
        let calls = bench.calls(name);
        assert!(calls > 30, "{name} makes {calls} calls");
        let (first, stride) = if every { (1, 1) } else { (calls % STRIDE + 1, STRIDE) };
        for call in (first..=calls).step_by(stride as usize) {
            lives.extend(FAULTS.map(|fault| (name, call, fault)));
        }
    }
    let total = lives.len();
    let queue = Arc::new(Mutex::new(lives));
    let workers: Vec<_> = (0..2).map(|_| tokio::spawn(work(bench.clone(), queue.clone()))).collect();
    let (mut outcomes, mut failed) = (BTreeMap::<Outcome, u64>::new(), Vec::new());
    for worker in workers {
        for (life, outcome) in worker.await.unwrap() {
            match outcome {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(why) => failed.push(format!("{life:?}: {why}")),
            }
        }
    }
    assert!(failed.is_empty(), "{} of {total}:\n{}", failed.len(), failed.join("\n"));
    println!("disk calls: {total} lives with a fault in 6 scenarios: {outcomes:?}, 0 opened short");
}

type Life = (&'static str, u64, &'static str);

async fn work(bench: Arc<Bench>, queue: Arc<Mutex<Vec<Life>>>) -> Vec<(Life, Result<Outcome, String>)> {
    let mut lived = Vec::new();
    loop {
        let next = queue.lock().unwrap().pop();
        let Some(life) = next else { return lived };
        let outcome = bench.live(life.0, life.1, life.2).await;
        lived.push((life, outcome));
    }
}
