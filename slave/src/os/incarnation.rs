//! One incarnation and its shim: started or found again, told what to do, listened to until its end was taken note of.
//!
//! One task each. What it hears goes to the host as [`News`]; what it is to do comes as shim requests.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream as Newborn,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use minder_model::{Hooks, Incarnation, InstanceKey, StartFailure};
use minder_shim::{
    fail_point,
    output::Output,
    protocol::{Request, VERSION, decode_record, next_frame},
    record::{Record, Stage},
};
use minder_supervisor::ProbeKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    bundle::Bundle,
    cgroup::{self, Used},
    command::one_line,
    files::{self, RenderedFile},
    hook,
    nursery::Nursery,
    orphan::Orphan,
    stray::StrayPlace,
};

/// A shim of a nursery that works answers within milliseconds. After this the nursery is taken for stuck.
const BIRTH_WAIT: Duration = Duration::from_secs(30);
/// A shim that lives listens, and a busy one takes a connection within a few milliseconds.
const CONNECT_INTERVAL: Duration = Duration::from_millis(1);
/// After this many quick tries a shim is late because the machine is busy: look less often.
const CONNECT_QUICK_TRIES: u32 = 100;
const CONNECT_SLOW_INTERVAL: Duration = Duration::from_millis(50);
/// A shim that cannot be reached for this long and does not end is stuck or stopped; it is tried for ever, and said.
const CONNECT_WARN: Duration = Duration::from_secs(10);

/// What a host hears of an incarnation.
#[derive(Debug)]
pub struct News {
    /// Which instance.
    pub key: InstanceKey,
    /// Which of its starts.
    pub incarnation: Incarnation,
    /// What.
    pub what: What,
}

/// What is heard.
#[derive(Debug)]
pub enum What {
    /// It runs, and this is its record.
    Running(Record),
    /// It is over, and this is what it left.
    Over(Box<Over>),
    /// There is no shim, so there never was a program.
    NoShim(StartFailure),
    /// Every process of it is gone and its `post_stop` hook runs; [`What::Over`] follows.
    Leaving,
    /// A hook that cannot hold anything up has failed.
    HookFailed(String),
    /// A question to it is answered.
    Probed {
        /// By which check.
        kind: ProbeKind,
        /// Its number.
        number: u64,
        /// Success, or what came instead.
        answer: Result<(), String>,
    },
}

/// What an incarnation left.
#[derive(Debug, Default)]
pub struct Over {
    /// The last record; none when there never was one.
    pub record: Option<Record>,
    /// What its cgroup counted.
    pub used: Used,
    /// The last it said.
    pub output: Output,
    /// Which of several a failed step of its start was about.
    pub failure: String,
}

/// One incarnation's task.
pub struct Attendant {
    /// Which instance.
    pub key: InstanceKey,
    /// Which of its starts.
    pub incarnation: Incarnation,
    /// Its folder.
    pub bundle: Bundle,
    /// Its cgroup; empty where there are none.
    pub cgroup: PathBuf,
    /// The program that runs its hooks.
    pub shim: Arc<Path>,
    /// Where its shim comes from.
    pub nursery: Arc<Nursery>,
    /// What is run before its start and after its end.
    pub hooks: Hooks,
    /// What it is to do.
    pub requests: mpsc::Receiver<Request>,
    /// Who wants to know.
    pub news: mpsc::Sender<News>,
}

/// The host is gone: so is this slave.
struct HostGone;

/// Tells a newborn shim that its program is to be started.
pub fn let_go(mut shim: &Newborn) {
    // Whoever reads the answer finds out that there is no shim.
    let _ = shim.write_all(&Request::Hello { version: VERSION }.encode());
}

impl Attendant {
    /// Attends to a start. What has no shim yet gets what strayed before it ended, its small files, its hook before the
    /// start, and then one.
    pub async fn start(mut self, strays: Vec<StrayPlace>, files: Vec<RenderedFile>, shim: Option<Newborn>) {
        for stray in strays {
            stray.end().await;
        }
        let shim = match shim {
            Some(shim) => Ok(shim),
            None => self.begin(files).await,
        };
        match shim {
            Ok(shim) => self.attend(Some(shim)).await,
            // A host that is gone needs no word.
            Err(Some(what)) => drop(self.tell(what).await),
            Err(None) => {}
        }
    }

    async fn begin(&mut self, files: Vec<RenderedFile>) -> Result<Newborn, Option<What>> {
        self.prepare(files).await?;
        fail_point!("start-prepared");
        let shim = self.nursery.birth(self.bundle.path()).map_err(|failure| Some(What::NoShim(failure)))?;
        let_go(&shim);
        Ok(shim)
    }

    /// What comes before the program. The error is what to tell, if anybody is left to be told.
    async fn prepare(&mut self, files: Vec<RenderedFile>) -> Result<(), Option<What>> {
        self.write_files(files).await.map_err(|failure| Some(What::NoShim(failure)))?;
        fail_point!("files-written");
        self.pre_start().await
    }

    async fn write_files(&self, files: Vec<RenderedFile>) -> Result<(), StartFailure> {
        if files.is_empty() {
            return Ok(());
        }
        let folder = self.bundle.files();
        let written = tokio::task::spawn_blocking(move || files::write(&folder, &files)).await;
        // Writing panics nowhere, and a runtime that ends takes this task along.
        written.unwrap_or_else(|error| {
            Err(StartFailure { step: "files".into(), errno: 0, message: format!("files: not written: {error}") })
        })
    }

    /// Runs the hook before the start.
    async fn pre_start(&mut self) -> Result<(), Option<What>> {
        let Some(hook) = self.hooks.pre_start.clone() else { return Ok(()) };
        let limit = Duration::from_millis(hook.timeout.0);
        let ran = hook::run(&self.shim, self.bundle.path(), "pre_start", &hook, limit);
        let mut ran = pin!(ran);
        let outcome = loop {
            // The hook is waited for over all turns; a dropped one is ended. The queue keeps what it holds.
            tokio::select! {
                outcome = &mut ran => break outcome,
                request = self.requests.recv() => match request {
                    Some(Request::KillTree) => break Err("pre_start hook was ended by a stop".into()),
                    // There is nobody to signal yet.
                    Some(Request::Hello { .. } | Request::Signal { .. } | Request::Release) => {}
                    None => return Err(None),
                },
            }
        };
        let failure =
            |message: String| StartFailure { step: "pre_start".into(), errno: 0, message: one_line(&message) };
        outcome.map_err(|message| Some(What::NoShim(failure(message))))
    }

    /// Runs the hook after the end of a program that ran. Every process is gone, so no request means anything now.
    async fn post_stop(&mut self) -> Result<(), HostGone> {
        let Some(hook) = self.hooks.post_stop.clone() else { return Ok(()) };
        self.tell(What::Leaving).await?;
        let limit = Duration::from_millis(hook.timeout.0);
        if let Err(message) = hook::run(&self.shim, self.bundle.path(), "post_stop", &hook, limit).await {
            self.tell(What::HookFailed(one_line(&message))).await?;
        }
        Ok(())
    }

    /// Attends to an incarnation whose shim was just born here, or was started by the slave before. The shim lives on when
    /// this slave does not.
    pub async fn attend(mut self, shim: Option<Newborn>) {
        // The host being gone means that this process ends; the shim goes on.
        let _ = self.until_over(shim).await;
    }

    async fn until_over(&mut self, shim: Option<Newborn>) -> Result<(), HostGone> {
        let newborn = shim.is_some();
        if let Some(shim) = shim
            && self.converse_with_newborn(shim).await?
        {
            return Ok(());
        }
        let begin = Instant::now();
        let mut tries = 0;
        let mut warned = false;
        loop {
            if let Ok(mut connection) = self.bundle.connect().await
                && send(&mut connection, Request::Hello { version: VERSION }).await.is_ok()
                && self.converse(connection).await?
            {
                return Ok(());
            }
            match self.bundle.close() {
                Ok(true) => {
                    fail_point!("late-shim-shut-out");
                    return self.without_shim(newborn).await;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(bundle = %self.bundle.path().display(), %error, "cannot look"),
            }
            tries += 1;
            if begin.elapsed() > CONNECT_WARN && !warned {
                warned = true;
                tracing::warn!(instance = %self.key, "its shim cannot be reached; trying on");
            }
            let wait = if tries < CONNECT_QUICK_TRIES { CONNECT_INTERVAL } else { CONNECT_SLOW_INTERVAL };
            tokio::time::sleep(wait).await;
        }
    }

    /// Speaks with a shim that was let go on this connection.
    async fn converse_with_newborn(&mut self, shim: Newborn) -> Result<bool, HostGone> {
        let connection = shim.set_nonblocking(true).and_then(|()| UnixStream::from_std(shim));
        // Without a descriptor for it there may be one later: the shim is looked for as one of before.
        let Ok(connection) = connection else { return Ok(false) };
        if timeout(BIRTH_WAIT, connection.readable()).await.is_err() {
            tracing::warn!(instance = %self.key, "its shim was not born in time; starting another nursery");
            self.nursery.replace();
            return Ok(false);
        }
        self.converse(connection).await
    }

    /// Speaks with a shim that was greeted. `true` when the incarnation is over and released.
    async fn converse(&mut self, mut connection: UnixStream) -> Result<bool, HostGone> {
        let mut buffer = Vec::new();
        fail_point!("shim-greeted");
        let mut over = false;
        loop {
            // Both may be dropped at their await: `read_buf` keeps nothing outside its buffer, the queue what it holds.
            tokio::select! {
                read = connection.read_buf(&mut buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return Ok(over);
                    }
                    while let Some(record) = take_record(&mut buffer) {
                        over |= self.hear(record).await?;
                    }
                }
                request = self.requests.recv() => {
                    let Some(request) = request else { return Err(HostGone) };
                    let released = request == Request::Release;
                    let sent = send(&mut connection, request).await;
                    fail_point!("request-sent");
                    if sent.is_err() || released {
                        return Ok(over);
                    }
                }
            }
        }
    }

    /// Passes on what the record says. `true` when it is the last one.
    async fn hear(&mut self, record: Record) -> Result<bool, HostGone> {
        match record.stage {
            Stage::Preparing | Stage::Draining => Ok(false),
            Stage::Running => {
                fail_point!("running-heard");
                self.tell(What::Running(record)).await.map(|()| false)
            }
            Stage::StartFailed => self.tell(self.over(Some(record))).await.map(|()| true),
            Stage::Ended => {
                fail_point!("end-heard");
                self.post_stop().await?;
                fail_point!("post-stop-run");
                self.tell(self.over(Some(record))).await.map(|()| true)
            }
        }
    }

    /// No shim works here, and none ever will. What the record says is all that is known; of one that was to be born
    /// here it is also known that there was nothing before.
    async fn without_shim(&mut self, newborn: bool) -> Result<(), HostGone> {
        let record = match self.bundle.record() {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(bundle = %self.bundle.path().display(), %error, "record not readable");
                None
            }
        };
        if newborn && record.as_ref().is_none_or(|record| record.main_pid == 0) {
            return self.tell(What::NoShim(unborn())).await;
        }
        if let Some(record) = &record
            && record.stage != Stage::Ended
        {
            match Orphan::hold(record) {
                Ok(Some(orphan)) => {
                    tracing::warn!(instance = %self.key, pid = record.main_pid, "its shim is gone; held without it");
                    fail_point!("orphan-held");
                    self.tell(What::Running(record.clone())).await?;
                    orphan.until_ended(&mut self.requests, &self.cgroup).await;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(instance = %self.key, %error, "its process cannot be held"),
            }
        }
        // Nothing of this incarnation may meet the next one. Without a cgroup there is no telling who belonged to it.
        cgroup::end(&self.cgroup).await;
        fail_point!("leftovers-ended");
        if record.as_ref().is_some_and(|record| matches!(record.stage, Stage::Running | Stage::Draining | Stage::Ended))
        {
            self.post_stop().await?;
        }
        self.tell(self.over(record)).await
    }

    /// Gathers what is left. Nothing of it is running any more, and the cgroup stays until the end was taken note of.
    fn over(&self, record: Option<Record>) -> What {
        What::Over(Box::new(Over {
            record,
            used: Used::read(&self.cgroup),
            output: self.bundle.output(),
            failure: self.bundle.failure(),
        }))
    }

    async fn tell(&self, what: What) -> Result<(), HostGone> {
        let news = News { key: self.key.clone(), incarnation: self.incarnation, what };
        self.news.send(news).await.map_err(|_| HostGone)
    }
}

fn unborn() -> StartFailure {
    let message = "its shim ended before it started anything; is minder-shim of another version than minder-slave?";
    StartFailure { step: "shim".into(), errno: 0, message: message.into() }
}

async fn send(connection: &mut UnixStream, request: Request) -> io::Result<()> {
    connection.write_all(&request.encode()).await
}

fn take_record(buffer: &mut Vec<u8>) -> Option<Record> {
    // A shim that speaks nonsense is as good as none: the connection ends and its record on disk counts.
    let content = next_frame(buffer).ok()??;
    decode_record(&content).ok()
}
