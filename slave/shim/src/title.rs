//! What `ps` shows of this process. A fork has its parent's words until it writes over them.

use std::ffi::CStr;

/// The room of all words but the program's own name.
pub struct Title {
    start: *mut u8,
    bytes: usize,
}

impl Title {
    /// Where the words lie that this process was started with; they follow one another.
    pub fn of(words: &[&CStr]) -> Self {
        let end = words.last().map_or(0, |last| last.as_ptr() as usize + last.to_bytes().len());
        let start = words.get(1).map_or(std::ptr::null(), |first| first.as_ptr());
        Self { start: start.cast_mut().cast(), bytes: end.saturating_sub(start as usize) }
    }

    /// Shows this one word in their place, as much of it as has room.
    pub fn set(&self, word: &[u8]) {
        if self.start.is_null() {
            return;
        }
        let shown = word.len().min(self.bytes);
        // SAFETY: the room is this process's own memory, writable, and nothing refers to it any more; the byte behind it
        // stays the zero that it is.
        unsafe {
            std::ptr::copy_nonoverlapping(word.as_ptr(), self.start, shown);
            std::ptr::write_bytes(self.start.add(shown), 0, self.bytes - shown);
        }
    }
}
