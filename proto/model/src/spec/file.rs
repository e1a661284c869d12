//! Small files that a spec brings along.

use alloc::string::String;

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::document::text_or_number;
use crate::stored::is_default;

/// A small file, written into a folder of the incarnation before its program starts and removed with it. The folder is
/// `${files}`, and `MINDER_FILES` in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it is in the folder, for example `conf/app.toml`.
    #[n(0)]
    pub path: String,
    /// What is in it.
    #[n(1)]
    pub content: String,
    /// Mode in octal text; `"0644"` when absent.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// User it belongs to, by name or number; the process' own when absent.
    #[n(3)]
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Group it belongs to, by name or number; that of its owner when absent, or of the process where there is no owner.
    #[n(4)]
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether `${host}` and its like are replaced in the content. Not by default, for configuration files have dollars
    /// and braces of their own.
    #[n(5)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub expand: bool,
}
