//! The targets.

mod apply;
mod documents;
mod forms;
mod frames;
mod shim;
mod slave;
mod text;
mod wire;

/// One reader, or several that belong together.
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// Whose bytes these are.
    pub about: &'static str,
    /// Its words, a file in `dictionaries/`.
    pub dictionary: Option<&'static str>,
    /// Takes any bytes; panics when a promise about them is broken.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, about: &'static str, run: fn(&[u8])) -> Target {
    Target { name, about, dictionary: None, run }
}

const fn worded(name: &'static str, about: &'static str, run: fn(&[u8]), dictionary: &'static str) -> Target {
    Target { name, about, dictionary: Some(dictionary), run }
}

/// Every target.
pub const TARGETS: [Target; 17] = [
    worded("yaml", "users' documents in YAML", documents::yaml, "documents"),
    worded("json", "users' documents in JSON", documents::json, "documents"),
    worded("toml", "users' documents in TOML", documents::toml, "documents"),
    worded("note", "the first design note's JSON, with comments", documents::note, "documents"),
    worded("look", "documents whose form only their look tells", documents::look, "documents"),
    worded("text", "durations, sizes, signals, limits, names, selections", text::run, "text"),
    target("wire-spec", "specs from clients", wire::spec),
    target("wire-status", "statuses and machines from slaves", wire::status),
    target("forms", "log entries, votes, marks and everything else that is stored", forms::run),
    target("rows", "rows of the table", frames::rows),
    target("snapshot", "snapshots from disk and from peers", frames::snapshot),
    target("backup", "backups", frames::backup),
    target("apply", "sequences of proposals", apply::run),
    target("shim", "what a slave and its shims say to each other", shim::protocol),
    target("bundle", "launch files, records, outputs and environment files", shim::bundle),
    target("journal", "the slave's journal", slave::journal),
    target("ledger", "lines of the slave's ledger", slave::ledger),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Splits off the first byte, which chooses among readers; no bytes choose the first one.
fn choice(input: &[u8], among: usize) -> (usize, &[u8]) {
    match input.split_first() {
        Some((first, rest)) => (usize::from(*first) % among, rest),
        None => (0, input),
    }
}

/// Cuts an input into pieces, each behind its length in two bytes; the last one is what is left.
fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        pieces.push(piece);
        input = after;
    }
    pieces
}
