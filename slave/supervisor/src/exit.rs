//! What is kept of an end: the fact as it was seen, and what this slave had done about it.

use alloc::string::String;

use minder_model::{Asked, ExitRecord, ExitStatus, Generation, Signal};

use crate::event::Ended;

/// What this slave knows of an end beside what was seen.
#[derive(Debug, Clone)]
pub(crate) struct HowEnded {
    /// Who wanted it.
    pub asked: Asked,
    /// Somebody did.
    pub requested: bool,
    /// On this machine, past the managers.
    pub locally: bool,
    /// It outlived its grace.
    pub killed: bool,
    /// This slave sent a KILL, after the grace or as the first word.
    pub own_kill: bool,
    /// Why its supervisor ended it.
    pub unhealthy: Option<String>,
    /// How long its end took, where it was asked to.
    pub stop_ms: Option<u64>,
}

impl HowEnded {
    /// The status to show. Where the kernel killed for memory and nobody else can have, that is the cause; a KILL of
    /// this slave's own stays one, whatever the kernel had killed of the tree before.
    pub fn status(&self, ended: &Ended) -> ExitStatus {
        match ended.status {
            ExitStatus::Signal(Signal::KILL, _) if ended.oom_kills > 0 && !self.own_kill => ExitStatus::OutOfMemory,
            status => status,
        }
    }

    /// The entry in the history.
    pub fn exit_record(&self, ended: &Ended, generation: Generation) -> ExitRecord {
        ExitRecord {
            incarnation: ended.incarnation,
            generation,
            status: ended.status,
            start_failure: ended.start_failure.clone(),
            started_at_ms: ended.started_at_ms,
            ended_at_ms: ended.ended_at_ms,
            cpu_ms: ended.cpu_ms,
            memory_peak_bytes: ended.memory_peak_bytes,
            requested: self.requested,
            killed_after_grace: self.killed,
            unhealthy: self.unhealthy.clone(),
            stop_ms: self.stop_ms,
            asked: self.asked,
            oom_kills: ended.oom_kills,
            last_output: ended.last_output.clone(),
            locally: self.locally,
        }
    }
}

#[cfg(test)]
mod tests {
    use minder_model::{Incarnation, LastOutput};

    use super::*;

    #[test]
    fn out_of_memory_is_said_only_where_nobody_else_killed() {
        let kill = ExitStatus::Signal(Signal::KILL, false);
        for (status, oom_kills, own_kill, said) in [
            (kill, 1, false, ExitStatus::OutOfMemory),
            (kill, 0, false, kill),
            (kill, 1, true, kill),
            (ExitStatus::Code(1), 1, false, ExitStatus::Code(1)),
            (ExitStatus::Unknown, 1, false, ExitStatus::Unknown),
        ] {
            let ended = Ended {
                incarnation: Incarnation(1),
                status,
                start_failure: None,
                started_at_ms: 0,
                ended_at_ms: 0,
                cpu_ms: 0,
                memory_peak_bytes: 0,
                oom_kills,
                last_output: LastOutput::default(),
            };
            let how = HowEnded {
                asked: Asked::Nobody,
                requested: false,
                locally: false,
                killed: false,
                own_kill,
                unhealthy: None,
                stop_ms: None,
            };
            assert_eq!(how.status(&ended), said, "{status} {oom_kills} {own_kill}");
        }
    }
}
