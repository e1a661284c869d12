//! The socket protocol, version 1. A frame is a u32 length (little-endian, without itself) and that many bytes: one
//! byte kind, then the kind's fields. The shim sends its record on `Hello` and again whenever it changes.

use crate::{
    bytes::{Malformed, Reader, Writer},
    record::Record,
};

/// Version spoken here.
pub const VERSION: u16 = 1;
/// Longest frame; a record is far below.
pub const FRAME_BYTES_MAX: usize = 1_024;
/// The word that makes the shim program a nursery. The number is that of what its shims expect of a slave; a program that
/// expects something else does not know it and starts nothing.
pub const NURSERY: &str = "--nursery-2";
/// Comes before any frame on the connection that a nursery's shim is born with: the launch file is there.
pub const LAUNCH_IS_THERE: u8 = b'L';

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The main process.
    Main,
    /// Its process group.
    Group,
    /// Every process of the incarnation.
    All,
}

/// What a slave asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// "I am your slave now, this is the version I speak."
    Hello {
        /// The slave's version.
        version: u16,
    },
    /// Send a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whom it goes to.
        scope: Scope,
    },
    /// Kill every process of the incarnation, until none is left.
    KillTree,
    /// The end was taken note of: go.
    Release,
}

impl Request {
    /// The frame, length included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello { version } => {
                out.u8(1);
                out.u16(*version);
            }
            Self::Signal { signal, scope } => {
                out.u8(2);
                out.i32(*signal);
                out.u8(match scope {
                    Scope::Main => 0,
                    Scope::Group => 1,
                    Scope::All => 2,
                });
            }
            Self::KillTree => out.u8(3),
            Self::Release => out.u8(4),
        }
        framed(&out.0)
    }

    /// Reads a frame's content.
    pub fn decode(content: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(content);
        let request = match input.u8()? {
            1 => Self::Hello { version: input.u16()? },
            2 => {
                let signal = input.i32()?;
                let scope = match input.u8()? {
                    0 => Scope::Main,
                    1 => Scope::Group,
                    2 => Scope::All,
                    _ => return Err(Malformed("unknown scope")),
                };
                Self::Signal { signal, scope }
            }
            3 => Self::KillTree,
            4 => Self::Release,
            _ => return Err(Malformed("unknown request")),
        };
        input.end()?;
        Ok(request)
    }
}

/// The frame that carries a record.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut content = vec![128];
    content.extend(record.encode());
    framed(&content)
}

/// Reads a record's frame content.
pub fn decode_record(content: &[u8]) -> Result<Record, Malformed> {
    match content.split_first() {
        Some((128, rest)) => Record::decode(rest),
        Some(_) => Err(Malformed("unknown notice")),
        None => Err(Malformed("cut short")),
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(content);
    frame
}

/// Takes the next whole frame's content off the front of `buffer`; `None` while it is not whole.
pub fn next_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Malformed> {
    let Some(length) = buffer.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize) else {
        return Ok(None);
    };
    if length > FRAME_BYTES_MAX {
        return Err(Malformed("a frame longer than any"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let content = buffer[4..4 + length].to_vec();
    buffer.drain(..4 + length);
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_read_back_from_a_stream_in_any_pieces() {
        let all = [
            Request::Hello { version: 1 },
            Request::Signal { signal: 15, scope: Scope::All },
            Request::Signal { signal: 9, scope: Scope::Group },
            Request::KillTree,
            Request::Release,
        ];
        let stream: Vec<u8> = all.iter().flat_map(Request::encode).collect();
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for byte in stream {
            buffer.push(byte);
            while let Some(content) = next_frame(&mut buffer).unwrap() {
                read.push(Request::decode(&content).unwrap());
            }
        }
        assert_eq!(read, all);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in any::<Vec<u8>>()) {
            let _ = Request::decode(&bytes);
            let _ = decode_record(&bytes);
            let _ = next_frame(&mut bytes);
        }
    }
}
