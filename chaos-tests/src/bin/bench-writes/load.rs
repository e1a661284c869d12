//! Load on a cluster and what it costs: so many clients, each with one call at a time, for some seconds.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tonic::transport::{Channel, Endpoint};

const WARM_UP: Duration = Duration::from_millis(700);
const MEASURED: Duration = Duration::from_secs(3);
/// `USER_HZ`, which is 100 on every Linux that matters.
const TICKS_PER_SECOND: u64 = 100;
/// One connection carries this many clients.
const CLIENTS_PER_CONNECTION: usize = 10;

/// What one round gave.
pub struct Round {
    /// Calls answered in a second.
    pub per_second: f64,
    /// Half of the calls took no longer.
    pub p50: Duration,
    /// One in a hundred took longer.
    pub p99: Duration,
    /// CPU time of all three members together for one call.
    pub cpu: Duration,
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { per_second, p50, p99, cpu } = self;
        f.pad(&format!("{per_second:.0} ({p50:.2?}, {p99:.1?}, {cpu:.0?})"))
    }
}

/// The round in the middle.
pub fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    let middle = rounds.len() / 2;
    (!rounds.is_empty()).then(|| rounds.swap_remove(middle))
}

/// Connections to one member, each with its ten clients.
pub async fn connect(clients: usize, address: &str) -> Vec<Channel> {
    join_all((0..clients.div_ceil(CLIENTS_PER_CONNECTION)).map(|_| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
        async move { endpoint.connect().await.unwrap() }
    }))
    .await
}

/// Has so many clients call, each with a random number, one call after the other.
pub async fn measure<F: Future<Output = ()> + Send>(
    clients: usize,
    address: &str,
    members: &[u32],
    call: impl Fn(Channel, u64) -> F + Clone + Send + Sync + 'static,
) -> Round {
    let connections = connect(clients, address).await;
    let cpu_before = cpu_time(members);
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURED;
    let tasks = (0..clients).map(|client| {
        let (channel, call) = (connections[client / CLIENTS_PER_CONNECTION].clone(), call.clone());
        tokio::spawn(async move {
            let (mut took, mut calls) = (Vec::new(), 0);
            let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(client as u64 + 1);
            loop {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let sent = Instant::now();
                call(channel.clone(), random >> 20).await;
                calls += 1;
                let now = Instant::now();
                if now >= end {
                    return (took, calls);
                }
                if sent >= begin {
                    took.push(now - sent);
                }
            }
        })
    });
    let (took, calls): (Vec<_>, Vec<u32>) = join_all(tasks).await.into_iter().map(Result::unwrap).unzip();
    let cpu = (cpu_time(members) - cpu_before) / calls.iter().sum();
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    Round { per_second: took.len() as f64 / MEASURED.as_secs_f64(), p50: at(50), p99: at(99), cpu }
}

/// What these processes have used, all together.
pub fn cpu_time(pids: &[u32]) -> Duration {
    let ticks = pids.iter().map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // After the name, which may hold anything: state, ten other fields, utime, stime.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS_PER_SECOND)
}
