//! Crowds in processes of their own: a process may not have as many connections as ten thousand slaves of three managers.
//! The parent asks by lines, a child answers by lines, and a child whose parent is gone ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Crowd, CrowdShape, CrowdTally, Moment};
use crate::usage::{cpu_time, resident_bytes};

/// The word by which a program knows that it is to be a crowd.
const WORD: &str = "be-a-crowd";
/// Descriptors left to a process for everything but its connections.
const DESCRIPTORS_SPARE: u64 = 500;

#[derive(Serialize, Deserialize)]
enum Question {
    Tally,
    Took(u64),
    Welcomed(u64),
}

/// Is a crowd until its parent goes, when the command line says so. Every program that uses [`Crowds`] begins with it.
pub async fn be_a_crowd_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(WORD) {
        return;
    }
    let shape: CrowdShape = serde_json::from_str(&args.next().unwrap()).unwrap();
    let crowd = Crowd::start(&shape);
    let answering = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
                Question::Tally => serde_json::to_string(&crowd.tally()),
                Question::Took(revision) => serde_json::to_string(&crowd.took(revision)),
                Question::Welcomed(term) => serde_json::to_string(&crowd.welcomed(term)),
            };
            println!("{}", answer.unwrap());
        }
    });
    let _ = answering.await;
    std::process::exit(0);
}

/// One crowd in several processes.
pub struct Crowds {
    parts: Vec<Part>,
}

struct Part {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowds {
    /// Lets all of them come at once, from as few processes as their connections allow.
    pub fn start(shape: &CrowdShape) -> Self {
        let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        let each = (limit.saturating_sub(DESCRIPTORS_SPARE) as usize / shape.managers.len().max(1)).max(1);
        let parts = shape.hosts.div_ceil(each).max(1);
        let hosts = shape.hosts.div_ceil(parts);
        let parts = (0..parts).map(|part| {
            let first = shape.first + part * hosts;
            let left = shape.first + shape.hosts - first;
            Part::start(&CrowdShape { first, hosts: hosts.min(left), ..shape.clone() })
        });
        Self { parts: parts.collect() }
    }

    /// Counts what there is now.
    pub fn tally(&mut self) -> CrowdTally {
        self.parts.iter_mut().map(|part| part.ask::<CrowdTally>(&Question::Tally)).sum()
    }

    /// How many slaves took an assignment of this revision, and when the first and the last did.
    pub fn took(&mut self, revision: u64) -> Moment {
        self.moment(&Question::Took(revision))
    }

    /// How many slaves got a session with the leader of this term, and when the first and the last did.
    pub fn welcomed(&mut self, term: u64) -> Moment {
        self.moment(&Question::Welcomed(term))
    }

    /// CPU time of the pretended slaves so far.
    pub fn cpu_time(&self) -> Duration {
        self.parts.iter().map(|part| cpu_time(part.child.id())).sum()
    }

    /// Their resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.parts.iter().map(|part| resident_bytes(part.child.id())).sum()
    }

    /// How many processes they are in.
    pub fn processes(&self) -> usize {
        self.parts.len()
    }

    fn moment(&mut self, question: &Question) -> Moment {
        let moments = self.parts.iter_mut().map(|part| part.ask::<Moment>(question));
        moments.filter(|moment| moment.count > 0).reduce(Moment::with).unwrap_or_default()
    }
}

impl Part {
    fn start(shape: &CrowdShape) -> Self {
        let shape = serde_json::to_string(shape).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args([WORD, &shape]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, questions, answers }
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> T {
        writeln!(self.questions, "{}", serde_json::to_string(question).unwrap()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("a crowd says {line:?}: {error}"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
