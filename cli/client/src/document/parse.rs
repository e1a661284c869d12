//! From text to specs: which language, which shape, and where it went wrong.

use std::{cell::Cell, io::Read};

use minder_model::Spec;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Complaint,
    complaint::{join, unknown_key},
    note::{Note, ProcessInfo},
    source::Text,
};

/// Keys that make a mapping something else than one spec.
const LIST_KEY: &str = "processes";
const NOTE_KEY: &str = "processInfos";

/// The YAML parser takes the square of the depth of open brackets before it refuses any depth beyond 128: no more than some
/// ten milliseconds of this.
const OPEN_BRACKETS_MAX: usize = 10_000;

/// Each spec with its path in the document.
pub(super) fn specs(text: &Text) -> Result<Vec<(String, Spec)>, Complaint> {
    if text.text.trim().is_empty() {
        return Err(Complaint::new(&text.name, None, "", "is empty; declare at least one process"));
    }
    let found = match language(text) {
        Language::Json => json(text)?,
        Language::Toml => toml(text)?,
        Language::Yaml => yaml(text)?,
    };
    match found.is_empty() {
        true => Err(Complaint::new(&text.name, None, "", "declares no process")),
        false => Ok(found),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    Toml,
    Yaml,
}

/// By the end of the file's name; else by its look, for standard input has no name.
fn language(text: &Text) -> Language {
    let ending = text.name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("json") => return Language::Json,
        Some("toml") => return Language::Toml,
        Some("yaml" | "yml") => return Language::Yaml,
        Some(_) | None => {}
    }
    let start = text.text.trim_start();
    if start.starts_with("//") || start.starts_with("/*") {
        return Language::Json;
    }
    let first = start.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or("");
    if first.starts_with("[[") || (first.contains('=') && !first.contains(": ") && !first.starts_with(['{', '-'])) {
        return Language::Toml;
    }
    // YAML's flow form looks like JSON but writes keys without quotes.
    let is_flow = || serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&text.text).is_ok();
    let flow = first.starts_with(['{', '[']) && too_deep(&text.text).is_none() && is_flow();
    let strict = serde_json::from_str::<serde::de::IgnoredAny>(&without_comments(&text.text)).is_ok();
    if first.starts_with(['{', '[']) && (strict || !flow) { Language::Json } else { Language::Yaml }
}

/// What the top of a document says it is.
enum Shape {
    One,
    Bare,
    Listed,
    Note,
    /// Neither a mapping nor a list; the text says what it is instead.
    Odd(&'static str),
}

fn shape(is_list: bool, keys: Option<Vec<&str>>, otherwise: &'static str) -> Shape {
    match keys {
        Some(keys) if keys.contains(&NOTE_KEY) => Shape::Note,
        Some(keys) if keys.contains(&LIST_KEY) => Shape::Listed,
        Some(_) => Shape::One,
        None if is_list => Shape::Bare,
        None => Shape::Odd(otherwise),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    processes: Vec<Spec>,
}

/// Reads one value of a known type out of a document, naming the path of what does not fit.
trait Reader {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Complaint>;
}

fn shaped(file: &str, shape: Shape, reader: &impl Reader) -> Result<Vec<(String, Spec)>, Complaint> {
    match shape {
        Shape::One => Ok(vec![(String::new(), reader.read::<Spec>()?)]),
        Shape::Bare => Ok(numbered("", reader.read::<Vec<Spec>>()?)),
        Shape::Listed => Ok(numbered(LIST_KEY, reader.read::<Listed>()?.processes)),
        Shape::Note => note(file, reader.read::<Note>()?.process_infos),
        Shape::Odd(what) => Err(Complaint::new(
            file,
            None,
            "",
            format!("is {what}; write one process, a list of them, or a list under \"{LIST_KEY}\""),
        )),
    }
}

fn numbered(key: &str, specs: Vec<Spec>) -> Vec<(String, Spec)> {
    specs.into_iter().enumerate().map(|(at, spec)| (format!("{key}[{at}]"), spec)).collect()
}

fn note(file: &str, infos: Vec<ProcessInfo>) -> Result<Vec<(String, Spec)>, Complaint> {
    let spec = |(at, info): (usize, ProcessInfo)| {
        let path = format!("{NOTE_KEY}[{at}]");
        let spec = info.spec(&path).map_err(|(path, message)| Complaint::new(file, None, path, message))?;
        Ok((path, spec))
    };
    infos.into_iter().enumerate().map(spec).collect()
}

fn path_of(path: &serde_path_to_error::Path) -> String {
    let text = path.to_string();
    if text == "." || text == "?" { String::new() } else { text }
}

// JSON.

struct Json<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader for Json<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Complaint> {
        let mut source = serde_json::Deserializer::from_str(self.text);
        let read = serde_path_to_error::deserialize(&mut source).map_err(|error| {
            let inner = error.inner();
            let words = inner.to_string();
            let words = words.split(" at line ").next().unwrap_or(&words);
            Complaint::from_words(self.file, Some(inner.line()), &path_of(error.path()), words)
        })?;
        source.end().map_err(|error| {
            Complaint::new(self.file, Some(error.line()), "", "something follows the end of the document")
        })?;
        Ok(read)
    }
}

fn json(text: &Text) -> Result<Vec<(String, Spec)>, Complaint> {
    use serde_json::Value;
    let stripped = without_comments(&text.text);
    let reader = Json { file: &text.name, text: &stripped };
    let value: Value = reader.read()?;
    let keys = value.as_object().map(|object| object.keys().map(String::as_str).collect());
    shaped(&text.name, shape(value.is_array(), keys, "a single value"), &reader)
}

/// The same text with its comments blanked, so that lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    // Reading from memory cannot fail, and a comment that is not closed shows as a document that ends too early.
    let read = json_comments::StripComments::new(text.as_bytes()).read_to_string(&mut stripped);
    if read.is_ok() { stripped } else { text.to_owned() }
}

// TOML.

struct Toml<'a> {
    file: &'a str,
    text: &'a str,
}

impl Toml<'_> {
    fn complaint(&self, error: &toml::de::Error, path: &str) -> Complaint {
        let line = error.span().map(|span| self.text[..span.start.min(self.text.len())].matches('\n').count() + 1);
        Complaint::from_words(self.file, line, path, error.message().trim())
    }
}

impl Reader for Toml<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Complaint> {
        let source = toml::Deserializer::parse(self.text).map_err(|error| self.complaint(&error, ""))?;
        serde_path_to_error::deserialize(source).map_err(|error| self.complaint(error.inner(), &path_of(error.path())))
    }
}

fn toml(text: &Text) -> Result<Vec<(String, Spec)>, Complaint> {
    let reader = Toml { file: &text.name, text: &text.text };
    let value: toml::Table = reader.read()?;
    let keys: Vec<&str> = value.keys().map(String::as_str).collect();
    shaped(&text.name, shape(false, Some(keys), "a table"), &reader)
}

// YAML.

struct Yaml<'a> {
    file: &'a str,
    /// One of the documents in the file. It is read once.
    source: Cell<Option<serde_yaml_ng::Deserializer<'a>>>,
}

impl Yaml<'_> {
    fn complaint(&self, error: &serde_yaml_ng::Error, path: &str) -> Complaint {
        let line = error.location().map(|location| location.line());
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or(&words);
        // The parser writes its own, shorter path before the words.
        let words = match words.split_once(": ") {
            Some((start, rest))
                if !start.contains(' ') && !path.is_empty() && path.contains(start.trim_end_matches('.')) =>
            {
                rest
            }
            Some(_) | None => words,
        };
        Complaint::from_words(self.file, line, path, words)
    }
}

impl Reader for Yaml<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Complaint> {
        match self.source.take() {
            None => Err(Complaint::new(self.file, None, "", "is empty; declare at least one process")),
            Some(source) => serde_path_to_error::deserialize(source)
                .map_err(|error| self.complaint(error.inner(), &path_of(error.path()))),
        }
    }
}

/// The line in which more brackets are open than the YAML parser is given. Where they stand, in a text or in a comment, is
/// not looked at.
fn too_deep(text: &str) -> Option<usize> {
    let mut open: usize = 0;
    let line = text.lines().position(|line| {
        line.bytes().any(|byte| {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            open > OPEN_BRACKETS_MAX
        })
    });
    line.map(|line| line + 1)
}

fn yaml(text: &Text) -> Result<Vec<(String, Spec)>, Complaint> {
    use serde_yaml_ng::Value;
    if let Some(line) = too_deep(&text.text) {
        let words = format!("more than {OPEN_BRACKETS_MAX} brackets are open; is one not closed?");
        return Err(Complaint::new(&text.name, Some(line), "", words));
    }
    let mut found = Vec::new();
    // Each is read twice, for its shape and for what is in it. Both go forward together, for going back to the document of
    // a number reads all before it.
    let mut again = serde_yaml_ng::Deserializer::from_str(&text.text);
    // A document with bad syntax is handed out again and again, so the first error must end this.
    for (at, source) in serde_yaml_ng::Deserializer::from_str(&text.text).enumerate() {
        let reader = Yaml { file: &text.name, source: Cell::new(again.next()) };
        let value: Value = serde_path_to_error::deserialize(source)
            .map_err(|error| reader.complaint(error.inner(), &path_of(error.path())))?;
        if value.is_null() {
            // What `---` at the start or the end of a file leaves.
            continue;
        }
        if let Some(odd) = value.as_mapping().and_then(|map| map.keys().find(|key| !key.is_string())) {
            let key = serde_yaml_ng::to_string(odd).unwrap_or_default();
            return Err(Complaint::new(&text.name, None, key.trim(), unknown_key(key.trim(), &[])));
        }
        let keys = value.as_mapping().map(|map| map.keys().filter_map(Value::as_str).collect());
        let inside = shaped(&text.name, shape(value.is_sequence(), keys, "a single value"), &reader)?;
        found.extend(inside.into_iter().map(|(path, spec)| match at {
            0 => (path, spec),
            _ => (join(&format!("document {}", at + 1), &path).trim_end_matches('.').to_string(), spec),
        }));
    }
    Ok(found)
}
