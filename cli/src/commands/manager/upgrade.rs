//! The end of an upgrade: from there on the cluster takes what all of its managers know.

use clap::Args;
use minder_client::v1;
use serde::Serialize;

use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::Output,
    screen::put,
    views::print,
};

#[derive(Debug, Args)]
pub struct Upgrade {
    /// Let the cluster take the newest commands that every manager knows; older programs cannot come back after it
    #[arg(long)]
    pub finalize: bool,
}

#[derive(Serialize)]
struct View {
    command_version: u32,
    managers: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    id: u64,
    client_address: String,
    /// None when it does not answer.
    command_version: Option<u32>,
}

pub async fn upgrade(context: &Context, command: Upgrade) -> Result<u8, Failure> {
    let reply = context.client.upgrade_managers(command.finalize).await?;
    let view = View { command_version: reply.version, managers: reply.managers.into_iter().map(known).collect() };
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &view)?,
        Output::Name => put(&format!("{}\n", view.command_version)),
        Output::Table | Output::Wide => put(&text(&view)),
    }
    Ok(DONE)
}

fn known(manager: v1::ManagerVersion) -> Known {
    let member = manager.member.unwrap_or_default();
    let command_version = Some(manager.command_version).filter(|version| *version > 0);
    Known { id: member.id, client_address: member.client_address, command_version }
}

fn text(view: &View) -> String {
    let mut text = format!("the cluster takes commands of version {}\n", view.command_version);
    for manager in &view.managers {
        let knows = match manager.command_version {
            Some(version) => format!("knows version {version}"),
            None => "does not answer".into(),
        };
        text.push_str(&format!("manager {} ({}) {knows}\n", manager.id, manager.client_address));
    }
    let versions = view.managers.iter().map(|manager| manager.command_version);
    match versions.min().flatten() {
        Some(common) if common > view.command_version => {
            text.push_str("every manager knows more: `minderctl manager upgrade --finalize` ends the upgrade\n");
        }
        Some(_) | None => {}
    }
    text
}
