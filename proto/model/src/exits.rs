//! The history of exits: how it is kept bounded, and how it is told without telling it all again.

use alloc::vec::Vec;

use crate::{
    limits::{EXITS_KEPT_MAX, EXITS_WITH_OUTPUT_MAX},
    report::{ExitRecord, LastOutput},
};

/// Adds the newest exit, lets go of the oldest, and of the output of older ones. One that is there already, noted before
/// a slave's death, is replaced.
pub fn note_exit(exits: &mut Vec<ExitRecord>, exit: ExitRecord) {
    exits.retain(|before| before.incarnation != exit.incarnation);
    exits.push(exit);
    let surplus = exits.len().saturating_sub(EXITS_KEPT_MAX);
    exits.drain(..surplus);
    let without_output = exits.len().saturating_sub(EXITS_WITH_OUTPUT_MAX);
    for old in &mut exits[..without_output] {
        old.last_output = LastOutput::default();
    }
}

/// What whoever knows `before` must [`note_exit`] to know `after`; `None` when that does not lead there.
pub fn exits_added(before: &[ExitRecord], after: &[ExitRecord]) -> Option<Vec<ExitRecord>> {
    let known = before.last().map(|exit| exit.incarnation);
    let added: Vec<ExitRecord> =
        after.iter().filter(|exit| known.is_none_or(|known| exit.incarnation > known)).cloned().collect();
    let mut kept = before.to_vec();
    added.iter().cloned().for_each(|exit| note_exit(&mut kept, exit));
    (kept == after).then_some(added)
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use super::*;
    use crate::{Asked, ExitStatus, Generation, Incarnation, LAST_OUTPUT_BYTES_MAX, Signal, StartFailure};

    fn exit(incarnation: u64) -> ExitRecord {
        ExitRecord {
            incarnation: Incarnation(incarnation),
            generation: Generation(1),
            status: ExitStatus::Code(1),
            start_failure: None,
            started_at_ms: 1_000,
            ended_at_ms: 3_500,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            requested: false,
            killed_after_grace: false,
            asked: Asked::Nobody,
            oom_kills: 0,
            last_output: LastOutput::of(b"a\nb\n", b"x"),
            stop_ms: None,
            unhealthy: None,
            locally: false,
        }
    }

    fn history(incarnations: core::ops::RangeInclusive<u64>) -> Vec<ExitRecord> {
        let mut exits = vec![];
        incarnations.for_each(|incarnation| note_exit(&mut exits, exit(incarnation)));
        exits
    }

    #[test]
    fn ten_are_kept_and_three_with_their_output() {
        let exits = history(1..=25);
        assert_eq!(exits.iter().map(|exit| exit.incarnation.0).collect::<Vec<_>>(), (16..=25).collect::<Vec<_>>());
        let with_output = exits.iter().filter(|exit| exit.last_output.stderr == "x").map(|exit| exit.incarnation.0);
        assert_eq!(with_output.collect::<Vec<_>>(), [23, 24, 25]);
        let mut again = exits.clone();
        note_exit(&mut again, exit(25));
        assert_eq!(again, exits, "noted twice is noted once");
    }

    #[test]
    fn only_what_is_new_is_told() {
        for (before, after, added) in [
            (history(1..=3), history(1..=3), Some(0)),
            (history(1..=3), history(1..=4), Some(1)),
            (history(1..=12), history(1..=14), Some(2)),
            (vec![], history(1..=2), Some(2)),
            // It was forgotten and made anew meanwhile.
            (history(1..=3), history(1..=1), None),
            (history(1..=3), vec![], None),
        ] {
            assert_eq!(exits_added(&before, &after).map(|added| added.len()), added, "{before:?} {after:?}");
        }
    }

    #[test]
    fn last_output_is_bounded_whatever_was_written() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"one\n", "one"),
            (b"1\n2\n3\n4\n5\n\n", "2\n3\n4\n5"),
            (b"half", "half"),
            (b"\xff\xfe\n", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(LastOutput::of(bytes, b"").stdout, text, "{bytes:?}");
        }
        for bytes in [vec![b'x'; 5_000], vec![0xff; 5_000], "\u{20ac}".repeat(2_000).into_bytes()] {
            let output = LastOutput::of(&bytes, &bytes);
            assert!((LAST_OUTPUT_BYTES_MAX - 3..=LAST_OUTPUT_BYTES_MAX).contains(&output.stderr.len()));
        }
        assert_eq!(LastOutput::of(b"out\n", b"why\n \n").last_line(), Some("why"));
        assert_eq!(LastOutput::of(b"out\n", b"\n").last_line(), Some("out"));
        assert_eq!(LastOutput::default().last_line(), None);
    }

    #[test]
    fn exits_say_how_and_who() {
        let kill = ExitStatus::Signal(Signal::KILL, false);
        let failure = StartFailure { step: String::from("exec"), errno: 2, message: String::from("no such file") };
        let named = StartFailure { step: String::from("nice"), errno: 1, message: String::from("nice -5: no") };
        for (exit, words) in [
            (exit(1), "exit 1"),
            (
                ExitRecord { status: ExitStatus::OutOfMemory, oom_kills: 3, ..exit(1) },
                "out of memory, killed by the kernel",
            ),
            (
                ExitRecord { oom_kills: 2, ..exit(1) },
                "exit 1, after the kernel had killed 2 of its processes for memory",
            ),
            (ExitRecord { requested: true, asked: Asked::Restart, ..exit(1) }, "exit 1, restarted by operator"),
            (ExitRecord { requested: true, ..exit(1) }, "exit 1, as asked"),
            (
                ExitRecord { requested: true, asked: Asked::Operator, locally: true, ..exit(1) },
                "exit 1, stopped locally",
            ),
            (
                ExitRecord {
                    status: kill,
                    requested: true,
                    killed_after_grace: true,
                    asked: Asked::Operator,
                    ..exit(1)
                },
                "signal KILL, stopped by operator, did not stop in time, killed",
            ),
            (ExitRecord { start_failure: Some(failure), ..exit(1) }, "cannot start (exec): no such file"),
            (ExitRecord { start_failure: Some(named), ..exit(1) }, "cannot start: nice -5: no"),
        ] {
            assert_eq!(alloc::format!("{exit}"), words);
        }
    }

    #[test]
    fn a_record_of_before_reads_back() {
        #[derive(minicbor::Encode)]
        #[cbor(map)]
        struct Before {
            #[n(0)]
            incarnation: Incarnation,
            #[n(1)]
            generation: Generation,
            #[n(2)]
            status: ExitStatus,
            #[n(4)]
            started_at_ms: u64,
            #[n(5)]
            ended_at_ms: u64,
            #[n(6)]
            cpu_ms: u64,
            #[n(7)]
            memory_peak_bytes: u64,
            #[n(8)]
            requested: bool,
            #[n(9)]
            killed_after_grace: bool,
        }
        let before = Before {
            incarnation: Incarnation(1),
            generation: Generation(1),
            status: ExitStatus::Code(1),
            started_at_ms: 1_000,
            ended_at_ms: 3_500,
            cpu_ms: 0,
            memory_peak_bytes: 0,
            requested: false,
            killed_after_grace: false,
        };
        let read: ExitRecord = minicbor::decode(&minicbor::to_vec(&before).unwrap()).unwrap();
        assert_eq!(read, ExitRecord { last_output: LastOutput::default(), ..exit(1) });
    }
}
