//! Silence is not death: a silent host becomes suspect, then lost, and nothing is done to its processes for it.

/// After how much silence a host is spoken of how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceLimits {
    /// Silence until a host is suspect, in milliseconds.
    pub suspect_ms: u64,
    /// Silence until it is lost, in milliseconds.
    pub lost_ms: u64,
}

impl Default for SilenceLimits {
    /// design.md 6: five missed heartbeats, then fifteen.
    fn default() -> Self {
        Self { suspect_ms: 5_000, lost_ms: 15_000 }
    }
}

/// How the leader speaks of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It was heard of lately.
    Connected,
    /// It has been silent for longer than the suspect limit.
    Suspect,
    /// It has been silent for longer than the lost limit.
    Lost,
    /// This leader has not led long enough to say.
    Unheard,
}

impl Condition {
    /// The condition of a host that has been silent for `silent_ms`, or never heard of by this leader, which has led
    /// for `led_ms`. A new leader gives every host the full lost limit before it says a word.
    pub fn of(silent_ms: Option<u64>, led_ms: u64, limits: SilenceLimits) -> Self {
        match silent_ms {
            None if led_ms >= limits.lost_ms => Self::Lost,
            None => Self::Unheard,
            Some(silent) if silent >= limits.lost_ms => Self::Lost,
            Some(silent) if silent >= limits.suspect_ms => Self::Suspect,
            Some(_) => Self::Connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_has_names() {
        let limits = SilenceLimits::default();
        for (silent, led, expected) in [
            (Some(0), 0, Condition::Connected),
            (Some(4_999), 60_000, Condition::Connected),
            (Some(5_000), 60_000, Condition::Suspect),
            (Some(15_000), 60_000, Condition::Lost),
            (None, 14_999, Condition::Unheard),
            (None, 15_000, Condition::Lost),
        ] {
            assert_eq!(Condition::of(silent, led, limits), expected, "{silent:?} {led}");
        }
    }
}
