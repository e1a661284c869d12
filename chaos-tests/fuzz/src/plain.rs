//! Inputs by chance alone: what a build without libFuzzer has.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use minder_fuzz::{corpus, judge, mutate::Mutator, targets::Target};

use crate::{Broken, Budget, Tried};

/// An input that takes so long will not end.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// The input that is being tried, and since when.
type Current = Arc<Mutex<Option<(Vec<u8>, Instant)>>>;

/// Tries one target until its budget is used up or something is broken.
pub fn fuzz(target: &'static Target, begin: &[(String, Vec<u8>)], budget: &Budget) -> anyhow::Result<Tried> {
    judge::listen();
    let corpus: Vec<Vec<u8>> = begin.iter().map(|(_, bytes)| bytes.clone()).collect();
    let words = corpus::words(target)?;
    let mutator = Mutator::new(target.name, budget.seed, &corpus, &words);
    let current: Current = Arc::default();
    watch(current.clone(), budget.keep.join(format!("{}-hangs", target.name)));
    let begun = Instant::now();
    let mut tried = Tried { inputs: 0, took: Duration::ZERO, more: String::new(), broken: None };
    let begin = corpus.iter().cloned();
    for input in begin.chain((0..).map(|number| mutator.input(number))) {
        if begun.elapsed() >= budget.time || (budget.inputs > 0 && tried.inputs >= budget.inputs) {
            break;
        }
        tried.inputs += 1;
        *lock(&current) = Some((input.clone(), Instant::now()));
        if let Err(why) = judge::judge(target, &input) {
            let kept = budget.keep.join(format!("{}-{}-{}", target.name, budget.seed, tried.inputs));
            fs::write(&kept, &input)?;
            tried.broken = Some(Broken { why, kept });
            break;
        }
    }
    *lock(&current) = None;
    tried.took = begun.elapsed();
    Ok(tried)
}

fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<(Vec<u8>, Instant)>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an input that never ends, and ends the process in its place.
fn watch(current: Current, kept: PathBuf) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let hung = lock(&current).take_if(|(_, since)| since.elapsed() > HANGS_AFTER);
            if let Some((input, _)) = hung {
                let written = fs::write(&kept, &input);
                println!("  BROKEN: an input does not end; it is kept in {} ({written:?})", kept.display());
                std::process::exit(1);
            }
        }
    });
}
