//! The first design note's form, `{"processInfos": [...]}`, and what each of its keys means.

use minder_model::{Daemon, Millis, ProcessName, Restart, RestartPolicy, Signal, Spec, Stop};
use serde::Deserialize;

use super::complaint::join;

/// The note's document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    #[serde(rename = "processInfos")]
    pub process_infos: Vec<ProcessInfo>,
}

/// One process as the note writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProcessInfo {
    process_name: String,
    #[serde(default)]
    is_daemon: bool,
    restart_interval: Option<u64>,
    restart_count_limit: Option<u32>,
    signal: Option<Signal>,
    parameters: Option<Parameters>,
    environment_variable: Option<Variables>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected text that is split as a shell would, or a list of texts")]
enum Parameters {
    Text(String),
    List(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected {\"key\": ..., \"value\": ...} with texts, or a list of them")]
enum Variables {
    One(Variable),
    List(Vec<Variable>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    key: String,
    value: String,
}

/// A spec for a program that is named by its path or by its name in the host's `PATH`: the last part of the path is
/// the name of the process. As in the note, a process that ended is started again, however it ended. The error says
/// what is wrong with the program.
pub fn program_spec(program: &str, args: Vec<String>) -> Result<Spec, String> {
    let name = program_name(program)?;
    let restart = Restart { policy: RestartPolicy::Always, ..Restart::default() };
    Ok(Spec { args, restart, ..Spec::new(name, program) })
}

/// The process that a program's path names.
fn program_name(program: &str) -> Result<ProcessName, String> {
    let last = program.rsplit('/').next().unwrap_or_default();
    if last.is_empty() {
        return Err(format!("{program:?} names no program"));
    }
    ProcessName::new(last).map_err(|error| error.to_string())
}

impl ProcessInfo {
    /// The spec it means. The error is a path and what is wrong there.
    pub(super) fn spec(self, path: &str) -> Result<Spec, (String, String)> {
        let at = |key: &str| join(path, key);
        let args = match self.parameters {
            None => Vec::new(),
            Some(Parameters::List(list)) => list,
            Some(Parameters::Text(text)) => shell_words::split(&text).map_err(|_| {
                (at("parameters"), format!("{text:?} cannot be split into words: a quote is not closed"))
            })?,
        };
        let mut spec = program_spec(&self.process_name, args).map_err(|why| (at("processName"), why))?;
        if let Some(seconds) = self.restart_interval {
            let delay = seconds
                .checked_mul(1_000)
                .map(Millis)
                .ok_or_else(|| (at("restartInterval"), format!("{seconds} seconds is too long")))?;
            // A constant delay: no growth, no chance, and a ceiling that does not matter.
            spec.restart = Restart { delay, factor: 100, delay_max: delay, jitter_percent: 0, ..spec.restart };
        }
        match self.restart_count_limit {
            None => {}
            Some(0) => spec.restart.policy = RestartPolicy::Never,
            Some(limit) => spec.restart = Restart { limit, window: None, slow_retry: None, ..spec.restart },
        }
        if let Some(signal) = self.signal {
            spec.stop = Stop { signal, ..Stop::default() };
        }
        if self.is_daemon {
            spec.daemon = Some(Daemon::default());
        }
        let variables = match self.environment_variable {
            None => Vec::new(),
            Some(Variables::One(variable)) => vec![variable],
            Some(Variables::List(list)) => list,
        };
        spec.env = variables.into_iter().map(|variable| (variable.key, variable.value)).collect();
        Ok(spec)
    }
}
