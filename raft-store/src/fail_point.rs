//! Named points at which a test can end the process, as a crash would. Compiled out unless the feature is on.

/// Ends the process here when `MINDER_FAIL_POINT` names this point and the feature `failpoints` is on.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        if std::env::var("MINDER_FAIL_POINT").is_ok_and(|name| name == $name) {
            std::process::abort();
        }
    };
}

pub(crate) use fail_point;
