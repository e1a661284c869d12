//! A throw-away manager that is made from a backup: what it then holds is compared with what the backup says.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use minder_client::Client;
use minder_state::{BackupHeader, BackupReader, State};

use crate::failure::{FAILED, Failure};

/// Forming a cluster of one and reading it back; a large table takes seconds to load.
const DEADLINE: Duration = Duration::from_secs(60);

/// Restores the backup into a folder of its own, starts a manager there, reads its table back and compares.
pub async fn check(
    file: &Path,
    header: &BackupHeader,
    mut expected: State,
    manager: Option<PathBuf>,
) -> Result<(), Failure> {
    let program = manager.unwrap_or_else(beside);
    let folder = tempfile::Builder::new()
        .prefix("minder-verify-")
        .tempdir()
        .map_err(|error| failed("there is no room for a throw-away manager", error))?;
    let data = folder.path().join("data");
    let restored = command(&program)
        .arg("restore")
        .arg("--from")
        .arg(file)
        .arg("--data")
        .arg(&data)
        .output()
        .map_err(|error| unstartable(&program, error))?;
    if !restored.status.success() {
        return Err(failed("the backup cannot be restored", String::from_utf8_lossy(&restored.stderr).trim()));
    }
    let booted = Booted::start(&program, &data)?;
    let actual = tokio::time::timeout(DEADLINE, booted.table())
        .await
        .map_err(|_| failed("the throw-away manager", format!("did not answer within {DEADLINE:?}")))??;
    // The rebuilt cluster differs from the one before by its own row alone.
    let record = actual.cluster().ok_or_else(|| failed("the throw-away manager", "belongs to no cluster"))?;
    expected
        .rebuild(record.id.clone(), header.revision, record.created_at_ms)
        .map_err(|error| failed("the backup cannot be compared", error))?;
    if expected.hash() != actual.hash() {
        let what = format!("it has state hash {}, the backup says {}", actual.hash(), expected.hash());
        return Err(failed("the throw-away manager does not hold what the backup says", what));
    }
    Ok(())
}

fn failed(what: &str, why: impl ToString) -> Failure {
    Failure::new(FAILED, what).cause(why.to_string())
}

fn unstartable(program: &Path, error: std::io::Error) -> Failure {
    failed("there is no manager to start", format!("{}: {error}", program.display()))
        .hint("name the program with --manager, or leave out --boot")
}

fn beside() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default().with_file_name("minder-manager");
    if own.exists() { own } else { "minder-manager".into() }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// A manager process that ends with this value.
struct Booted {
    child: Child,
    client_address: String,
    peer_address: String,
}

impl Booted {
    fn start(program: &Path, data: &Path) -> Result<Self, Failure> {
        let mut child = command(program)
            .arg("--data")
            .arg(data)
            .args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--log", "error"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| unstartable(program, error))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            // What cannot be read is told by the line that is missing.
            let _ = BufReader::new(out).read_line(&mut line);
        }
        let addresses = line.trim().strip_prefix("ready client=").and_then(|rest| rest.split_once(" peer=")).map(owned);
        let mut booted = Self { child, client_address: String::new(), peer_address: String::new() };
        let Some((client, peer)) = addresses else {
            booted.end();
            let mut said = String::new();
            if let Some(mut error) = booted.child.stderr.take() {
                let _ = error.read_to_string(&mut said);
            }
            return Err(failed("the throw-away manager does not start", said.trim()));
        };
        (booted.client_address, booted.peer_address) = (client, peer);
        Ok(booted)
    }

    /// Forms its cluster and reads its table back.
    async fn table(&self) -> Result<State, Failure> {
        let client = Client::new(vec![self.client_address.clone()])?;
        client.init(vec![self.peer_address.clone()]).await?;
        let mut stream = client.save_backup(false).await?;
        let mut reader = BackupReader::default();
        let mut state = State::default();
        let wrong = |why: String| failed("the throw-away manager's table cannot be read", why);
        while let Some(chunk) = stream.message().await.map_err(|status| wrong(status.message().into()))? {
            let pushed = reader.push(&chunk.data, |key, value| state.load_row(key, value));
            pushed.map_err(|error| wrong(error.to_string()))?;
        }
        reader.finish().map_err(|error| wrong(error.to_string()))?;
        Ok(state)
    }

    fn end(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn owned((client, peer): (&str, &str)) -> (String, String) {
    (client.into(), peer.into())
}

impl Drop for Booted {
    fn drop(&mut self) {
        self.end();
    }
}
