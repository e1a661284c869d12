//! What operators and slaves ask of managers, in words of the simulator's own, and how that is said in Minder's. The
//! oracles know only these words.

use std::collections::BTreeMap;

use minder_model::{
    HostName, InstanceKey, Millis, ProcessName, Restart, RestartPolicy, Revision, Signal, Spec, Start, Stop,
};
use minder_state::{Command, Expect, Order, OrderKind};

/// Name of the label that selectors ask for.
pub const ZONE: &str = "zone";

/// The name of a process by its number.
pub fn process_name(process: usize) -> ProcessName {
    ProcessName::new(format!("p{process}")).expect("a letter and digits")
}

/// The name of a host by its number.
pub fn host_name(host: usize) -> HostName {
    HostName::new(format!("h{host}")).expect("a letter and digits")
}

/// The number in a name that one of these made.
pub fn number_of(name: &str) -> usize {
    name[1..].parse().expect("names here are a letter and digits")
}

/// An instance by numbers: process, instance.
pub type Place = (usize, u32);

/// An instance's numbers.
pub fn place_of(key: &InstanceKey) -> Place {
    (number_of(key.process.as_str()), key.index)
}

/// What a program does with its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// It runs until it is told to end.
    Steady,
    /// It fails soon, every time.
    CrashLoop,
    /// It ends after a while, well or not.
    Ends,
    /// It cannot be started.
    Unstartable,
    /// It ignores the polite signal.
    Deaf,
    /// It has children, which ignore everything and stay.
    Forks,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Steady, Self::CrashLoop, Self::Ends, Self::Unstartable, Self::Deaf, Self::Forks];
}

/// How one instance is run: what its run spec says, and nothing of where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Another number is another program to start.
    pub launch: u64,
    /// What it does.
    pub behaviour: Behaviour,
    /// Which of [`policy`].
    pub policy: usize,
    /// The process it comes after.
    pub after: Option<usize>,
}

impl Run {
    /// What only a new start can change.
    pub fn launched(self) -> (u64, Behaviour) {
        (self.launch, self.behaviour)
    }
}

/// Where a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// On these hosts.
    Hosts(Vec<usize>),
    /// On hosts in this zone.
    Zone(u64),
}

/// A process as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub process: usize,
    /// How.
    pub run: Run,
    /// Where.
    pub place: Where,
    /// Instances on each host.
    pub instances: u32,
    /// Another launch on one host.
    pub elsewhere: Option<(usize, u64)>,
}

impl Plan {
    /// How it is run on a host.
    pub fn run_on(&self, host: usize) -> Run {
        match self.elsewhere {
            Some((other, launch)) if other == host => Run { launch, ..self.run },
            Some(_) | None => self.run,
        }
    }
}

/// What an order is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A process, wherever it is.
    Process(usize),
    /// One instance of it on each host.
    Instance(usize, u32),
    /// A process on a host.
    On(usize, usize),
    /// A host.
    Host(usize),
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Run.
    Start,
    /// Stop.
    Stop,
    /// Begin anew.
    Restart,
    /// Try again.
    Retry,
    /// Send a signal that does no harm.
    Signal,
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The cluster's first write.
    Create,
    /// Write processes.
    Apply(Vec<Plan>),
    /// Forget processes.
    Delete(Vec<usize>),
    /// Tell instances; nothing named means all.
    Order(What, Vec<Target>),
    /// A slave announces its host, with the number of its address.
    Register(usize, u64),
    /// Put a host into a zone, or out of any.
    Label(usize, Option<u64>),
    /// Forget a host.
    RemoveHost(usize),
}

impl Ask {
    /// In Minder's words.
    pub fn command(&self) -> Command {
        match self {
            Self::Create => Command::CreateCluster(
                minder_model::ClusterId::new("sim").expect("letters"),
                minder_model::CommandVersion::NEWEST,
            ),
            Self::Apply(plans) => Command::apply(plans.iter().map(spec)),
            Self::Delete(processes) => {
                Command::Delete(processes.iter().map(|process| process_name(*process)).collect())
            }
            Self::Order(what, targets) => Command::Order(Order {
                terms: targets.iter().map(term).collect(),
                labels: Vec::new(),
                all: targets.is_empty(),
                kind: match what {
                    What::Start => OrderKind::Start,
                    What::Stop => OrderKind::Stop,
                    What::Restart => OrderKind::Restart,
                    What::Retry => OrderKind::Retry,
                    What::Signal => OrderKind::Signal(Signal::HUP),
                },
            }),
            Self::Register(host, address) => {
                Command::RegisterHost(host_name(*host), address_text(*host, *address), BTreeMap::new())
            }
            Self::Label(host, zone) => {
                let zone = zone.map(|zone| zone.to_string());
                Command::LabelHost(host_name(*host), [(ZONE.into(), zone)].into())
            }
            Self::RemoveHost(host) => Command::RemoveHost(host_name(*host)),
        }
    }
}

/// What a write expects, in Minder's words.
pub fn expectation(revision: Option<u64>) -> Expect {
    revision.map_or(Expect::Anything, |revision| Expect::Revision(Revision(revision)))
}

/// The address of a host's slave.
pub fn address_text(host: usize, address: u64) -> String {
    format!("{}:{address}", host_name(host))
}

fn term(target: &Target) -> String {
    match target {
        Target::Process(process) => process_name(*process).to_string(),
        Target::Instance(process, index) => format!("{}:{index}", process_name(*process)),
        Target::On(process, host) => format!("{}@{}", process_name(*process), host_name(*host)),
        Target::Host(host) => format!("@{}", host_name(*host)),
    }
}

fn spec(plan: &Plan) -> Spec {
    let mut spec = Spec::new(process_name(plan.process), "/bin/program");
    spec.args = args(plan.run.launch, plan.run.behaviour);
    (spec.restart, spec.stop) = policy(plan.run.policy);
    spec.start = Start { healthy_after: Millis(300), timeout: None };
    spec.after = plan.run.after.into_iter().map(process_name).collect();
    spec.instances = plan.instances;
    match &plan.place {
        Where::Hosts(hosts) => spec.hosts = hosts.iter().map(|host| host_name(*host)).collect(),
        Where::Zone(zone) => spec.selector = [(ZONE.into(), zone.to_string())].into(),
    }
    if let Some((host, launch)) = plan.elsewhere {
        let over = minder_model::Override { args: Some(args(launch, plan.run.behaviour)), ..Default::default() };
        spec.overrides = [(host_name(host), over)].into();
    }
    spec
}

fn args(launch: u64, behaviour: Behaviour) -> Vec<String> {
    let at = Behaviour::ALL.iter().position(|other| *other == behaviour).unwrap_or_default();
    vec![launch.to_string(), at.to_string()]
}

/// What a program was started with.
pub fn launched(spec: &Spec) -> (u64, Behaviour) {
    let number = |at: usize| spec.args.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    (number(0), Behaviour::ALL[number(1) as usize % Behaviour::ALL.len()])
}

/// Limit of restarts within a window, by policy; a window of none is for ever.
pub const LIMITS: [Option<(usize, Option<u64>)>; POLICIES] =
    [Some((3, Some(30_000))), None, Some((0, None)), Some((2, None)), Some((4, Some(60_000)))];
/// Longest time a stop may take, by policy, in milliseconds.
pub const GRACES_MS: [u64; POLICIES] = [2_000, 1_000, 1_000, 500, 0];
/// How many policies there are.
pub const POLICIES: usize = 5;

/// The restart and stop policies that specs choose from.
pub fn policy(number: usize) -> (Restart, Stop) {
    let plain = Restart {
        delay: Millis(300),
        factor: 200,
        delay_max: Millis(3_000),
        reset_after: Millis(5_000),
        slow_retry: None,
        ..Restart::default()
    };
    let (kind, limit, window, slow_retry) = match number {
        0 => (RestartPolicy::OnFailure, 3, Some(30_000), Some(10_000)),
        1 => (RestartPolicy::Always, 0, Some(30_000), None),
        2 => (RestartPolicy::Never, 3, Some(30_000), None),
        3 => (RestartPolicy::OnFailure, 2, None, None),
        _ => (RestartPolicy::Always, 4, Some(60_000), None),
    };
    let restart =
        Restart { policy: kind, limit, window: window.map(Millis), slow_retry: slow_retry.map(Millis), ..plain };
    let signal = if number == 4 { Signal::KILL } else { Signal::TERM };
    (restart, Stop { signal, grace: Millis(GRACES_MS[number]), ..Stop::default() })
}
