//! One object a write.

use minder_chaos_tests::Etcd;
use minder_client::v1;
use tonic::transport::Channel;

use crate::{Both, ROUNDS, load::measure, print_line};

/// Names written to, and bytes of each value.
const NAMES: u64 = 10_000;
pub const VALUE_BYTES: usize = 256;

pub async fn run(both: &Both, clients: &[usize]) {
    println!("{:>8}  {:>32}  {:>32}  ratio", "writers", "minder /s (p50, p99, cpu)", "etcd /s (p50, p99, cpu)");
    for writers in clients {
        let (mut ours, mut theirs, mut syncs) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..ROUNDS {
            let (leader, members) = both.ours().await;
            ours.push(measure(*writers, &leader, &members, minder_write).await);
            syncs = both.syncs().await;
            if let Some((leader, members)) = both.theirs().await {
                theirs.push(measure(*writers, &leader, &members, etcd_write).await);
            }
        }
        print_line(*writers, ours, theirs);
        println!("{:>8}  of it a sync of each manager's log: {syncs} (p50 of the latest)", "");
    }
}

/// A process spec with a value that is another one each time.
async fn minder_write(channel: Channel, random: u64) {
    let value = format!("{random:0>width$}", width = VALUE_BYTES);
    let spec = v1::ProcessSpec {
        name: format!("bench-{}", random % NAMES),
        command: "/bin/true".into(),
        env: [("VALUE".to_owned(), value)].into(),
        ..Default::default()
    };
    let options = v1::WriteOptions { request_id: uuid::Uuid::now_v7().to_string(), ..Default::default() };
    let request = v1::ApplyRequest { specs: vec![spec], options: Some(options) };
    v1::control_client::ControlClient::new(channel).apply(request).await.unwrap();
}

async fn etcd_write(channel: Channel, random: u64) {
    let (key, value) = (format!("bench-{}", random % NAMES), format!("{random:0>width$}", width = VALUE_BYTES));
    Etcd::put(channel, key, value).await.unwrap();
}
