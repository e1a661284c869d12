//! Rows as bytes: one tag for the table, then the key; values are CBOR. This is what RocksDB and snapshots hold.

use alloc::{string::String, vec::Vec};
use core::fmt;

use minder_model::{Digest, HostName, InstanceKey, ProcessName, RequestId};
use minicbor::Decode;

/// One changed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Table tag and key.
    pub key: Vec<u8>,
    /// The new value; `None` when the row is gone.
    pub value: Option<Vec<u8>>,
}

/// A row that cannot be read back: the disk or the program is wrong, and the node must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// What is wrong with which row.
    pub message: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for RowError {}

impl RowError {
    pub(crate) fn new(key: &[u8], what: impl fmt::Display) -> Self {
        let hex: String = key.iter().take(64).map(|byte| alloc::format!("{byte:02x}")).collect();
        Self { message: alloc::format!("row {hex}: {what}") }
    }
}

/// Room for a key of ordinary names.
const KEY_BYTES: usize = 64;

/// The key of a row. The order of the tags is the order in which rows are loaded: what others refer to comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Cluster,
    Host(HostName),
    Process(ProcessName),
    RunSpec(Digest),
    Item(HostName, InstanceKey),
    Slice(HostName),
    Request(RequestId),
}

impl Key {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Most keys in one allocation: every row has one, twice when it replaces another.
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        match self {
            Self::Cluster => bytes.push(1),
            Self::Host(host) => tagged(&mut bytes, 2, host.as_str().as_bytes()),
            Self::Process(process) => tagged(&mut bytes, 3, process.as_str().as_bytes()),
            Self::RunSpec(digest) => tagged(&mut bytes, 4, &digest.0),
            Self::Item(host, key) => {
                tagged(&mut bytes, 5, host.as_str().as_bytes());
                tagged(&mut bytes, 0, key.process.as_str().as_bytes());
                tagged(&mut bytes, 0, &key.index.to_be_bytes());
            }
            Self::Slice(host) => tagged(&mut bytes, 6, host.as_str().as_bytes()),
            Self::Request(request) => tagged(&mut bytes, 7, request.as_str().as_bytes()),
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let wrong = |what: &str| RowError::new(bytes, what);
        let (tag, rest) = bytes.split_first().ok_or_else(|| wrong("empty key"))?;
        let text =
            |part: &[u8]| core::str::from_utf8(part).map(String::from).map_err(|_| wrong("a name that is not UTF-8"));
        let host = |part: &[u8]| HostName::new(text(part)?).map_err(|error| RowError::new(bytes, error));
        let process = |part: &[u8]| ProcessName::new(text(part)?).map_err(|error| RowError::new(bytes, error));
        match tag {
            1 if rest.is_empty() => Ok(Self::Cluster),
            2 => host(rest).map(Self::Host),
            3 => process(rest).map(Self::Process),
            4 => Digest::from_slice(rest).map(Self::RunSpec).ok_or_else(|| wrong("a digest that is not 32 bytes")),
            5 => {
                let mut parts = rest.splitn(3, |byte| *byte == 0);
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(host_part), Some(process_part), Some(index)) => {
                        let index = index.try_into().map_err(|_| wrong("an instance number that is not 4 bytes"))?;
                        match u32::from_be_bytes(index) {
                            0 => Err(wrong("an instance 0, they are numbered from 1")),
                            index => Ok(Self::Item(host(host_part)?, InstanceKey::new(process(process_part)?, index))),
                        }
                    }
                    _ => Err(wrong("an instance key without its parts")),
                }
            }
            6 => host(rest).map(Self::Slice),
            7 => RequestId::new(text(rest)?).map(Self::Request).map_err(|error| RowError::new(bytes, error)),
            _ => Err(wrong("unknown table; written by a newer version?")),
        }
    }
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, part: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(part);
}

pub(crate) fn decode<'b, T: Decode<'b, ()>>(key: &[u8], value: &'b [u8]) -> Result<T, RowError> {
    minicbor::decode(value).map_err(|error| RowError::new(key, error))
}
