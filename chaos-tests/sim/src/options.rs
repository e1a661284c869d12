//! What a seed stands for, printed with every failure. Each class of trouble is on or off by itself (swarm testing): a
//! world with everything at once hides what a world with two of them shows.

use std::fmt;

use crate::chance::Chance;

macro_rules! classes {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $percent:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: bool,)*
        }

        impl $name {
            fn draw(chance: &mut Chance) -> Self {
                Self { $($field: chance.percent($percent),)* }
            }

            /// The names of those that are on.
            pub fn names(&self) -> Vec<&'static str> {
                [$((self.$field, stringify!($field)),)*].into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
            }
        }
    };
}

classes! {
    /// What goes wrong.
    Faults {
        /// A manager is killed and comes back.
        manager_kills: 50,
        /// A manager gets no time for a while, as after SIGSTOP, and goes on as if nothing had been.
        manager_pauses: 60,
        /// Managers, hosts and operators are cut off from each other, both ways.
        partitions: 50,
        /// Or one way only.
        one_way: 40,
        /// Messages take up to a second.
        slow_links: 35,
        /// Calls of operators, or the answers to them, get lost.
        lost_calls: 50,
        /// Managers apply late, followers more often than the leader.
        lag: 40,
        /// Followers that lag get a snapshot.
        snapshots: 50,
        /// A slave is killed and comes back.
        slave_kills: 55,
        /// A slave is killed between two steps of a turn.
        slave_kills_in_turns: 50,
        /// A slave gets no time for a while.
        slave_pauses: 35,
        /// A shim is killed.
        shim_kills: 35,
        /// A machine loses power: what was not synced is gone, and its boot id is another one.
        power_cuts: 45,
        /// A program is killed by somebody.
        program_kills: 50,
        /// Syncs take up to two seconds.
        slow_disks: 45,
        /// Wall clocks are set.
        clock_steps: 30,
        /// The leader hands over to another manager.
        transfers: 50,
    }
}

classes! {
    /// What programs do.
    Programs {
        /// They fail again and again.
        crash_loops: 55,
        /// They end by themselves, well or not.
        ends: 50,
        /// They ignore the polite signal.
        deaf: 50,
        /// They leave children behind.
        forks: 55,
        /// They cannot be started.
        start_failures: 40,
    }
}

classes! {
    /// What operators do beside writing and deleting processes.
    Work {
        /// Processes are placed by labels, and labels change.
        selectors: 50,
        /// Writes say which revision they expect.
        expectations: 50,
        /// Start, stop, restart, retry, signal.
        orders: 75,
        /// A call without an answer is repeated at another manager.
        repeats: 80,
        /// Processes come after others.
        order_on_hosts: 35,
        /// Stops and starts on the machine itself.
        local_orders: 30,
        /// Hosts are removed.
        host_removals: 25,
        /// Processes are deleted and written again at once.
        flaps: 50,
        /// Somebody on a machine asks again and again what runs there.
        onlookers: 50,
    }
}

/// Everything that a seed fixes before the world begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Managers: 3 or 5.
    pub managers: usize,
    /// Hosts.
    pub hosts: usize,
    /// Operators, each with one call under way.
    pub operators: usize,
    /// Names of processes there may be.
    pub processes: usize,
    /// How long things go wrong, in milliseconds.
    pub faults_ms: u64,
    /// From one fault to the next, about, in milliseconds.
    pub fault_every_ms: u64,
    /// From one call of an operator to the next, about, in milliseconds.
    pub call_every_ms: u64,
    /// Process ids of a host before they are used again.
    pub pids: u32,
    /// Entries that managers keep for those that lag.
    pub entries_kept: usize,
    /// How often it becomes night after a day of `faults_ms`.
    pub nights: usize,
    /// How long a night is, in milliseconds.
    pub night_ms: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// What programs do.
    pub programs: Programs,
    /// What operators do.
    pub work: Work,
}

impl Options {
    /// What the seed stands for.
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            seed,
            managers: if chance.percent(75) { 3 } else { 5 },
            hosts: 1 + chance.below(3),
            operators: 2 + chance.below(2),
            processes: 2 + chance.below(4),
            faults_ms: chance.of(30_000..150_000),
            fault_every_ms: *chance.pick(&[1_500, 4_000, 10_000]),
            call_every_ms: *chance.pick(&[500, 2_000, 4_000]),
            pids: *chance.pick(&[24, 60, 500]),
            entries_kept: *chance.pick(&[0, 3, 20]),
            nights: 0,
            night_ms: 0,
            faults: Faults::draw(&mut chance),
            programs: Programs::draw(&mut chance),
            work: Work::draw(&mut chance),
        }
    }

    /// What the seed stands for in a long life: the same, and nights of hours between such days.
    pub fn long(seed: u64) -> Self {
        let mut chance = Chance::new(!seed);
        let day = Self::of(seed);
        Self {
            nights: 1 + chance.below(3),
            night_ms: chance.of(2..13) * 3_600_000,
            // What is remembered of a night makes snapshots long: one for each entry would be most of what happens.
            entries_kept: day.entries_kept.max(20),
            ..day
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} managers, {} hosts, {} operators, {} processes; faults for {} s, one in {} ms; a call in {} ms; {} pids; \
             {} entries kept",
            self.managers,
            self.hosts,
            self.operators,
            self.processes,
            self.faults_ms / 1_000,
            self.fault_every_ms,
            self.call_every_ms,
            self.pids,
            self.entries_kept
        )?;
        if self.nights > 0 {
            writeln!(f, "nights:   {} of {} h", self.nights, self.night_ms / 3_600_000)?;
        }
        writeln!(f, "faults:   {}", self.faults.names().join(" "))?;
        writeln!(f, "programs: {}", self.programs.names().join(" "))?;
        write!(f, "work:     {}", self.work.names().join(" "))
    }
}
