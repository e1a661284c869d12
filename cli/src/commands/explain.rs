use clap::Args;
use serde::Serialize;

use crate::{
    context::{Context, some},
    failure::{DONE, Failure},
    flags::{Output, Select},
    screen::{phase_tone, put},
    views::{InstanceView, print},
    words::full,
};

/// Instances explained at a time; more are a matter for ps.
const EXPLAINED_MAX: usize = 20;

/// Say why instances are in their state, what comes next and when, and what to do
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub select: Select,
}

#[derive(Serialize)]
struct Explained {
    instance: InstanceView,
    sentences: Vec<String>,
}

pub async fn run(context: &Context, command: Explain) -> Result<u8, Failure> {
    let selection = some(&command.select)?;
    let instances = context.client.instances(selection.clone()).await?.instances;
    if instances.is_empty() {
        return Err(Failure::nothing_matched(&selection));
    }
    let mut explained = Vec::new();
    for name in instances.iter().filter_map(|instance| instance.name.clone()).take(EXPLAINED_MAX) {
        let reply = context.client.explain(name).await?;
        let instance = InstanceView::new(&reply.instance.unwrap_or_default());
        explained.push(Explained { instance, sentences: reply.sentences });
    }
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &explained)?,
        Output::Name => {
            put(&instances
                .iter()
                .filter_map(|one| one.name.as_ref())
                .map(|name| full(name) + "\n")
                .collect::<String>());
        }
        Output::Table | Output::Wide => {
            for Explained { instance, sentences } in &explained {
                let phase = context.screen.paint(phase_tone(instance.phase), instance.phase);
                let each: String = sentences.iter().map(|sentence| format!("  {sentence}\n")).collect();
                put(&format!("{} is {phase}\n{each}", instance.full()));
            }
        }
    }
    if instances.len() > EXPLAINED_MAX {
        eprintln!("and {} more; narrow the selection", instances.len() - EXPLAINED_MAX);
    }
    Ok(DONE)
}
