//! One snapshot file, format 1:
//!
//! magic `MNDRSNP1` · u32 length and coverage (codec form) · frames · u32 0 · u32 length and trailer
//!
//! A frame is u32 length, u32 crc32c, and rows: u32 key length, u32 value length, key, value. The trailer holds the
//! number of rows, the state hash, and the SHA-256 of everything before it. All numbers are little-endian.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use minder_state::{State, StateHash};
use minicbor::{CborLen, Decode, Encode, bytes::ByteArray};
use sha2::{Digest, Sha256};

use crate::{codec, error::CodecError, fail_point::fail_point, types::SnapshotMeta};

const MAGIC: &[u8; 8] = b"MNDRSNP1";
/// Rows are gathered to about this size, so that a damaged block is found before much is believed.
const FRAME_BYTES: usize = 256 * 1024;
/// A frame may be larger by one row; anything beyond is no frame. A row holds at most a spec.
const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
const WHAT: &str = "snapshot";

/// A finished, verified snapshot file. It stays readable while somebody holds it, also when it was replaced.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
    meta: SnapshotMeta,
}

#[derive(Debug, Encode, Decode, CborLen)]
#[cbor(map)]
struct Trailer {
    #[n(0)]
    rows: u64,
    #[n(1)]
    state_hash: ByteArray<16>,
    #[n(2)]
    sha256: ByteArray<32>,
}

impl SnapshotFile {
    /// What it covers.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.inner.meta
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads at most `buffer` from `offset`; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.inner.file, buffer, offset)
    }

    /// The same file under its new name: the check it has passed stays good.
    pub(crate) fn moved_to(&self, path: PathBuf) -> io::Result<Self> {
        let Inner { file, bytes, meta, .. } = &*self.inner;
        let inner = Inner { path, file: file.try_clone()?, bytes: *bytes, meta: meta.clone() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens a file and checks all of it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (meta, _) = read(path)?;
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { inner: Arc::new(Inner { path: path.into(), file, bytes, meta }) })
    }
}

/// Writes a snapshot to `path` and syncs it.
pub(crate) fn write(path: &Path, state: &State, meta: &SnapshotMeta) -> io::Result<()> {
    fail_point!("snapshot-create");
    let mut out = BufWriter::new(File::create(path)?);
    fail_point!("snapshot-write");
    write_snapshot(&mut out, state, meta)?;
    let file = out.into_inner().map_err(|error| error.into_error())?;
    fail_point!("snapshot-sync");
    file.sync_all()
}

/// Writes a snapshot of this state, which covers what `meta` says.
pub fn write_snapshot(out: impl Write, state: &State, meta: &SnapshotMeta) -> io::Result<()> {
    let mut out = Hashing { inner: out, hasher: Sha256::new() };
    out.write_all(MAGIC)?;
    let meta = codec::encode_snapshot_meta(meta);
    out.write_all(&(meta.len() as u32).to_le_bytes())?;
    out.write_all(&meta)?;
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    let mut rows = 0;
    for (key, value) in state.rows() {
        frame.extend_from_slice(&(key.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(value.len() as u32).to_le_bytes());
        frame.extend_from_slice(&key);
        frame.extend_from_slice(&value);
        rows += 1;
        if frame.len() >= FRAME_BYTES {
            write_frame(&mut out, &mut frame)?;
        }
    }
    if !frame.is_empty() {
        write_frame(&mut out, &mut frame)?;
    }
    out.write_all(&0_u32.to_le_bytes())?;
    let Hashing { mut inner, hasher } = out;
    let sha256: [u8; 32] = hasher.finalize().into();
    let trailer = codec::seal(&Trailer { rows, state_hash: state.hash().to_bytes().into(), sha256: sha256.into() });
    inner.write_all(&(trailer.len() as u32).to_le_bytes())?;
    inner.write_all(&trailer)
}

fn write_frame(out: &mut impl Write, frame: &mut Vec<u8>) -> io::Result<()> {
    out.write_all(&(frame.len() as u32).to_le_bytes())?;
    out.write_all(&crc32c::crc32c(frame).to_le_bytes())?;
    out.write_all(frame)?;
    frame.clear();
    Ok(())
}

/// Reads and checks a whole file.
pub(crate) fn read(path: &Path) -> io::Result<(SnapshotMeta, State)> {
    read_snapshot(BufReader::new(File::open(path)?))
}

/// Reads and checks a whole snapshot: frames, row count, digest of all of it, hash of the state. Any bytes give a state
/// or an error, which is `InvalidData` where the bytes are wrong.
pub fn read_snapshot(from: impl Read) -> io::Result<(SnapshotMeta, State)> {
    let mut input = HashingReader { inner: from, hasher: Sha256::new() };
    let mut magic = [0; 8];
    exact(&mut input, &mut magic)?;
    if magic != *MAGIC {
        return Err(CodecError::Checksum { what: WHAT }.into());
    }
    let meta = codec::decode_snapshot_meta(&sized(&mut input)?)?;
    let mut state = State::default();
    let mut rows = 0;
    loop {
        let length = number(&mut input)?;
        if length == 0 {
            break;
        }
        let crc = number(&mut input)?;
        let frame = bounded(&mut input, length)?;
        if crc32c::crc32c(&frame) != crc {
            return Err(CodecError::Checksum { what: WHAT }.into());
        }
        rows += load_frame(&mut state, &frame)?;
    }
    let HashingReader { mut inner, hasher } = input;
    let sha256: [u8; 32] = hasher.finalize().into();
    let trailer: Trailer = codec::open(WHAT, &sized(&mut inner)?)?;
    let whole = trailer.rows == rows
        && *trailer.sha256 == sha256
        && StateHash::from_bytes(*trailer.state_hash) == state.hash()
        && inner.read(&mut [0])? == 0;
    if !whole {
        return Err(CodecError::Checksum { what: WHAT }.into());
    }
    state.complete().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((meta, state))
}

fn load_frame(state: &mut State, frame: &[u8]) -> io::Result<u64> {
    let mut rest = frame;
    let mut rows = 0;
    while !rest.is_empty() {
        let key_length = number(&mut rest)? as usize;
        let value_length = number(&mut rest)? as usize;
        let row = rest.get(..key_length.saturating_add(value_length)).ok_or(CodecError::Short { what: WHAT })?;
        let (key, value) = row.split_at(key_length);
        state.load_row(key, value).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        rest = &rest[row.len()..];
        rows += 1;
    }
    Ok(rows)
}

fn sized(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = number(input)?;
    bounded(input, length)
}

fn bounded(input: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    if length as usize > FRAME_BYTES_MAX {
        return Err(CodecError::Checksum { what: WHAT }.into());
    }
    let mut bytes = vec![0; length as usize];
    exact(input, &mut bytes)?;
    Ok(bytes)
}

fn number(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    exact(input, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn exact(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<()> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => CodecError::Short { what: WHAT }.into(),
        _ => error,
    })
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..read]);
        Ok(read)
    }
}
