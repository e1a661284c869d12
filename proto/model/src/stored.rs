//! Stored forms: CBOR with numbered fields, as the derives on the types say. The one place that encodes.

use alloc::vec::Vec;

use minicbor::{CborLen, Encode};

/// Left out of stored forms and documents: a version that does not know a field yet must not see it where it says
/// nothing, for it takes its digests over what it knows.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The stored form of a value.
pub fn encode<T: Encode<()> + CborLen<()>>(value: &T) -> Vec<u8> {
    encode_after(&[], value)
}

/// The stored form of a value behind `prefix`, such as a format version, in one allocation of the right size.
pub fn encode_after<T: Encode<()> + CborLen<()>>(prefix: &[u8], value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prefix.len() + minicbor::len(value));
    bytes.extend_from_slice(prefix);
    minicbor::encode(value, &mut bytes).expect("encoding into memory cannot fail: its error type is Infallible");
    bytes
}
