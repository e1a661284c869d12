//! `minder-manager`: one of Minder's replicated managers.
//!
//! `main` resolves settings, opens the node, serves, and waits for whatever comes first: a signal, or a fault that
//! ends the process with an exit code of its own.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attend;
mod busy;
mod clock;
mod control;
mod core;
mod events;
mod fleet;
mod forward;
mod gathered;
mod history;
mod logs;
mod metrics;
mod offline;
mod presence;
mod raft;
mod serve;
mod settings;
mod silence;

use std::{
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut flags = settings::Flags::parse();
    if let Some(command) = flags.offline.take() {
        return offline::run(command);
    }
    let settings = match settings::Settings::resolve(flags) {
        Ok(settings) => settings,
        Err(problem) => {
            eprintln!("minder-manager: {problem:#}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&settings.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("minder-manager: cannot start threads: {problem}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            eprintln!("minder-manager: {}", end.message);
            ExitCode::from(end.exit_code)
        }
    }
}

/// A short critical section. A panic in another one is a bug there and leaves the value as it was: go on with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
