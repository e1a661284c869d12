//! What a start gives the program, and that one which cannot give all of it starts nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use minder_shim::{
    bundle,
    launch::{EnvFile, Launch},
    record::{Stage, Step},
};

use crate::support::{NOBODY, Shim, is_root, shell};

/// Step, errno and detail of a start that must come to nothing.
fn failure(mut shim: Shim) -> (Step, i32, String) {
    let record = shim.until_over();
    assert_eq!(record.stage, Stage::StartFailed, "{record:?}");
    assert_eq!((shim.log("stdout.log"), shim.log("stderr.log")), (String::new(), String::new()), "nothing has run");
    let detail = fs::read_to_string(shim.folder.path().join(bundle::FAILURE)).unwrap_or_default();
    shim.release();
    (record.failed_step, record.failed_errno, detail)
}

/// Output of a start that goes well.
fn output(launch: Launch) -> String {
    let mut shim = Shim::start(launch);
    let record = shim.until_over();
    assert_eq!((record.stage, record.failed_step), (Stage::Ended, Step::None), "{record:?}");
    shim.log("stdout.log")
}

fn says() -> Launch {
    shell("echo ran")
}

fn env_file(path: &Path) -> EnvFile {
    EnvFile { path: path.as_os_str().as_encoded_bytes().to_vec(), may_be_missing: false }
}

#[test]
fn without_rights_each_step_says_itself_and_nothing_runs() {
    let nofile = libc::RLIMIT_NOFILE;
    for (launch, step, errno, detail) in [
        (Launch { user: b"root".to_vec(), ..says() }, Step::User, libc::EPERM, ""),
        (Launch { group: b"0".to_vec(), ..says() }, Step::Group, libc::EPERM, ""),
        (Launch { user: b"root".to_vec(), group: b"0".to_vec(), ..says() }, Step::Group, libc::EPERM, ""),
        (Launch { nice: Some(-5), ..says() }, Step::Nice, libc::EACCES, ""),
        (Launch { oom_score_adjust: Some(-1_000), ..says() }, Step::OomScore, libc::EACCES, ""),
        // More than any kernel allows.
        (Launch { limits: vec![(nofile, 1 << 40, 1 << 40)], ..says() }, Step::Limit, libc::EPERM, "7"),
        (Launch { limits: vec![(nofile, 9, 3)], ..says() }, Step::Limit, libc::EINVAL, "7"),
        (Launch { working_directory: b"/proc/1/cwd".to_vec(), ..says() }, Step::WorkingDirectory, libc::EACCES, ""),
        (Launch { command: b"/etc/passwd".to_vec(), ..says() }, Step::Exec, libc::EACCES, ""),
        (
            Launch { env_files: vec![env_file(Path::new("/proc/1/environ"))], ..says() },
            Step::EnvFiles,
            libc::EACCES,
            "/proc/1/environ: Permission denied (os error 13)",
        ),
    ] {
        let told = failure(Shim::start_without_rights(launch));
        assert_eq!(told, (step, errno, detail.to_owned()));
    }
    // What needs no rights is given without them.
    let mut shim = Shim::start_without_rights(Launch {
        no_new_privileges: true,
        nice: Some(4),
        umask: Some(0o077),
        limits: vec![(nofile, 64, 64)],
        oom_score_adjust: Some(500),
        ..shell("nice; umask; ulimit -n; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status")
    });
    shim.until_over();
    assert_eq!(shim.log("stdout.log"), "4\n0077\n64\n500\nNoNewPrivs:\t1\n");
}

#[test]
fn files_of_variables_fill_in_what_the_environment_does_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::write(&one, "# of the host\nA=1\nB=1\nC='one two'\nMINE=no\nPATH=/opt/bin:/usr/bin:/bin\n").unwrap();
    fs::write(&two, "B=2\nB=3\nHOME=/elsewhere\n").unwrap();
    let missing = EnvFile { may_be_missing: true, ..env_file(&folder.path().join("missing/x")) };
    let mut launch = shell("echo $A $B $C $MINE $PATH $HOME");
    launch.env = vec![(b"MINE".to_vec(), b"yes".to_vec())];
    launch.env_files = vec![env_file(&one), missing, env_file(&two)];
    assert_eq!(output(launch), "1 3 one two yes /opt/bin:/usr/bin:/bin /elsewhere\n");

    let mut launch = shell("echo $PATH");
    launch.env = Vec::new();
    launch.env_files = vec![env_file(&two)];
    assert_eq!(output(launch), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
}

#[test]
fn a_file_of_variables_that_cannot_be_read_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let told = |path: &Path| {
        let (step, errno, detail) = failure(Shim::start(Launch { env_files: vec![env_file(path)], ..says() }));
        assert_eq!(step, Step::EnvFiles);
        (errno, detail.strip_prefix(path.to_str().unwrap()).unwrap().to_owned())
    };
    assert_eq!(told(&path), (libc::ENOENT, ": No such file or directory (os error 2)".into()));
    fs::write(&path, "A=1\n\nno variable\n").unwrap();
    assert_eq!(told(&path), (0, ": line 3: no KEY=VALUE".into()));
    fs::write(&path, vec![b'#'; 300 << 10]).unwrap();
    assert_eq!(told(&path), (libc::EFBIG, ": larger than 262144 bytes".into()));
    assert_eq!(told(folder.path()), (0, ": not a file".into()));
    // Nobody ever writes into this one.
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(told(&pipe), (0, ": not a file".into()));
}

/// A user with further groups than its own, if this machine has one.
fn user_with_groups() -> Option<(String, String)> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let members = groups.lines().filter_map(|line| line.rsplit(':').next()).flat_map(|list| list.split(','));
    members.filter(|user| !user.is_empty() && *user != "root").find_map(|user| {
        let groups = String::from_utf8(Command::new("id").args(["-G", user]).output().ok()?.stdout).ok()?;
        (groups.split_whitespace().count() > 1).then(|| (user.to_owned(), groups))
    })
}

#[test]
fn files_of_variables_are_read_with_the_rights_of_the_user_and_no_others() {
    if !is_root() {
        eprintln!("skipped: only root may switch users");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "A=1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // The steps after it still have the shim's own rights.
    let launch = |user: &str| Launch {
        user: user.into(),
        env_files: vec![env_file(&path)],
        nice: Some(-3),
        oom_score_adjust: Some(3),
        ..shell("echo $A; id -u; nice; cat /proc/self/oom_score_adj")
    };
    let (step, errno, detail) = failure(Shim::start(launch("nobody")));
    assert_eq!((step, errno), (Step::EnvFiles, libc::EACCES), "{detail}");
    chown(&path, Some(NOBODY), None).unwrap();
    assert_eq!(output(launch("nobody")), format!("1\n{NOBODY}\n-3\n3\n"));

    // Programs open their output by its name, as a log file.
    let mut shim =
        Shim::start(Launch { user: b"nobody".to_vec(), ..shell("echo out > /dev/stdout; echo err > /dev/stderr") });
    shim.until_over();
    assert_eq!((shim.log("stdout.log"), shim.log("stderr.log")), ("out\n".to_owned(), "err\n".to_owned()));

    let Some((user, groups)) = user_with_groups() else {
        eprintln!("skipped: no user of this machine has further groups");
        return;
    };
    assert_eq!(output(Launch { user: user.clone().into(), ..shell("id -G") }), groups, "{user}");
    let further = groups.split_whitespace().nth(1).unwrap().parse().unwrap();
    chown(&path, Some(0), Some(further)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let launch = Launch { user: user.into(), env_files: vec![env_file(&path)], ..shell("echo $A") };
    assert_eq!(output(launch), "1\n", "a further group gives its rights");
}
