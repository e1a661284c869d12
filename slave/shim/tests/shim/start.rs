//! How programs begin: what they are given, and what is said when they cannot be.

use std::fs;

use crate::support::{Shim, is_root, program, shell, spawn, wait_for};
use minder_shim::{
    bundle, exit, identity,
    record::{End, Stage, Step},
};

fn failure(launch: minder_shim::launch::Launch) -> (Step, i32) {
    let mut shim = Shim::start(launch);
    let record = shim.until_over();
    assert_eq!((record.stage, shim.on_disk()), (Stage::StartFailed, record.clone()));
    shim.release();
    (record.failed_step, record.failed_errno)
}

#[test]
fn what_cannot_start_says_which_step_and_why() {
    assert_eq!(failure(program("/nowhere/to/be/found")), (Step::Exec, libc::ENOENT));
    assert_eq!(failure(program("no-such-program-anywhere")), (Step::Exec, libc::ENOENT));
    assert_eq!(failure(program("/etc/passwd")), (Step::Exec, libc::EACCES));
    assert_eq!(failure(program("/etc")), (Step::Exec, libc::EACCES));
    let nowhere = minder_shim::launch::Launch { working_directory: b"/nowhere".to_vec(), ..shell("true") };
    assert_eq!(failure(nowhere), (Step::WorkingDirectory, libc::ENOENT));
    let nobody = minder_shim::launch::Launch { user: b"no-such-user".to_vec(), ..shell("true") };
    assert_eq!(failure(nobody), (Step::User, libc::ENOENT));
    let no_group = minder_shim::launch::Launch { group: b"no-such-group".to_vec(), ..shell("true") };
    assert_eq!(failure(no_group), (Step::Group, libc::ENOENT));
    let no_cgroup = minder_shim::launch::Launch { cgroup: b"/nowhere".to_vec(), ..shell("true") };
    assert_eq!(failure(no_cgroup), (Step::Cgroup, libc::ENOENT));
    let absurd = minder_shim::launch::Launch { limits: vec![(libc::RLIMIT_NOFILE, 9, 3)], ..shell("true") };
    assert_eq!(failure(absurd), (Step::Limit, libc::EINVAL));
}

#[test]
fn a_name_is_looked_up_in_the_path_of_its_environment() {
    let mut shim = Shim::start(minder_shim::launch::Launch { args: vec![b"7".to_vec()], ..program("sleep") });
    let record = shim.until_running();
    let name = wait_for("exec", || fs::read_to_string(format!("/proc/{}/comm", record.main_pid)).ok());
    assert_eq!(name.trim(), "sleep");
}

#[test]
fn environment_directory_umask_and_limits_are_those_asked_for() {
    let mut launch = shell("env | sort; pwd; umask; ulimit -n; ulimit -Hn; ulimit -c; echo err >&2");
    launch.env.push((b"MINE".to_vec(), b"a b".to_vec()));
    launch.working_directory = b"/usr".to_vec();
    launch.umask = Some(0o027);
    launch.limits = vec![(libc::RLIMIT_NOFILE, 100, 200), (libc::RLIMIT_CORE, 0, 0)];
    let mut shim = Shim::start(launch);
    assert_eq!(shim.until_over().end, End::Code(0));
    let out = shim.log("stdout.log");
    assert!(out.ends_with("/usr\n0027\n100\n200\n0\n"), "{out}");
    assert!(out.contains("MINE=a b\n") && out.contains("PATH=/usr/bin:/bin\n"), "{out}");
    assert!(!out.contains("CARGO"), "nothing of the slave's environment: {out}");
    assert_eq!(shim.log("stderr.log"), "err\n");
}

#[test]
fn no_limit_on_files_is_too_small_for_the_steps_that_follow_it() {
    let mut launch = program("/bin/true");
    launch.limits = vec![(libc::RLIMIT_NOFILE, 4, 4)];
    launch.oom_score_adjust = Some(100);
    launch.nice = Some(5);
    if is_root() {
        launch.user = b"nobody".to_vec();
    }
    let record = Shim::start(launch).until_over();
    assert_eq!((record.failed_step, record.end), (Step::None, End::Code(0)));
}

#[test]
fn nothing_but_three_descriptors_and_no_odd_signal_is_handed_down() {
    let mut shim = Shim::start(shell(
        "ls -l /proc/self/fd | grep -c -- '->'; grep -E 'SigBlk|SigIgn' /proc/self/status; exec sleep 50",
    ));
    let pid = shim.until_running().main_pid;
    wait_for("sleep", || fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|name| name.trim() == "sleep"));
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| format!("{:?} {:?}", entry.file_name(), fs::read_link(entry.path())))
        .collect();
    assert_eq!(open.len(), 3, "{open:?}");
    let status = wait_for("output", || Some(shim.log("stdout.log")).filter(|text| text.contains("SigIgn")));
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
    let stat = identity::stat(pid).unwrap();
    assert_eq!((stat.group, stat.parent), (pid, shim.process.id()));
}

#[test]
fn a_user_is_switched_to_with_home_and_groups() {
    if !is_root() {
        eprintln!("skipped: only root may switch users");
        return;
    }
    let mut launch = shell("id -u; id -g; id -G; echo $HOME $USER; cat /proc/self/oom_score_adj; nice");
    launch.user = b"nobody".to_vec();
    launch.nice = Some(3);
    launch.oom_score_adjust = Some(77);
    let mut shim = Shim::start(launch);
    shim.until_over();
    let out = shim.log("stdout.log");
    assert!(out.starts_with("65534\n65534\n65534\n/nonexistent nobody\n77\n3\n"), "{out}");

    let mut launch = shell("id -u; id -g; id -G");
    (launch.user, launch.group) = (b"4242".to_vec(), b"4343".to_vec());
    let mut shim = Shim::start(launch);
    shim.until_over();
    assert_eq!(shim.log("stdout.log"), "4242\n4343\n4343\n");

    let mut launch = shell("true");
    launch.user = b"nobody".to_vec();
    launch.working_directory = b"/root".to_vec();
    let forbidden = fs::metadata("/root")
        .is_ok_and(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o001 == 0);
    if forbidden {
        assert_eq!(failure(launch), (Step::WorkingDirectory, libc::EACCES));
    }
}

#[test]
fn a_second_start_of_the_same_incarnation_is_refused() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    let record = shim.until_running();
    let code = spawn(shim.folder.path()).wait().unwrap().code();
    assert_eq!(code, Some(exit::LOCKED));
    // The lock goes with its shim, the incarnation does not: its program may be alive.
    shim.process.kill().unwrap();
    shim.process.wait().unwrap();
    assert!(identity::is_alive(record.main_pid, record.main_ticks));
    let code = spawn(shim.folder.path()).wait().unwrap().code();
    assert_eq!(code, Some(exit::USED));
    assert_eq!(shim.on_disk(), record, "who the program is stays known");
}

#[test]
fn a_bundle_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(spawn(&folder.path().join("none")).wait().unwrap().code(), Some(exit::BUNDLE));
    assert_eq!(spawn(folder.path()).wait().unwrap().code(), Some(exit::LAUNCH));
    assert_eq!(spawn(folder.path()).wait().unwrap().code(), Some(exit::USED), "nothing starts where a shim was before");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join(bundle::LAUNCH), b"nonsense").unwrap();
    assert_eq!(spawn(other.path()).wait().unwrap().code(), Some(exit::LAUNCH));
}
