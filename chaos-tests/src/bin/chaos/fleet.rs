//! What is declared to run.

use std::collections::BTreeMap;

use minder_chaos_tests::{World, bin, promise::Policy};
use minder_client::Write;
use minder_model::{Bytes, HostName, Millis, ProcessName, Spec};

/// Of one log file of the process that says much, and how many of them.
const LOG_BYTES: u64 = 65_536;
const LOG_FILES: u32 = 3;
/// Both streams, the files in use and one more each, of which the last line may be over.
pub const LOGS_BYTES_MAX: u64 = 2 * (LOG_FILES as u64 + 2) * (LOG_BYTES + 4_096);
/// The process that says much.
pub const CHATTY: &str = "chatty";
/// What operators order about begins with this.
pub const TOY: &str = "toy";

/// A process of these programs.
pub fn spec(world: &World, name: &str, kind: &str, hosts: &[&str]) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), bin("chaos-child").to_str().unwrap());
    spec.args = vec![kind.into(), world.accounts().to_str().unwrap().into(), "7".into()];
    spec.hosts = hosts.iter().map(|host| HostName::new(*host).unwrap()).collect();
    spec.start.healthy_after = Millis(100);
    // They hear TERM within 50 ms, on a machine that is not so busy that they do not run at all. One that is killed at the end
    // of its grace cannot say when it ended, and would be taken for alive until the next one begins.
    spec.stop.grace = Millis(3_000);
    spec.restart.delay = Millis(500);
    spec.restart.delay_max = Millis(500);
    spec.restart.jitter_percent = 0;
    spec.restart.limit = 0;
    spec
}

/// The toys: process, kind, host.
pub fn toys(world: &World) -> Vec<(String, &'static str, String)> {
    let of = |host: &String| {
        let number = host.trim_start_matches("host-");
        [("tree", "a"), ("steady", "b")].map(|(kind, letter)| (format!("{TOY}-{letter}{number}"), kind, host.clone()))
    };
    world.hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>().iter().flat_map(of).collect()
}

/// Declares all of it, in one write. The times from which it may run are noted first.
pub async fn declare(world: &World) -> Result<(), String> {
    let hosts: Vec<&str> = world.hosts.iter().map(|host| host.name.as_str()).collect();
    let mut specs: Vec<Spec> = [("steady", 3), ("tree", 1), ("crashing", 2), ("looping", 1), (CHATTY, 1)]
        .into_iter()
        .map(|(kind, instances)| Spec { instances, ..spec(world, kind, kind, &hosts) })
        .collect();
    for spec in &mut specs {
        match spec.name.as_str() {
            "looping" => {
                spec.restart.limit = 3;
                spec.restart.window = None;
                spec.restart.slow_retry = None;
            }
            CHATTY => {
                spec.logs.max_size = Bytes(LOG_BYTES);
                spec.logs.max_files = LOG_FILES;
            }
            _ => {}
        }
    }
    for (name, kind, host) in toys(world) {
        specs.push(spec(world, &name, kind, &[&host]));
    }
    for spec in &specs {
        for host in &spec.hosts {
            (1..=spec.instances).for_each(|index| world.journal.may_start(&format!("{}:{index}@{host}", spec.name)));
        }
    }
    world.client_from(0).apply(&specs, &Write::default()).await.map(drop).map_err(|error| error.to_string())
}

/// What the judge of restarts needs to know of it.
pub fn policies() -> BTreeMap<String, Policy> {
    let crashing = Policy { delay_ms: 500, limit: 0 };
    let looping = Policy { delay_ms: 500, limit: 3 };
    [("crashing".to_owned(), crashing), ("looping".to_owned(), looping)].into()
}
