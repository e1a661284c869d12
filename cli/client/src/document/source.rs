//! Where documents come from: files, directories, standard input. Bounded before anything is parsed.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use minder_model::{Bytes, DOCUMENT_BYTES_MAX};

use super::{Complaint, STANDARD_INPUT};

/// What counts as a document in a directory.
const ENDINGS: [&str; 4] = ["yaml", "yml", "json", "toml"];

/// A whole document as text.
pub(super) struct Text {
    pub name: String,
    pub text: String,
}

/// The file, or each document of the directory, by name.
pub(super) fn files(path: &Path) -> Result<Vec<Text>, Complaint> {
    let name = path.display().to_string();
    let kind = fs::metadata(path).map_err(|error| unreadable(&name, &error))?;
    if !kind.is_dir() {
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        return Ok(vec![bounded(&name, file)?]);
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(&name, &error))? {
        let entry = entry.map_err(|error| unreadable(&name, &error))?.path();
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = entry.extension().and_then(|ending| ending.to_str());
        if !hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending)) && entry.is_file() {
            found.push(entry);
        }
    }
    if found.is_empty() {
        let endings = ENDINGS.map(|ending| format!(".{ending}")).join(", ");
        return Err(Complaint::new(
            &name,
            None,
            "",
            format!("this directory holds no document (looked for {endings})"),
        ));
    }
    found.sort();
    found
        .iter()
        .map(|path| {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            bounded(&name, file)
        })
        .collect()
}

pub(super) fn standard_input() -> Result<Text, Complaint> {
    bounded(STANDARD_INPUT, io::stdin().lock())
}

fn bounded(name: &str, from: impl Read) -> Result<Text, Complaint> {
    let mut bytes = Vec::new();
    from.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let limit = Bytes(DOCUMENT_BYTES_MAX as u64);
        return Err(Complaint::new(
            name,
            None,
            "",
            format!("is larger than {limit}, the limit of one document; split it"),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        let message = format!("is not UTF-8 text: byte {byte:#04x} at offset {at}; save the file as UTF-8");
        Complaint::new(name, Some(line), "", message)
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(Text { name: name.into(), text })
}

fn unreadable(name: &str, error: &io::Error) -> Complaint {
    Complaint::new(name, None, "", format!("cannot be read: {error}"))
}
