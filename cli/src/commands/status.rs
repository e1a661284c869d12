use std::time::Duration;

use clap::Args;
use minder_client::v1;
use tokio::time::timeout;

use crate::{
    context::{Context, some},
    failure::Failure,
    flags::{Output, Select},
    screen::{Screen, phase_tone, put},
    views::{ExitView, InstanceView, Listing, print},
    words::{bytes, cpu, full, lived, since, time},
};

/// Exits shown; all that are kept are in the other forms.
const EXITS_SHOWN: usize = 5;
/// Output shown with each instance.
const LOG_LINES: u32 = 10;
/// Output of more instances than this is not fetched: nobody reads it.
const LOGS_OF_MAX: usize = 5;
/// A status is not held up longer than this by output that does not come.
const LOG_LIMIT: Duration = Duration::from_secs(2);

/// Show instances one by one, with their last exits and output (exit 3 when one is not running)
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub select: Select,
}

pub async fn run(context: &Context, command: Status) -> Result<u8, Failure> {
    let selection = some(&command.select)?;
    let reply = context.client.instances(selection.clone()).await?;
    if reply.instances.is_empty() {
        return Err(Failure::nothing_matched(&selection));
    }
    let views: Vec<InstanceView> = reply.instances.iter().map(InstanceView::new).collect();
    let code = super::ps::code(&views);
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &Listing::new(reply.position.as_ref(), views))?,
        Output::Name => put(&views.iter().map(|view| view.full() + "\n").collect::<String>()),
        Output::Table | Output::Wide => {
            let with_logs = views.len() <= LOGS_OF_MAX;
            for (instance, view) in reply.instances.iter().zip(&views) {
                let name = instance.name.clone().unwrap_or_default();
                let logs = if with_logs { last_output(context, &name).await } else { Vec::new() };
                put(&block(&context.screen, view, &logs));
            }
        }
    }
    Ok(code)
}

/// How one incarnation ended, and what it had used by then.
fn exit_line(exit: &ExitView) -> String {
    let mut text = format!("{} ago: {}", since(exit.ended_at_ms), exit.how);
    if exit.start_failure_step.is_empty() {
        text.push_str(&format!("; lived {}, cpu {}", lived(exit.lived_ms), lived(exit.cpu_ms)));
    }
    if exit.memory_peak_bytes > 0 {
        text.push_str(&format!(", peak memory {}", bytes(exit.memory_peak_bytes)));
    }
    text
}

/// One instance for people to read.
pub fn block(screen: &Screen, view: &InstanceView, logs: &[String]) -> String {
    let tone = phase_tone(view.phase);
    let mut text = format!("{} {}\n", screen.paint(tone, "●"), view.full());
    let mut line = |key: &str, value: String| text.push_str(&format!("  {key:>10}: {value}\n"));
    let since_text = if view.since_ms == 0 {
        String::new()
    } else {
        format!(" since {}; {} ago", time(view.since_ms), since(view.since_ms))
    };
    line("State", format!("{}{since_text}", screen.paint(tone, view.phase)));
    if view.pid != 0 {
        line("Main PID", view.pid.to_string());
    }
    line("Wanted", if view.wanted_running { "running" } else { "stopped" }.into());
    let wanted = match view.generation {
        generation if generation == view.generation_wanted || generation == 0 => String::new(),
        _ => format!(" (wanted: {})", view.generation_wanted),
    };
    let shown = if view.generation == 0 { view.generation_wanted } else { view.generation };
    line("Generation", format!("{shown}{wanted}"));
    line("Host", view.host.clone());
    line("Restarts", format!("{} in the window, {} in all", view.restarts_in_window, view.restarts));
    if let (Some(used), Some(memory)) = (view.cpu_millicores, view.resident_bytes) {
        line("Use", format!("cpu {}, memory {}", cpu(used), bytes(memory)));
    }
    if view.age_ms > 0 {
        line("Age", format!("last heard of {} ago", crate::words::age(view.age_ms)));
    }
    for (name, check) in [("Health", &view.health), ("Ready", &view.ready)] {
        // Of a process that nobody can see now, its last answers say nothing.
        if let Some(check) = check.as_ref().filter(|_| view.is_running() || view.phase == "STARTING") {
            line(name, check.sentence());
        }
    }
    let why = if view.why.is_empty() { &view.cause } else { &view.why };
    if !why.is_empty() {
        line("Cause", why.clone());
    }
    for warning in &view.warnings {
        line("Warning", warning.clone());
    }
    for (at, exit) in view.exits.iter().rev().take(EXITS_SHOWN).enumerate() {
        line(if at == 0 { "Last exits" } else { "" }, exit_line(exit));
    }
    // What an incarnation that was asked to go said last is no news.
    if let Some(exit) = view.exits.last().filter(|exit| !exit.requested) {
        for (at, said) in exit.last_stderr.lines().chain(exit.last_stdout.lines()).enumerate() {
            line(if at == 0 { "Last said" } else { "" }, crate::commands::logs::printable(said));
        }
    }
    if !view.is_running() || !view.owed.is_empty() {
        line("Next", format!("minderctl explain {}", view.full()));
    }
    if !logs.is_empty() {
        text.push('\n');
        for log in logs {
            text.push_str(&format!("  {log}\n"));
        }
    }
    text.push('\n');
    text
}

/// The last lines of an instance's output, or why there are none; a status is shown without them.
async fn last_output(context: &Context, name: &v1::InstanceName) -> Vec<String> {
    let request = v1::LogsRequest {
        selection: Some(v1::Selection { terms: vec![exactly(name)], ..Default::default() }),
        tail_lines: LOG_LINES,
        follow: false,
        stream: String::new(),
    };
    let fetch = async {
        let mut text = Vec::new();
        let mut problem = None;
        if let Ok(mut stream) = context.client.logs(request).await {
            while let Ok(Some(chunk)) = stream.message().await {
                text.extend_from_slice(&chunk.data);
                if !chunk.error.is_empty() {
                    problem = Some(format!("(no output: {})", chunk.error));
                }
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(crate::commands::logs::printable).chain(problem).collect::<Vec<String>>()
    };
    let lines = timeout(LOG_LIMIT, fetch).await.unwrap_or_default();
    // Both streams have their own last lines; the newest are at the end.
    let skip = lines.len().saturating_sub(LOG_LINES as usize * 2);
    lines.into_iter().skip(skip).collect()
}

/// A term for this instance alone.
pub fn exactly(name: &v1::InstanceName) -> String {
    if name.index <= 1 { format!("{}:1@{}", name.process, name.host) } else { full(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_one_line_with_what_it_used() {
        let kind = Some(v1::exit_status::Kind::Code(3));
        let exit = v1::ExitRecord {
            status: Some(v1::ExitStatus { kind }),
            started_at_ms: 1_000,
            ended_at_ms: 2_500,
            cpu_ms: 12,
            memory_peak_bytes: 3 << 20,
            ..Default::default()
        };
        let line = exit_line(&ExitView::new(&exit));
        assert!(line.ends_with(" ago: exit 3; lived 1.5s, cpu 12ms, peak memory 3.0M"), "{line}");
        let failure = v1::StartFailure { step: "exec".into(), errno: 2, message: "no such file".into() };
        let line = exit_line(&ExitView::new(&v1::ExitRecord { start_failure: Some(failure), ..Default::default() }));
        assert!(line.ends_with("ago: cannot start (exec): no such file"), "{line}");
    }
}
