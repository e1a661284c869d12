//! Backups: saved while everything goes on, checked without a cluster. Putting one back is `minder-manager restore`.

mod boot;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use minder_state::{BackupError, BackupHeader, BackupReader, State};
use serde::Serialize;

use crate::{
    context::Context,
    failure::{DONE, FAILED, Failure},
    flags::{Global, Output},
    screen::put,
    views::print,
    words::{bytes, count, time},
};

/// Bytes of a file read at once.
const READ_BYTES: usize = 256 * 1024;

/// Save the cluster's table to a file, check such a file
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Save everything the managers have agreed on, while they go on
    Save(Save),
    /// Check a backup: every checksum, every row, the hash of the whole
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Save {
    /// The file to make; it appears only when it is whole
    pub file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Take what the asked manager has, also when nobody leads
    #[arg(long)]
    pub stale: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The backup
    pub file: PathBuf,
    /// Start a throw-away manager from it as well and compare what it holds
    #[arg(long)]
    pub boot: bool,
    /// The manager's program for --boot [default: minder-manager beside this one, or in the PATH]
    #[arg(long, value_name = "FILE", requires = "boot")]
    pub manager: Option<PathBuf>,
}

pub async fn run(global: &Global, command: Backup) -> Result<u8, Failure> {
    match command {
        Backup::Save(command) => save(&Context::new(global)?, command).await,
        Backup::Verify(command) => verify(global, command).await,
    }
}

async fn save(context: &Context, Save { file, force, stale }: Save) -> Result<u8, Failure> {
    if file.exists() && !force {
        return Err(Failure::usage(format!("{} exists", file.display())).hint("another name, or --force"));
    }
    let mut stream = context.client.save_backup(stale).await?;
    let mut spool = Spool::new(&file).map_err(|error| unusable(&file, &error))?;
    let mut reader = BackupReader::default();
    loop {
        let chunk = stream.message().await.map_err(|status| {
            Failure::new(FAILED, "the backup broke off; no file was made").cause(status.message().to_owned())
        })?;
        let Some(chunk) = chunk else { break };
        reader.push(&chunk.data, |_, _| Ok(())).map_err(|error| damaged_on_the_way(&error))?;
        spool.write(&chunk.data).map_err(|error| unusable(&file, &error))?;
    }
    let (header, rows) = reader.finish().map_err(|error| damaged_on_the_way(&error))?;
    spool.finish(&file).map_err(|error| unusable(&file, &error))?;
    show(context.output, "saved", &file, &header, rows)
}

async fn verify(global: &Global, Verify { file, boot, manager }: Verify) -> Result<u8, Failure> {
    let (header, state, rows) = read(&file)?;
    if boot {
        boot::check(&file, &header, state, manager).await?;
    }
    show(global.output, if boot { "booted and whole" } else { "whole" }, &file, &header, rows)
}

/// Reads and decodes a whole backup.
fn read(file: &Path) -> Result<(BackupHeader, State, u64), Failure> {
    let mut input = File::open(file).map_err(|error| unusable(file, &error))?;
    let mut reader = BackupReader::default();
    let mut state = State::default();
    let mut piece = vec![0; READ_BYTES];
    let wrong = |error: BackupError| Failure::new(FAILED, format!("{}: {error}", file.display()));
    loop {
        match input.read(&mut piece).map_err(|error| unusable(file, &error))? {
            0 => break,
            length => reader.push(&piece[..length], |key, value| state.load_row(key, value)).map_err(wrong)?,
        }
    }
    let (header, rows) = reader.finish().map_err(wrong)?;
    state.complete().map_err(BackupError::Row).map_err(wrong)?;
    Ok((header, state, rows))
}

#[derive(Serialize)]
struct View<'a> {
    file: String,
    cluster_id: &'a str,
    revision: u64,
    term: u64,
    rows: u64,
    bytes: u64,
    state_hash: String,
    version: &'a str,
    created_at_ms: u64,
}

fn show(output: Output, done: &str, file: &Path, header: &BackupHeader, rows: u64) -> Result<u8, Failure> {
    let length = fs::metadata(file).map_or(0, |metadata| metadata.len());
    let view = View {
        file: file.display().to_string(),
        cluster_id: header.cluster.as_str(),
        revision: header.revision.0,
        term: header.term,
        rows,
        bytes: length,
        state_hash: header.state_hash().to_string(),
        version: &header.version,
        created_at_ms: header.created_at_ms,
    };
    match output {
        Output::Json | Output::Yaml => print(output, &view)?,
        Output::Name => put(&format!("{}\n", view.file)),
        Output::Table | Output::Wide => put(&format!(
            "{} is {done}: cluster {}, revision {}, {}, {}, of {} by version {}, state hash {}\n",
            view.file,
            view.cluster_id,
            view.revision,
            count(rows, "row"),
            bytes(length),
            time(header.created_at_ms),
            view.version,
            view.state_hash,
        )),
    }
    Ok(DONE)
}

fn unusable(file: &Path, error: &io::Error) -> Failure {
    Failure::new(FAILED, format!("cannot use {}", file.display())).cause(error.to_string())
}

fn damaged_on_the_way(error: &BackupError) -> Failure {
    Failure::new(FAILED, "the backup did not arrive whole; no file was made").cause(error.to_string())
}

/// A file in the making beside its place: what breaks off leaves nothing that looks like a backup.
struct Spool {
    path: PathBuf,
    file: File,
}

impl Spool {
    fn new(target: &Path) -> io::Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = target.with_file_name(name);
        Ok(Self { file: File::create(&path)?, path })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }

    /// Makes it the file that was asked for, durably.
    fn finish(self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}
