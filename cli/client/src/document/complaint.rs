//! What is wrong with a document, said so that it can be put right without looking anything up.

use std::fmt;

/// One complaint about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// File name, or standard input.
    pub file: String,
    /// Line in it, from 1, where known.
    pub line: Option<usize>,
    /// Path of the field, for example `processes[0].restart.delay`; empty for the whole document.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Complaint {
    pub(super) fn new(file: &str, line: Option<usize>, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, path: path.into(), message: message.into() }
    }

    /// From the words of a serde error at a path, which name the keys in their own way.
    pub(super) fn from_words(file: &str, line: Option<usize>, path: &str, words: &str) -> Self {
        if let Some(key) = quoted_after(words, "unknown field ") {
            let known: Vec<&str> = quoted(words).into_iter().skip(1).collect();
            let path = if path == key || path.ends_with(&format!(".{key}")) { path.into() } else { join(path, key) };
            return Self::new(file, line, path, unknown_key(key, &known));
        }
        if let Some(key) = quoted_after(words, "missing field ") {
            return Self::new(file, line, join(path, key), missing_key(key));
        }
        if let Some(key) = quoted_after(words, "duplicate field ") {
            return Self::new(file, line, join(path, key), "is written twice");
        }
        if let Some(value) = quoted_after(words, "unknown variant ") {
            let known: Vec<&str> = quoted(words).into_iter().skip(1).collect();
            let message = format!("{value:?} is not one of them{}", nearest_and_known(value, &known));
            return Self::new(file, line, path, message);
        }
        Self::new(file, line, path, words)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", place(&self.file, self.line, &self.path), self.message)
    }
}

/// Everything that is wrong, one line each. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaints(pub Vec<Complaint>);

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, complaint) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{complaint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}

pub(super) fn place(file: &str, line: Option<usize>, path: &str) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    if path.is_empty() { format!("{file}{line}") } else { format!("{file}{line}: {path}") }
}

pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() || path == "." { field.into() } else { format!("{path}.{field}") }
}

/// What to say of a key that nobody knows.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    if matches!(key, "secret" | "secrets") {
        return "secrets do not exist yet; keep the value in a file on the host that only the process' user can read, and \
                name that in env_files"
            .into();
    }
    format!("unknown key{}", nearest_and_known(key, known))
}

fn missing_key(key: &str) -> String {
    match key {
        "command" => "is missing; name the program to run".into(),
        "name" => "is missing; give the process a name".into(),
        _ => "is missing".into(),
    }
}

fn nearest_and_known(word: &str, known: &[&str]) -> String {
    // Below this likeness a guess confuses more than it helps.
    let likeness_min = 0.7;
    let near = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .filter(|(likeness, _)| *likeness >= likeness_min)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let guess = near.map(|(_, candidate)| format!(", did you mean {candidate:?}?")).unwrap_or_default();
    let list = if known.is_empty() { String::new() } else { format!(" (known: {})", known.join(", ")) };
    format!("{guess}{list}")
}

fn quoted_after<'a>(words: &'a str, start: &str) -> Option<&'a str> {
    words.strip_prefix(start).and_then(|rest| rest.strip_prefix('`')).and_then(|rest| rest.split('`').next())
}

fn quoted(words: &str) -> Vec<&str> {
    words.split('`').skip(1).step_by(2).collect()
}
