//! Waiting until the hosts have done what was asked: a live line per host on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use minder_client::v1;
use minder_model::OwedWhy;
use tokio::time::{Instant, timeout_at};

use crate::{
    context::Context,
    failure::{DONE, FAILED, Failure, NOT_RUNNING, TIMED_OUT, UNREACHABLE},
    views::phase,
    words::{self, count, full},
};

/// Limit on waiting unless another one is asked for.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Hosts shown on a terminal at a time; more than a screen cannot be repainted.
const HOSTS_SHOWN_MAX: usize = 20;
/// Instances named when they are in the way.
pub const NAMED_MAX: usize = 10;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Goal {
    /// Nothing is owed any more
    Settled,
    /// All of it runs
    Running,
    /// All of it has stopped
    Stopped,
    /// What runs was told something, once
    #[value(skip)]
    Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Failed,
    Pending,
}

/// Waits until every selected instance has reached the goal at this revision. Ends with the exit code.
pub async fn wait(
    context: &Context,
    selection: v1::Selection,
    revision: u64,
    goal: Goal,
    limit: Duration,
) -> Result<u8, Failure> {
    let began = Instant::now();
    let mut progress = Progress::new(context);
    let mut last: Vec<v1::Instance> = Vec::new();
    let mut watch = context.client.watch_instances(selection.clone());
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let end = loop {
        // The watch may be dropped at its await: each answer is whole. Ctrl-C stays pending until it comes.
        let look = tokio::select! {
            look = timeout_at(began + limit, watch.next()) => look,
            _ = &mut interrupt => break End::Interrupted,
        };
        match look {
            Err(_) => break End::Late,
            Ok(Err(minder_client::Error::Unreachable(tried))) => break End::Lost(tried),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(reply)) => {
                // A look from before the write says nothing about it.
                let fresh = reply.position.as_ref().is_none_or(|position| position.revision >= revision);
                last = reply.instances;
                progress.show(&last, revision, goal);
                if fresh && last.iter().all(|instance| state(instance, revision, goal) != State::Pending) {
                    break End::Settled;
                }
            }
        }
    };
    progress.end();
    match end {
        End::Settled => settled(&last, revision, goal, began.elapsed()),
        End::Late => Err(in_the_way(&last, revision, goal, limit)),
        End::Lost(tried) => Err(tried.into_iter().fold(
            Failure::new(UNREACHABLE, "the managers were lost while waiting; the work goes on")
                .hint("look again with `minderctl ps`"),
            |failure, (server, why)| failure.cause(format!("{server}: {why}")),
        )),
        End::Interrupted => {
            eprintln!("The work goes on without you. Look again with `minderctl wait {}`.", typed(&selection));
            Ok(130)
        }
    }
}

enum End {
    Settled,
    Late,
    Lost(Vec<(String, String)>),
    Interrupted,
}

/// The selection as it would be typed.
pub fn typed(selection: &v1::Selection) -> String {
    let labels = selection.labels.iter().map(|label| format!("-l {label}"));
    let all = selection.all.then(|| String::from("--all"));
    selection.terms.iter().cloned().chain(labels).chain(all).collect::<Vec<_>>().join(" ")
}

fn state(instance: &v1::Instance, revision: u64, goal: Goal) -> State {
    if instance.assignment_revision_seen < revision {
        return State::Pending;
    }
    let phase = phase(instance);
    if goal == Goal::Told {
        let told = instance.status.as_ref().is_some_and(|status| status.signal_at >= revision);
        return match phase {
            "STARTING" | "RUNNING" | "READY" if told => State::Done,
            "STARTING" | "RUNNING" | "READY" | "LOST" | "UNKNOWN" => State::Pending,
            _ => State::Failed,
        };
    }
    // What somebody stopped on its machine stays so until somebody says otherwise: waiting does not help.
    let stopped_locally = instance.owed == OwedWhy::LocalStop.word();
    match goal {
        Goal::Stopped if stopped_locally => {
            return if phase == "STOPPED" { State::Done } else { State::Pending };
        }
        Goal::Settled | Goal::Running if stopped_locally => return State::Failed,
        Goal::Settled | Goal::Running | Goal::Stopped | Goal::Told => {}
    }
    if instance.owed == OwedWhy::Failed.word() {
        return State::Failed;
    }
    let reached = match goal {
        Goal::Settled | Goal::Told => instance.owed.is_empty(),
        Goal::Running => instance.owed.is_empty() && matches!(phase, "RUNNING" | "READY"),
        Goal::Stopped => instance.owed.is_empty() && matches!(phase, "STOPPED" | "EXITED" | "PENDING"),
    };
    if reached { State::Done } else { State::Pending }
}

fn settled(instances: &[v1::Instance], revision: u64, goal: Goal, took: Duration) -> Result<u8, Failure> {
    let failed: Vec<&v1::Instance> =
        instances.iter().filter(|instance| state(instance, revision, goal) == State::Failed).collect();
    if let Some(first) = failed.first() {
        let name = full(first.name.as_ref().unwrap_or(&v1::InstanceName::default()));
        let what = count(failed.len() as u64, "instance");
        let failure = match first.owed == OwedWhy::LocalStop.word() {
            _ if goal == Goal::Told => {
                Failure::new(NOT_RUNNING, format!("{what} not running, so there was nobody to tell"))
                    .hint(format!("`minderctl explain {name}` says why"))
            }
            true => Failure::new(FAILED, format!("{what} in the way"))
                .hint(format!("`minderctl start {name}` ends a local stop, if that is meant")),
            false => Failure::new(FAILED, format!("{what} failed"))
                .hint(format!("`minderctl explain {name}` says more, `minderctl logs {name}` shows its output")),
        };
        return Err(name_some(failure, &failed));
    }
    let hosts: std::collections::BTreeSet<&str> =
        instances.iter().filter_map(|instance| instance.name.as_ref()).map(|name| name.host.as_str()).collect();
    if !instances.is_empty() {
        eprintln!(
            "done in {:.1} s: {} on {}",
            took.as_secs_f64(),
            count(instances.len() as u64, "instance"),
            count(hosts.len() as u64, "host")
        );
    }
    Ok(DONE)
}

fn in_the_way(instances: &[v1::Instance], revision: u64, goal: Goal, limit: Duration) -> Failure {
    let pending: Vec<&v1::Instance> =
        instances.iter().filter(|instance| state(instance, revision, goal) != State::Done).collect();
    let limit = minder_model::Millis(limit.as_millis() as u64);
    let failure = Failure::new(
        TIMED_OUT,
        format!(
            "timed out after {limit}: {} of {} not done; the work goes on",
            pending.len(),
            count(instances.len() as u64, "instance")
        ),
    );
    let failure = match pending.first().and_then(|instance| instance.name.as_ref()) {
        Some(name) => failure.hint(format!("`minderctl explain {}` says more", full(name))),
        None => failure.hint("look again with `minderctl ps`"),
    };
    name_some(failure, &pending)
}

/// Each instance in the way, with its phase and the reason.
fn name_some(failure: Failure, instances: &[&v1::Instance]) -> Failure {
    let more = instances.len().saturating_sub(NAMED_MAX);
    let failure = instances.iter().take(NAMED_MAX).fold(failure, |failure, instance| failure.cause(reason(instance)));
    if more > 0 { failure.cause(format!("and {more} more")) } else { failure }
}

fn reason(instance: &v1::Instance) -> String {
    let name = full(instance.name.as_ref().unwrap_or(&v1::InstanceName::default()));
    let why = if instance.why.is_empty() { &instance.owed } else { &instance.why };
    format!("{name} {}: {why}", phase(instance))
}

/// One line per host.
struct Progress {
    live: bool,
    /// Lines painted last, which the next painting goes over.
    painted: usize,
    said: BTreeMap<String, (usize, usize)>,
}

impl Progress {
    fn new(context: &Context) -> Self {
        Self { live: context.screen.live, painted: 0, said: BTreeMap::new() }
    }

    fn show(&mut self, instances: &[v1::Instance], revision: u64, goal: Goal) {
        let mut hosts: BTreeMap<String, (usize, usize, String)> = BTreeMap::new();
        for instance in instances {
            let name = instance.name.clone().unwrap_or_default();
            let (done, all, waits) = hosts.entry(name.host.clone()).or_default();
            *all += 1;
            match state(instance, revision, goal) {
                State::Done => *done += 1,
                State::Failed | State::Pending if waits.is_empty() => {
                    *waits = format!("{} {}", words::instance(&name), phase(instance));
                }
                State::Failed | State::Pending => {}
            }
        }
        if self.live { self.repaint(&hosts) } else { self.say(hosts) }
    }

    fn repaint(&mut self, hosts: &BTreeMap<String, (usize, usize, String)>) {
        let mut text = self.over();
        for (host, (done, all, waits)) in hosts.iter().take(HOSTS_SHOWN_MAX) {
            text.push_str(&format!("{host}: {done} of {all} done  {waits}\n"));
        }
        let more = hosts.len().saturating_sub(HOSTS_SHOWN_MAX);
        if more > 0 {
            text.push_str(&format!("and {}\n", count(more as u64, "more host")));
        }
        self.painted = text.matches('\n').count();
        write(&text);
    }

    /// Moves to the first painted line and clears what is below.
    fn over(&self) -> String {
        if self.painted == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.painted) }
    }

    fn say(&mut self, hosts: BTreeMap<String, (usize, usize, String)>) {
        for (host, (done, all, _)) in hosts {
            if self.said.get(&host) != Some(&(done, all)) {
                write(&format!("{host}: {done} of {all} done\n"));
                self.said.insert(host, (done, all));
            }
        }
    }

    fn end(&mut self) {
        if self.live {
            write(&self.over());
            self.painted = 0;
        }
    }
}

fn write(text: &str) {
    // Progress that nobody can read is no reason to stop waiting.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether a changing verb waits.
pub fn wanted(flags: &crate::flags::Wait, by_default: bool) -> bool {
    flags.wait || (by_default && !flags.no_wait)
}
