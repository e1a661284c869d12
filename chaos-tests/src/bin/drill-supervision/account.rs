//! What the programs themselves have written: their accounts and their logs. Nobody in Minder can make them say otherwise.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The life of one incarnation, as it wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its number.
    pub incarnation: u64,
    /// `c7` or `s10`, and how many lines it has put out; nothing when it was killed or still runs.
    pub end: Option<(String, u64)>,
}

/// Everything that one instance wrote.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Its incarnations in the order in which they began.
    pub lives: Vec<Life>,
    /// Incarnations that met another.
    pub doubles: usize,
    /// Other notes: the word and the number after it.
    pub notes: Vec<(String, u64)>,
}

impl Account {
    /// Reads an instance's account; empty when it never ran.
    pub fn read(folder: &Path, instance: &str) -> Self {
        let text = fs::read_to_string(folder.join(instance)).unwrap_or_default();
        let mut account = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let incarnation = words[1].parse().unwrap();
            match (words[0], words.get(2), words.get(3)) {
                ("start", ..) => account.lives.push(Life { incarnation, end: None }),
                ("DOUBLE", ..) => account.doubles += 1,
                ("end", Some(how), Some(lines)) => {
                    let end = Some(((*how).to_owned(), lines.parse().unwrap()));
                    let life = account.lives.iter_mut().find(|life| life.incarnation == incarnation).unwrap();
                    life.end = end;
                }
                (what, Some(number), _) => account.notes.push((what.to_owned(), number.parse().unwrap_or_default())),
                _ => panic!("{instance} has written {line}"),
            }
        }
        account
    }

    /// How often it began.
    pub fn starts(&self) -> usize {
        self.lives.len()
    }

    /// How often it wrote down its end.
    pub fn ends(&self) -> usize {
        self.lives.iter().filter(|life| life.end.is_some()).count()
    }

    /// Incarnations that began more than once, or not in order.
    pub fn begun_twice(&self) -> usize {
        self.lives.windows(2).filter(|pair| pair[0].incarnation >= pair[1].incarnation).count()
    }

    /// The last number of a note.
    pub fn last(&self, what: &str) -> Option<u64> {
        self.notes.iter().rev().find(|(noted, _)| noted == what).map(|(_, number)| *number)
    }
}

/// What an instance's log has of its numbered lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The highest number of each incarnation up to which none is missing.
    whole: BTreeMap<u64, u64>,
    /// Lines that were there.
    pub count: u64,
    /// Lines that are none, or not in their place.
    pub wrong: u64,
}

impl Lines {
    /// Reads a stream's files, oldest first.
    pub fn read(folder: &Path) -> Self {
        let mut lines = Self::default();
        for file in files(folder) {
            let bytes = fs::read(file).unwrap();
            for line in String::from_utf8_lossy(&bytes).lines() {
                lines.take(line);
            }
        }
        lines
    }

    fn take(&mut self, line: &str) {
        let numbers: Option<(u64, u64)> = line
            .split_once(' ')
            .and_then(|(incarnation, number)| Some((incarnation.parse().ok()?, number.parse().ok()?)));
        match numbers {
            Some((incarnation, number)) if self.of(incarnation) + 1 == number => {
                self.whole.insert(incarnation, number);
                self.count += 1;
            }
            _ => self.wrong += 1,
        }
    }

    /// Lines of an incarnation that are all there.
    pub fn of(&self, incarnation: u64) -> u64 {
        self.whole.get(&incarnation).copied().unwrap_or_default()
    }
}

/// Files of standard output, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix("stdout.log")?;
        if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse::<u32>().ok() }
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<(u32, PathBuf)> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
    files.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    files.into_iter().map(|(_, path)| path).collect()
}

/// Whether an instance's lock is free: nothing of it runs.
pub fn is_free(folder: &Path, instance: &str) -> bool {
    use std::os::fd::AsRawFd;
    let Ok(lock) = fs::File::options().append(true).open(folder.join(format!("{instance}.lock"))) else { return true };
    // SAFETY: flock on an open descriptor, which lets go of it at once.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}
