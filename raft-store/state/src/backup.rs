//! A backup as bytes: magic `MNDRBAK1`, then frames of u32 length (little-endian), 32 bytes digest, body.
//!
//! A body is one byte kind and what it says: 1 the header, 2 rows as in snapshots (u32 key length, u32 value length, key,
//! value), 3 the end: how many rows. A frame's digest is taken over the digest of the one before and its own body, so
//! that a frame which is changed, missing or out of place is found at once, and nothing that was cut short has an end.
//!
//! The bytes come from a state and go to whoever sends or stores them; files and streams do not exist here.

use alloc::{string::String, vec::Vec};
use core::{fmt, mem};

use minder_model::{ClusterId, CommandVersion, Digest, Revision, encode_after};
use minicbor::{CborLen, Decode, Encode, bytes::ByteArray};

use crate::{
    hash::{RowHash, StateHash},
    row::RowError,
    state::State,
};

const MAGIC: &[u8; 8] = b"MNDRBAK1";
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = 4 + DIGEST_BYTES;
/// Rows are gathered to about this size: one message on its way to whoever saves it.
const FRAME_BYTES: usize = 256 * 1024;
/// A frame may be larger by one row, which holds at most a command; anything beyond is no frame.
const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct BackupHeader {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// The last write in it.
    #[n(1)]
    pub revision: Revision,
    /// The term of that write.
    #[n(2)]
    pub term: u64,
    #[n(3)]
    hash: ByteArray<16>,
    /// Version of the manager that wrote it.
    #[n(4)]
    pub version: String,
    /// When, milliseconds since 1970.
    #[n(5)]
    pub created_at_ms: u64,
}

impl BackupHeader {
    /// Describes a backup of `state`, which stands at `revision`. `None` when it belongs to no cluster.
    pub fn of(state: &State, revision: Revision, term: u64, version: &str, created_at_ms: u64) -> Option<Self> {
        let cluster = state.cluster()?.id.clone();
        let hash = state.hash().to_bytes().into();
        Some(Self { cluster, revision, term, hash, version: version.into(), created_at_ms })
    }

    /// Hash of its rows.
    pub fn state_hash(&self) -> StateHash {
        StateHash::from_bytes(*self.hash)
    }
}

#[derive(Debug, Clone, Encode, Decode, CborLen)]
#[cbor(map)]
struct End {
    #[n(0)]
    rows: u64,
}

/// The bytes of a backup, in pieces, lazily.
pub fn backup_pieces<'a>(header: &BackupHeader, state: &'a State) -> impl Iterator<Item = Vec<u8>> + 'a {
    // Whoever restores it must know what the cluster's commands mean, for it will go on with them.
    let version = state.version().0;
    let first = encode_after(&[HEADER, version], header);
    let mut chain = Digest::of(MAGIC);
    let mut rows = state.rows();
    let mut count = 0;
    let mut ended = false;
    let mut begin = Some(first);
    core::iter::from_fn(move || {
        if let Some(first) = begin.take() {
            let mut piece = MAGIC.to_vec();
            put_frame(&mut piece, &mut chain, &first);
            return Some(piece);
        }
        if ended {
            return None;
        }
        let mut body = alloc::vec![ROWS];
        for (key, value) in rows.by_ref() {
            put_row(&mut body, &key, &value);
            count += 1;
            if body.len() >= FRAME_BYTES {
                break;
            }
        }
        if body.len() == 1 {
            ended = true;
            body = encode_after(&[END, version], &End { rows: count });
        }
        let mut piece = Vec::with_capacity(HEAD_BYTES + body.len());
        put_frame(&mut piece, &mut chain, &body);
        Some(piece)
    })
}

fn put_row(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    body.extend_from_slice(&(key.len() as u32).to_le_bytes());
    body.extend_from_slice(&(value.len() as u32).to_le_bytes());
    body.extend_from_slice(key);
    body.extend_from_slice(value);
}

fn put_frame(piece: &mut Vec<u8>, chain: &mut Digest, body: &[u8]) {
    *chain = Digest::of_parts([&chain.0[..], body]);
    piece.extend_from_slice(&(body.len() as u32).to_le_bytes());
    piece.extend_from_slice(&chain.0);
    piece.extend_from_slice(body);
}

/// Bytes that are no whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupError {
    /// It does not begin as one.
    NoBackup,
    /// It ends before its end: the stream broke or the file was cut.
    Short,
    /// A frame is not what was written.
    Damaged {
        /// Where its frame begins, bytes from the start.
        at: u64,
    },
    /// Something follows the end.
    More,
    /// Written by a newer Minder.
    NewerFormat(u8),
    /// A row that cannot be read.
    Row(RowError),
    /// The rows are whole but not those that the header speaks of.
    OtherRows,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup => f.write_str("this is no backup of Minder"),
            Self::Short => f.write_str("the backup is cut short"),
            Self::Damaged { at } => write!(f, "the backup is damaged at byte {at} or just behind it"),
            Self::More => f.write_str("something follows the end of the backup"),
            Self::NewerFormat(format) => {
                let known = CommandVersion::NEWEST;
                write!(
                    f,
                    "the backup is of a cluster at version {format}, this program knows those up to {known}; run a newer one"
                )
            }
            Self::Row(error) => write!(f, "the backup holds a row that cannot be read: {error}"),
            Self::OtherRows => f.write_str("the rows of the backup do not have the hash they should have"),
        }
    }
}

impl core::error::Error for BackupError {}

/// Takes the bytes of a backup in pieces of any size and checks them as they come.
#[derive(Debug)]
pub struct BackupReader {
    buffer: Vec<u8>,
    begun: bool,
    chain: Digest,
    position: u64,
    header: Option<BackupHeader>,
    rows: u64,
    hash: StateHash,
    ended: bool,
}

impl Default for BackupReader {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            begun: false,
            chain: Digest::of(MAGIC),
            position: 0,
            header: None,
            rows: 0,
            hash: StateHash::default(),
            ended: false,
        }
    }
}

impl BackupReader {
    /// Takes the next bytes; gives each row that is whole to `take`.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), RowError>,
    ) -> Result<(), BackupError> {
        self.buffer.extend_from_slice(bytes);
        let buffer = mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        if !self.begun {
            let Some((magic, after)) = rest.split_first_chunk::<8>() else {
                self.buffer = buffer;
                return Ok(());
            };
            if magic != MAGIC {
                return Err(BackupError::NoBackup);
            }
            (self.begun, self.position, rest) = (true, MAGIC.len() as u64, after);
        }
        while let Some((body, after)) = self.next_frame(rest)? {
            self.frame(body, &mut take)?;
            self.position += (HEAD_BYTES + body.len()) as u64;
            rest = after;
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    /// What the backup is of, once enough of it has come.
    pub fn header(&self) -> Option<&BackupHeader> {
        self.header.as_ref()
    }

    /// Says whether the backup was whole: what it is of, and how many rows it has.
    pub fn finish(self) -> Result<(BackupHeader, u64), BackupError> {
        if !self.begun && !MAGIC.starts_with(&self.buffer) {
            return Err(BackupError::NoBackup);
        }
        match self.header {
            Some(header) if self.ended && self.buffer.is_empty() => Ok((header, self.rows)),
            Some(_) if self.ended => Err(BackupError::More),
            Some(_) | None => Err(BackupError::Short),
        }
    }

    /// The next frame's body and what follows it, when all of it is there.
    fn next_frame<'b>(&mut self, rest: &'b [u8]) -> Result<Option<Split<'b>>, BackupError> {
        if self.ended && !rest.is_empty() {
            return Err(BackupError::More);
        }
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        let damaged = BackupError::Damaged { at: self.position };
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(damaged);
        }
        let Some((digest, after)) = after.split_first_chunk::<DIGEST_BYTES>() else { return Ok(None) };
        let Some((body, after)) = after.split_at_checked(length) else { return Ok(None) };
        self.chain = Digest::of_parts([&self.chain.0[..], body]);
        if self.chain.0 != *digest {
            return Err(damaged);
        }
        Ok(Some((body, after)))
    }

    fn frame(
        &mut self,
        body: &[u8],
        take: &mut impl FnMut(&[u8], &[u8]) -> Result<(), RowError>,
    ) -> Result<(), BackupError> {
        let damaged = BackupError::Damaged { at: self.position };
        match (body.split_first(), &self.header) {
            (Some((&HEADER, sealed)), None) => {
                self.header = Some(open(sealed, damaged)?);
                Ok(())
            }
            (Some((&ROWS, rows)), Some(_)) => self.take_rows(rows, take),
            (Some((&END, sealed)), Some(header)) => {
                let end: End = open(sealed, damaged)?;
                if end.rows != self.rows || header.state_hash() != self.hash {
                    return Err(BackupError::OtherRows);
                }
                self.ended = true;
                Ok(())
            }
            _ => Err(damaged),
        }
    }

    fn take_rows(
        &mut self,
        mut rest: &[u8],
        take: &mut impl FnMut(&[u8], &[u8]) -> Result<(), RowError>,
    ) -> Result<(), BackupError> {
        let damaged = BackupError::Damaged { at: self.position };
        while !rest.is_empty() {
            let (key, value, after) = split_row(rest).ok_or_else(|| damaged.clone())?;
            self.hash.add(RowHash::of(key, value));
            self.rows += 1;
            take(key, value).map_err(BackupError::Row)?;
            rest = after;
        }
        Ok(())
    }
}

/// A frame's body and what follows it.
type Split<'b> = (&'b [u8], &'b [u8]);

fn split_row(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_length, rest) = rest.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((key, value, rest))
}

fn open<'b, T: Decode<'b, ()>>(sealed: &'b [u8], damaged: BackupError) -> Result<T, BackupError> {
    match sealed.split_first() {
        Some((&version, form)) if version <= CommandVersion::NEWEST.0 => minicbor::decode(form).map_err(|_| damaged),
        Some((&newer, _)) => Err(BackupError::NewerFormat(newer)),
        None => Err(damaged),
    }
}
