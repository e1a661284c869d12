use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{failure::DONE, flags::Minderctl, screen::put};

/// Write a completion script for a shell
#[derive(Debug, Args)]
pub struct Completion {
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(command: &Completion) -> u8 {
    let mut script = Vec::new();
    generate(command.shell, &mut Minderctl::command(), "minderctl", &mut script);
    put(&String::from_utf8_lossy(&script));
    DONE
}
