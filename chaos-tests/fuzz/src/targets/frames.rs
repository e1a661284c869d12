//! What is framed and checksummed: as it comes, and with its checksums put right, so that what lies behind them is reached
//! too.

use std::{cell::RefCell, io};

use minder_model::{Digest, Revision};
use minder_raft_store::read_snapshot;
use minder_state::{BackupReader, State};
use sha2::{Digest as _, Sha256};

use super::{choice, pieces};

/// Pieces in turn: a key, its value.
pub fn rows(input: &[u8]) {
    let mut state = State::default();
    for row in pieces(input).chunks_exact(2) {
        // A refused row must leave the state as it was.
        let before = state.hash();
        if state.load_row(row[0], row[1]).is_err() {
            assert_eq!(state.hash(), before, "a refused row was counted");
        }
    }
    whole(&state);
}

/// A state's rows make the same state again.
pub fn whole(state: &State) {
    let again = loaded(state.rows());
    let rows: Vec<_> = state.rows().collect();
    assert_eq!(again.rows().collect::<Vec<_>>(), rows, "other rows when loaded again");
    assert_eq!(loaded(again.rows()).hash(), again.hash(), "another hash when loaded again");
    for host in state.assigned_hosts() {
        let assignment = state.assignment(host);
        let delta = assignment.delta_from(None);
        let empty = minder_model::Assignment::empty(host.clone());
        if assignment.revision > Revision::ZERO {
            assert_eq!(empty.after(&delta).as_ref(), Ok(&assignment), "its own assignment is refused");
        }
    }
}

fn loaded(rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> State {
    let mut state = State::default();
    for (key, value) in rows {
        state.load_row(&key, &value).expect("its own row is refused");
    }
    state
}

pub fn snapshot(input: &[u8]) {
    let (which, bytes) = choice(input, 2);
    let read = match which {
        0 => read_snapshot(bytes),
        _ => read_snapshot(mended_snapshot(bytes).as_slice()),
    };
    match read {
        Ok((_, state)) => whole(&state),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
    }
}

/// A snapshot of these pieces: its coverage, then frames of rows. Checksums, count and digest fit.
fn mended_snapshot(bytes: &[u8]) -> Vec<u8> {
    let pieces = pieces(bytes);
    let (meta, frames) = pieces.split_first().map_or((&[][..], &[][..]), |(meta, frames)| (*meta, frames));
    let mut out = b"MNDRSNP1".to_vec();
    sized(&mut out, meta);
    let mut state = State::default();
    let mut count = 0_u64;
    for frame in frames.iter().filter(|frame| !frame.is_empty()) {
        out.extend((frame.len() as u32).to_le_bytes());
        out.extend(crc32c::crc32c(frame).to_le_bytes());
        out.extend_from_slice(frame);
        for (key, value) in rows_of(frame) {
            count += 1;
            // What is refused here is refused by the reader.
            let _ = state.load_row(key, value);
        }
    }
    out.extend(0_u32.to_le_bytes());
    let sha256: [u8; 32] = Sha256::digest(&out).into();
    // The format, then a map of three: count, hash of the state, digest of everything before.
    let mut trailer = vec![1, 0xa3, 0x00, 0x1b];
    trailer.extend(count.to_be_bytes());
    trailer.extend([0x01, 0x50]);
    trailer.extend(state.hash().to_bytes());
    trailer.extend([0x02, 0x58, 0x20]);
    trailer.extend(sha256);
    sized(&mut out, &trailer);
    out
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn rows_of(mut frame: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut rows = Vec::new();
    while let Some((lengths, rest)) = frame.split_first_chunk::<8>() {
        let length = |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
        let Some((key, rest)) = rest.split_at_checked(length(0) as usize) else { break };
        let Some((value, rest)) = rest.split_at_checked(length(4) as usize) else { break };
        rows.push((key, value));
        frame = rest;
    }
    rows
}

pub fn backup(input: &[u8]) {
    let (which, bytes) = choice(input, 2);
    match which {
        0 => read_backup(bytes),
        _ => read_backup(&mended_backup(bytes)),
    }
}

/// In pieces of any size it means the same.
fn read_backup(bytes: &[u8]) {
    let whole = read_in(bytes, bytes.len());
    assert_eq!(read_in(bytes, 7), whole, "another backup when it comes in small pieces");
    if let Ok((_, count, rows)) = whole {
        assert_eq!(count as usize, rows.len());
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn read_in(bytes: &[u8], size: usize) -> Result<(String, u64, Rows), String> {
    let mut reader = BackupReader::default();
    let rows = RefCell::new(Rows::new());
    for piece in bytes.chunks(size.max(1)) {
        let take = |key: &[u8], value: &[u8]| {
            State::default().load_row(key, value)?;
            rows.borrow_mut().push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        reader.push(piece, take).map_err(|error| error.to_string())?;
    }
    let (header, count) = reader.finish().map_err(|error| error.to_string())?;
    Ok((format!("{header:?}"), count, rows.into_inner()))
}

/// A backup of these pieces as bodies, in a chain that fits.
fn mended_backup(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"MNDRBAK1".to_vec();
    let mut chain = Digest::of(&out);
    for body in pieces(bytes) {
        chain = Digest::of_parts([&chain.0[..], body]);
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(chain.0);
        out.extend_from_slice(body);
    }
    out
}
