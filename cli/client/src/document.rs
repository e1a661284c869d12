//! Documents: what users write, read into checked specs.
//!
//! YAML, JSON (with comments) and TOML; files, directories and standard input; one spec, a list of them, a list under
//! `processes:`, or the first design note's `processInfos`. A document is refused whole, by file, line and field.

mod complaint;
mod note;
mod parse;
mod source;

use std::{collections::BTreeMap, path::Path};

use minder_model::{FieldError, Spec, check_order, check_spec};

pub use complaint::{Complaint, Complaints};
pub use note::program_spec;

/// Where `-` reads from, in messages.
const STANDARD_INPUT: &str = "standard input";

/// Reads every spec in these files and directories; `-` is standard input. All complaints come together.
pub fn read(places: &[String]) -> Result<Vec<Spec>, Complaints> {
    let mut specs = Vec::new();
    let mut complaints = Vec::new();
    for place in places {
        let read = if place == "-" {
            source::standard_input().map(|text| vec![text])
        } else {
            source::files(Path::new(place))
        };
        match read {
            Err(complaint) => complaints.push(complaint),
            Ok(texts) => {
                for text in texts {
                    collect(&text, &mut specs, &mut complaints);
                }
            }
        }
    }
    finish(specs, complaints)
}

/// Reads one document that is at hand. The end of `name` (`.yaml`, `.json`, `.toml`) says its form, else its look.
pub fn parse(name: &str, text: &str) -> Result<Vec<Spec>, Complaints> {
    let mut specs = Vec::new();
    let mut complaints = Vec::new();
    collect(&source::Text { name: name.into(), text: text.into() }, &mut specs, &mut complaints);
    finish(specs, complaints)
}

/// A spec and where it was written.
struct Found {
    spec: Spec,
    file: String,
    /// Path of the spec within its document, empty for the document itself.
    path: String,
}

fn collect(text: &source::Text, specs: &mut Vec<Found>, complaints: &mut Vec<Complaint>) {
    match parse::specs(text) {
        Err(complaint) => complaints.push(complaint),
        Ok(found) => {
            for (path, spec) in found {
                if let Err(errors) = check_spec(&spec) {
                    complaints.extend(errors.0.into_iter().map(|error| field_complaint(&text.name, &path, error)));
                }
                specs.push(Found { spec, file: text.name.clone(), path });
            }
        }
    }
}

fn field_complaint(file: &str, path: &str, error: FieldError) -> Complaint {
    let field = error.path.strip_prefix("spec.").unwrap_or(&error.path);
    Complaint::new(file, None, complaint::join(path, field), error.message)
}

fn finish(found: Vec<Found>, mut complaints: Vec<Complaint>) -> Result<Vec<Spec>, Complaints> {
    let mut first: BTreeMap<&str, &Found> = BTreeMap::new();
    for one in &found {
        if let Some(earlier) = first.insert(one.spec.name.as_str(), one) {
            let earlier_place = complaint::place(&earlier.file, None, &complaint::join(&earlier.path, "name"));
            let message = format!("{:?} is declared twice, first at {earlier_place}", one.spec.name.as_str());
            complaints.push(Complaint::new(&one.file, None, complaint::join(&one.path, "name"), message));
        }
    }
    let (specs, places): (Vec<Spec>, Vec<(String, String)>) =
        found.into_iter().map(|one| (one.spec, (one.file, one.path))).unzip();
    let ring = |(at, error): (usize, FieldError)| field_complaint(&places[at].0, &places[at].1, error);
    complaints.extend(check_order(&specs, |_| None).into_iter().map(ring));
    if complaints.is_empty() { Ok(specs) } else { Err(Complaints(complaints)) }
}
