//! Lets a target run over one input and says which promise was broken.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use crate::targets::Target;

/// Most processor time that one input may take: what takes longer is a hang to whoever waits.
pub const CPU_MAX: Duration = Duration::from_secs(1);
/// Most memory that one input may make its reader hold at once; inputs are a thousandth of it.
pub const PEAK_BYTES_MAX: usize = 64 * 1_024 * 1_024;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static JUDGING: Cell<bool> = const { Cell::new(false) };
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The system's allocator, which counts for each thread what it holds.
pub struct Counting;

fn note(more: usize, less: usize) {
    // What one thread frees for another does not go below nothing.
    let held = (HELD.get() + more).saturating_sub(less);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: everything is passed on to the system's allocator; counting touches no memory of its own but plain cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Keeps the words of a panic under [`judge`] in place of printing them. Before the first judgement.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if JUDGING.get() {
                LAST_WORDS.set(panic.to_string());
            } else {
                others(panic);
            }
        }));
    });
}

/// Runs the target over the input. The error says what was broken.
pub fn judge(target: &Target, input: &[u8]) -> Result<(), String> {
    let held = HELD.get();
    PEAK.set(held);
    let begun = cpu_time();
    JUDGING.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    JUDGING.set(false);
    let took = cpu_time().saturating_sub(begun);
    let peak = PEAK.get().saturating_sub(held);
    match outcome {
        Err(_) => Err(LAST_WORDS.take()),
        Ok(()) if took > CPU_MAX => Err(format!("took {took:?} of processor time, the limit is {CPU_MAX:?}")),
        Ok(()) if peak > PEAK_BYTES_MAX => Err(format!("held {peak} bytes, the limit is {PEAK_BYTES_MAX}")),
        Ok(()) => Ok(()),
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
