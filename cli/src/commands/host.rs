use clap::{Args, Subcommand};
use minder_client::{Write, v1};

use super::host_history;
use crate::{
    confirm::confirm,
    context::Context,
    failure::{DONE, Failure},
    flags::{Change, Output},
    screen::{Tone, put},
    table::Table,
    views::{FactsView, HostView, Listing, UsageView, WriteView, print},
    words::{age, bytes, cpu, offset},
};

/// Lines below the table that say more about single hosts: as many as a screen has.
const NOTES_MAX: usize = 20;

/// Look at machines, label them, forget them
#[derive(Debug, Subcommand)]
pub enum Host {
    /// List hosts
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one machine: facts, use, disks, processes
    Info(Info),
    /// Set labels (KEY=VALUE) and unset them (KEY-)
    Label(Label),
    /// Forget a host that is gone
    Remove(Remove),
}

#[derive(Debug, Args)]
pub struct List {
    /// Host names, with * as a wildcard
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Info {
    /// Name, or the address its slave announced
    pub host: String,
    /// Its last hour instead: CPU, load, memory, the fullest disk, network
    #[arg(long)]
    pub history: bool,
}

#[derive(Debug, Args)]
pub struct Label {
    /// Name of the host
    pub host: String,
    /// KEY=VALUE sets, KEY- unsets
    #[arg(required = true, value_name = "LABEL")]
    pub labels: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Name of the host
    pub host: String,
    #[command(flatten)]
    pub change: Change,
}

pub async fn run(context: &Context, command: Host) -> Result<u8, Failure> {
    match command {
        Host::List(command) => list(context, command).await,
        Host::Info(command) if command.history => host_history::run(context, &command.host).await,
        Host::Info(command) => info(context, command).await,
        Host::Label(command) => label(context, command).await,
        Host::Remove(command) => remove(context, command).await,
    }
}

async fn list(context: &Context, command: List) -> Result<u8, Failure> {
    let reply = context.client.hosts(command.patterns).await?;
    let views: Vec<HostView> = reply.hosts.iter().map(HostView::new).collect();
    if !reply.note.is_empty() {
        eprintln!("warning: {}", reply.note);
    }
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &Listing::new(reply.position.as_ref(), views))?,
        Output::Name => put(&views.iter().map(|view| format!("{}\n", view.name)).collect::<String>()),
        Output::Table | Output::Wide => {
            put(&table(&views, context.output == Output::Wide).text(&context.screen));
            put(&notes(&views));
        }
    }
    Ok(DONE)
}

/// Why silent hosts are not called lost, one line each.
fn notes(views: &[HostView]) -> String {
    let noted: Vec<&HostView> = views.iter().filter(|view| !view.note.is_empty()).collect();
    let mut text: String = noted.iter().take(NOTES_MAX).map(|view| format!("{}: {}\n", view.name, view.note)).collect();
    if noted.len() > NOTES_MAX {
        text.push_str(&format!("and {} more\n", noted.len() - NOTES_MAX));
    }
    text
}

fn table(views: &[HostView], wide: bool) -> Table {
    let mut headings = vec!["HOST", "CONDITION", "SILENT", "RUNNING", "CPU", "MEMORY", "ADDRESS", "LABELS"];
    if wide {
        headings.extend(["KERNEL", "SLAVE", "SUPERVISION", "REVISION", "CLOCK"]);
    }
    let mut table = Table::new(&headings);
    for view in views {
        let tone = match view.condition {
            "connected" => Tone::Good,
            "suspect" => Tone::Busy,
            "lost" => Tone::Bad,
            _ => Tone::Faint,
        };
        let plain = |text: String| (text, Tone::Plain);
        let mut row = vec![
            plain(view.name.clone()),
            (view.condition.into(), tone),
            plain(view.silent_ms.map_or("-".into(), age)),
            plain(format!("{}/{}", view.instances_running, view.instances_wanted)),
            plain(view.usage.as_ref().map_or("-".into(), |usage| cpu(usage.cpu_permille))),
            plain(memory(view)),
            plain(if view.address.is_empty() { "-".into() } else { view.address.clone() }),
            plain(labels(view)),
        ];
        if wide {
            let facts = view.facts.as_ref();
            row.extend([
                plain(facts.map(|facts| facts.kernel.clone()).unwrap_or_default()),
                plain(facts.map(|facts| facts.slave_version.clone()).unwrap_or_default()),
                plain(facts.map(|facts| facts.supervision.to_owned()).unwrap_or_default()),
                plain(format!("{}/{}", view.assignment_revision_seen, view.assignment_revision)),
                plain(view.clock_offset_ms.map_or("-".into(), offset)),
            ]);
        }
        table.row(row);
    }
    table
}

fn memory(view: &HostView) -> String {
    match (&view.usage, &view.facts) {
        (Some(usage), Some(facts)) => format!("{}/{}", bytes(usage.memory_used_bytes), bytes(facts.memory_bytes)),
        _ => "-".into(),
    }
}

fn labels(view: &HostView) -> String {
    let each: Vec<String> = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if each.is_empty() { "-".into() } else { each.join(",") }
}

async fn info(context: &Context, command: Info) -> Result<u8, Failure> {
    let host = context.client.host(&command.host).await?.host.unwrap_or_default();
    let view = HostView::new(&host);
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &view)?,
        Output::Name => put(&format!("{}\n", view.name)),
        Output::Table | Output::Wide => put(&block(context, &view)),
    }
    Ok(DONE)
}

fn block(context: &Context, view: &HostView) -> String {
    let mut text = format!("{}\n", view.name);
    let mut line = |key: &str, value: String| text.push_str(&format!("  {key:>11}: {value}\n"));
    let silent = view.silent_ms.filter(|ms| *ms >= 1_000).map(|ms| format!(", silent for {}", age(ms)));
    let note = if view.note.is_empty() { String::new() } else { format!(": {}", view.note) };
    line("Condition", format!("{}{}{note}", view.condition, silent.unwrap_or_default()));
    line("Address", view.address.clone());
    if !view.boot_id.is_empty() {
        line("Boot", view.boot_id.clone());
    }
    if let Some(ms) = view.clock_offset_ms {
        line("Clock", format!("{} from the leader's", offset(ms)));
    }
    line("Labels", labels(view));
    line("Processes", format!("{} of {} running", view.instances_running, view.instances_wanted));
    line("Revision", format!("{} of {} taken over", view.assignment_revision_seen, view.assignment_revision));
    if let Some(facts) = &view.facts {
        facts_lines(facts, &mut line);
    }
    if let Some(usage) = &view.usage {
        usage_lines(usage, view.usage_age_ms.unwrap_or(0), &mut line);
        text.push_str(&tables(context, usage));
    }
    text
}

fn facts_lines(facts: &FactsView, line: &mut impl FnMut(&str, String)) {
    line("Machine", format!("{} cores, {}, {}", facts.cores, facts.architecture, facts.cpu_model));
    line("System", format!("{}, kernel {}", facts.os, facts.kernel));
    line("Memory", format!("{}, swap {}", bytes(facts.memory_bytes), bytes(facts.swap_bytes)));
    line("Slave", format!("version {}, supervision by {}", facts.slave_version, facts.supervision));
    for note in &facts.supervision_notes {
        line("Note", note.clone());
    }
    for (resource, held) in &facts.limits {
        line("Limit", format!("{resource}: {held}"));
    }
}

fn usage_lines(usage: &UsageView, age_ms: u64, line: &mut impl FnMut(&str, String)) {
    line("Up", age(usage.uptime_seconds * 1_000));
    let load: Vec<String> =
        usage.load_permille.iter().map(|load| format!("{}.{:02}", load / 1_000, load % 1_000 / 10)).collect();
    line("Use", format!("cpu {}, load {} (sampled {} ago)", cpu(usage.cpu_permille), load.join(" "), age(age_ms)));
    for stray in &usage.strays {
        line("Stray", stray.clone());
    }
    line(
        "In memory",
        format!(
            "{} used, {} available, swap {} used",
            bytes(usage.memory_used_bytes),
            bytes(usage.memory_available_bytes),
            bytes(usage.swap_used_bytes)
        ),
    );
}

fn tables(context: &Context, usage: &UsageView) -> String {
    let plain = |cells: Vec<String>| cells.into_iter().map(|cell| (cell, Tone::Plain)).collect();
    let mut text = String::new();
    if !usage.disks.is_empty() {
        let mut table = Table::new(&["DISK", "DEVICE", "TYPE", "SIZE", "FREE", "INODES", "FREE"]);
        for disk in &usage.disks {
            table.row(plain(vec![
                disk.mount_point.clone(),
                disk.device.clone(),
                disk.file_system.clone(),
                bytes(disk.total_bytes),
                bytes(disk.available_bytes),
                disk.total_inodes.to_string(),
                disk.free_inodes.to_string(),
            ]));
        }
        text.push_str(&format!("\n{}", table.text(&context.screen)));
    }
    if !usage.networks.is_empty() {
        let mut table = Table::new(&["NETWORK", "RECEIVED/S", "SENT/S", "RECEIVED", "SENT"]);
        for network in &usage.networks {
            table.row(plain(vec![
                network.name.clone(),
                bytes(network.received_bytes_per_second),
                bytes(network.sent_bytes_per_second),
                bytes(network.received_bytes),
                bytes(network.sent_bytes),
            ]));
        }
        text.push_str(&format!("\n{}", table.text(&context.screen)));
    }
    if !usage.processes.is_empty() {
        let mut table = Table::new(&["PROCESS", "CPU", "MEMORY", "THREADS", "FILES"]);
        for process in &usage.processes {
            table.row(plain(vec![
                process.instance.clone(),
                cpu(process.cpu_millicores),
                bytes(process.resident_bytes),
                process.threads.to_string(),
                process.open_files.to_string(),
            ]));
        }
        text.push_str(&format!("\n{}", table.text(&context.screen)));
    }
    text
}

async fn label(context: &Context, command: Label) -> Result<u8, Failure> {
    let mut set = Vec::new();
    let mut unset = Vec::new();
    for label in &command.labels {
        match (label.split_once('='), label.strip_suffix('-')) {
            (Some((key, value)), _) => set.push((key.to_owned(), value.to_owned())),
            (None, Some(key)) => unset.push(key.to_owned()),
            (None, None) => {
                return Err(
                    Failure::usage(format!("{label:?} is no label")).hint("KEY=VALUE sets a label, KEY- unsets it")
                );
            }
        }
    }
    let reply = context.client.label_host(&command.host, set, unset, &Write::from(&command.change)).await?;
    done(context, &reply, &format!("{} labelled", command.host))
}

async fn remove(context: &Context, command: Remove) -> Result<u8, Failure> {
    let on_host = v1::Selection { terms: vec![format!("@{}", command.host)], ..Default::default() };
    let instances = context.client.instances(on_host.clone()).await?.instances;
    if !instances.is_empty() {
        confirm(context, "forget", &on_host, &command.change).await?;
    }
    let reply = context.client.remove_host(&command.host, &Write::from(&command.change)).await?;
    done(context, &reply, &format!("{} removed", command.host))
}

fn done(context: &Context, reply: &v1::WriteReply, sentence: &str) -> Result<u8, Failure> {
    for warning in &reply.warnings {
        eprintln!("warning: {warning}");
    }
    let dry = if reply.dry_run { " (dry run)" } else { "" };
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &WriteView::new(reply))?,
        Output::Table | Output::Wide | Output::Name => put(&format!("{sentence}{dry}\n")),
    }
    Ok(DONE)
}
