//! Linearizable reads of one object at the leader.

use minder_chaos_tests::Etcd;
use minder_client::v1;
use tonic::transport::Channel;

use crate::{Both, ROUNDS, load::measure, print_line, single::VALUE_BYTES};

/// Names read.
const NAMES: u64 = 64;

pub async fn run(both: &Both, clients: &[usize]) {
    fill(both).await;
    println!("{:>8}  {:>32}  {:>32}  ratio", "readers", "minder /s (p50, p99, cpu)", "etcd /s (p50, p99, cpu)");
    for readers in clients {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (leader, members) = both.ours().await;
            ours.push(measure(*readers, &leader, &members, minder_read).await);
            if let Some((leader, members)) = both.theirs().await {
                theirs.push(measure(*readers, &leader, &members, etcd_read).await);
            }
        }
        print_line(*readers, ours, theirs);
    }
}

fn name(number: u64) -> String {
    format!("read-{number}")
}

async fn fill(both: &Both) {
    let value = "x".repeat(VALUE_BYTES);
    let spec = |number| v1::ProcessSpec {
        name: name(number),
        command: "/bin/true".into(),
        env: [("VALUE".to_owned(), value.clone())].into(),
        ..Default::default()
    };
    let request = v1::ApplyRequest { specs: (0..NAMES).map(spec).collect(), options: None };
    let channel = crate::load::connect(1, &both.ours().await.0).await.remove(0);
    v1::control_client::ControlClient::new(channel).apply(request).await.unwrap();
    let Some((leader, _)) = both.theirs().await else { return };
    let channel = crate::load::connect(1, &leader).await.remove(0);
    for number in 0..NAMES {
        Etcd::put(channel.clone(), name(number), value.clone()).await.unwrap();
    }
}

async fn minder_read(channel: Channel, random: u64) {
    let selection = v1::Selection { terms: vec![name(random % NAMES)], ..Default::default() };
    let request = v1::GetProcessesRequest { selection: Some(selection), options: None };
    let reply = v1::control_client::ControlClient::new(channel).get_processes(request).await.unwrap();
    assert_eq!(reply.into_inner().processes.len(), 1);
}

async fn etcd_read(channel: Channel, random: u64) {
    assert_eq!(Etcd::get(channel, name(random % NAMES)).await.unwrap(), 1);
}
