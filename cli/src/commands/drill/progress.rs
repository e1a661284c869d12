//! How far a drill is: one live line on a terminal, a line for each stage elsewhere.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::traffic::Count;
use crate::screen::Screen;

/// A person sees ten changes a second as one that goes on.
const REPAINT: Duration = Duration::from_millis(100);

/// Shows it until it is dropped.
pub struct Progress {
    stage: Arc<Mutex<String>>,
    live: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show.
    pub fn begin(screen: &Screen, count: impl Fn() -> Count + Send + 'static) -> Self {
        let stage = Arc::new(Mutex::new(String::new()));
        let live = screen.live.then(|| tokio::spawn(repaint(stage.clone(), count)));
        Self { stage, live }
    }

    /// What goes on now.
    pub fn stage(&self, text: &str) {
        if self.live.is_none() {
            write(&format!("{text}\n"));
        }
        text.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Nothing more is shown, and the live line is gone.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            live.abort();
            write("\r\x1b[K");
        }
    }
}

async fn repaint(stage: Arc<Mutex<String>>, count: impl Fn() -> Count) {
    let began = Instant::now();
    loop {
        let Count { writes, reads } = count();
        let stage = stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seconds = began.elapsed().as_secs_f32();
        write(&format!("\r\x1b[K{seconds:.1} s, {writes} writes, {reads} reads: {stage}"));
        tokio::time::sleep(REPAINT).await;
    }
}

fn write(text: &str) {
    // Progress that nobody can read is no reason to stop.
    let _ = io::stderr().write_all(text.as_bytes());
}
