use clap::Args;
use minder_client::v1;

use crate::{
    context::{Context, any},
    failure::{DONE, Failure, NOT_RUNNING},
    flags::{Output, Select},
    screen::{Screen, Tone, phase_tone, put},
    table::Table,
    views::{InstanceView, Listing, print},
    words::{age, bytes, cpu, now_ms},
};

/// List instances: where, how, since when, how often restarted (exit 3 when one is not running)
#[derive(Debug, Args)]
pub struct Ps {
    #[command(flatten)]
    pub select: Select,
    /// Show again on every change
    #[arg(short, long)]
    pub watch: bool,
}

pub async fn run(context: &Context, command: Ps) -> Result<u8, Failure> {
    let selection = any(&command.select)?;
    if command.watch {
        return follow(context, selection).await;
    }
    let reply = context.client.instances(selection.clone()).await?;
    if reply.instances.is_empty() && !selection.all {
        return Err(Failure::nothing_matched(&selection));
    }
    show(context.output, &context.screen, &reply)
}

async fn follow(context: &Context, selection: v1::Selection) -> Result<u8, Failure> {
    let mut watch = context.client.watch_instances(selection);
    loop {
        let reply = watch.next().await?;
        if context.screen.colour {
            // Home and clear: the table is repainted in place.
            put("\x1b[H\x1b[2J");
        }
        show(context.output, &context.screen, &reply)?;
    }
}

/// The exit code that says whether all of them run.
pub fn code(views: &[InstanceView]) -> u8 {
    if views.iter().all(InstanceView::is_running) { DONE } else { NOT_RUNNING }
}

pub fn show(output: Output, screen: &Screen, reply: &v1::ListInstancesReply) -> Result<u8, Failure> {
    let views: Vec<InstanceView> = reply.instances.iter().map(InstanceView::new).collect();
    let code = code(&views);
    match output {
        Output::Json | Output::Yaml => print(output, &Listing::new(reply.position.as_ref(), views))?,
        Output::Name => put(&views.iter().map(|view| view.full() + "\n").collect::<String>()),
        Output::Table | Output::Wide => put(&table(output, &views).text(screen)),
    }
    Ok(code)
}

fn table(output: Output, views: &[InstanceView]) -> Table {
    let wide = output == Output::Wide;
    let mut headings = vec!["NAME", "HOST", "STATE", "PID", "UPTIME", "↺", "CPU", "MEM", "GEN"];
    if wide {
        headings.extend(["OWED", "INC", "THREADS", "FILES", "AGE", "LABELS"]);
    }
    headings.push("CAUSE");
    let mut table = Table::new(&headings);
    for view in views {
        let plain = |text: String| (text, Tone::Plain);
        let mut row = vec![
            plain(view.name.clone()),
            plain(view.host.clone()),
            (view.phase.into(), phase_tone(view.phase)),
            plain(dash(view.pid != 0, || view.pid.to_string())),
            plain(dash(view.pid != 0 && view.started_at_ms != 0, || age(now_ms().saturating_sub(view.started_at_ms)))),
            plain(format!("{}/{}", view.restarts_in_window, view.restarts)),
            plain(view.cpu_millicores.map_or("-".into(), cpu)),
            plain(view.resident_bytes.map_or("-".into(), bytes)),
            plain(generation(view)),
        ];
        if wide {
            let labels: Vec<String> = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            row.extend([
                plain(dash(!view.owed.is_empty(), || view.owed.clone())),
                plain(view.incarnation.to_string()),
                plain(view.threads.map_or("-".into(), |count| count.to_string())),
                plain(view.open_files.map_or("-".into(), |count| count.to_string())),
                plain(age(view.age_ms)),
                plain(dash(!labels.is_empty(), || labels.join(","))),
            ]);
        }
        row.push(plain(cause(view)));
        table.row(row);
    }
    table
}

fn dash(known: bool, text: impl FnOnce() -> String) -> String {
    if known { text() } else { "-".into() }
}

/// `3`, or `2→3` while the wanted one does not run yet.
fn generation(view: &InstanceView) -> String {
    if view.generation == view.generation_wanted || view.generation == 0 {
        view.generation_wanted.to_string()
    } else {
        format!("{}→{}", view.generation, view.generation_wanted)
    }
}

/// The server's sentence where it has one, for it knows about hosts too.
fn cause(view: &InstanceView) -> String {
    let text = if view.why.is_empty() { &view.cause } else { &view.why };
    text.lines().next().unwrap_or_default().to_owned()
}
