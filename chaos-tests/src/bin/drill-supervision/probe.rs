//! Another process of the same host, started again and again while something else goes on.

use std::{path::PathBuf, time::Duration};

use minder_chaos_tests::{Cluster, bin, eventually_within, mono_now, named};
use minder_client::{Client, Write, v1};

use crate::{PATIENCE, spec};

/// It is started this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The process and the way to order it about.
pub struct Probe {
    client: Client,
    account: PathBuf,
}

impl Probe {
    /// Has it started once, so that only its starts are measured.
    pub async fn begin(cluster: &Cluster) -> Self {
        let account = cluster.path().join("probe");
        let mut probe = spec("probe", "", cluster.path(), 0);
        probe.command = bin("bench-child").to_str().unwrap().into();
        probe.args = vec![account.to_str().unwrap().into()];
        let client = cluster.client();
        client.apply(&[probe], &Write::default()).await.unwrap();
        cluster.wait_until_running(named(&["probe"]), 1).await;
        Self { client, account }
    }

    /// Stops and starts it for this long; gives the times from the order to its first act.
    pub async fn starts_for(&self, duration: Duration) -> Vec<Duration> {
        let end = mono_now() + duration;
        let mut took = Vec::new();
        while mono_now() < end {
            self.order(v1::OrderKind::Stop).await;
            eventually_within(PATIENCE, "the probe is stopped", || async {
                let seen = self.client.instances(named(&["probe"])).await.ok()?.instances;
                seen.iter().all(|one| one.owed.is_empty()).then_some(())
            })
            .await;
            let count = self.text().lines().count();
            let ordered = mono_now();
            self.order(v1::OrderKind::Start).await;
            let begun = eventually_within(PATIENCE, "the probe begins", || async {
                let text = self.text();
                let line = text.lines().nth(count)?;
                line.split(' ').next()?.parse().ok()
            })
            .await;
            took.push(Duration::from_nanos(begun).saturating_sub(ordered));
            tokio::time::sleep(INTERVAL.saturating_sub(mono_now() - ordered)).await;
        }
        took
    }

    async fn order(&self, kind: v1::OrderKind) {
        self.client.order(kind, 0, named(&["probe"]), &Write::default()).await.unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.account).unwrap_or_default()
    }
}
