//! `minder-slave` as a library: acts for the managers on one machine, and goes on without them. Its program (`main.rs`)
//! gives it settings; whoever checks what lies on a slave's disk reads it with [`journal`] and [`ledger`].
//!
//! [`run`] opens the ledger, finds out how firmly processes can be held, and starts three things that know of each other
//! only through queues and watches: the host, the link to the managers, and the sampler.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod disk;
mod events;
mod host;
pub mod journal;
mod known;
pub mod ledger;
mod link;
mod local;
mod logs;
mod machine;
mod metrics;
mod os;
mod probe;
mod session;
mod settings;

use std::{
    io::Write,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use minder_model::{InstanceKey, MachineHistory};
use minder_proto::vanish;
use minder_shim::identity;
use tokio::{net::TcpListener, signal::unix::SignalKind, sync::watch};

use crate::{
    events::Events,
    host::Host,
    journal::JournalError,
    ledger::{Ledger, LedgerError},
    link::Link,
    local::LocalService,
    os::{bundle::Folders, cgroup::Cgroups},
};

pub use os::leftover::reap as reap_leftovers;
pub use settings::{Flags, Settings};

/// The ledger cannot be written any more.
const EXIT_STORAGE: u8 = 10;
/// The ledger is damaged.
const EXIT_DAMAGED: u8 = 11;
/// Another slave has the folder.
const EXIT_IN_USE: u8 = 14;

/// Acts as a slave until told to end, and says with what code the process should exit. Messages for people go to standard
/// error.
pub async fn run(settings: Settings) -> ExitCode {
    let ledger = match Ledger::open(&settings.data, &settings.name) {
        Ok(ledger) => ledger,
        Err(problem) => {
            let code = exit_code(&problem);
            eprintln!("minder-slave: {:#}", anyhow::Error::from(problem));
            return ExitCode::from(code);
        }
    };
    let settings = Arc::new(settings);
    let cgroups = Cgroups::find(&settings.data, settings.supervision);
    let facts = machine::facts(&cgroups);
    let events = Arc::new(Events::new());
    let (host, handle) = match Host::begin(settings.clone(), ledger, cgroups, events.clone()) {
        Ok(begun) => begun,
        Err(error) => return storage_failed(&settings, &error),
    };
    let (samples, machine) = watch::channel(None);
    let history = Arc::new(Mutex::new(MachineHistory::default()));
    tokio::spawn(machine::sample(handle.view.clone(), settings.machine_interval, samples, history.clone()));
    let folders = Folders::new(&settings.data);
    match local::listen(&settings.data, settings.local_group) {
        Ok(listener) => {
            let (handle, machine, folders, facts) = (handle.clone(), machine.clone(), folders.clone(), facts.clone());
            let logs = Box::new(move |key: &InstanceKey| folders.logs(key));
            let (name, group) = (settings.name.clone(), settings.local_group);
            tokio::spawn(LocalService::new(name, group, handle, machine, facts, logs).serve(listener));
        }
        // Processes are worth more than this way in.
        Err(error) => tracing::error!(%error, "no local orders: the socket in the data folder cannot be opened"),
    }
    let link = Link::new(
        settings.clone(),
        handle,
        events,
        machine,
        history,
        facts,
        identity::boot_id(),
        Box::new(move |key| folders.logs(key)),
    );
    let link = Arc::new(link);
    if let Some(address) = settings.metrics_listen {
        match serve_metrics(link.clone(), address).await {
            Ok(address) => tracing::info!(%address, "metrics are served"),
            Err(error) => {
                eprintln!("minder-slave: cannot listen at {address} (metrics_listen): {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    tokio::spawn(link.run());
    // Whoever started it may have stopped reading by the time it comes back from a drill.
    let _ = writeln!(std::io::stdout(), "ready host={}", settings.name);
    tracing::info!(host = %settings.name, data = %settings.data.display(), "slave is up");
    // Both may be dropped at their await: the process ends, and what it supervises goes on.
    tokio::select! {
        error = host.run() => storage_failed(&settings, &error),
        () = told_to_end() => ExitCode::SUCCESS,
    }
}

async fn serve_metrics(link: Arc<Link>, address: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let any_port = address.port() == 0;
    let address = listener.local_addr()?;
    if any_port {
        vanish::keep("--metrics-listen", address.to_string());
    }
    tokio::spawn(minder_proto::metrics::serve(listener, move || metrics::page(&link)));
    Ok(address)
}

fn storage_failed(settings: &Settings, error: &std::io::Error) -> ExitCode {
    eprintln!(
        "minder-slave: the ledger in {} cannot be written: {error}. Processes run on unsupervised; free or mend the disk, \
         then start this slave again",
        settings.data.display()
    );
    ExitCode::from(EXIT_STORAGE)
}

fn exit_code(problem: &LedgerError) -> u8 {
    match problem {
        LedgerError::InUse { .. } => EXIT_IN_USE,
        LedgerError::Malformed { .. } | LedgerError::Journal(JournalError::Damaged { .. }) => EXIT_DAMAGED,
        LedgerError::Io { .. } | LedgerError::Journal(JournalError::Io { .. }) => EXIT_STORAGE,
    }
}

async fn told_to_end() {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(tokio::signal::unix::signal);
    match signals {
        [Ok(mut terminate), Ok(mut interrupt)] => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process themselves.
        _ => std::future::pending().await,
    }
}
