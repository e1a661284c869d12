use clap::Args;
use serde::Serialize;

use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::Output,
    screen::put,
    views::print,
};

/// Form a cluster of managers, once in its life
#[derive(Debug, Args)]
pub struct Init {
    /// Peer addresses of all managers, the asked one included: 1, 3 or 5, with commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "LIST")]
    pub peers: Vec<String>,
}

#[derive(Serialize)]
struct Formed {
    cluster_id: String,
    managers: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: u64,
    peer_address: String,
    client_address: String,
}

pub async fn run(context: &Context, command: Init) -> Result<u8, Failure> {
    if !matches!(command.peers.len(), 1 | 3 | 5) {
        return Err(Failure::usage(format!("{} managers cannot form a cluster", command.peers.len()))
            .hint("name 1, 3 or 5: an even number stands no more failures than one fewer"));
    }
    let reply = context.client.init(command.peers).await?;
    let managers = reply.managers.into_iter().map(|one| Member {
        id: one.id,
        peer_address: one.peer_address,
        client_address: one.client_address,
    });
    let formed = Formed { cluster_id: reply.cluster_id, managers: managers.collect() };
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &formed)?,
        Output::Name => put(&format!("{}\n", formed.cluster_id)),
        Output::Table | Output::Wide => {
            put(&format!("cluster {} of {} formed\n", formed.cluster_id, managers_word(formed.managers.len())));
        }
    }
    Ok(DONE)
}

fn managers_word(count: usize) -> String {
    crate::words::count(count as u64, "manager")
}
