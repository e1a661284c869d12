//! What is asked for, by flags or by their defaults.

use std::time::Duration;

/// How large, and what of it.
pub struct Options {
    /// Pretended slaves.
    pub hosts: usize,
    /// Instances, in the end.
    pub instances: usize,
    /// Instances of the first measurement of single changes.
    pub few: usize,
    /// Every instance is a process of its own with a spec of its own; else a process has one instance on every host.
    pub own: bool,
    /// Single changes measured.
    pub changes: usize,
    /// How long CPU is looked at while nothing is asked for.
    pub window: Duration,
    parts: Vec<String>,
}

impl Options {
    /// From the command line: `--hosts N --instances N --few N --changes N --window SECONDS --own --parts idle,fleet`.
    pub fn read() -> Self {
        let mut options = Self {
            hosts: 10_000,
            instances: 1_000_000,
            few: 1_000,
            own: false,
            changes: 100,
            window: Duration::from_secs(30),
            parts: vec!["idle".into(), "fleet".into()],
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            if flag == "--own" {
                options.own = true;
                continue;
            }
            let value = args.next().unwrap_or_else(|| panic!("{flag} wants a value"));
            let number = || value.parse::<usize>().unwrap_or_else(|_| panic!("{flag} wants a number, not {value:?}"));
            match flag.as_str() {
                "--hosts" => options.hosts = number(),
                "--instances" => options.instances = number(),
                "--few" => options.few = number(),
                "--changes" => options.changes = number(),
                "--window" => options.window = Duration::from_secs(number() as u64),
                "--parts" => options.parts = value.split(',').map(str::to_owned).collect(),
                _ => panic!("{flag} is no flag of bench-scale"),
            }
        }
        options
    }

    /// Whether this part was asked for.
    pub fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|asked| asked == part)
    }
}
