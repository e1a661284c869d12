//! An apply of any size: one write where it fits into one, else parts, each of which is a write of its own.
//!
//! Parts follow the order of the specs, and each takes as many as one command may carry; one that reaches too many
//! instances of the table as it is, which only the managers know, is halved. The same documents on the same table are
//! always parted alike. A part's request id is made of the whole's, the part's number and its content: an apply that was
//! cut off is said again under the same id, and what is done is not done again.

use minder_model::{CommandVersion, Digest, NAME_BYTES_MAX, Spec};
use minder_proto::v1;

use crate::{
    client::{Client, Write},
    error::Error,
};

/// What a command has beside its specs: ids, the name of whoever asks, and room to spare.
const BESIDE_SPECS_BYTES: usize = 4 * 1_024;

/// How far an apply has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Parts that are done.
    pub parts: usize,
    /// Of so many.
    pub parts_total: usize,
    /// Specs in the parts that are done.
    pub specs: usize,
    /// Of so many.
    pub specs_total: usize,
}

/// An apply that ended before its end. The parts before are done, and nothing of the one that failed, unless nobody
/// knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("part {} of {} failed", done.parts + 1, done.parts_total)]
pub struct Stopped {
    /// What was done before.
    pub done: Progress,
    /// The first process of the part that failed.
    pub next: String,
    /// Why. The request id in it is that of the whole.
    #[source]
    pub error: Error,
}

impl Client {
    /// Writes specs in the order they come: all or none where one command can carry them, else part after part, each all
    /// or none. `told` hears of each part that is done but for the last. The answer is that of all parts together.
    pub async fn apply_all(
        &self,
        specs: &[Spec],
        write: &Write,
        mut told: impl FnMut(Progress),
    ) -> Result<v1::WriteReply, Stopped> {
        let mut done = Progress { parts_total: 1, specs_total: specs.len(), ..Progress::default() };
        let next = |at: usize| specs.get(at).map(|spec| spec.name.to_string()).unwrap_or_default();
        let mut ends = self.ends(specs).await.map_err(|error| Stopped { done, next: next(0), error })?;
        ends.reverse();
        done.parts_total = ends.len();
        let request_id = self.options(write).request_id;
        let mut whole = v1::WriteReply::default();
        while let Some(&end) = ends.last() {
            let part = &specs[done.specs..end];
            let id = match done.parts_total {
                1 => request_id.clone(),
                _ => part_id(&request_id, done.parts + 1, part),
            };
            let one = Write { request_id: Some(id), ..write.clone() };
            let reply = match self.apply(part, &one).await {
                Ok(reply) => reply,
                Err(Error::TooLarge(_)) if part.len() > 1 => {
                    ends.push(done.specs + part.len() / 2);
                    done.parts_total += 1;
                    continue;
                }
                Err(error) => {
                    return Err(Stopped { done, next: next(done.specs), error: under(&request_id, error) });
                }
            };
            ends.pop();
            done = Progress { parts: done.parts + 1, specs: end, ..done };
            add(&mut whole, reply);
            if done.parts < done.parts_total {
                told(done);
            }
        }
        Ok(whole)
    }

    /// Where each part ends. The managers are asked what they take only when it is more than all of them do.
    async fn ends(&self, specs: &[Spec]) -> Result<Vec<usize>, Error> {
        let ends = part_ends(specs, CommandVersion::FIRST);
        if ends.len() <= 1 {
            return Ok(vec![specs.len()]);
        }
        let version = self.managers(true).await?.cluster_version;
        Ok(part_ends(specs, CommandVersion::from_wire(version)))
    }
}

/// Where each part ends in a cluster at this version.
fn part_ends(specs: &[Spec], version: CommandVersion) -> Vec<usize> {
    let bytes_max = version.command_bytes_max() - BESIDE_SPECS_BYTES;
    let mut ends = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for (at, spec) in specs.iter().enumerate() {
        let size = minicbor::len(spec);
        if count == version.apply_specs_max() || (count > 0 && bytes + size > bytes_max) {
            ends.push(at);
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + 1, bytes + size);
    }
    ends.push(specs.len());
    ends
}

/// The identity of one part.
fn part_id(whole: &str, number: usize, specs: &[Spec]) -> String {
    let digests: Vec<Digest> = specs.iter().map(Digest::of_encoded).collect();
    let content = Digest::of_parts(digests.iter().map(|digest| digest.0.as_slice()));
    let id = format!("{whole}.{number}-{}", content.short());
    if id.len() <= NAME_BYTES_MAX { id } else { Digest::of(id.as_bytes()).to_hex() }
}

/// Whoever says it again says the whole.
fn under(request_id: &str, error: Error) -> Error {
    match error {
        Error::Unknown { tried, .. } => Error::Unknown { request_id: request_id.into(), tried },
        other => other,
    }
}

fn add(whole: &mut v1::WriteReply, part: v1::WriteReply) {
    whole.position = part.position;
    whole.processes.extend(part.processes);
    whole.warnings.extend(part.warnings);
    whole.dry_run = part.dry_run;
    if let Some(counts) = part.counts {
        let sum = whole.counts.get_or_insert_default();
        sum.created += counts.created;
        sum.changed += counts.changed;
        sum.unchanged += counts.unchanged;
        sum.deleted += counts.deleted;
        sum.instances += counts.instances;
    }
}

#[cfg(test)]
mod tests {
    use minder_model::ProcessName;

    use super::*;

    fn specs(count: usize, bytes: usize) -> Vec<Spec> {
        let spec = |at: usize| {
            let name = ProcessName::new(format!("p{at}")).unwrap();
            Spec { args: vec!["x".repeat(bytes)], ..Spec::new(name, "/bin/true") }
        };
        (0..count).map(spec).collect()
    }

    #[test]
    fn parts_are_as_large_as_one_command_may_be() {
        let first = CommandVersion::FIRST;
        assert_eq!(part_ends(&specs(1_000, 0), first), [1_000]);
        assert_eq!(part_ends(&specs(2_001, 0), first), [1_000, 2_000, 2_001]);
        assert_eq!(part_ends(&specs(10_000, 0), CommandVersion::LARGE_APPLIES), [10_000]);
        assert_eq!(part_ends(&[], first), [0]);
        // Each is some 60 KiB: seventeen would be more than a MiB.
        let large = specs(40, 60 * 1_024);
        assert_eq!(part_ends(&large, first), [16, 32, 40]);
        let bytes: usize = large[..16].iter().map(minicbor::len).sum();
        assert!(bytes + BESIDE_SPECS_BYTES <= first.command_bytes_max());
    }

    #[test]
    fn a_parts_identity_is_its_content_and_always_fits() {
        let (one, other) = (specs(3, 1), specs(3, 2));
        assert_eq!(part_id("r", 1, &one), part_id("r", 1, &one));
        for differs in [part_id("r", 2, &one), part_id("q", 1, &one), part_id("r", 1, &other)] {
            assert_ne!(differs, part_id("r", 1, &one));
        }
        let long = "r".repeat(NAME_BYTES_MAX);
        assert!(minder_model::RequestId::new(part_id(&long, 1, &one)).is_ok());
        assert_ne!(part_id(&long, 1, &one), part_id(&long, 2, &one));
    }
}
