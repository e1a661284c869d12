//! The record, version 1: what a shim knows of its incarnation, in a file that outlives both. Two checksummed slots are
//! written in turn into a file whose blocks were made beforehand, so that neither a torn write nor a full disk costs
//! an exit code.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::bytes::{Malformed, Reader, Writer, checksum};

/// Size of the file: its blocks exist before the program starts.
pub const FILE_BYTES: u64 = 4_096;
const SLOT_BYTES: usize = 512;
const VERSION: u16 = 1;

/// How far an incarnation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// The program has not been started yet.
    #[default]
    Preparing,
    /// It runs; a daemon's launcher counts as running.
    Running,
    /// It could not be started.
    StartFailed,
    /// Its main process has ended, others of its tree are being ended.
    Draining,
    /// Everything has ended.
    Ended,
}

/// How the main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It has not.
    #[default]
    None,
    /// With this code.
    Code(u8),
    /// By this signal; `true` with a core dump.
    Signal(u8, bool),
}

/// Which step of a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// None did.
    #[default]
    None,
    /// Making pipes or the process.
    Fork,
    /// Entering the cgroup.
    Cgroup,
    /// Setting a resource limit.
    Limit,
    /// Setting the niceness.
    Nice,
    /// Setting the out-of-memory score.
    OomScore,
    /// Finding or becoming the group.
    Group,
    /// Finding or becoming the user.
    User,
    /// Entering the working directory.
    WorkingDirectory,
    /// Opening the log files.
    Logs,
    /// Executing the program.
    Exec,
    /// Waiting for the daemon to appear.
    Daemon,
    /// Reading files of variables.
    EnvFiles,
    /// Giving up new privileges.
    NoNewPrivileges,
}

const STEPS: [(Step, &str); 14] = [
    (Step::None, ""),
    (Step::Fork, "fork"),
    (Step::Cgroup, "cgroup"),
    (Step::Limit, "limits"),
    (Step::Nice, "nice"),
    (Step::OomScore, "oom_score_adjust"),
    (Step::Group, "group"),
    (Step::User, "user"),
    (Step::WorkingDirectory, "working_directory"),
    (Step::Logs, "logs"),
    (Step::Exec, "exec"),
    (Step::Daemon, "daemon"),
    (Step::EnvFiles, "env_files"),
    (Step::NoNewPrivileges, "no_new_privileges"),
];

impl Step {
    /// The step's number in the record.
    pub fn number(self) -> u8 {
        STEPS.iter().position(|(step, _)| *step == self).unwrap_or_default() as u8
    }

    /// A step by number; an unknown one is none.
    pub fn from_number(number: u8) -> Self {
        STEPS.get(usize::from(number)).map_or(Self::None, |(step, _)| *step)
    }

    /// The word users see.
    pub fn word(self) -> &'static str {
        STEPS.iter().find(|(step, _)| *step == self).map_or("", |(_, word)| word)
    }
}

/// What a shim knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Counts up with each change.
    pub sequence: u64,
    /// How far the incarnation is.
    pub stage: Stage,
    /// The kernel's boot id when it began.
    pub boot_id: String,
    /// The shim itself.
    pub shim_pid: u32,
    /// Its start, in clock ticks since boot: with the pid and the boot id this is an identity.
    pub shim_ticks: u64,
    /// The main process; 0 before there is one.
    pub main_pid: u32,
    /// Its start in clock ticks since boot.
    pub main_ticks: u64,
    /// Wall clock at the start, milliseconds since 1970.
    pub started_at_ms: u64,
    /// Wall clock at the end of the main process.
    pub ended_at_ms: u64,
    /// How the main process ended.
    pub end: End,
    /// User and system time of everything that was reaped, in milliseconds.
    pub cpu_ms: u64,
    /// Peak resident memory of the main process, in bytes.
    pub memory_peak_bytes: u64,
    /// Which step of the start failed.
    pub failed_step: Step,
    /// And the kernel's reason.
    pub failed_errno: i32,
    /// Bytes of output that were dropped.
    pub dropped_bytes: u64,
}

impl Record {
    /// The record in its frozen form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(VERSION);
        out.u64(self.sequence);
        out.u8(match self.stage {
            Stage::Preparing => 0,
            Stage::Running => 1,
            Stage::StartFailed => 2,
            Stage::Draining => 3,
            Stage::Ended => 4,
        });
        out.text(self.boot_id.as_bytes());
        out.u32(self.shim_pid);
        out.u64(self.shim_ticks);
        out.u32(self.main_pid);
        out.u64(self.main_ticks);
        out.u64(self.started_at_ms);
        out.u64(self.ended_at_ms);
        let (kind, value, core) = match self.end {
            End::None => (0, 0, false),
            End::Code(code) => (1, code, false),
            End::Signal(signal, core) => (2, signal, core),
        };
        out.u8(kind);
        out.u8(value);
        out.u8(u8::from(core));
        out.u64(self.cpu_ms);
        out.u64(self.memory_peak_bytes);
        out.u8(self.failed_step.number());
        out.i32(self.failed_errno);
        out.u64(self.dropped_bytes);
        out.0
    }

    /// Reads the frozen form; any bytes give a record or a word on what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        if input.u16()? != VERSION {
            return Err(Malformed("a record of another version"));
        }
        let sequence = input.u64()?;
        let stage = match input.u8()? {
            0 => Stage::Preparing,
            1 => Stage::Running,
            2 => Stage::StartFailed,
            3 => Stage::Draining,
            4 => Stage::Ended,
            _ => return Err(Malformed("unknown stage")),
        };
        let boot_id = String::from_utf8_lossy(input.text()?).into_owned();
        let (shim_pid, shim_ticks) = (input.u32()?, input.u64()?);
        let (main_pid, main_ticks) = (input.u32()?, input.u64()?);
        let (started_at_ms, ended_at_ms) = (input.u64()?, input.u64()?);
        let end = match (input.u8()?, input.u8()?, input.u8()?) {
            (0, _, _) => End::None,
            (1, code, _) => End::Code(code),
            (2, signal, core) => End::Signal(signal, core != 0),
            _ => return Err(Malformed("unknown end")),
        };
        let record = Self {
            sequence,
            stage,
            boot_id,
            shim_pid,
            shim_ticks,
            main_pid,
            main_ticks,
            started_at_ms,
            ended_at_ms,
            end,
            cpu_ms: input.u64()?,
            memory_peak_bytes: input.u64()?,
            failed_step: Step::from_number(input.u8()?),
            failed_errno: input.i32()?,
            dropped_bytes: input.u64()?,
        };
        input.end()?;
        Ok(record)
    }

    /// Writes the record into its slot. The file must have its blocks already.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let content = self.encode();
        let mut slot = [0; SLOT_BYTES];
        slot[8..10].copy_from_slice(&(content.len() as u16).to_le_bytes());
        slot[10..10 + content.len()].copy_from_slice(&content);
        let sum = checksum(&slot[8..]);
        slot[..8].copy_from_slice(&sum.to_le_bytes());
        file.write_all_at(&slot, (self.sequence % 2) * SLOT_BYTES as u64)
    }
}

/// The newest whole record in a file; `None` when the shim never got to write one.
pub fn read(path: &Path) -> io::Result<Option<Record>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(2 * SLOT_BYTES as u64).read_to_end(&mut content)?;
    Ok(newest(&content))
}

/// The newest whole record in a file's content; any bytes give one or none.
pub fn newest(content: &[u8]) -> Option<Record> {
    content.chunks_exact(SLOT_BYTES).take(2).filter_map(read_slot).max_by_key(|record| record.sequence)
}

fn read_slot(slot: &[u8]) -> Option<Record> {
    let (sum, rest) = slot.split_first_chunk::<8>()?;
    let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
    let content = rest.get(2..2 + length)?;
    (checksum(rest) == u64::from_le_bytes(*sum)).then(|| Record::decode(content).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(sequence: u64) -> Record {
        Record {
            sequence,
            stage: Stage::Ended,
            boot_id: "5e9e3b5a-6d3c-4f6e-9a53-a1a5f7f0c001".into(),
            end: End::Signal(11, true),
            failed_step: Step::Exec,
            failed_errno: -1,
            cpu_ms: u64::MAX,
            ..Record::default()
        }
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        assert_eq!(read(&path).unwrap(), None);
        let file = File::create_new(&path).unwrap();
        file.set_len(FILE_BYTES).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        for sequence in 1..=4 {
            record(sequence).write(&file).unwrap();
            assert_eq!(read(&path).unwrap(), Some(record(sequence)));
        }
        file.write_all_at(&[9; 4], 20).unwrap();
        assert_eq!(read(&path).unwrap(), Some(record(3)));
    }

    #[test]
    fn steps_keep_their_numbers() {
        for (number, (step, _)) in STEPS.iter().enumerate() {
            assert_eq!((usize::from(step.number()), Step::from_number(number as u8)), (number, *step));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Record::decode(&bytes);
        }
    }
}
