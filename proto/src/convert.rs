//! Wire to model and back. From the wire, everything is checked, and a refusal names the field by its path.

pub mod machine_history;
pub mod spec;
pub mod status;
