//! What people type: minderctl, and minder_client of the first design note, which is the same program by another name.
//!
//! This crate knows words, screens and exit codes. How a manager is found and asked is the client library's.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod commands;
mod confirm;
mod context;
mod failure;
mod flags;
mod note_client;
mod screen;
mod settings;
mod table;
mod views;
mod waiting;
mod words;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::Parser;

use crate::flags::Minderctl;

/// Runs what this process was called to do.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = if called.is_some_and(|name| name.ends_with("minder_client")) {
        match note_client::NoteClient::try_parse_from(args) {
            Ok(flags) => runtime.block_on(note_client::run(flags)),
            Err(error) => return usage(&error),
        }
    } else {
        match Minderctl::try_parse_from(args) {
            Ok(flags) => runtime.block_on(commands::run(flags)),
            Err(error) => return usage(&error),
        }
    };
    // Nothing that still waits on a socket or on standard input may hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // Where help or a complaint cannot be printed, the exit code still says it.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { failure::USAGE } else { failure::DONE })
}
