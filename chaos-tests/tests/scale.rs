//! A fleet of pretended slaves, small enough for every change: what a change costs is counted, not timed.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_chaos_tests::{Cluster, ClusterShape, Crowd, CrowdShape, CrowdTally, crowd_host, eventually};
use minder_client::{Client, Write, v1};
use minder_model::{ProcessName, Spec};

const HOSTS: usize = 300;
const GROUPS: usize = 3;
/// Processes of each group of hosts, one instance on each.
const PER_HOST: usize = 20;
/// Instances of one process on one host.
const MANY: u32 = 1_000;
/// What one changed process may cost on the wire to a host with [`MANY`] instances, its run spec included, and back.
const CHANGE_BYTES_MAX: u64 = 2_048;

fn spec(name: &str, value: usize) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), "/bin/true");
    spec.args = vec![value.to_string()];
    spec
}

fn on_host(name: &str, value: usize, host: usize) -> Spec {
    let mut spec = spec(name, value);
    spec.hosts = vec![crowd_host(host)];
    spec
}

fn labelled(name: &str, value: usize, key: &str, label: &str) -> Spec {
    let mut spec = spec(name, value);
    spec.selector = [(key.to_owned(), label.to_owned())].into();
    spec
}

async fn write(client: &Client, specs: &[Spec]) -> u64 {
    client.apply(specs, &Write::default()).await.unwrap().position.unwrap().revision
}

async fn until_taken(crowd: &Crowd, revision: u64, hosts: usize) {
    eventually("every host that is meant took the change", || async {
        (crowd.took(revision).count >= hosts as u64).then_some(())
    })
    .await;
}

/// What a write cost that touches one host, which is said to hold so many instances.
async fn change(crowd: &Crowd, client: &Client, spec: Spec) -> CrowdTally {
    let before = crowd.tally();
    let revision = write(client, &[spec]).await;
    until_taken(crowd, revision, 1).await;
    // What else it may have woken comes no later than the answer to a write after it.
    let barrier = write(client, &[on_host("barrier", revision as usize, HOSTS)]).await;
    until_taken(crowd, barrier, 1).await;
    let after = crowd.tally();
    assert_eq!(crowd.took(revision).count, 1);
    CrowdTally {
        assignments: after.assignments - before.assignments - 1,
        wholes: after.wholes - before.wholes,
        assignment_bytes: after.assignment_bytes - before.assignment_bytes,
        report_bytes: after.report_bytes - before.report_bytes,
        ..after
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_whom_it_concerns_and_a_new_leader_writes_and_resends_nothing() {
    let mut cluster = Cluster::start(ClusterShape { managers: 3, slaves: 0 }).await;
    let client = cluster.client();
    let shape = CrowdShape { first: 1, hosts: HOSTS, groups: GROUPS, managers: cluster.addresses.clone() };
    let crowd = Crowd::start(&shape);
    eventually("every slave has a session and a stream to every manager", || async {
        let tally = crowd.tally();
        (tally.sessions == HOSTS as u64 && tally.streams == 3 * HOSTS as u64).then_some(())
    })
    .await;

    let specs: Vec<Spec> = (0..GROUPS * PER_HOST)
        .map(|number| labelled(&format!("p-{number}"), 0, "group", &(number % GROUPS).to_string()))
        .collect();
    let revision = write(&client, &specs).await;
    until_taken(&crowd, revision, HOSTS).await;
    assert_eq!(crowd.tally().instances, HOSTS * PER_HOST);

    let mut many = on_host("many", 0, 1);
    many.instances = MANY;
    let filled = write(&client, &[many, on_host("probe", 0, 1), on_host("barrier", 0, HOSTS)]).await;
    until_taken(&crowd, filled, 2).await;
    let cost = change(&crowd, &client, on_host("probe", 1, 1)).await;
    assert_eq!((cost.assignments, cost.wholes), (1, 0));
    let bytes = cost.assignment_bytes + cost.report_bytes;
    assert!(bytes < 2 * CHANGE_BYTES_MAX, "{bytes} bytes for two changes");

    let before = crowd.tally();
    let everywhere = write(&client, &[labelled("everywhere", 0, "all", "yes")]).await;
    until_taken(&crowd, everywhere, HOSTS).await;
    let after = crowd.tally();
    assert_eq!((after.assignments - before.assignments, after.wholes), (HOSTS as u64, before.wholes));

    a_new_leader_costs_nothing(&mut cluster, &crowd).await;
}

async fn a_new_leader_costs_nothing(cluster: &mut Cluster, crowd: &Crowd) {
    cluster.wait_until_in_step().await;
    let status = |statuses: &[v1::ManagerStatus]| {
        statuses.iter().find(|status| status.role == "leader").map(|status| (status.term, status.applied_index))
    };
    let (term_before, applied_before) = status(&cluster.statuses().await).unwrap();
    let before = crowd.tally();
    let killed = cluster.leader().await;
    cluster.managers[killed].kill();
    let (term, applied) = eventually("every slave has a session with the next leader", || async {
        let found = status(&cluster.statuses().await).filter(|(term, _)| *term > term_before)?;
        (crowd.welcomed(found.0).count == HOSTS as u64).then_some(found)
    })
    .await;
    let all_reported = || async { (crowd.tally().reports >= before.reports + HOSTS as u64).then_some(()) };
    eventually("every slave has told the next leader everything", all_reported).await;
    assert!(applied - applied_before <= term - term_before, "a leader's first entry, which is empty, and nothing else");
    let after = crowd.tally();
    assert_eq!((after.assignments, after.refused), (before.assignments, 0), "nothing was resent");
    // What the next change costs shows that the new leader knows what each of them holds. One whose session is so young
    // that a quorum's word is under way for it gets all of it, so others are tried, each of which was sent nothing before.
    let client = cluster.client_without(killed);
    let mut costs = Vec::new();
    for host in 2..HOSTS {
        let cost = change(crowd, &client, on_host(&format!("probe-{host}"), 0, host)).await;
        costs.push((cost.assignments, cost.wholes));
        if costs.last() == Some(&(1, 0)) {
            return;
        }
    }
    panic!("nobody was told only what has changed: {costs:?}");
}
