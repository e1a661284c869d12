//! What can be typed.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use minder_model::Millis;

use crate::commands;

/// Starts, stops and watches processes on a fleet of machines.
#[derive(Debug, Parser)]
#[command(name = "minderctl", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Minderctl {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Selections: NAME, NAME:INSTANCE, NAME@HOST, @HOST, with * as a wildcard; -l KEY=VALUE for labels; --all.
Exit codes: 0 done, 1 failed, 2 usage, 3 something selected is not running, 4 nothing matched,
  5 no quorum or unreachable, 6 timed out while waiting, 7 not permitted, 8 conflict.";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Managers, HOST:PORT each, several with commas; any of them will do
    #[arg(
        short,
        long,
        global = true,
        env = "MINDER_SERVERS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "LIST"
    )]
    pub server: Vec<String>,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub output: Output,
    /// Limit on the whole command, such as 10s or 2m [default: 10s, 30s with waiting]
    #[arg(long, global = true, value_parser = duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names alone, one a line
    Name,
}

/// Which instances are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Select {
    /// NAME, NAME:INSTANCE, NAME@HOST or @HOST, with * as a wildcard
    #[arg(value_name = "SELECTION")]
    pub terms: Vec<String>,
    /// Only processes with these labels, KEY=VALUE, several with commas
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Everything
    #[arg(long, conflicts_with = "terms")]
    pub all: bool,
}

/// How a change is made.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Say what would happen and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only if each process touched is at this revision; 0: only if it does not exist
    #[arg(long, value_name = "REVISION")]
    pub expect_revision: Option<u64>,
    /// Identity of the change: repeating it under the same one is safe and gives the first answer
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Do not ask, however much is touched
    #[arg(short, long)]
    pub yes: bool,
}

/// Whether to wait for the hosts.
#[derive(Debug, Clone, Default, Args)]
pub struct Wait {
    /// Wait until the hosts have done it (the default where it changes what runs)
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the change is safe with the managers
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
}

/// Every command; each has its own file.
#[derive(Debug, Subcommand)]
pub enum Command {
    Apply(commands::apply::Apply),
    Validate(commands::validate::Validate),
    Delete(commands::delete::Delete),
    /// Start the selected instances, and remember that they are to run
    Start(commands::order::Order),
    /// Stop the selected instances, and remember that they are not to run
    Stop(commands::order::Order),
    /// Restart the selected instances, or start those that are stopped
    Restart(commands::order::Order),
    Signal(commands::order::Signal),
    /// Have the selected instances read their configuration again, as `reload` in their specs says
    Reload(commands::order::Order),
    /// Try again now what is FATAL or EXITED, with its restart count cleared
    Retry(commands::order::Order),
    #[command(visible_alias = "ls")]
    Ps(commands::ps::Ps),
    Get(commands::get::Get),
    Status(commands::status::Status),
    Explain(commands::explain::Explain),
    Wait(commands::wait::Wait),
    Logs(commands::logs::Logs),
    Events(commands::events::Events),
    #[command(subcommand, visible_alias = "hosts")]
    Host(commands::host::Host),
    #[command(subcommand, visible_alias = "managers")]
    Manager(commands::manager::Manager),
    #[command(subcommand)]
    Backup(commands::backup::Backup),
    Doctor(commands::doctor::Doctor),
    #[command(subcommand)]
    Drill(commands::drill::Drill),
    Local(commands::local::LocalCommand),
    Init(commands::init::Init),
    Version(commands::version::Version),
    Completion(commands::completion::Completion),
}

/// A duration as specs write them.
pub fn duration(text: &str) -> Result<Duration, String> {
    Millis::parse(text).map(|millis| Duration::from_millis(millis.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_fit_together() {
        use clap::CommandFactory;
        Minderctl::command().debug_assert();
        crate::note_client::NoteClient::command().debug_assert();
    }
}
