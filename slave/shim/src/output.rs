//! The last of an incarnation's output, version 1: kept while it runs, and left in its bundle when it has ended. The
//! record has no room for it, and a disk that does not take it costs nothing but this.

use std::{io, path::Path};

use crate::bytes::{Malformed, Reader, Writer};

const VERSION: u16 = 1;
/// Bytes kept of each stream: more than anybody shows of them.
pub const TAIL_BYTES: usize = 1_024;

/// The last bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Takes what was written.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (self.0.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
        self.0.extend_from_slice(bytes);
    }

    /// What is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The last bytes of each stream; a combined one is standard output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Of standard output.
    pub stdout: Vec<u8>,
    /// Of standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The file's content.
    pub fn encode(stdout: &Tail, stderr: &Tail) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(VERSION);
        out.text(stdout.bytes());
        out.text(stderr.bytes());
        out.0
    }

    /// Reads the file's content; any bytes give output or a word on what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        if input.u16()? != VERSION {
            return Err(Malformed("an output file of another version"));
        }
        let output = Self { stdout: input.text()?.to_vec(), stderr: input.text()?.to_vec() };
        input.end()?;
        Ok(output)
    }
}

/// What a shim left. Nothing where it wrote nothing, had no room for it, or was killed before: nobody waits for this.
pub fn read(path: &Path) -> Output {
    let content = std::fs::read(path);
    content.and_then(|bytes| Output::decode(&bytes).map_err(io::Error::other)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_bytes_are_kept(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..6)) {
            let mut tail = Tail::default();
            pieces.iter().for_each(|piece| tail.push(piece));
            let all = pieces.concat();
            prop_assert_eq!(tail.bytes(), &all[all.len().saturating_sub(TAIL_BYTES)..]);
            let decoded = Output::decode(&Output::encode(&tail, &Tail::default())).unwrap();
            prop_assert_eq!((decoded.stdout.as_slice(), decoded.stderr.len()), (tail.bytes(), 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Output::decode(&bytes);
        }
    }
}
