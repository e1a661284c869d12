use clap::Args;
use minder_client::{Error, v1};

use crate::{
    context::{Context, any},
    failure::{DONE, FAILED, Failure},
    flags::{Output, Select},
    screen::put,
    views::EventView,
    words::time,
};

/// Show what happened in the fleet, newest last
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    pub select: Select,
    /// Go on showing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Past events first, at most
    #[arg(short = 'n', long, default_value_t = 100, value_name = "COUNT")]
    pub tail: u32,
}

pub async fn run(context: &Context, command: Events) -> Result<u8, Failure> {
    let selection = any(&command.select)?;
    let request =
        v1::EventsRequest { selection: Some(selection), tail: command.tail, follow: command.follow, only_new: false };
    let mut events = context.client.events(request).await?;
    loop {
        match events.message().await {
            Ok(Some(event)) => put(&line(context.output, event)?),
            Ok(None) => return Ok(DONE),
            Err(status) => return Err(Error::Failed(format!("the events ended early: {}", status.message())).into()),
        }
    }
}

/// One line per event in every form, so that they can be followed.
fn line(output: Output, event: v1::Event) -> Result<String, Failure> {
    let view = EventView {
        time_ms: event.time_ms,
        kind: event.kind,
        host: event.host,
        process: event.process,
        instance: event.index,
        text: event.text,
    };
    Ok(match output {
        Output::Json => {
            serde_json::to_string(&view).map_err(|error| {
                Failure::new(FAILED, "an event cannot be written in this form").cause(error.to_string())
            })? + "\n"
        }
        Output::Yaml => {
            let text = serde_yaml_ng::to_string(&view).map_err(|error| {
                Failure::new(FAILED, "an event cannot be written in this form").cause(error.to_string())
            })?;
            format!("---\n{text}")
        }
        Output::Table | Output::Wide | Output::Name => {
            let place = match (view.process.as_str(), view.host.as_str()) {
                ("", host) => host.to_owned(),
                (process, "") => process.to_owned(),
                (process, host) if view.instance > 1 => format!("{process}:{}@{host}", view.instance),
                (process, host) => format!("{process}@{host}"),
            };
            format!("{}  {:<7} {place}  {}\n", time(view.time_ms), view.kind, view.text)
        }
    })
}
