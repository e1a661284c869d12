//! What clients saw: every call with when it was made, when it returned, and what became of it. It is what the oracles
//! judge, and it is kept as JSON lines so that anybody can read it or feed it to another checker.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who called. A client makes one call at a time.
    pub client: u64,
    /// When it called, in microseconds after the history began, on one clock for all clients.
    pub call_us: u64,
    /// When it was answered, or gave up waiting.
    pub return_us: u64,
    /// What it asked.
    pub op: Op,
    /// What became of it.
    pub outcome: Outcome,
    /// The revision in the answer: a write's own; of a read or a refusal, the one it stands for. 0 without an answer.
    pub revision: u64,
    /// The leader's term in the answer. 0 without an answer.
    pub term: u64,
    /// What the answer says of processes: all that a read shows, the one that a write wrote.
    pub rows: Vec<Row>,
}

/// What is asked. Each process is placed on one host, and every value is written once in a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Declares a process whose spec holds this value.
    Put {
        /// Its name.
        process: String,
        /// What tells this write from all others.
        value: String,
        /// The revision it must be at; 0 means that it must not exist.
        expect: Option<u64>,
    },
    /// Forgets a process.
    Delete {
        /// Its name.
        process: String,
        /// The revision it must be at.
        expect: Option<u64>,
    },
    /// Starts or stops a process.
    Order {
        /// Its name.
        process: String,
        /// Started, or else stopped.
        running: bool,
    },
    /// Shows processes.
    Read {
        /// One of them, or all.
        process: Option<String>,
        /// However old.
        stale: bool,
    },
}

impl Op {
    /// The one process it is about.
    pub fn process(&self) -> Option<&str> {
        match self {
            Self::Put { process, .. } | Self::Delete { process, .. } | Self::Order { process, .. } => Some(process),
            Self::Read { process, .. } => process.as_deref(),
        }
    }

    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It was decided and refused, for the process is at another revision than expected.
    Conflict,
    /// It was decided and refused, for there is no such process.
    Absent,
    /// It was never proposed and will never happen.
    Failed,
    /// It happened, may still happen, or never will.
    Unknown,
}

/// A process as an answer or a watch shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub process: String,
    /// What the write that declared it wrote.
    pub value: String,
    /// Counts the specs since it was created, from 1.
    pub generation: u64,
    /// The write that last changed it.
    pub revision: u64,
    /// Whether it is to run.
    pub running: bool,
}

/// Writes records as JSON lines.
pub fn save<T: Serialize>(path: &Path, records: &[T]) -> io::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads what [`save`] wrote.
pub fn load<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<Vec<T>> {
    let lines = BufReader::new(fs::File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let row = Row { process: "a".into(), value: "v".into(), generation: 1, revision: 7, running: true };
        let records = [
            Record {
                client: 1,
                call_us: 5,
                return_us: 9,
                op: Op::Put { process: "a".into(), value: "v".into(), expect: Some(0) },
                outcome: Outcome::Ok,
                revision: 7,
                term: 2,
                rows: vec![row],
            },
            Record {
                client: 2,
                call_us: 6,
                return_us: 8,
                op: Op::Read { process: None, stale: true },
                outcome: Outcome::Unknown,
                revision: 0,
                term: 0,
                rows: vec![],
            },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        save(&path, &records).unwrap();
        assert_eq!(load::<Record>(&path).unwrap(), records);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
