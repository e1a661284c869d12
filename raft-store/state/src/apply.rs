//! One proposal, applied. This file only routes: each command has its own file.

mod host;
mod order;
mod place;
mod spec;

use alloc::string::String;

use minder_model::{ClusterId, CommandVersion, Revision};

use crate::{
    proposal::{Command, Proposal},
    record::ClusterRecord,
    reply::{Outcome, Refusal, Reply},
    state::State,
    writer::{Applied, Writer},
};

impl State {
    /// Applies the proposal at log index `index`. Pure and total: equal states and proposals give equal results on
    /// every manager, and a refusal is a result. A request that is remembered changes nothing and gives its first
    /// answer.
    pub fn apply(&mut self, index: Revision, proposal: &Proposal) -> Applied {
        if let Some(first) = self.remembered(&proposal.request) {
            return Writer::new(self, index).finish(first);
        }
        let mut writer = Writer::new(self, index);
        let version = writer.state.version();
        let outcome = match &proposal.command {
            newer if !newer.is_taken_at(version) => Err(Refusal::NeedsVersion(newer.needs(), version)),
            Command::CreateCluster(id, version) => create_cluster(&mut writer, id.clone(), *version, proposal.time_ms),
            Command::RaiseVersion(version) => raise_version(&mut writer, *version),
            Command::Apply(specs) => spec::apply(&mut writer, specs, proposal),
            Command::Delete(names) => spec::delete(&mut writer, names, proposal),
            Command::Order(order) => order::give(&mut writer, order, proposal),
            Command::RegisterHost(host, address, labels) => {
                host::register(&mut writer, host, address, labels, proposal.time_ms)
            }
            Command::LabelHost(host, labels) => host::label(&mut writer, host, labels),
            Command::RemoveHost(host) => host::remove(&mut writer, host),
        };
        let reply = Reply { revision: index, outcome: outcome.unwrap_or_else(Outcome::Refused) };
        match reply.outcome.remembered(version) {
            Some(outcome) => writer.remember(&proposal.request, &Reply { outcome, ..reply }),
            None => writer.remember(&proposal.request, &reply),
        }
        writer.finish(reply)
    }
}

/// Each command checks everything first and changes nothing when it refuses.
type Answer = Result<Outcome, Refusal>;

fn create_cluster(writer: &mut Writer<'_>, id: ClusterId, version: CommandVersion, created_at_ms: u64) -> Answer {
    match writer.state.cluster() {
        Some(cluster) => Err(Refusal::ClusterExists(cluster.id.clone())),
        None => {
            writer.put_cluster(ClusterRecord { id, created_at_ms, rebuilt: None, version });
            Ok(Outcome::Done)
        }
    }
}

/// Said again, or by somebody who comes late, it changes nothing.
fn raise_version(writer: &mut Writer<'_>, version: CommandVersion) -> Answer {
    let Some(cluster) = writer.state.cluster().cloned() else {
        return Err(Refusal::Invalid(String::from("a cluster without a name has no version to raise")));
    };
    if cluster.version < version {
        writer.put_cluster(ClusterRecord { version, ..cluster });
    }
    Ok(Outcome::Done)
}
