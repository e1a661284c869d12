//! What happened, as one number that tells two runs apart, and as counts.

use std::{cell::RefCell, collections::BTreeMap};

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::new(Trace::default());
}

/// Of the simulation on this thread.
#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// Takes note of numbers that tell this event from others.
pub fn note(numbers: &[u64]) {
    TRACE.with_borrow_mut(|trace| {
        trace.events += 1;
        for number in numbers {
            trace.hash = (trace.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    });
}

/// Takes note of a text.
pub fn note_text(text: &str) {
    let words = text.as_bytes().chunks(8).map(|piece| {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(word)
    });
    note(&words.collect::<Vec<_>>());
}

/// Counts something.
pub fn count(what: &'static str, by: u64) {
    TRACE.with_borrow_mut(|trace| *trace.counts.entry(what).or_default() += by);
}

/// Hash of everything noted, how much that was, and the counts.
pub fn sum() -> (u64, u64, BTreeMap<&'static str, u64>) {
    TRACE.with_borrow(|trace| (trace.hash, trace.events, trace.counts.clone()))
}
