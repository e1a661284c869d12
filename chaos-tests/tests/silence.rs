//! Silence is not death: what is said of hosts that are not heard, by a leader with limits short enough for a test.
#![allow(clippy::unwrap_used, missing_docs)]

use futures::{StreamExt, channel::oneshot, stream};
use minder_chaos_tests::{Cluster, ClusterShape, all, eventually};
use minder_client::{Client, Write, v1};
use minder_model::{HostName, ProcessName, Spec};
use minder_proto::v1::{from_slave::Message, slave_client::SlaveClient};

const LIMITS: &str = "suspect_ms = 1000\nlost_ms = 2500\n";

async fn host(client: &Client, name: &str) -> Option<v1::Host> {
    client.hosts(vec![name.into()]).await.ok()?.hosts.into_iter().next()
}

async fn until(client: &Client, name: &str, condition: v1::HostCondition) -> v1::Host {
    eventually(&format!("{name} is {condition:?}"), || async {
        host(client, name).await.filter(|host| host.condition() == condition)
    })
    .await
}

/// Waits for an event with this text.
async fn told(client: &Client, text: &str) {
    eventually(&format!("an event says {text:?}"), || async {
        let request = v1::EventsRequest { tail: 1_000, ..Default::default() };
        let mut events = client.events(request).await.ok()?;
        while let Ok(Some(event)) = events.message().await {
            if event.text.contains(text) {
                return Some(());
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_slave_is_suspect_then_lost_and_its_processes_with_it_and_it_is_known_again() {
    let mut cluster = Cluster::start_configured(ClusterShape { managers: 3, slaves: 2 }, LIMITS).await;
    let client = cluster.client();
    let mut spec = Spec::new(ProcessName::new("sleeper").unwrap(), "/bin/sleep");
    spec.args = vec!["1000".into()];
    spec.hosts = vec![HostName::new("host-1").unwrap()];
    client.apply(&[spec], &Write::default()).await.unwrap();
    let before = cluster.wait_until_running(all(), 1).await;

    cluster.slaves[0].kill();
    until(&client, "host-1", v1::HostCondition::Suspect).await;
    until(&client, "host-1", v1::HostCondition::Lost).await;
    let lost = client.instances(all()).await.unwrap().instances;
    assert_eq!(lost[0].status.as_ref().unwrap().phase(), v1::Phase::Lost);
    assert!(lost[0].why.contains("may well be running"), "{}", lost[0].why);
    until(&client, "host-2", v1::HostCondition::Connected).await;

    cluster.slaves[0].start();
    let after = cluster.wait_until_running(all(), 1).await;
    let pid = |instances: &[v1::Instance]| instances[0].status.as_ref().unwrap().pid;
    assert_eq!(pid(&before), pid(&after), "it was never touched");
    until(&client, "host-1", v1::HostCondition::Connected).await;
    told(&client, "LOST; its processes may well be running, and nothing is done to them").await;
    told(&client, "back after a restart of the slave alone").await;
    told(&client, "heard again after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_a_follower_hears_is_not_called_lost() {
    let mut cluster = Cluster::start_configured(ClusterShape { managers: 3, slaves: 1 }, LIMITS).await;
    let client = cluster.client();
    let follower = (cluster.leader().await + 1) % 3;
    let id = {
        let statuses = cluster.statuses().await;
        let address = |status: &v1::ManagerStatus| status.member.as_ref().unwrap().client_address.clone();
        let found = statuses.iter().find(|status| address(status) == cluster.addresses[follower]).unwrap();
        found.member.as_ref().unwrap().id
    };
    // A slave whose way to this follower alone is whole: its stream stands and says whose it is.
    let channel = minder_proto::dial::endpoint(&cluster.addresses[follower]).unwrap().connect().await.unwrap();
    let presence = v1::Presence { host: "host-1".into(), ..Default::default() };
    let presence = v1::FromSlave { message: Some(Message::Presence(presence)) };
    let (cut, until_cut) = oneshot::channel::<()>();
    let said = stream::iter([presence]).chain(stream::pending().take_until(until_cut));
    let _stream = SlaveClient::new(channel).attend(said).await.unwrap();

    cluster.slaves[0].kill();
    let long_silent = eventually("it is silent for twice the lost limit", || async {
        host(&client, "host-1").await.filter(|host| host.silent_ms() > 5_000)
    })
    .await;
    assert_eq!(long_silent.condition(), v1::HostCondition::Suspect);
    assert_eq!(long_silent.note, format!("connected to manager {id}, not to the leader"));

    cut.send(()).unwrap();
    until(&client, "host-1", v1::HostCondition::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_that_hears_nobody_suspects_itself_for_a_while() {
    let limits = format!("{LIMITS}mass_silence_hold_ms = 3000\n");
    let mut cluster = Cluster::start_configured(ClusterShape { managers: 1, slaves: 3 }, &limits).await;
    let client = cluster.client();
    cluster.slaves.iter_mut().for_each(|slave| slave.kill());
    let doubtful = eventually("it is silent for longer than the lost limit", || async {
        let reply = client.hosts(vec![]).await.ok()?;
        reply.hosts.iter().all(|host| host.silent_ms() > 3_000).then_some(reply)
    })
    .await;
    assert_eq!(doubtful.note, "3 of 3 hosts are silent at once, so the leader suspects itself");
    assert!(doubtful.hosts.iter().all(|host| host.condition() == v1::HostCondition::Suspect), "{doubtful:?}");
    told(&client, "so the leader suspects itself; none of them is called LOST").await;
    until(&client, "host-3", v1::HostCondition::Lost).await;
}
