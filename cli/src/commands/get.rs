use clap::Args;

use crate::{
    context::{Context, any},
    failure::{DONE, Failure},
    flags::{Output, Select},
    screen::{Tone, put},
    table::Table,
    views::{Listing, ProcessView, print},
    words::since,
};

/// Show declared processes; -o yaml or json with their whole specs
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub select: Select,
    /// Take the asked manager's own state, which may be old, and say how far it is
    #[arg(long)]
    pub stale: bool,
}

pub async fn run(context: &Context, command: Get) -> Result<u8, Failure> {
    let selection = any(&command.select)?;
    let reply = context.client.processes(selection.clone(), command.stale).await?;
    if reply.processes.is_empty() && !selection.all {
        return Err(Failure::nothing_matched(&selection));
    }
    if command.stale {
        eprintln!("as of revision {}", reply.position.as_ref().map_or(0, |position| position.revision));
    }
    let views: Vec<ProcessView> = reply.processes.iter().map(ProcessView::new).collect();
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &Listing::new(reply.position.as_ref(), views))?,
        Output::Name => put(&views.iter().map(|view| format!("{}\n", view.name)).collect::<String>()),
        Output::Table | Output::Wide => put(&table(&views, context.output == Output::Wide).text(&context.screen)),
    }
    Ok(DONE)
}

fn table(views: &[ProcessView], wide: bool) -> Table {
    let mut headings = vec!["NAME", "GEN", "REVISION", "WANTED", "HOSTS", "CHANGED", "BY"];
    if wide {
        headings.push("COMMAND");
    }
    let mut table = Table::new(&headings);
    for view in views {
        let mut cells = vec![
            view.name.clone(),
            view.generation.to_string(),
            view.revision.to_string(),
            if view.wanted_running { "running" } else { "stopped" }.into(),
            view.hosts.len().to_string(),
            since(view.changed_at_ms),
            view.changed_by.clone(),
        ];
        if wide {
            let spec = view.spec.as_ref();
            let words = spec.into_iter().flat_map(|spec| std::iter::once(&spec.command).chain(&spec.args));
            cells.push(words.map(String::as_str).collect::<Vec<_>>().join(" "));
        }
        table.row(cells.into_iter().map(|cell| (cell, Tone::Plain)).collect());
    }
    table
}
