//! What the programs wrote.

use std::{collections::BTreeMap, fs, path::Path};

/// One instance's account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Incarnations and when they began, in the order of the file.
    pub starts: Vec<(u64, u64)>,
    /// Incarnations that ended by themselves or when they were told to, when, and how: `c0` is an exit code, `s9` a signal.
    pub ends: Vec<(u64, u64, String)>,
    /// Incarnations that met another one, and when.
    pub doubles: Vec<(u64, u64)>,
    /// Incarnations that met a twig of an earlier one, and when.
    pub orphans: Vec<(u64, u64)>,
}

impl Account {
    pub(super) fn parse(text: &str) -> Self {
        let mut account = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "start" => account.starts.push((number(1), number(2))),
                "DOUBLE" => account.doubles.push((number(1), number(2))),
                "ORPHAN" => account.orphans.push((number(1), number(2))),
                "end" => account.ends.push((number(1), number(2), words[3].to_owned())),
                other => panic!("an account says {other}"),
            }
        }
        account
    }

    /// When this incarnation ended by its own account.
    pub(super) fn end_of(&self, incarnation: u64) -> Option<u64> {
        self.ends.iter().find(|(one, ..)| *one == incarnation).map(|(_, at, _)| *at)
    }
}

/// Reads all accounts of a folder, by instance.
pub fn read_accounts(folder: &Path) -> BTreeMap<String, Account> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let accounts = names.filter(|name| !name.ends_with(".lock") && !name.ends_with(".twigs"));
    accounts.map(|name| (name.clone(), Account::parse(&fs::read_to_string(folder.join(&name)).unwrap()))).collect()
}
