//! `drill-supervision`: what should never happen to supervised processes, tried hard, and judged by what the processes
//! themselves write. Its settings are variables of the environment: `PARTS` (kills, crash-loop, hostile), `KILLS`,
//! `PROCESSES`, `LOOPING`, `DEAF`, `SECONDS` and `SEED`. The same seed draws the same kills and crashes; what the machine makes of them varies.
#![allow(clippy::unwrap_used)]

mod account;
mod cost;
mod crash_loop;
mod hostile;
mod kills;
mod probe;

use std::{path::Path, time::Duration};

use minder_chaos_tests::bin;
use minder_model::{HostName, Millis, ProcessName, Spec};

/// Nothing takes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Slaves that are killed.
    pub kills: usize,
    /// Processes below them, or in a crash loop.
    pub processes: usize,
    /// Length of a crash loop.
    pub seconds: u64,
    /// What fixes chance.
    pub seed: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let parts = std::env::var("PARTS").unwrap_or_else(|_| "kills".into());
    let seed = number("SEED", 1);
    for part in parts.split([' ', ',']).filter(|part| !part.is_empty()) {
        match part {
            "kills" => {
                let (kills, processes) = (number("KILLS", 200) as usize, number("PROCESSES", 500) as usize);
                kills::run(Shape { kills, processes, seconds: 0, seed }).await;
            }
            "crash-loop" => {
                let (processes, seconds) = (number("LOOPING", 1_000) as usize, number("SECONDS", 60));
                crash_loop::run(Shape { kills: 0, processes, seconds, seed }).await;
            }
            "hostile" => {
                let (processes, seconds) = (number("DEAF", 100) as usize, number("SECONDS", 10));
                hostile::run(Shape { kills: 0, processes, seconds, seed }).await;
            }
            other => panic!("there is no part {other}"),
        }
    }
}

/// A child of this kind on the drill's host.
pub fn spec(name: &str, kind: &str, folder: &Path, seed: u64) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), bin("drill-child").to_str().unwrap());
    spec.args = vec![kind.into(), folder.to_str().unwrap().into(), seed.to_string()];
    spec.hosts = vec![HostName::new("host-1").unwrap()];
    spec.start.healthy_after = Millis(100);
    spec.restart.jitter_percent = 0;
    spec
}
