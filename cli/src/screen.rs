//! What may be shown where: colour, repainted lines and questions are for terminals only.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

/// The terminal, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    pub colour: bool,
    pub live: bool,
    pub asks: bool,
}

/// Colours by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Busy,
    Bad,
    Faint,
    Plain,
}

impl Screen {
    pub fn new() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: io::stdout().is_terminal() && !plain,
            live: io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb"),
            asks: io::stdin().is_terminal() && io::stderr().is_terminal(),
        }
    }

    /// The text in its tone, where colours are wanted.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes to standard output. Whoever closed it wants no more, which is no failure.
pub fn put(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The tone of a phase.
pub fn phase_tone(phase: &str) -> Tone {
    match phase {
        "RUNNING" | "READY" => Tone::Good,
        "STARTING" | "STOPPING" | "PENDING" | "BACKOFF" => Tone::Busy,
        "FATAL" | "LOST" | "UNKNOWN" => Tone::Bad,
        _ => Tone::Faint,
    }
}
