//! `minder-slave`: acts for the managers on one machine, and goes on without them.
//!
//! `main` resolves settings and gives the library threads to run on.

use std::process::ExitCode;

use clap::Parser;
use minder_proto::vanish;
use minder_slave::{Flags, Settings};

/// Two threads wait for everything here; a third would have nothing to do.
const THREADS: usize = 2;

fn main() -> ExitCode {
    if vanish::stay_away() {
        minder_slave::reap_leftovers();
    }
    let settings = match Settings::resolve(Flags::parse()) {
        Ok(settings) => settings,
        Err(problem) => {
            eprintln!("minder-slave: {problem:#}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&settings.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("minder-slave: cannot start threads: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(minder_slave::run(settings));
    // Blocking reads of logs must not hold up the end.
    runtime.shutdown_background();
    end
}
