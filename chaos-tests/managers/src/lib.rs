//! Whole managers under a seed: the real manager with its real consensus, wire and store, on a network, clocks, chance and
//! disks that the seed fixes. One seed is one run, in a process of its own.
//!
//! What the kernel would tell a program is told by [`seam`] and [`disk`]; what lies between programs is turmoil's network.

mod callers;
mod disk;
mod faults;
mod judge;
mod looks;
mod manager;
mod moments;
mod net;
mod operator;
mod options;
mod planted;
mod run;
mod seam;
mod shared;
mod trace;
mod watchers;
mod world;

use std::{path::Path, thread};

pub use options::Options;
pub use planted::Planted;
pub use run::Run;
pub use seam::now_us;

/// The checks of long histories recurse, and so do futures of managers.
const STACK_BYTES: usize = 64 << 20;

/// Runs the world of a seed once, in this process and on a thread of its own, with everything that it leaves in `folder`.
/// A process runs one world in its life.
pub fn run_once(options: &Options, planted: Option<Planted>, folder: &Path) -> Run {
    let (options, folder) = (options.clone(), folder.to_owned());
    let thread = thread::Builder::new().name("world".into()).stack_size(STACK_BYTES).spawn(move || {
        seam::begin(options.seed);
        let panics = panics::listen();
        let ran = std::panic::catch_unwind(|| run::run(&options, planted, &folder));
        let failed = |why: String| Run { seed: options.seed, judgement: format!("failed: {why}"), ..Run::default() };
        match (panics.first(), ran) {
            (Some(panic), _) => failed(panic),
            (None, Ok(Ok(run))) => run,
            (None, Ok(Err(error))) => failed(format!("the harness: {error}")),
            (None, Err(_)) => failed("a panic without words".into()),
        }
    });
    let failed = |why: &str| Run { judgement: format!("failed: {why}"), ..Run::default() };
    match thread.map(thread::JoinHandle::join) {
        Ok(Ok(run)) => run,
        Ok(Err(_)) => failed("the thread of the world panicked"),
        Err(_) => failed("no thread for the world"),
    }
}

mod panics {
    //! A panic anywhere, a task's as well, is a broken promise.

    use std::sync::{Arc, Mutex, PoisonError};

    /// What was said by panics.
    #[derive(Clone, Default)]
    pub struct Panics(Arc<Mutex<Vec<String>>>);

    impl Panics {
        /// The first one.
        pub fn first(&self) -> Option<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
        }
    }

    /// From now on panics are written down.
    pub fn listen() -> Panics {
        let panics = Panics::default();
        let heard = panics.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let text = format!("panic: {panic}");
            tracing::error!("{text}");
            heard.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }));
        panics
    }
}
