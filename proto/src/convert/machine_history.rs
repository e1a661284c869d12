//! Samples of a machine's last hour.

use minder_model::MachineSample;

use crate::v1;

/// A sample on the wire.
pub fn machine_sample_to_wire(sample: &MachineSample) -> v1::MachineSample {
    v1::MachineSample {
        at_s: sample.at_s,
        cpu_permille: sample.cpu_permille.into(),
        load_permille: sample.load_permille,
        memory_used_mib: sample.memory_used_mib,
        disk_used_permille: sample.disk_used_permille.into(),
        received_kib_s: sample.received_kib_s,
        sent_kib_s: sample.sent_kib_s,
    }
}

/// A sample from the wire; parts of a whole that are above it are the whole.
pub fn machine_sample_from_wire(wire: &v1::MachineSample) -> MachineSample {
    MachineSample {
        at_s: wire.at_s,
        memory_used_mib: wire.memory_used_mib,
        received_kib_s: wire.received_kib_s,
        sent_kib_s: wire.sent_kib_s,
        load_permille: wire.load_permille,
        cpu_permille: wire.cpu_permille.min(1_000) as u16,
        disk_used_permille: wire.disk_used_permille.min(1_000) as u16,
    }
}
