use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use minder_client::{Error, v1};

use crate::{
    context::{Context, some},
    failure::{DONE, FAILED, Failure},
    flags::Select,
    screen::Screen,
    words::full,
};

/// A line without an end is printed in pieces of this size, so that memory stays bounded.
const LINE_BYTES_MAX: usize = 64 * 1_024;
/// Pause before a lost stream is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// Show output of instances, prefixed with their names when there are several
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub select: Select,
    #[command(flatten)]
    pub wish: Wish,
}

/// How much of it.
#[derive(Debug, Args)]
pub struct Wish {
    /// Go on showing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Past lines of each instance first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    pub tail: u32,
    /// Standard error only
    #[arg(long, conflicts_with = "stdout")]
    pub stderr: bool,
    /// Standard output only
    #[arg(long)]
    pub stdout: bool,
}

impl Wish {
    /// The call that asks for it.
    pub fn request(&self, selection: v1::Selection) -> v1::LogsRequest {
        let stream = match (self.stdout, self.stderr) {
            (true, _) => "stdout",
            (_, true) => "stderr",
            (false, false) => "",
        };
        let (tail_lines, follow) = (self.tail, self.follow);
        v1::LogsRequest { selection: Some(selection), tail_lines, follow, stream: stream.into() }
    }
}

pub async fn run(context: &Context, command: Logs) -> Result<u8, Failure> {
    let selection = some(&command.select)?;
    let several = context.client.instances(selection.clone()).await?.instances.len() > 1;
    let mut request = command.wish.request(selection);
    let mut printer = Printer::new(context.screen, several);
    loop {
        let mut pieces = context.client.logs(request.clone()).await?;
        let lost = printer.print(&mut pieces).await;
        match (lost, request.follow) {
            (None, false) => return Ok(printer.code()),
            (Some(why), false) => return Err(Error::Failed(format!("the output ended early: {why}")).into()),
            (lost, true) => {
                let why = lost.unwrap_or_else(|| "the manager ended it".into());
                eprintln!("-- output interrupted ({why}); following again, lines in between are missing here --");
                request.tail_lines = 0;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Puts pieces together into lines, so that lines of several instances never mix.
pub struct Printer {
    screen: Screen,
    prefixed: bool,
    colours: BTreeMap<String, u8>,
    open: BTreeMap<(String, String), Vec<u8>>,
    failed: bool,
}

impl Printer {
    /// Prints with the names of instances before their lines, or without.
    pub fn new(screen: Screen, prefixed: bool) -> Self {
        Self { screen, prefixed, colours: BTreeMap::new(), open: BTreeMap::new(), failed: false }
    }

    /// Prints what comes, to its end; gives the reason when that came too early.
    pub async fn print(&mut self, pieces: &mut minder_client::Streaming<v1::LogChunk>) -> Option<String> {
        let lost = loop {
            match pieces.message().await {
                Ok(Some(piece)) => self.take(&piece),
                Ok(None) => break None,
                Err(status) => break Some(status.message().to_owned()),
            }
        };
        self.flush();
        lost
    }

    /// The exit code for what was printed.
    pub fn code(&self) -> u8 {
        if self.failed { FAILED } else { DONE }
    }

    fn take(&mut self, piece: &v1::LogChunk) {
        let name = full(piece.instance.as_ref().unwrap_or(&v1::InstanceName::default()));
        if !piece.error.is_empty() {
            self.failed = true;
            eprintln!("{name}: {}", piece.error);
        }
        let key = (name.clone(), piece.stream.clone());
        let mut open = self.open.remove(&key).unwrap_or_default();
        open.extend_from_slice(&piece.data);
        let mut rest = &open[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line(&name, &rest[..end]);
            rest = &rest[end + 1..];
        }
        while rest.len() > LINE_BYTES_MAX {
            self.line(&name, &rest[..LINE_BYTES_MAX]);
            rest = &rest[LINE_BYTES_MAX..];
        }
        if !rest.is_empty() {
            self.open.insert(key, rest.to_vec());
        }
    }

    /// Prints lines that never ended.
    fn flush(&mut self) {
        for ((name, _), rest) in std::mem::take(&mut self.open) {
            self.line(&name, &rest);
        }
    }

    fn line(&mut self, name: &str, line: &[u8]) {
        let mut text = Vec::with_capacity(line.len() + name.len() + 16);
        if self.prefixed {
            text.extend_from_slice(self.prefix(name).as_bytes());
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        if io::stdout().lock().write_all(&text).is_err() {
            // Whoever closed the output wants no more, which is no failure.
            std::process::exit(0);
        }
    }

    fn prefix(&mut self, name: &str) -> String {
        if !self.screen.colour {
            return format!("{name} | ");
        }
        // Six colours that read well on light and dark, in order of first appearance.
        let next = 31 + (self.colours.len() % 6) as u8;
        let colour = *self.colours.entry(name.to_owned()).or_insert(next);
        format!("\x1b[{colour}m{name}\x1b[0m | ")
    }
}

/// Output within a block of text: what would move the cursor is shown as a dot.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect()
}
