//! The last hour of a machine: samples of one size in a ring of one size, kept by its slave and by the leader.

use alloc::collections::VecDeque;

use crate::machine::MachineUsage;

/// Samples kept: an hour of them, so 5,760 bytes a host.
pub const HISTORY_SAMPLES: usize = 240;
/// Seconds that one sample stands for.
pub const HISTORY_STEP_S: u32 = 15;

/// What a machine did in one step of time: 24 bytes, because a leader has 240 of them for every host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineSample {
    /// Begin of the step by the host's wall clock, seconds since 1970; a multiple of [`HISTORY_STEP_S`].
    pub at_s: u32,
    /// Memory in use at the end of the step, in MiB.
    pub memory_used_mib: u32,
    /// KiB received per second, over all interfaces but the loopback.
    pub received_kib_s: u32,
    /// KiB sent per second, likewise.
    pub sent_kib_s: u32,
    /// Load average over one minute, in thousandths.
    pub load_permille: u32,
    /// CPU in use, in thousandths of all cores together.
    pub cpu_permille: u16,
    /// How full the fullest file system is, in thousandths.
    pub disk_used_permille: u16,
}

/// The ring, in order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineHistory {
    samples: VecDeque<MachineSample>,
}

impl Default for MachineHistory {
    fn default() -> Self {
        Self { samples: VecDeque::with_capacity(HISTORY_SAMPLES) }
    }
}

impl MachineHistory {
    /// Takes in a sample. One that is not newer than the newest is known already, or from a clock that was set back.
    pub fn push(&mut self, sample: MachineSample) {
        if self.newest_s().is_some_and(|newest| sample.at_s <= newest) {
            return;
        }
        if self.samples.len() == HISTORY_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The samples of steps that began after `after_s`, oldest first.
    pub fn after(&self, after_s: u32) -> impl Iterator<Item = &MachineSample> {
        self.samples.iter().filter(move |sample| sample.at_s > after_s)
    }

    /// Begin of the newest step.
    pub fn newest_s(&self) -> Option<u32> {
        self.samples.back().map(|sample| sample.at_s)
    }
}

/// Makes samples of what the machine is found to use every few seconds.
#[derive(Debug, Clone, Default)]
pub struct HistoryStep {
    step: u64,
    count: u64,
    cpu_permille: u64,
    load_permille: u64,
    received_bytes_s: u64,
    sent_bytes_s: u64,
    memory_used_bytes: u64,
    disk_used_permille: u64,
}

impl HistoryStep {
    /// Takes in one look at the machine. Gives the sample of the step before when this look begins another one.
    pub fn add(&mut self, usage: &MachineUsage) -> Option<MachineSample> {
        let step = usage.sampled_at_ms / 1_000 / u64::from(HISTORY_STEP_S);
        let done = (self.step != step).then(|| core::mem::take(self).sample()).flatten();
        self.step = step;
        self.count += 1;
        self.cpu_permille += u64::from(usage.cpu_permille);
        self.load_permille += u64::from(usage.load_permille.first().copied().unwrap_or_default());
        let outside = || usage.networks.iter().filter(|network| network.name != "lo");
        self.received_bytes_s += outside().map(|network| network.received_bytes_per_second).sum::<u64>();
        self.sent_bytes_s += outside().map(|network| network.sent_bytes_per_second).sum::<u64>();
        self.memory_used_bytes = usage.memory_used_bytes;
        let full = usage.disks.iter().filter(|disk| disk.total_bytes > 0);
        let full = full.map(|disk| disk.total_bytes.saturating_sub(disk.available_bytes) * 1_000 / disk.total_bytes);
        self.disk_used_permille = full.max().unwrap_or_default();
        done
    }

    /// The means of what flows, and the last of what stands.
    fn sample(self) -> Option<MachineSample> {
        let mean = |sum: u64| sum.checked_div(self.count);
        Some(MachineSample {
            at_s: narrow(self.step * u64::from(HISTORY_STEP_S)),
            memory_used_mib: narrow(self.memory_used_bytes >> 20),
            received_kib_s: narrow(mean(self.received_bytes_s)? >> 10),
            sent_kib_s: narrow(mean(self.sent_bytes_s)? >> 10),
            load_permille: narrow(mean(self.load_permille)?),
            cpu_permille: mean(self.cpu_permille)?.min(1_000) as u16,
            disk_used_permille: self.disk_used_permille.min(1_000) as u16,
        })
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use super::*;
    use crate::machine::{Disk, NetworkInterface};

    fn look(at_s: u64, cpu: u32) -> MachineUsage {
        let network = |name: &str, bytes| NetworkInterface {
            name: String::from(name),
            received_bytes_per_second: bytes,
            ..NetworkInterface::default()
        };
        MachineUsage {
            sampled_at_ms: at_s * 1_000,
            cpu_permille: cpu,
            load_permille: vec![u32::try_from(at_s).unwrap(), 1, 1],
            memory_used_bytes: at_s << 20,
            disks: vec![
                Disk { total_bytes: 100, available_bytes: 75, ..Disk::default() },
                Disk { total_bytes: 0, ..Disk::default() },
                Disk { total_bytes: 100, available_bytes: 90, ..Disk::default() },
            ],
            networks: vec![network("lo", 1 << 30), network("eth0", 2_048), network("eth1", 1_024)],
            ..MachineUsage::default()
        }
    }

    #[test]
    fn a_step_is_told_when_the_next_begins() {
        let mut step = HistoryStep::default();
        assert_eq!(step.add(&look(30, 100)), None);
        assert_eq!(step.add(&look(35, 200)), None);
        assert_eq!(step.add(&look(44, 600)), None);
        let expected = MachineSample {
            at_s: 30,
            memory_used_mib: 44,
            received_kib_s: 3,
            sent_kib_s: 0,
            load_permille: 36,
            cpu_permille: 300,
            disk_used_permille: 250,
        };
        assert_eq!(step.add(&look(45, 0)), Some(expected));
        assert_eq!(step.add(&look(105, 0)).unwrap().at_s, 45);
    }

    #[test]
    fn a_ring_costs_what_it_says_and_takes_each_step_once() {
        assert_eq!(size_of::<MachineSample>() * HISTORY_SAMPLES, 5_760);
        let mut history = MachineHistory::default();
        let capacity = history.samples.capacity();
        for at_s in (0..1_000).map(|step| step * HISTORY_STEP_S) {
            history.push(MachineSample { at_s, ..MachineSample::default() });
            history.push(MachineSample { at_s, cpu_permille: 7, ..MachineSample::default() });
        }
        assert_eq!((history.samples.len(), history.samples.capacity()), (HISTORY_SAMPLES, capacity));
        assert_eq!(history.newest_s(), Some(999 * HISTORY_STEP_S));
        assert_eq!(history.after(0).next().unwrap().at_s, 760 * HISTORY_STEP_S);
        assert_eq!(history.after(997 * HISTORY_STEP_S).count(), 2);
    }
}
