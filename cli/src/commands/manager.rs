mod change;
mod upgrade;

use clap::{Args, Subcommand};

use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::Output,
    screen::{Tone, put},
    table::Table,
    views::{ManagerView, ManagersView, print},
    words::{age, bytes, offset},
};

/// Look at the managers, hand over leadership, change who they are
#[derive(Debug, Subcommand)]
pub enum Manager {
    /// Show how each manager stands
    Status(Status),
    /// Hand leadership to another manager
    Transfer(Transfer),
    /// Add a manager that runs with an empty data folder
    Add(change::Add),
    /// Take a manager out of the cluster
    Remove(change::Named),
    /// Give a learner a vote
    Promote(change::Named),
    /// Take a manager's vote; it follows as a learner
    Demote(change::Named),
    /// Put a new manager in the place of one that is dead
    Replace(change::Replace),
    /// Tell the cluster where a manager runs now; a manager that is started elsewhere says so by itself
    SetAddress(change::SetAddress),
    /// Show which commands the cluster takes and its managers know; end an upgrade
    Upgrade(upgrade::Upgrade),
}

#[derive(Debug, Args)]
pub struct Status {
    /// Ask one manager for itself alone; also works without a leader
    #[arg(long)]
    pub local: bool,
}

#[derive(Debug, Args)]
pub struct Transfer {
    /// Node id of the next leader; the leader chooses when absent
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "ID")]
    pub to: u64,
}

pub async fn run(context: &Context, command: Manager) -> Result<u8, Failure> {
    match command {
        Manager::Status(command) => status(context, command).await,
        Manager::Transfer(command) => transfer(context, command).await,
        Manager::Add(command) => change::add(context, command).await,
        Manager::Remove(command) => change::remove(context, command).await,
        Manager::Promote(command) => change::promote(context, command).await,
        Manager::Demote(command) => change::demote(context, command).await,
        Manager::Replace(command) => change::replace(context, command).await,
        Manager::SetAddress(command) => change::set_address(context, command).await,
        Manager::Upgrade(command) => upgrade::upgrade(context, command).await,
    }
}

async fn status(context: &Context, command: Status) -> Result<u8, Failure> {
    let view = ManagersView::new(&context.client.managers(command.local).await?);
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &view)?,
        Output::Name => put(&view.managers.iter().map(|one| format!("{}\n", one.client_address)).collect::<String>()),
        Output::Table | Output::Wide => {
            if !view.cluster_id.is_empty() {
                put(&format!(
                    "cluster {}, term {}, commands of version {}{}\n",
                    view.cluster_id,
                    view.term,
                    view.command_version,
                    newer(&view)
                ));
            }
            put(&table(&view, context.output == Output::Wide).text(&context.screen));
        }
    }
    Ok(DONE)
}

fn table(view: &ManagersView, wide: bool) -> Table {
    let mut headings =
        vec!["ID", "ROLE", "ADDRESS", "TERM", "APPLIED", "LAG", "FSYNC p50/p99", "SESSIONS", "DISK FREE", "UP"];
    if wide {
        headings.extend([
            "PEER",
            "LAST",
            "COMMITTED",
            "SNAPSHOT",
            "PURGED",
            "LOG SIZE",
            "SNAPSHOT SIZE/AGE",
            "LEADERS",
            "CLOCK",
            "ANSWER",
            "WRITES",
            "HASH",
            "VERSION",
            "COMMANDS",
        ]);
    }
    let mut table = Table::new(&headings);
    for manager in &view.managers {
        let tone = match manager.role.as_str() {
            "leader" => Tone::Good,
            "unreachable" | "no cluster" => Tone::Bad,
            "candidate" => Tone::Busy,
            _ => Tone::Plain,
        };
        let plain = |text: String| (text, Tone::Plain);
        let mut row = vec![
            plain(manager.id.to_string()),
            (role(manager), tone),
            plain(manager.client_address.clone()),
            plain(manager.term.to_string()),
            plain(manager.applied_index.to_string()),
            plain(manager.lag.to_string()),
            plain(format!("{}/{}", milliseconds(manager.fsync_p50_us), milliseconds(manager.fsync_p99_us))),
            plain(manager.sessions.to_string()),
            plain(bytes(manager.disk_free_bytes)),
            plain(age(manager.uptime_seconds * 1_000)),
        ];
        if wide {
            row.extend([
                plain(manager.peer_address.clone()),
                plain(manager.last_log_index.to_string()),
                plain(manager.committed_index.to_string()),
                plain(manager.snapshot_index.to_string()),
                plain(manager.purged_index.to_string()),
                plain(bytes(manager.log_bytes)),
                plain(snapshot(manager)),
                plain(manager.leader_changes.to_string()),
                plain(manager.clock_offset_ms.map_or("-".into(), offset)),
                plain(manager.answered_in_us.map_or("-".into(), milliseconds)),
                plain(format!("{}/{}", manager.proposals_in_flight, manager.proposals_max)),
                plain(manager.state_hash.chars().take(12).collect()),
                plain(manager.version.clone()),
                plain(manager.command_version.map_or("-".into(), |version| version.to_string())),
            ]);
        }
        table.row(row);
    }
    table
}

/// What the managers that answer know beyond what the cluster takes: the upgrade is not finished.
fn newer(view: &ManagersView) -> String {
    let known = || view.managers.iter().filter_map(|manager| manager.command_version);
    let (Some(least), Some(most)) = (known().min(), known().max()) else { return String::new() };
    match least > view.command_version {
        _ if most <= view.command_version => String::new(),
        true => format!(", managers know {least}: `minderctl manager upgrade --finalize` ends the upgrade"),
        false => format!(", some managers know {most}: the upgrade is under way"),
    }
}

/// One that answers says by its role whether it votes.
fn role(manager: &ManagerView) -> String {
    match manager.role.as_str() {
        "unreachable" if !manager.voter => "unreachable learner".into(),
        role => role.into(),
    }
}

fn snapshot(manager: &ManagerView) -> String {
    match manager.snapshot_age_ms {
        Some(ms) => format!("{}/{}", bytes(manager.snapshot_bytes), age(ms)),
        None => "-".into(),
    }
}

fn milliseconds(us: u64) -> String {
    format!("{}.{}ms", us / 1_000, us % 1_000 / 100)
}

async fn transfer(context: &Context, command: Transfer) -> Result<u8, Failure> {
    let reply = context.client.transfer_leader(command.to).await?;
    match context.output {
        Output::Json | Output::Yaml => {
            print(context.output, &std::collections::BTreeMap::from([("leader_id", reply.leader_id)]))?;
        }
        Output::Name => put(&format!("{}\n", reply.leader_id)),
        Output::Table | Output::Wide => put(&format!("manager {} leads\n", reply.leader_id)),
    }
    Ok(DONE)
}
