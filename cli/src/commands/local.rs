//! The machine's own slave, without managers: what it runs, and orders that managers see as drift.

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use minder_client::{Error, Local, v1};
use minder_model::Selection;
use tokio::time::Instant;
use v1::LocalOrderKind;

use super::{logs::Printer, ps, status};
use crate::{
    confirm::{INSTANCES_UNASKED_MAX, consent},
    context::CALL_LIMIT,
    failure::{DONE, FAILED, Failure, NOT_PERMITTED, TIMED_OUT, UNREACHABLE},
    flags::{Global, Output},
    screen::{Screen, put},
    views::{InstanceView, Listing, phase, print},
    waiting,
    words::{count, full},
};

/// Where a slave installed from a package listens.
const SOCKET: &str = "/var/lib/minder/slave/control.sock";
/// While waiting, the slave is asked this often.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before a slave that went away is asked again for output.
const AGAIN: Duration = Duration::from_millis(500);

/// Ask and order the slave of this machine itself, with or without managers
#[derive(Debug, Args)]
pub struct LocalCommand {
    /// Socket of the slave, in its data folder
    #[arg(long, global = true, env = "MINDER_SOCKET", hide_env_values = true, default_value = SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List this machine's instances (exit 3 when one is not running)
    #[command(visible_alias = "ls")]
    Ps(Names),
    /// Show instances one by one, with their last exits (exit 3 when one is not running)
    Status(Names),
    /// Stop instances until a local start, or a later start or restart order of the managers
    Stop(Order),
    /// End a local stop, or try again now what is FATAL or EXITED
    Start(Order),
    /// Restart instances, or start those that were stopped locally
    Restart(Order),
    /// Show output of instances
    Logs(Logs),
    /// Let this machine belong to a cluster that was rebuilt from its own; what runs goes on
    AcceptCluster(AcceptCluster),
}

#[derive(Debug, Args)]
pub struct AcceptCluster {
    /// Id of the rebuilt cluster, as its managers and this slave's log say it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Which instances of this machine are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Names {
    /// NAME or NAME:INSTANCE, with * as a wildcard
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Everything
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Order {
    #[command(flatten)]
    pub names: Names,
    /// Return as soon as the order is on the slave's disk
    #[arg(long)]
    pub no_wait: bool,
    /// Do not ask, however much is touched
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub names: Names,
    #[command(flatten)]
    pub wish: super::logs::Wish,
}

pub async fn run(global: &Global, command: LocalCommand) -> Result<u8, Failure> {
    let deadline = global.timeout.map_or(CALL_LIMIT, |timeout| timeout.min(CALL_LIMIT));
    let local = Local::open(&command.socket, deadline).map_err(|error| unreachable(&command.socket, &error))?;
    let screen = Screen::new();
    match command.verb {
        Verb::Ps(names) => {
            let instances = list(&local, &names).await?;
            ps::show(global.output, &screen, &v1::ListInstancesReply { position: None, instances })
        }
        Verb::Status(names) => show_status(&local, global.output, &screen, &some(names)?).await,
        Verb::Stop(order) => give(&local, global, &screen, LocalOrderKind::Stop, order).await,
        Verb::Start(order) => give(&local, global, &screen, LocalOrderKind::Start, order).await,
        Verb::Restart(order) => give(&local, global, &screen, LocalOrderKind::Restart, order).await,
        Verb::Logs(command) => follow(&local, screen, command).await,
        Verb::AcceptCluster(AcceptCluster { id }) => accept_cluster(&local, &id).await,
    }
}

async fn accept_cluster(local: &Local, id: &str) -> Result<u8, Failure> {
    let reply = local.accept_cluster(id).await?;
    let goes_on = count(reply.instances, "instance");
    put(&match reply.before.as_str() {
        before if before == id => format!("this slave belongs to cluster {id} already\n"),
        "" => format!("this slave belongs to cluster {id} now\n"),
        before => format!(
            "this slave belongs to cluster {id} now, before to {before}; {goes_on} here went on untouched, and what the \
             cluster wants otherwise follows when its managers are reached\n"
        ),
    });
    Ok(DONE)
}

/// Says what keeps the command from the slave, and what to do.
fn unreachable(socket: &std::path::Path, error: &io::Error) -> Failure {
    let (code, message, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            NOT_PERMITTED,
            "this user may not reach the slave",
            "be root, the user of minder-slave, or a member of its local_group",
        ),
        io::ErrorKind::NotFound => (
            UNREACHABLE,
            "there is no socket of a slave",
            "name it with --socket or MINDER_SOCKET: it is control.sock in the slave's data folder",
        ),
        _ => (UNREACHABLE, "no slave answers", "is minder-slave running? `systemctl status minder-slave`"),
    };
    Failure::new(code, message).cause(format!("{}: {error}", socket.display())).hint(hint)
}

fn nothing_matched(names: &Names) -> Failure {
    let what = if names.names.is_empty() { "the selection".to_owned() } else { names.names.join(", ") };
    Failure::new(crate::failure::NOTHING_MATCHED, format!("nothing on this host matches {what}"))
        .hint("`minderctl local ps` lists what there is")
}

/// Names that name something.
fn some(names: Names) -> Result<Names, Failure> {
    if names.names.is_empty() && !names.all {
        return Err(Failure::usage("nothing is selected").hint("write NAME, or --all"));
    }
    Ok(names)
}

fn selection(names: &Names) -> Result<v1::Selection, Failure> {
    Selection::parse::<_, &str>(&names.names, &[]).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(v1::Selection { terms: names.names.clone(), labels: Vec::new(), all: names.names.is_empty() })
}

async fn list(local: &Local, names: &Names) -> Result<Vec<v1::Instance>, Failure> {
    let instances = local.list(selection(names)?).await?.instances;
    match instances.is_empty() && !names.names.is_empty() {
        true => Err(nothing_matched(names)),
        false => Ok(instances),
    }
}

async fn show_status(local: &Local, output: Output, screen: &Screen, names: &Names) -> Result<u8, Failure> {
    let instances = list(local, names).await?;
    let views: Vec<InstanceView> = instances.iter().map(InstanceView::new).collect();
    let code = ps::code(&views);
    match output {
        Output::Json | Output::Yaml => print(output, &Listing::new(None, views))?,
        Output::Name => put(&views.iter().map(|view| view.full() + "\n").collect::<String>()),
        Output::Table | Output::Wide => views.iter().for_each(|view| put(&status::block(screen, view, &[]))),
    }
    Ok(code)
}

async fn give(
    local: &Local,
    global: &Global,
    screen: &Screen,
    kind: LocalOrderKind,
    order: Order,
) -> Result<u8, Failure> {
    let names = some(order.names)?;
    let verb = verb(kind);
    let meant = list(local, &names).await?;
    if meant.is_empty() {
        return Err(nothing_matched(&names));
    }
    if meant.len() > INSTANCES_UNASKED_MAX && !order.yes {
        consent(screen, &format!("{verb} {}", count(meant.len() as u64, "instance")))?;
    }
    let reply = local.order(kind, selection(&names)?).await?;
    put(&reply.instances.iter().map(|name| format!("{verb} {}\n", full(name))).collect::<String>());
    if !order.no_wait && !reply.instances.is_empty() {
        let limit = global.timeout.unwrap_or(waiting::LIMIT);
        wait(local, kind, &reply.instances, &names, limit).await?;
    }
    if reply.refused.is_empty() {
        return Ok(DONE);
    }
    let failure = Failure::new(FAILED, format!("{} refused", count(reply.refused.len() as u64, "instance")));
    Err(reply.refused.iter().fold(failure, |failure, refusal| {
        failure.cause(format!("{}: {}", full(&refusal.instance.clone().unwrap_or_default()), refusal.why))
    }))
}

/// Waits until what was told is so.
async fn wait(
    local: &Local,
    kind: LocalOrderKind,
    told: &[v1::InstanceName],
    names: &Names,
    limit: Duration,
) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let instances = local.list(selection(names)?).await?.instances;
        let told: Vec<&v1::Instance> = instances
            .iter()
            .filter(|instance| instance.name.as_ref().is_some_and(|name| told.contains(name)))
            .collect();
        let pending: Vec<&v1::Instance> = told.iter().copied().filter(|instance| !is_done(kind, instance)).collect();
        if pending.is_empty() {
            let failed: Vec<&v1::Instance> = told.into_iter().filter(|instance| instance.owed == "failed").collect();
            return if failed.is_empty() { Ok(()) } else { Err(in_the_way(FAILED, "failed", &failed)) };
        }
        if began.elapsed() >= limit {
            let limit = minder_model::Millis(limit.as_millis() as u64);
            let what = format!("not done after {limit}; the work goes on");
            return Err(in_the_way(TIMED_OUT, &what, &pending));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_done(kind: LocalOrderKind, instance: &v1::Instance) -> bool {
    match kind {
        LocalOrderKind::Stop => {
            !matches!(phase(instance), "PENDING" | "STARTING" | "RUNNING" | "READY" | "STOPPING" | "UNKNOWN")
        }
        LocalOrderKind::Start | LocalOrderKind::Restart | LocalOrderKind::Unspecified => {
            matches!(instance.owed.as_str(), "" | "failed")
        }
    }
}

fn in_the_way(code: u8, what: &str, instances: &[&v1::Instance]) -> Failure {
    let failure = Failure::new(code, format!("{} {what}", count(instances.len() as u64, "instance")));
    instances.iter().take(waiting::NAMED_MAX).fold(failure, |failure, instance| {
        let view = InstanceView::new(instance);
        failure.cause(format!("{} {}: {}", view.full(), view.phase, view.cause))
    })
}

fn verb(kind: LocalOrderKind) -> &'static str {
    match kind {
        LocalOrderKind::Stop => "stop",
        LocalOrderKind::Start => "start",
        LocalOrderKind::Restart => "restart",
        LocalOrderKind::Unspecified => "do nothing to",
    }
}

async fn follow(local: &Local, screen: Screen, command: Logs) -> Result<u8, Failure> {
    let names = some(command.names)?;
    let several = list(local, &names).await?.len() > 1;
    let mut request = command.wish.request(selection(&names)?);
    let mut printer = Printer::new(screen, several);
    loop {
        let mut lost = match local.logs(request.clone()).await {
            Ok(mut pieces) => printer.print(&mut pieces).await,
            // The slave was there a moment ago and may come back.
            Err(Error::Failed(why)) if request.follow => Some(why),
            Err(error) => return Err(error.into()),
        };
        match (request.follow, lost.take()) {
            (false, None) => return Ok(printer.code()),
            (false, Some(why)) => return Err(Failure::new(FAILED, "the output ended early").cause(why)),
            (true, lost) => {
                let why = lost.unwrap_or_else(|| "the slave ended it".into());
                eprintln!("-- output interrupted ({why}); following again, lines in between are missing here --");
                request.tail_lines = 0;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
