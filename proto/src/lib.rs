//! The contract: generated messages and services, their conversion to and from the model, dialling a cluster,
//! and what managers and slaves share beside: the page of metrics, and the means of drills.
//!
//! This is the only crate that sees wire and model types together. A message that does not fit the model is refused
//! here, by the path of its field; inside there is nothing left to check.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod convert;
pub mod dial;
pub mod isolation;
pub mod metrics;
pub mod vanish;

/// Generated from `minder/v1/*.proto`; the comments there are the documentation.
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("minder.v1");
}

/// In the metadata of a refusal: the request may be split, and its parts may be taken.
pub const TOO_LARGE_METADATA: &str = "minder-too-large";

/// The descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/minder.descriptors"));
