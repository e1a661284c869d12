//! What managers and slaves show to Prometheus is what deploy/metrics.md says, and the alert rules ask for nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
};

use minder_chaos_tests::{Cluster, ClusterShape, Program, eventually, repository};

/// Type, labels and meaning of each metric by name.
type Metrics = BTreeMap<String, (String, String, String)>;

/// The table below this heading.
fn documented(program: &str) -> Metrics {
    let text = std::fs::read_to_string(repository().join("deploy/metrics.md")).unwrap();
    let section = text.split(&format!("## {program}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| minder_") || line.starts_with("| process_"));
    rows.map(|row| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells[1].clone(), (cells[2].clone(), cells[3].clone(), cells[4].clone()))
    })
    .collect()
}

/// The same of a page, and the page.
fn shown(program: &Program) -> (Metrics, String) {
    let log = program.log();
    let line = log.lines().rev().find(|line| line.contains("metrics are served")).unwrap().to_owned();
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().replace('"', "");
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    let mut metrics = Metrics::new();
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                metrics.entry(name.into()).or_default().2 = help.trim_end_matches('.').into();
            }
            ["#", "TYPE", name, kind] => metrics.entry(name.into()).or_default().0 = kind.into(),
            ["#", "EOF"] => {}
            _ => {
                let sample = line.split(' ').next().unwrap();
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let label = labels.split('=').next().unwrap();
                metrics.get_mut(name.trim_end_matches("_total")).unwrap().1 = label.into();
            }
        }
    }
    (metrics, page.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_table() {
    let mut cluster =
        Cluster::start_configured(ClusterShape { managers: 1, slaves: 1 }, "metrics_listen = '127.0.0.1:0'\n").await;
    cluster.slaves[0].kill();
    cluster.slaves[0].add_arg("--metrics-listen", "127.0.0.1:0");
    cluster.slaves[0].start();
    cluster.wait_for_sessions(1).await;
    let slave = eventually("the slave shows its session", || async {
        Some(shown(&cluster.slaves[0])).filter(|(_, page)| page.contains("minder_slave_has_session 1.0"))
    })
    .await;
    let manager = shown(&cluster.managers[0]);
    assert_eq!(documented("minder-manager"), manager.0);
    assert_eq!(documented("minder-slave"), slave.0);
    for sample in [
        "minder_manager_is_leader 1.0",
        "minder_manager_hosts{condition=\"connected\"} 1.0",
        "minder_manager_slave_sessions 1.0",
        "minder_manager_slave_streams 1.0",
        "minder_manager_instances{phase=\"fatal\"} 0.0",
    ] {
        assert!(manager.1.contains(sample), "{sample}: {}", manager.1);
    }
    let known: BTreeSet<String> = manager.0.into_keys().chain(slave.0.into_keys()).collect();
    let rules = std::fs::read_to_string(repository().join("deploy/prometheus/alerts.yml")).unwrap();
    let asked = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for name in asked.filter(|word| word.starts_with("minder_")) {
        assert!(known.contains(name.trim_end_matches("_total")), "an alert asks for {name}, which nobody shows");
    }
}
