//! Inputs to begin with, and those that once broke something: files in `corpus/TARGET/`, few and small.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::targets::Target;

/// The folder of a target's inputs in the repository.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The file of words that a target's inputs are made of, if it has one: a quoted word on each line.
pub fn dictionary(target: &Target) -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("dictionaries").join(target.dictionary?))
}

/// A target's inputs with their names, by name. One without a folder has none yet.
pub fn read(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    let entries = match fs::read_dir(folder(target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(inputs),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push((name, fs::read(path)?));
    }
    inputs.sort();
    Ok(inputs)
}

/// A target's words.
pub fn words(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let Some(path) = dictionary(target) else { return Ok(Vec::new()) };
    let text = fs::read_to_string(path)?;
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    Ok(quoted.map(unescaped).collect())
}

/// As libFuzzer reads them: `\\`, `\"` and `\xAB` are escapes, and there are no others.
fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let hex =
            after.strip_prefix('x').and_then(|hex| Some((u8::from_str_radix(hex.get(..2)?, 16).ok()?, &hex[2..])));
        let (byte, left) = hex.unwrap_or_else(|| (after.bytes().next().unwrap_or(b'\\'), after.get(1..).unwrap_or("")));
        bytes.push(byte);
        rest = left;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
