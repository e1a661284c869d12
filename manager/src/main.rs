//! `minder-manager`: one of Minder's replicated managers.
//!
//! `main` resolves settings, opens the node, serves, and waits for whatever comes first: a signal, or a fault that
//! ends the process with an exit code of its own.

use std::process::ExitCode;

use clap::Parser;
use minder_manager::{Flags, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    minder_proto::vanish::stay_away();
    let mut flags = Flags::parse();
    if let Some(command) = flags.offline.take() {
        return minder_manager::run_offline(command);
    }
    let settings = match Settings::resolve(flags) {
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
    // The allocator asks for huge pages, in which every block that is written to once makes two megabytes resident: a
    // manager with a thousand slaves takes half as much without. A kernel that cannot be told only costs memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("minder-manager: cannot start threads: {problem}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(minder_manager::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            eprintln!("minder-manager: {}", end.message);
            ExitCode::from(end.exit_code)
        }
    }
}
