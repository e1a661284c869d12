//! What is done to a data folder that no manager uses: `minder-manager restore`, `recover` and `reseed`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use minder_model::ClusterId;
use minder_raft_store::{RebuildError, Rebuilt, Survivor, finish_interrupted, restore, set_aside};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Offline {
    /// Put the state of a backup into an empty data folder: the beginning of a new cluster
    Restore(Restore),
    /// Begin a new cluster from the only manager that is left of one whose majority is gone for good
    Recover(Recover),
    /// Set the content of a damaged data folder aside, so that this manager can join its cluster again as a new one
    Reseed(Reseed),
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The backup, as `minderctl backup save` wrote it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// An empty data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Args)]
pub struct Recover {
    /// The survivor's data folder; what is in it is kept aside
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Do it: writes that only the lost managers had are lost
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, Args)]
pub struct Reseed {
    /// The damaged data folder; what is in it is kept aside
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Does it and says what comes next.
pub fn run(command: Offline) -> ExitCode {
    let done = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(carry_out(command)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("minder-manager: {error:#}");
            let reason = error.downcast_ref::<RebuildError>().and_then(|error| match error {
                RebuildError::Open(error) => Some(error.exit_reason().code()),
                _ => None,
            });
            ExitCode::from(reason.unwrap_or(1))
        }
    }
}

async fn carry_out(command: Offline) -> anyhow::Result<String> {
    match command {
        Offline::Restore(Restore { from, data }) => {
            if let Some(rebuilt) = finish_interrupted(&data)? {
                return Ok(next("a restore that was cut short is finished", &rebuilt));
            }
            let (header, rebuilt) = restore(&from, &data, new_cluster()?).await?;
            let what = format!(
                "{} holds the state of {}: revision {}, state hash {}",
                data.display(),
                from.display(),
                header.revision,
                header.state_hash()
            );
            Ok(next(&what, &rebuilt))
        }
        Offline::Recover(recover) => self::recover(&recover).await,
        Offline::Reseed(Reseed { data }) => {
            let aside = set_aside(&data)?;
            Ok(reseeded(&data, &aside))
        }
    }
}

async fn recover(Recover { data, accept_loss }: &Recover) -> anyhow::Result<String> {
    if let Some(rebuilt) = finish_interrupted(data)? {
        return Ok(next("a recovery that was cut short is finished", &rebuilt));
    }
    let survivor = Survivor::read(data).await?;
    let inventory = inventory(&survivor);
    if !accept_loss {
        bail!(
            "{inventory}\nNothing was changed. If the others are gone for good, say it again with --accept-loss; if a \
             majority can be started again, start it instead: then nothing is lost"
        );
    }
    let rebuilt = survivor.recover(data, new_cluster()?).await?;
    Ok(next(&inventory, &rebuilt))
}

/// What the survivor has, and what it cannot know.
fn inventory(survivor: &Survivor) -> String {
    let Survivor { identity, managers, applied, last, .. } = survivor;
    let others: Vec<String> = managers
        .iter()
        .filter(|(id, _)| **id != identity.manager.0)
        .map(|(id, node)| format!("{id} ({})", node.peer_address))
        .collect();
    let unsure = match last.0 - applied.0 {
        0 => String::new(),
        count => format!(
            "\nThe last {count} of them, after revision {applied}, were not known to be acknowledged here; they are kept."
        ),
    };
    format!(
        "manager {} of cluster {} has every write up to revision {last}.{unsure}\nWrites after that, which only manager {} \
         had, are lost.",
        identity.manager,
        identity.cluster,
        others.join(" and manager "),
    )
}

fn next(what: &str, rebuilt: &Rebuilt) -> String {
    let Rebuilt { cluster, predecessor, set_aside, .. } = rebuilt;
    let aside = set_aside.as_ref().map(|path| format!("What was there is kept in {}.\n", path.display()));
    format!(
        "{what}\n{}It is the beginning of cluster {cluster}, rebuilt from {predecessor}. Next:\n  \
         1. start this manager, and others with empty data folders\n  \
         2. minderctl --server THIS init --peers THIS,OTHER,OTHER (peer addresses; this one alone will do for now)\n  \
         3. on each slave's machine: minderctl local accept-cluster {cluster}\n",
        aside.unwrap_or_default(),
    )
}

fn reseeded(data: &Path, aside: &Path) -> String {
    format!(
        "{} is empty; what was there is kept in {}.\nIts old id has forgotten its votes and must never vote again. Next:\n  \
         1. minderctl manager remove OLD_ID, at the cluster: `minderctl manager status` names it\n  \
         2. start this manager\n  \
         3. minderctl manager add PEER_ADDRESS, its own: it gets a new id, and everything else from the others\n",
        data.display(),
        aside.display()
    )
}

fn new_cluster() -> anyhow::Result<ClusterId> {
    ClusterId::new(uuid::Uuid::new_v4().to_string()).context("a new cluster's id")
}
