//! Flags and the configuration file, parsed as typed and resolved once into [`Settings`]. Flags win over the file;
//! unknown keys are refused.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Parser;
use minder_fleet::SilenceLimits;
use serde::Deserialize;

use crate::{busy::STREAMS_MAX_DEFAULT, raft::RaftSettings};

/// One of Minder's replicated managers.
#[derive(Debug, Parser)]
#[command(name = "minder-manager", version, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// What is done to a data folder that no manager uses
    #[command(subcommand)]
    pub offline: Option<crate::offline::Offline>,
    /// Configuration file (TOML); every key is also a flag
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder; one manager each
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where users and slaves connect, HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the other managers connect, HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    peer_listen: Option<String>,
    /// The address users and slaves are told, if it is not the listening one
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// The address the other managers are told, if it is not the listening one
    #[arg(long, value_name = "ADDRESS")]
    peer_advertise: Option<String>,
    /// Where Prometheus reads metrics, HOST:PORT; nowhere unless said
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Listen beyond loopback although connections are neither encrypted nor authenticated yet
    #[arg(long)]
    insecure: bool,
    /// Let `minderctl drill` kill this manager or cut it off for a while
    #[arg(long = "allow-drills")]
    drills: bool,
    /// What to log: error, warn, info, debug, or per module as in `info,minder_manager=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data: Option<PathBuf>,
    listen: Option<String>,
    peer_listen: Option<String>,
    advertise: Option<String>,
    peer_advertise: Option<String>,
    metrics_listen: Option<String>,
    insecure: Option<bool>,
    drills: Option<bool>,
    log: Option<String>,
    disk_floor_mib: Option<u64>,
    suspect_ms: Option<u64>,
    lost_ms: Option<u64>,
    streams_max: Option<usize>,
    mass_silence_percent: Option<u32>,
    mass_silence_hosts: Option<u32>,
    mass_silence_hold_ms: Option<u64>,
    raft: RaftSettings,
}

/// What the manager runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Data folder.
    pub data: PathBuf,
    /// Where users and slaves connect.
    pub listen: SocketAddr,
    /// Where the other managers connect.
    pub peer_listen: SocketAddr,
    /// What users and slaves are told; `None` tells the bound address.
    pub advertise: Option<String>,
    /// What the other managers are told; `None` tells the bound address.
    pub peer_advertise: Option<String>,
    /// Where metrics are read. It may be any address: nothing can be changed there, and nothing is shown but figures.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether it may be killed and cut off for drills.
    pub drills: bool,
    /// Log filter.
    pub log: String,
    /// Free bytes on the data folder's file system below which writes are refused.
    pub disk_floor_bytes: u64,
    /// Watches, events and output that may be followed at once.
    pub streams_max: usize,
    /// When silent hosts are spoken of how.
    pub silence: SilenceLimits,
    /// Consensus.
    pub raft: RaftSettings,
    /// Who syncs the log; nothing that a file or a flag says, but what a simulation replaces.
    pub sync: minder_raft_store::SyncExecutor,
}

/// Users and slaves connect here unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:7701";
/// Managers connect here unless told otherwise.
const PEER_LISTEN_DEFAULT: &str = "127.0.0.1:7702";
/// openraft tells of every beat that fails; what matters of it this program says itself.
const LOG_DEFAULT: &str = "info,openraft=error";
/// A RocksDB flush and compaction of this store need about 64 MiB at the worst; twice that leaves time to act.
const DISK_FLOOR_MIB_DEFAULT: u64 = 128;

impl Settings {
    /// Reads the file, if one is named, and lays the flags over it.
    pub fn resolve(flags: Flags) -> anyhow::Result<Self> {
        let file = flags.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let silence = silence(&file)?;
        let listen = flags.listen.or(file.listen).unwrap_or_else(|| LISTEN_DEFAULT.into());
        let peer_listen = flags.peer_listen.or(file.peer_listen).unwrap_or_else(|| PEER_LISTEN_DEFAULT.into());
        let insecure = flags.insecure || file.insecure.unwrap_or_default();
        file.raft.check()?;
        Ok(Self {
            data: flags
                .data
                .or(file.data)
                .context("no data folder: give --data DIR, or `data` in the configuration")?,
            listen: resolve_address("listen", &listen, insecure)?,
            peer_listen: resolve_address("peer_listen", &peer_listen, insecure)?,
            advertise: flags.advertise.or(file.advertise),
            peer_advertise: flags.peer_advertise.or(file.peer_advertise),
            metrics_listen: flags
                .metrics_listen
                .or(file.metrics_listen)
                .map(|text| resolve_address("metrics_listen", &text, true))
                .transpose()?,
            drills: flags.drills || file.drills.unwrap_or_default(),
            log: flags.log.or(file.log).unwrap_or_else(|| LOG_DEFAULT.into()),
            disk_floor_bytes: file.disk_floor_mib.unwrap_or(DISK_FLOOR_MIB_DEFAULT) << 20,
            streams_max: file.streams_max.unwrap_or(STREAMS_MAX_DEFAULT),
            silence,
            raft: file.raft,
            sync: minder_raft_store::SyncExecutor::default(),
        })
    }
}

fn silence(file: &File) -> anyhow::Result<SilenceLimits> {
    let usual = SilenceLimits::default();
    let limits = SilenceLimits {
        suspect_ms: file.suspect_ms.unwrap_or(usual.suspect_ms),
        lost_ms: file.lost_ms.unwrap_or(usual.lost_ms),
        mass_percent: file.mass_silence_percent.unwrap_or(usual.mass_percent),
        mass_hosts_min: file.mass_silence_hosts.unwrap_or(usual.mass_hosts_min),
        mass_hold_ms: file.mass_silence_hold_ms.unwrap_or(usual.mass_hold_ms),
    };
    if limits.suspect_ms == 0 || limits.lost_ms < limits.suspect_ms {
        bail!("suspect_ms ({}) must be above 0 and not above lost_ms ({})", limits.suspect_ms, limits.lost_ms);
    }
    if !(1..=100).contains(&limits.mass_percent) || limits.mass_hosts_min == 0 {
        bail!(
            "mass_silence_percent ({}) must be within 1 to 100 and mass_silence_hosts ({}) above 0; mass_silence_hold_ms = 0 \
             turns the doubt off",
            limits.mass_percent,
            limits.mass_hosts_min
        );
    }
    Ok(limits)
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no configuration of minder-manager", path.display()))
}

fn resolve_address(what: &str, text: &str, insecure: bool) -> anyhow::Result<SocketAddr> {
    let address = text
        .to_socket_addrs()
        .with_context(|| format!("{what}: {text:?} is no address; write HOST:PORT"))?
        .next()
        .with_context(|| format!("{what}: {text:?} has no address"))?;
    if !address.ip().is_loopback() && !insecure {
        bail!(
            "{what}: {address} is reachable from other machines, and connections are neither encrypted nor authenticated yet; \
             listen on 127.0.0.1, or add --insecure on a network that only friends can reach"
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, flags: &[&str]) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("manager.toml");
        std::fs::write(&path, file)?;
        let path = path.to_string_lossy().into_owned();
        let words = ["minder-manager", "--config", &path].into_iter().chain(flags.iter().copied());
        Settings::resolve(Flags::try_parse_from(words)?)
    }

    #[test]
    fn flags_win_over_the_file() {
        let settings = resolve("data = '/a'\nlisten = '127.0.0.1:1'", &["--listen", "127.0.0.1:2"]).unwrap();
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.data, Path::new("/a"));
        assert!(!settings.drills, "only on somebody's word");
        assert!(resolve("data = '/a'\ndrills = true", &[]).unwrap().drills);
        assert!(resolve("data = '/a'", &["--allow-drills"]).unwrap().drills);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (file, flags, expected) in [
            ("data = '/a'\nlissten = 'x'", vec![], "lissten"),
            ("", vec![], "no data folder"),
            ("data = '/a'", vec!["--listen", "0.0.0.0:1"], "neither encrypted nor authenticated"),
            ("data = '/a'", vec!["--listen", "nonsense"], "HOST:PORT"),
            ("data = '/a'\nsuspect_ms = 9\nlost_ms = 8", vec![], "suspect_ms"),
            ("data = '/a'\nmass_silence_percent = 101", vec![], "mass_silence_percent"),
            ("data = 7", vec![], "no configuration of minder-manager"),
        ] {
            let error = format!("{:#}", resolve(file, &flags).unwrap_err());
            assert!(error.contains(expected), "{file:?} {flags:?}: {error}");
        }
    }
}
