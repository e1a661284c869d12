//! More than a manager takes at once: what is too much is refused with the time after which to come again, everything is
//! done in the end, and the manager's memory stays bounded.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use futures::future::join_all;
use minder_chaos_tests::{Cluster, ClusterShape, Program};
use minder_client::{Client, Error, Write, v1};
use minder_model::{File, HostName, ProcessName, Spec};
use minder_proto::{convert::spec::spec_to_wire, v1::control_client::ControlClient};
use tonic::Code;

/// Limits as small as they may be.
const LIMITS: &str = "streams_max = 4\n[raft]\nwrites_in_flight_mib = 5\n";
/// Writes at once, each of some 800 KiB: six of them may be in flight.
const WRITES: usize = 40;
/// Rounds of as many, over each other.
const ROUNDS: usize = 4;
/// What the manager may have taken at its worst, of 128 MiB that were written and several times as much that were offered:
/// 40 MiB without any load, the table of 32 MiB with its run specs, 64 MiB kept for watches, requests that are being read.
const MEMORY_MIB_MAX: u64 = 400;

/// What one write has.
fn large(number: usize, round: usize) -> Vec<Spec> {
    (0..4).map(|part| one(&format!("large-{number}-{part}"), round)).collect()
}

fn one(name: &str, round: usize) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), "/bin/true");
    spec.hosts = vec![HostName::new("nowhere").unwrap()];
    let file = |part: usize| File {
        path: format!("part-{part}"),
        content: format!("{round:08}").repeat(50 * 1_024 / 8),
        mode: None,
        owner: None,
        group: None,
        expand: false,
    };
    spec.files = (0..4).map(file).collect();
    spec
}

/// The most memory the program ever had, in MiB.
fn peak_mib(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

fn is_refusal(status: &tonic::Status) -> bool {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.metadata().get("grpc-retry-pushback-ms").is_some(), "{status:?}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_and_done_later_in_bounded_memory() {
    let cluster = Cluster::start_configured(ClusterShape { managers: 1, slaves: 0 }, LIMITS).await;
    let channel = minder_proto::dial::endpoint(&cluster.addresses[0]).unwrap().connect().await.unwrap();
    let control = ControlClient::new(channel);

    let once = join_all((0..WRITES).map(|number| {
        let mut control = control.clone();
        let specs = large(number, 0).iter().map(spec_to_wire).collect();
        let request = v1::ApplyRequest { specs, options: None };
        async move { control.apply(request).await }
    }))
    .await;
    let refused = once.iter().filter_map(|answer| answer.as_ref().err()).filter(|status| is_refusal(status)).count();
    assert!(refused > 0 && refused < WRITES, "{refused} of {WRITES} were refused");

    let client = || Client::new(cluster.addresses.clone()).unwrap().with_deadline(Duration::from_secs(60));
    let clients: Vec<Client> = (0..WRITES).map(|_| client()).collect();
    let write = Write::default();
    for round in 1..=ROUNDS {
        let specs: Vec<Vec<Spec>> = (0..WRITES).map(|number| large(number, round)).collect();
        let patient = join_all(clients.iter().zip(&specs).map(|(client, specs)| client.apply(specs, &write))).await;
        assert!(patient.iter().all(Result::is_ok), "{:?}", patient.iter().find(|answer| answer.is_err()));
    }

    let mut open = Vec::new();
    let managers = clients[0].managers(true).await.unwrap();
    let from_now = v1::WatchRequest { after_revision: managers.position.unwrap().revision };
    for _ in 0..4 {
        open.push(control.clone().watch(from_now).await.unwrap());
    }
    let fifth = control.clone().watch(from_now).await;
    assert!(is_refusal(&fifth.unwrap_err()));
    drop(open);
    let events = v1::EventsRequest::default();
    let client = client();
    assert!(!matches!(client.events(events).await, Err(Error::Unreachable(_))), "a place was given back");

    let peak = peak_mib(&cluster.managers[0]);
    println!("{refused} of {WRITES} were refused at first, the manager took {peak} MiB at its worst");
    assert!(peak < MEMORY_MIB_MAX, "the manager took {peak} MiB at its worst");
}
