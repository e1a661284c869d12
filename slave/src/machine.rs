//! The machine, by sysinfo, on a small budget: facts once, use every few seconds, and of processes only those that are
//! managed here, read from their own files instead of a walk over all of them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use minder_model::{
    Disk, HistoryStep, InstanceKey, MachineFacts, MachineHistory, MachineUsage, NetworkInterface, ProcessUsage,
};
use minder_shim::identity;
use sysinfo::{DiskRefreshKind, Disks, Networks, System};
use tokio::sync::watch;

use crate::{
    clock::{mono_ms, wall_ms},
    host::View,
    os::{cgroup::Cgroups, stray::StrayPlace},
};

/// File systems shown: a machine with more has most of them for its containers.
const DISKS_MAX: usize = 64;
/// Interfaces shown.
const NETWORKS_MAX: usize = 64;
/// Groups of strays shown: more of them are of a folder that belongs to another slave.
const STRAYS_MAX: usize = 100;
/// Kernel file systems and images that never fill.
const PRETENDED: [&str; 10] =
    ["tmpfs", "devtmpfs", "overlay", "squashfs", "proc", "sysfs", "cgroup", "cgroup2", "ramfs", "nsfs"];

/// What rarely changes.
pub fn facts(cgroups: &Cgroups) -> MachineFacts {
    let mut system = System::new().ok();
    if let Some(system) = &mut system {
        system.refresh_memory();
        system.refresh_cpu_all();
    }
    let cpus = system.as_ref().map(|system| system.cpus()).unwrap_or_default();
    MachineFacts {
        cores: cpus.len() as u32,
        cpu_model: cpus.first().map(|cpu| cpu.brand().to_owned()).unwrap_or_default(),
        memory_bytes: system.as_ref().map_or(0, System::total_memory),
        swap_bytes: system.as_ref().map_or(0, System::total_swap),
        os: System::long_os_version().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        architecture: System::cpu_arch(),
        slave_version: env!("CARGO_PKG_VERSION").into(),
        supervision: cgroups.level(),
        limits: cgroups.limits().to_vec(),
        supervision_notes: cgroups.notes().to_vec(),
    }
}

/// Samples the machine for ever.
pub async fn sample(
    view: watch::Receiver<Arc<View>>,
    interval: Duration,
    samples: watch::Sender<Option<MachineUsage>>,
    history: Arc<Mutex<MachineHistory>>,
) {
    let mut sampler = Sampler::new();
    let mut step = HistoryStep::default();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = view.borrow().clone();
        // Reading a few files of /proc takes a millisecond or ten; other tasks move to another thread meanwhile.
        let usage = tokio::task::block_in_place(|| sampler.sample(&seen));
        if let Some(sample) = step.add(&usage) {
            history.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
        samples.send_replace(Some(usage));
    }
}

struct Sampler {
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
    sampled_mono_ms: u64,
    /// CPU ticks of each main process at the last sample.
    cpu_ticks: BTreeMap<InstanceKey, (u32, u64)>,
    ticks_per_second: u64,
    page_bytes: u64,
}

impl Sampler {
    fn new() -> Self {
        Self {
            system: System::new().ok(),
            disks: Disks::new().ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            sampled_mono_ms: mono_ms(),
            cpu_ticks: BTreeMap::new(),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    fn sample(&mut self, seen: &View) -> MachineUsage {
        let elapsed_ms = (mono_ms() - self.sampled_mono_ms).max(1);
        self.sampled_mono_ms = mono_ms();
        let mut usage = MachineUsage {
            sampled_at_ms: wall_ms(),
            uptime_seconds: System::uptime().unwrap_or_default(),
            ..MachineUsage::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            usage.cpu_permille = (system.global_cpu_usage() * 10.0) as u32;
            usage.memory_used_bytes = system.used_memory();
            usage.memory_available_bytes = system.available_memory();
            usage.swap_used_bytes = system.used_swap();
        }
        if let Ok(load) = System::load_average() {
            usage.load_permille = [load.one, load.five, load.fifteen].map(|load| (load * 1_000.0) as u32).to_vec();
        }
        usage.disks = self.disks();
        usage.networks = self.networks(elapsed_ms);
        usage.processes = self.processes(seen, elapsed_ms);
        usage.strays = seen.strays.iter().filter_map(StrayPlace::look).take(STRAYS_MAX).collect();
        usage
    }

    fn disks(&mut self) -> Vec<Disk> {
        let Some(disks) = &mut self.disks else { return Vec::new() };
        disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let real = disks.iter().filter(|disk| {
            let kind = disk.file_system().to_string_lossy();
            !PRETENDED.contains(&kind.as_ref())
        });
        real.take(DISKS_MAX)
            .map(|disk| {
                let inodes = rustix::fs::statvfs(disk.mount_point()).ok();
                Disk {
                    mount_point: disk.mount_point().to_string_lossy().into_owned(),
                    device: disk.name().to_string_lossy().into_owned(),
                    file_system: disk.file_system().to_string_lossy().into_owned(),
                    total_bytes: disk.total_space(),
                    available_bytes: disk.available_space(),
                    total_inodes: inodes.as_ref().map_or(0, |inodes| inodes.f_files),
                    free_inodes: inodes.as_ref().map_or(0, |inodes| inodes.f_ffree),
                }
            })
            .collect()
    }

    fn networks(&mut self, elapsed_ms: u64) -> Vec<NetworkInterface> {
        let Some(networks) = &mut self.networks else { return Vec::new() };
        networks.refresh(true);
        let mut found: Vec<NetworkInterface> = networks
            .iter()
            .map(|(name, data)| NetworkInterface {
                name: name.to_string_lossy().into_owned(),
                received_bytes_per_second: data.received() * 1_000 / elapsed_ms,
                sent_bytes_per_second: data.transmitted() * 1_000 / elapsed_ms,
                received_bytes: data.total_received(),
                sent_bytes: data.total_transmitted(),
            })
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found.truncate(NETWORKS_MAX);
        found
    }

    fn processes(&mut self, seen: &View, elapsed_ms: u64) -> Vec<ProcessUsage> {
        let mut ticks_now = BTreeMap::new();
        let mut found = Vec::new();
        for (key, status) in seen.statuses.iter().filter(|(_, status)| status.pid > 0) {
            let Some(stat) = identity::stat(status.pid) else { continue };
            let before = self.cpu_ticks.get(key).filter(|(pid, _)| *pid == status.pid).map(|(_, ticks)| *ticks);
            let used = stat.cpu_ticks.saturating_sub(before.unwrap_or(stat.cpu_ticks));
            ticks_now.insert(key.clone(), (status.pid, stat.cpu_ticks));
            found.push(ProcessUsage {
                instance: key.to_string(),
                cpu_millicores: (used * 1_000 * 1_000 / self.ticks_per_second / elapsed_ms) as u32,
                resident_bytes: stat.resident_pages * self.page_bytes,
                threads: stat.threads,
                open_files: open_files(status.pid),
            });
        }
        self.cpu_ticks = ticks_now;
        found
    }
}

/// Linux 6.2 says how many there are as the folder's size; before that they are counted.
fn open_files(pid: u32) -> u32 {
    let folder = Path::new("/proc").join(pid.to_string()).join("fd");
    match std::fs::metadata(&folder).map(|metadata| metadata.len()) {
        Ok(count @ 1..) => count.min(u64::from(u32::MAX)) as u32,
        Ok(0) => std::fs::read_dir(folder).map_or(0, |entries| entries.count() as u32),
        Err(_) => 0,
    }
}
