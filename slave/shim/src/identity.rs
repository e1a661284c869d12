//! Who a process is: a pid alone is nobody, for pids are used again. Boot id, pid and start ticks together are.

use std::{
    fs::{self, File},
    io::Read,
    sync::OnceLock,
};

/// The kernel's boot id; another one means that every process of before is gone.
pub fn boot_id() -> String {
    // Read once: a process that sees another one does not exist.
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned());
    BOOT_ID.get_or_init(|| read().unwrap_or_default()).clone()
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter; `Z` is dead and not reaped yet.
    pub state: u8,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its start, in clock ticks since boot.
    pub start_ticks: u64,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u32,
    /// Resident pages.
    pub resident_pages: u64,
}

/// Reads a process's line; `None` when there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    let mut line = [0; LINE_BYTES_MAX];
    // One read: the kernel makes the whole line anew for each.
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line)).ok()?;
    parse(&line[..read])
}

/// Fifty numbers of at most twenty digits, and a name of at most 64 bytes.
const LINE_BYTES_MAX: usize = 1_280;

/// The name may hold anything, so fields are counted from behind its last bracket (proc(5)).
fn parse(line: &[u8]) -> Option<Stat> {
    let name_end = line.windows(2).rposition(|two| two == b") ")?;
    let fields: Vec<&str> = std::str::from_utf8(&line[name_end + 2..]).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: number(1)? as u32,
        group: number(2)? as u32,
        cpu_ticks: number(11)? + number(12)?,
        threads: number(17)? as u32,
        start_ticks: number(19)?,
        resident_pages: number(21)?,
    })
}

/// Whether this very process, and not another one under its pid, is alive.
pub fn is_alive(pid: u32, start_ticks: u64) -> bool {
    pid > 0 && stat(pid).is_some_and(|stat| stat.start_ticks == start_ticks && !matches!(stat.state, b'Z' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_confuse() {
        let line = b"42 (a ) b\xff) S 7 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 5 0 12345 1000 77 18446744073709551615";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_ticks), (b'S', 7, 12345));
        assert_eq!((stat.cpu_ticks, stat.threads, stat.resident_pages), (7, 5, 77));
    }

    #[test]
    fn this_process_is_alive_and_an_older_one_under_its_pid_is_not() {
        let own = std::process::id();
        let ticks = stat(own).unwrap().start_ticks;
        assert!(is_alive(own, ticks));
        assert!(!is_alive(own, ticks + 1));
        assert!(!boot_id().is_empty());
    }
}
