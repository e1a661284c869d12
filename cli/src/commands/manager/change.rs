//! Changes of the managers: their steps are shown as they are done.

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
pub struct Add {
    /// Its peer address, HOST:PORT
    #[arg(value_name = "ADDRESS")]
    pub address: String,
}

#[derive(Debug, Args)]
pub struct Named {
    /// Node id, or peer or client address
    #[arg(value_name = "MANAGER")]
    pub manager: String,
}

#[derive(Debug, Args)]
pub struct Replace {
    /// Node id or address of the one that goes
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Peer address of the one that comes; it runs with an empty data folder
    #[arg(value_name = "ADDRESS")]
    pub address: String,
}

#[derive(Debug, Args)]
pub struct SetAddress {
    /// Node id
    #[arg(value_name = "ID")]
    pub id: u64,
    /// The peer address at which it runs now, HOST:PORT
    #[arg(value_name = "ADDRESS")]
    pub address: String,
}

/// What came of it. Without a manager it is gone.
#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<Member>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Member {
    id: u64,
    peer_address: String,
    client_address: String,
    voter: bool,
}

pub async fn add(context: &Context, command: Add) -> Result<u8, Failure> {
    show(context, context.client.add_manager(command.address, String::new(), |step| tell(context, &step)).await?)
}

pub async fn replace(context: &Context, command: Replace) -> Result<u8, Failure> {
    show(context, context.client.add_manager(command.address, command.old, |step| tell(context, &step)).await?)
}

pub async fn remove(context: &Context, command: Named) -> Result<u8, Failure> {
    show(context, context.client.remove_manager(command.manager, |step| tell(context, &step)).await?)
}

pub async fn promote(context: &Context, command: Named) -> Result<u8, Failure> {
    show(context, context.client.promote_manager(command.manager, |step| tell(context, &step)).await?)
}

pub async fn demote(context: &Context, command: Named) -> Result<u8, Failure> {
    show(context, context.client.demote_manager(command.manager, |step| tell(context, &step)).await?)
}

pub async fn set_address(context: &Context, command: SetAddress) -> Result<u8, Failure> {
    show(context, context.client.set_manager_address(command.id, command.address, |step| tell(context, &step)).await?)
}

fn tell(context: &Context, step: &v1::MembershipProgress) {
    if !matches!(context.output, Output::Table | Output::Wide) {
        return;
    }
    match step.entries_total {
        0 => put(&format!("{}\n", step.step)),
        total => put(&format!("{}: {} of {total} entries\n", step.step, step.entries)),
    }
}

fn show(context: &Context, last: v1::MembershipProgress) -> Result<u8, Failure> {
    for warning in &last.warnings {
        eprintln!("warning: {warning}");
    }
    let voter = last.voter;
    let manager = last.member.map(|member| Member {
        id: member.id,
        peer_address: member.peer_address,
        client_address: member.client_address,
        voter,
    });
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &Changed { manager, warnings: last.warnings })?,
        Output::Name => put(&manager.map(|member| format!("{}\n", member.id)).unwrap_or_default()),
        Output::Table | Output::Wide => {
            let Some(Member { id, peer_address, client_address, .. }) = manager else { return Ok(DONE) };
            let role = if voter { "votes" } else { "is a learner" };
            put(&format!("manager {id} at {peer_address}, for clients {client_address}, {role}\n"));
        }
    }
    Ok(DONE)
}
