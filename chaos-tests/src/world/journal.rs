//! What was done to the fleet and what was told of it, on the clock of the programs' own accounts. The judges of the fleet
//! read this and the accounts, and nothing else.

use std::{fs::File, io::Write, path::Path, sync::Mutex};

use serde_json::json;

use crate::mono_now;

/// One thing that was done or told. Times are nanoseconds of the clock that only goes forward; instances are named as their
/// accounts are, `process:index@host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// From this moment it may be started: an order to that effect was about to be sent.
    MayStart {
        /// Which one.
        instance: String,
        /// When.
        at: u64,
    },
    /// Managers said that it is stopped, and nothing was ordered since.
    ToldStopped {
        /// Which one.
        instance: String,
        /// When the answer was there.
        at: u64,
    },
    /// Somebody's `kill -9` of the program itself.
    Killed {
        /// Which one.
        instance: String,
        /// When.
        at: u64,
    },
    /// Its machine was switched off and on.
    Reboot {
        /// The host.
        host: String,
        /// When.
        at: u64,
    },
    /// It was said to be stopped, and then found alive.
    FoundAlive {
        /// Which one.
        instance: String,
        /// When.
        at: u64,
        /// Not itself, but something that it has started.
        twig: bool,
    },
    /// It is shown as this.
    Shown {
        /// Which one.
        instance: String,
        /// When the question was asked.
        called: u64,
        /// When the answer was there.
        returned: u64,
        /// Whether it is shown as running; else it is shown as down.
        up: bool,
        /// The incarnation shown.
        incarnation: u64,
        /// How old it is said to be.
        age_ms: u64,
    },
    /// A host was said to hold this revision.
    Holds {
        /// The host.
        host: String,
        /// When the question was asked.
        called: u64,
        /// When the answer was there.
        returned: u64,
        /// What it has taken over; 0 when nobody knows.
        revision: u64,
    },
}

/// All notes, in memory for the judges and in a file for people.
pub struct Journal {
    notes: Mutex<Vec<Note>>,
    file: Mutex<File>,
}

impl Journal {
    /// A new one, kept in this file.
    pub fn new(path: &Path) -> Self {
        Self { notes: Mutex::default(), file: Mutex::new(File::create(path).unwrap()) }
    }

    /// Adds a note.
    pub fn note(&self, note: Note) {
        let line = format!("{}\n", line(&note));
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
        self.notes.lock().unwrap().push(note);
    }

    /// All of them so far.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap().clone()
    }

    /// An order that may start this is about to be sent.
    pub fn may_start(&self, instance: &str) {
        self.note(Note::MayStart { instance: instance.into(), at: now() });
    }

    /// Managers have just said that this is stopped.
    pub fn told_stopped(&self, instance: &str) {
        self.note(Note::ToldStopped { instance: instance.into(), at: now() });
    }

    /// This is about to be killed.
    pub fn killed(&self, instance: &str) {
        self.note(Note::Killed { instance: instance.into(), at: now() });
    }

    /// This machine is about to be switched off.
    pub fn reboot(&self, host: &str) {
        self.note(Note::Reboot { host: host.into(), at: now() });
    }
}

/// Now, as accounts say it.
pub fn now() -> u64 {
    mono_now().as_nanos() as u64
}

fn line(note: &Note) -> serde_json::Value {
    match note {
        Note::MayStart { instance, at } => json!({"at": at, "may_start": instance}),
        Note::ToldStopped { instance, at } => json!({"at": at, "told_stopped": instance}),
        Note::Killed { instance, at } => json!({"at": at, "killed": instance}),
        Note::Reboot { host, at } => json!({"at": at, "reboot": host}),
        Note::FoundAlive { instance, at, twig } => json!({"at": at, "found_alive": instance, "twig": twig}),
        Note::Shown { instance, called, returned, up, incarnation, age_ms } => json!({
            "at": called, "returned": returned, "shown": instance, "up": up, "incarnation": incarnation,
            "age_ms": age_ms,
        }),
        Note::Holds { host, called, returned, revision } => {
            json!({"at": called, "returned": returned, "host": host, "holds": revision})
        }
    }
}
