//! Known bugs, put into the simulator's own shells and into what passes between the pure crates. The simulator is good
//! for something only as long as it finds each of them.

use std::fmt;

macro_rules! planted {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// One bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Planted {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc,)*).trim_ascii(),)*
                }
            }
        }
    };
}

planted! {
    /// A write is acknowledged when the leader has it.
    AckBeforeQuorum = "ack-before-quorum",
    /// A leader reads without having applied what was committed.
    ReadBeforeApply = "read-before-apply",
    /// A confirmation of some seconds ago counts for a read of now.
    ReadIndexReused = "read-index-reused",
    /// A session's leader counts on a lease by a clock that stood still while it was paused.
    LeaseOfPausedLeader = "lease-of-paused-leader",
    /// A repeated request is a new one.
    RepeatIsNew = "repeat-is-new",
    /// The expected revision is not passed on.
    ExpectationIgnored = "expectation-ignored",
    /// A snapshot leaves out the answers that are remembered.
    AnswersNotInSnapshot = "answers-not-in-snapshot",
    /// A manager that was killed comes back with the rows it had but a later position.
    PositionBeforeRows = "position-before-rows",
    /// Each manager stamps the time itself.
    ClockInApply = "clock-in-apply",
    /// The order of specs in a write is each manager's own, as with a hash map.
    OrderInApply = "order-in-apply",
    /// A watch resumes at its revision and not after it.
    WatchResumesAt = "watch-resumes-at",
    /// A watch that is behind leaves out a revision.
    WatchSkips = "watch-skips",
    /// A change does not wake the sessions.
    SessionsNotWoken = "sessions-not-woken",
    /// What a slave refused is not sent again.
    RefusalIgnored = "refusal-ignored",
    /// The processes of a lost host are shown as stopped.
    LostShownStopped = "lost-shown-stopped",
    /// A leader keeps what it observed when it led before.
    OldObservations = "old-observations",
    /// A slave takes an assignment under any heartbeat.
    NonceIgnored = "nonce-ignored",
    /// A slave takes an older revision, whatever it is a change of.
    FenceIgnored = "fence-ignored",
    /// A slave that hears of a leader gives up the session that it has asked for in a later term.
    LaterSessionDropped = "later-session-dropped",
    /// A slave does not report what is gone.
    GoneNotReported = "gone-not-reported",
    /// A slave tells what it holds before that is durable.
    ToldBeforeSaved = "told-before-saved",
    /// A slave starts first and writes down afterwards, and does not look for what it does not know.
    IntentAfterFork = "intent-after-fork",
    /// A process is taken over by its pid alone.
    PidAlone = "pid-alone",
    /// What was due before a stop still starts.
    TimerSurvivesStop = "timer-survives-stop",
    /// A kill reaches the main process alone.
    KillOfMainAlone = "kill-of-main-alone",
    /// An end counts before the rest of the tree is gone.
    EndBeforeEmpty = "end-before-empty",
    /// Restarts are counted anew after a restart of the slave.
    CountLost = "count-lost",
    /// An exit while no slave was there is unknown.
    ExitLost = "exit-lost",
    /// A reboot is not told from an exit.
    RebootIsExit = "reboot-is-exit",
    /// A removed instance is forgotten while its process runs.
    ForgottenAlive = "forgotten-alive",
    /// An instance that was forgotten and comes back begins with the numbers that are still being cleared away.
    NumberUsedAgain = "number-used-again",
    /// An instance that is assigned again in the turn that forgets it is forgotten all the same.
    ForgottenAndAssigned = "forgotten-and-assigned",
    /// The bundle of an incarnation that is over is not cleared away.
    BundlesKept = "bundles-kept",
    /// A signal goes out before its order is written down.
    SignalBeforeSaved = "signal-before-saved",
    /// A restarted slave ends what it does not remember to have started.
    TakeoverKills = "takeover-kills",
    /// What somebody says on a machine counts before the assignment that came in before it.
    LocalBeforeAssigned = "local-before-assigned",
    /// A local stop is not kept.
    LocalStopLost = "local-stop-lost",
    /// What was due before a restart of the slave is planned by nobody after it.
    WakeLost = "wake-lost",
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
