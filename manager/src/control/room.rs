//! The floor of free disk space: writes are refused while the log can still be appended, for later it is too late to say
//! so.

use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Status;

/// What a write in flight may come to cost: its entry in the write-ahead file, again in the file that this is turned
/// into, and its rows.
const COST_OF_A_BYTE: u64 = 3;

/// How much may still be written.
pub struct Room {
    floor_bytes: u64,
    in_flight_bytes: AtomicU64,
}

impl Room {
    /// Refuses what would leave less than this.
    pub fn new(floor_bytes: u64) -> Self {
        Self { floor_bytes, in_flight_bytes: AtomicU64::new(0) }
    }

    /// Free bytes below which writes are refused.
    pub fn floor_bytes(&self) -> u64 {
        self.floor_bytes
    }

    /// Takes room for a write of so many bytes while `free_bytes` are free; it is given back when the write is answered.
    /// What is in flight counts as written, for it will be before anybody sees it on the disk.
    pub fn take(&self, free_bytes: u64, bytes: u64) -> Result<Taken<'_>, Status> {
        let in_flight = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let taken = Taken { room: self, bytes };
        if free_bytes.saturating_sub(in_flight.saturating_mul(COST_OF_A_BYTE)) >= self.floor_bytes {
            return Ok(taken);
        }
        Err(Status::failed_precondition(format!(
            "the leader's disk has {} MiB left, below the floor of {} MiB for writes (disk_floor_mib); nothing was \
             changed. Free some space there: writes go on by themselves then",
            free_bytes >> 20,
            self.floor_bytes >> 20
        )))
    }
}

/// Room that a write in flight holds.
pub struct Taken<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_counts_as_written() {
        let room = Room::new(1_000);
        let first = room.take(1_600, 100).unwrap();
        let second = room.take(1_600, 100).unwrap();
        let refused = room.take(1_600, 1).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        drop((first, second));
        assert!(room.take(1_600, 200).is_ok());
        assert!(room.take(999, 0).is_err());
    }
}
