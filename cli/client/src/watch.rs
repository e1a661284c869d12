//! Watches that outlive the manager they were opened at.

use std::collections::VecDeque;

use minder_proto::v1;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::{
    backoff::Backoff,
    client::Client,
    error::{Error, Verdict},
};

/// The selected instances each time one of them changes.
#[derive(Debug)]
pub struct InstanceWatch<'a> {
    client: &'a Client,
    selection: v1::Selection,
    stream: Option<(String, Streaming<v1::ListInstancesReply>)>,
    broken: Broken,
}

impl<'a> InstanceWatch<'a> {
    pub(crate) fn new(client: &'a Client, selection: v1::Selection) -> Self {
        Self { client, selection, stream: None, broken: Broken::default() }
    }

    /// The next look. When the manager goes, another one is asked; the whole comes again then. May be dropped and
    /// called again without losing anything, for every answer is whole.
    pub async fn next(&mut self) -> Result<v1::ListInstancesReply, Error> {
        loop {
            let (address, stream) = match &mut self.stream {
                Some(open) => open,
                closed @ None => {
                    let request = v1::WatchInstancesRequest { selection: Some(self.selection.clone()) };
                    let open = self
                        .client
                        .open(request, |mut control, request| async move { control.watch_instances(request).await })
                        .await?;
                    closed.insert(open)
                }
            };
            let status = match stream.message().await {
                Ok(Some(reply)) => {
                    self.broken = Broken::default();
                    return Ok(reply);
                }
                Ok(None) => Status::unavailable("the manager ended the watch"),
                Err(status) => status,
            };
            let verdict = self.client.learn(address, &status);
            self.stream = None;
            self.broken.pause(self.client, verdict).await?;
        }
    }
}

/// Changes of the desired state, each exactly once and in order, over changes of leader and lost connections.
///
/// A revision's changes are handed out only when all of them have arrived, so that a watch that breaks in the middle
/// of one resumes from the revision before, without gap or double.
#[derive(Debug)]
pub struct DesiredWatch<'a> {
    client: &'a Client,
    /// Everything up to here has arrived.
    seen: u64,
    stream: Option<(String, Streaming<v1::WatchEvent>)>,
    /// Changes of a revision that has not arrived whole. One request makes at most `APPLY_SPECS_MAX` of them.
    partial: Vec<v1::WatchEvent>,
    whole: VecDeque<v1::WatchEvent>,
    broken: Broken,
}

impl<'a> DesiredWatch<'a> {
    pub(crate) fn new(client: &'a Client, after_revision: u64) -> Self {
        Self {
            client,
            seen: after_revision,
            stream: None,
            partial: Vec::new(),
            whole: VecDeque::new(),
            broken: Broken::default(),
        }
    }

    /// The next change. [`Error::Compacted`] when the managers do not remember that far back. May be dropped and
    /// called again without losing anything.
    pub async fn next(&mut self) -> Result<v1::WatchEvent, Error> {
        loop {
            if let Some(event) = self.whole.pop_front() {
                return Ok(event);
            }
            let (address, stream) = match &mut self.stream {
                Some(open) => open,
                closed @ None => {
                    let request = v1::WatchRequest { after_revision: self.seen };
                    let open = self
                        .client
                        .open(request, |mut control, request| async move { control.watch(request).await })
                        .await?;
                    closed.insert(open)
                }
            };
            let status = match stream.message().await {
                Ok(Some(event)) => {
                    self.broken = Broken::default();
                    self.take(event);
                    continue;
                }
                Ok(None) => Status::unavailable("the manager ended the watch"),
                Err(status) => status,
            };
            let verdict = self.client.learn(address, &status);
            self.stream = None;
            self.partial.clear();
            self.broken.pause(self.client, verdict).await?;
        }
    }

    fn take(&mut self, event: v1::WatchEvent) {
        // What a manager sends again, though it was asked for later changes only, is not passed on.
        if event.revision <= self.seen {
            return;
        }
        let more = event.more;
        let revision = event.revision;
        self.partial.push(event);
        if !more {
            self.seen = revision;
            self.whole.extend(self.partial.drain(..));
        }
    }
}

/// How long a stream has been broken. Opening a stream can succeed over and over while nothing comes of it.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    since: Option<Instant>,
    backoff: Backoff,
}

impl Broken {
    /// Waits a little, or says that it has been broken for too long.
    pub(crate) async fn pause(&mut self, client: &Client, verdict: Verdict) -> Result<(), Error> {
        let why = match verdict {
            Verdict::Final(error) => return Err(error),
            Verdict::Again(why) | Verdict::AgainUnsure(why) => why,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > client.deadline() {
            return Err(Error::Unreachable(client.servers().into_iter().map(|server| (server, why.clone())).collect()));
        }
        tokio::time::sleep(self.backoff.next()).await;
        Ok(())
    }
}
