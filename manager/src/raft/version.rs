//! The gate of new commands: what each manager knows, and the one entry that lets the cluster use it.
//!
//! A manager tells what it knows where it tells who it is. Nothing is concluded from that but whether the gate may be
//! raised: the cluster's version is in the table, rises by an entry and never falls, so that a manager of before which
//! comes back changes nothing that was decided without it.

use futures::future::join_all;
use minder_model::{CommandVersion, RequestId};
use minder_state::{Command, Expect, Proposal};

use super::{
    error::{MembershipError, ProposeError},
    leadership::Member,
    membership::ALIVE_DEADLINE,
    node::Node,
};
use crate::clock::wall_ms;

/// A manager and the commands that it knows.
#[derive(Debug, Clone)]
pub struct Knows {
    /// Which manager.
    pub member: Member,
    /// Up to this version; none when it does not answer.
    pub version: Option<CommandVersion>,
}

/// Why the version was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// Another change of managers, or another leader.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Some managers are too old, or do not answer.
    #[error("{0}")]
    InTheWay(String),
    /// The entry was not written, or nobody knows.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl Node {
    /// The version of commands that the cluster takes.
    pub fn version(&self) -> CommandVersion {
        self.outline(minder_state::Outline::version)
    }

    /// What each manager knows, learners included, asked now.
    pub async fn known_versions(&self) -> Vec<Knows> {
        let own = self.identity().map_or(0, |identity| identity.manager.0);
        let members = self.leadership().borrow().managers.clone();
        let asked = members.into_iter().map(|member| async move {
            let version = if member.id == own { Some(CommandVersion::NEWEST) } else { self.known_by(&member).await };
            Knows { member, version }
        });
        join_all(asked).await
    }

    async fn known_by(&self, member: &Member) -> Option<CommandVersion> {
        let asked = super::init::describe(member.peer_address.clone());
        let peer = tokio::time::timeout(ALIVE_DEADLINE, asked).await.ok()?.ok()?;
        self.check_is(&peer, member.id).ok()?;
        Some(CommandVersion::from_wire(peer.description.command_version))
    }

    /// The version that a cluster which begins now may begin with: all of its managers were just asked by `init`.
    pub async fn first_version(&self) -> CommandVersion {
        let known = self.known_versions().await;
        known.iter().map(|one| one.version.unwrap_or_default()).min().unwrap_or_default()
    }

    /// Raises the cluster's version to what all managers know, and says which one it is then. Nobody joins meanwhile.
    pub async fn raise_version(&self, actor: String) -> Result<CommandVersion, RaiseError> {
        let _turn = self.turn(&|_| true).await?;
        let known = self.known_versions().await;
        let version = self.version();
        let Some(common) = known.iter().map(|one| one.version).min().flatten() else {
            return Err(RaiseError::InTheWay(in_the_way(&known, version)));
        };
        let newest = known.iter().filter_map(|one| one.version).max().unwrap_or(common);
        if common <= version && newest > version {
            return Err(RaiseError::InTheWay(in_the_way(&known, newest)));
        }
        if common <= version {
            return Ok(version);
        }
        let id = format!("raise-version-{common}-{}", uuid::Uuid::now_v7());
        let request = RequestId::new(id).map_err(|error| ProposeError::Unknown(error.to_string()))?;
        let command = Command::RaiseVersion(common);
        let proposal = Proposal { request, time_ms: wall_ms(), actor, expect: Expect::Anything, command };
        self.propose(proposal).await?;
        tracing::info!(version = %common, "the cluster takes commands of a newer version from here on");
        Ok(common)
    }
}

/// Which managers do not know commands of this version, in a sentence; empty when all do.
pub fn in_the_way(known: &[Knows], needed: CommandVersion) -> String {
    let one = |one: &Knows| {
        let name = format!("manager {} ({})", one.member.id, one.member.client_address);
        match one.version {
            Some(version) if version >= needed => None,
            Some(version) => Some(format!("{name} knows commands up to version {version}")),
            None => Some(format!("{name} does not answer")),
        }
    };
    known.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}
