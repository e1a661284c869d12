//! What a slave shows to Prometheus. Everything is looked up when it is asked for; deploy/metrics.md lists it, and a test
//! compares the two. What the machine itself shows is for node_exporter, but for the little that Minder samples anyway.

use minder_model::{MachineFacts, MachineUsage, Phase, SupervisionLevel};
use minder_proto::metrics::{Metric, process};

use crate::{clock::wall_ms, host::View, link::Link};

/// Everything of this slave.
pub fn page(link: &Link) -> Vec<Metric> {
    let view = link.host.view.borrow().clone();
    let mut page = slave(link, &view);
    page.extend(instances(&view));
    page.extend(machine(link.machine.borrow().as_ref(), &link.facts));
    page.extend(process());
    page
}

fn slave(link: &Link, view: &View) -> Vec<Metric> {
    let supervision = match link.facts.supervision {
        SupervisionLevel::Cgroup => "cgroup",
        SupervisionLevel::Session => "session",
    };
    vec![
        Metric::by(
            "minder_slave_info",
            "1, with the version of the program",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1_u64)],
        ),
        Metric::by(
            "minder_slave_supervision",
            "1, with how firmly processes are held",
            "level",
            [(supervision, 1_u64)],
        ),
        Metric::gauge("minder_slave_has_session", "1 while a leader has its session", link.in_session()),
        Metric::gauge("minder_slave_manager_streams", "Managers it has a stream to", link.streams()),
        Metric::gauge("minder_slave_managers", "Managers it knows of", link.managers_known()),
        Metric::gauge("minder_slave_assignment_revision", "Revision of the assignment it acts on", view.revision.0),
    ]
}

fn instances(view: &View) -> Vec<Metric> {
    let count = |phase: Phase| view.statuses.values().filter(|status| status.phase == phase).count();
    let phases = Phase::ALL.into_iter().map(|phase| (phase.to_string().to_lowercase(), count(phase)));
    let restarts: u64 = view.statuses.values().map(|status| u64::from(status.restarts)).sum();
    vec![
        Metric::by("minder_slave_instances", "Instances by phase", "phase", phases),
        Metric::gauge("minder_slave_instance_restarts", "Restarts by policy of all instances that are here", restarts),
    ]
}

fn machine(usage: Option<&MachineUsage>, facts: &MachineFacts) -> Vec<Metric> {
    let nothing = MachineUsage::default();
    let usage = usage.unwrap_or(&nothing);
    let age_ms = if usage.sampled_at_ms == 0 { 0 } else { wall_ms().saturating_sub(usage.sampled_at_ms) };
    vec![
        Metric::gauge(
            "minder_slave_machine_cpu_ratio",
            "Use of all processors, 0 to 1",
            f64::from(usage.cpu_permille) / 1_000.0,
        ),
        Metric::gauge("minder_slave_machine_memory_bytes", "Memory of the machine", facts.memory_bytes),
        Metric::gauge(
            "minder_slave_machine_memory_available_bytes",
            "Memory that could be given to programs",
            usage.memory_available_bytes,
        ),
        Metric::gauge("minder_slave_machine_sample_age_seconds", "Age of these figures", age_ms as f64 / 1_000.0),
    ]
}
