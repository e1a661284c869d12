//! From a run spec to the launch file: variables filled in, names turned into the kernel's numbers.

use std::{os::unix::ffi::OsStrExt, path::Path};

use minder_model::{Generation, HostName, Incarnation, InstanceKey, LogFull, Revision, RunSpec};
use minder_shim::launch::{Daemon, EnvFile, Launch};

/// Programs get this where their spec sets no other.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an incarnation is told of itself.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The instance.
    pub key: &'a InstanceKey,
    /// Its spec version.
    pub generation: Generation,
    /// Its start.
    pub incarnation: Incarnation,
    /// The assignment's revision.
    pub revision: Revision,
    /// Where the spec's small files are, if it has any.
    pub files: Option<&'a Path>,
}

/// The launch of one incarnation.
pub fn launch(run_spec: &RunSpec, place: &Place<'_>, logs: &Path, cgroup: &Path) -> Launch {
    let spec = run_spec.spec();
    let bytes = |text: &str| expand(text, place).into_bytes();
    let mut env = Vec::new();
    // A file may say another PATH. Where none does, the shim falls back to the same one.
    if spec.env_files.is_empty() {
        env.push(("PATH".to_owned(), PATH_DEFAULT.to_owned()));
    }
    env.extend(own_variables(place));
    env.extend(place.files.map(|files| ("MINDER_FILES".to_owned(), files.display().to_string())));
    for (key, value) in &spec.env {
        env.retain(|(there, _)| there != key);
        env.push((key.clone(), expand(value, place)));
    }
    Launch {
        command: spec.command.clone().into_bytes(),
        args: spec.args.iter().map(|arg| bytes(arg)).collect(),
        env: env.into_iter().map(|(key, value)| (key.into_bytes(), value.into_bytes())).collect(),
        working_directory: spec.working_directory.as_deref().map(bytes).unwrap_or_default(),
        user: spec.user.clone().unwrap_or_default().into_bytes(),
        group: spec.group.clone().unwrap_or_default().into_bytes(),
        umask: spec.umask.as_deref().and_then(|mask| u32::from_str_radix(mask, 8).ok()),
        limits: spec
            .limits
            .iter()
            .filter_map(|(name, limit)| {
                let unlimited = u64::MAX;
                Some((resource(name)?, limit.soft.unwrap_or(unlimited), limit.hard.unwrap_or(unlimited)))
            })
            .collect(),
        nice: spec.nice,
        oom_score_adjust: spec.oom_score_adjust,
        log_directory: logs.as_os_str().as_bytes().to_vec(),
        log_bytes_max: spec.logs.max_size.0,
        log_files_max: spec.logs.max_files,
        log_combine: spec.logs.combine,
        log_block: spec.logs.on_full == LogFull::Block,
        daemon: spec.daemon.as_ref().map(|daemon| Daemon {
            pid_file: daemon.pid_file.as_deref().map(bytes).unwrap_or_default(),
            launch_timeout_ms: daemon.launch_timeout.0,
        }),
        cgroup: cgroup.as_os_str().as_bytes().to_vec(),
        env_files: spec.env_files.iter().map(|file| env_file(file, place)).collect(),
        no_new_privileges: spec.no_new_privileges,
    }
}

/// `-` before a path: it may be missing.
fn env_file(file: &str, place: &Place<'_>) -> EnvFile {
    let (path, may_be_missing) = match file.strip_prefix('-') {
        Some(path) => (path, true),
        None => (file, false),
    };
    EnvFile { path: expand(path, place).into_bytes(), may_be_missing }
}

fn own_variables(place: &Place<'_>) -> [(String, String); 5] {
    [
        ("MINDER_HOST".into(), place.host.to_string()),
        ("MINDER_PROCESS".into(), place.key.process.to_string()),
        ("MINDER_INSTANCE".into(), place.key.index.to_string()),
        ("MINDER_GENERATION".into(), place.generation.to_string()),
        ("MINDER_INCARNATION".into(), place.incarnation.to_string()),
    ]
}

/// Replaces the built-in variables. Anything else in `${...}` stays as it is: it is the program's business.
pub fn expand(text: &str, place: &Place<'_>) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    [
        ("${host}", place.host.to_string()),
        ("${name}", place.key.process.to_string()),
        ("${instance}", place.key.index.to_string()),
        ("${generation}", place.generation.to_string()),
        ("${incarnation}", place.incarnation.to_string()),
        ("${revision}", place.revision.to_string()),
    ]
    .into_iter()
    .chain(place.files.map(|files| ("${files}", files.display().to_string())))
    .fold(text.to_owned(), |text, (variable, value)| text.replace(variable, &value))
}

/// Resource limits and the kernel's numbers of them (setrlimit(2)).
const RESOURCES: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

fn resource(name: &str) -> Option<u32> {
    RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of the resource limit whose number a shim has told.
pub fn resource_name(number: &str) -> Option<&'static str> {
    let number: u32 = number.parse().ok()?;
    RESOURCES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use minder_model::{ProcessName, Spec};

    use super::*;

    #[test]
    fn variables_are_filled_in_and_the_environment_is_exact() {
        let (host, key) = (HostName::new("web-1").unwrap(), InstanceKey::parse("app:2").unwrap());
        let mut spec = Spec::new(ProcessName::new("app").unwrap(), "run");
        spec.args = vec!["--id=${host}/${name}/${instance}/${generation}/${incarnation}".into(), "${other}".into()];
        spec.env.insert("PATH".into(), "/opt".into());
        spec.env.insert("AT".into(), "${revision}".into());
        spec.umask = Some("027".into());
        spec.limits.insert("nofile".into(), minder_model::Limit { soft: Some(5), hard: None });
        let place = Place {
            host: &host,
            key: &key,
            generation: Generation(3),
            incarnation: Incarnation(4),
            revision: Revision(5),
            files: None,
        };
        let launch = launch(&spec.resolve(&host), &place, Path::new("/logs"), Path::new(""));
        assert_eq!(launch.args, [b"--id=web-1/app/2/3/4".to_vec(), b"${other}".to_vec()]);
        let value = |key: &str| launch.env.iter().filter(|(there, _)| there == key.as_bytes()).collect::<Vec<_>>();
        assert_eq!(value("PATH"), [&(b"PATH".to_vec(), b"/opt".to_vec())]);
        assert_eq!(value("AT")[0].1, b"5");
        assert_eq!(value("MINDER_INSTANCE")[0].1, b"2");
        assert_eq!((launch.umask, launch.limits), (Some(0o27), vec![(libc::RLIMIT_NOFILE, 5, u64::MAX)]));
    }
}
