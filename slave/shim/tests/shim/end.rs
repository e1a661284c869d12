//! How programs end, and that nothing of them stays.

use std::fs;

use crate::support::{Shim, end, is_gone, is_root, number_in, shell, wait_for};
use minder_shim::{
    identity,
    launch::{Daemon, Launch},
    protocol::{Request, Scope},
    record::{End, Stage, Step},
};

#[test]
fn codes_and_signals_are_told_as_they_were() {
    for (script, expected) in [
        ("exit 0", End::Code(0)),
        ("exit 37", End::Code(37)),
        ("exit 255", End::Code(255)),
        ("kill -TERM $$", End::Signal(15, false)),
        ("kill -KILL $$", End::Signal(9, false)),
    ] {
        let mut shim = Shim::start(shell(script));
        let record = shim.until_over();
        assert_eq!((record.stage, record.end), (Stage::Ended, expected), "{script}");
        assert!(record.ended_at_ms >= record.started_at_ms && record.started_at_ms > 0);
        assert_eq!(shim.on_disk(), record);
        shim.release();
    }
}

#[test]
fn signals_reach_whom_they_are_for() {
    let mut shim = Shim::start(shell("trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done"));
    shim.until_running();
    wait_for("the trap", || shim.log("stdout.log").contains("ready").then_some(()));
    shim.send(Request::Signal { signal: libc::SIGUSR1, scope: Scope::Main });
    assert_eq!(shim.until_over().end, End::Code(3));
    assert!(shim.log("stdout.log").contains("got"));

    for scope in [Scope::Group, Scope::All] {
        // Both traps stand before "ready", and no one waits for a long sleep: a shell that takes the signal just before
        // it forks the sleep would answer only when that ends.
        let mut shim = Shim::start(shell(
            "trap : TERM; sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.05; done' & wait; wait",
        ));
        shim.until_running();
        wait_for("the trap", || shim.log("stdout.log").contains("ready").then_some(()));
        shim.send(Request::Signal { signal: libc::SIGTERM, scope });
        wait_for("the child's word", || shim.log("stdout.log").contains("child").then_some(()));
    }
}

#[test]
fn a_killed_tree_leaves_nobody_not_even_who_left_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().to_str().unwrap().to_owned();
    // One in its own session, one orphaned by a double fork, all deaf.
    let script = format!(
        "trap '' TERM; setsid sh -c 'echo $$ > {pids}/a; trap \"\" TERM; while :; do sleep 1; done' & \
         (sh -c 'echo $$ > {pids}/b; trap \"\" TERM; while :; do sleep 1; done' &) ; while :; do sleep 1; done"
    );
    let mut shim = Shim::start(shell(&script));
    shim.until_running();
    let (a, b) = (number_in(&folder.path().join("a")), number_in(&folder.path().join("b")));
    shim.send(Request::KillTree);
    assert_eq!(shim.until_over().end, End::Signal(9, false));
    assert!(is_gone(a) && is_gone(b));
}

#[test]
fn what_an_ended_main_process_leaves_behind_is_ended_before_the_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut shim = Shim::start(shell(&format!(
        "setsid sh -c 'echo $$ > {0}; while :; do sleep 1; done' & while [ ! -s {0} ]; do sleep 0.01; done; exit 5",
        file.display()
    )));
    let record = shim.until_over();
    assert_eq!((record.stage, record.end), (Stage::Ended, End::Code(5)));
    assert!(is_gone(number_in(&file)));
}

#[test]
fn a_fork_storm_is_ended() {
    let storm = "perl -e '$SIG{CHLD}=\"IGNORE\"; for (1..8) { last unless fork } while (1) { my $p = fork; if (defined $p && $p) { exit 0 } select(undef,undef,undef,0.001) }' & sleep 50";
    let mut shim = Shim::start(shell(storm));
    shim.until_running();
    shim.send(Request::KillTree);
    shim.until_over();
}

fn daemon(pid_file: &str, launch_timeout_ms: u64, script: &str) -> Launch {
    let daemon = Daemon { pid_file: pid_file.into(), launch_timeout_ms };
    Launch { daemon: Some(daemon), ..shell(script) }
}

#[test]
fn a_daemon_by_pid_file_is_found_and_its_own_code_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    fs::write(&file, "1\n").unwrap();
    // The file is late, was stale, and another child is older.
    let script = format!(
        "(sleep 50 &) ; (setsid sh -c 'sleep 0.3; trap \"exit 9\" TERM; echo $$ > {0}; while :; do sleep 0.05; done' &) ; exit 0",
        file.display()
    );
    let mut shim = Shim::start(daemon(file.to_str().unwrap(), 10_000, &script));
    let launcher = shim.until_running().main_pid;
    let record = shim.until("the daemon", |record| record.main_pid != launcher);
    assert_eq!(record.main_pid, number_in(&file));
    assert!(identity::is_alive(record.main_pid, record.main_ticks));
    shim.send(Request::Signal { signal: libc::SIGTERM, scope: Scope::Main });
    let record = shim.until_over();
    assert_eq!((record.stage, record.end), (Stage::Ended, End::Code(9)));
}

#[test]
fn a_daemon_that_hands_over_by_its_pid_file_is_followed_to_its_heir() {
    let folder = tempfile::tempdir().unwrap();
    let (file, go) = (folder.path().join("pid"), folder.path().join("go"));
    // The heir is a child of the one that hands over, and has written itself into the file before that one ends.
    let script = format!(
        "(setsid sh -c 'echo $$ > {0}; while [ ! -e {1} ]; do sleep 0.02; done; \
         sh -c \"trap \\\"exit 9\\\" TERM; echo \\$\\$ > {0}; while :; do sleep 0.05; done\" & \
         while [ $(cat {0}) = $$ ]; do sleep 0.02; done' &) ; exit 0",
        file.display(),
        go.display()
    );
    let mut shim = Shim::start(daemon(file.to_str().unwrap(), 10_000, &script));
    // The launcher may be gone before anybody has heard of it.
    shim.until_running();
    let first = number_in(&file);
    wait_for("the daemon", || (shim.on_disk().main_pid == first).then_some(()));
    fs::write(go, "").unwrap();
    let record = shim.until("the heir", |record| record.main_pid != first);
    assert_eq!((record.stage, record.main_pid), (Stage::Running, number_in(&file)));
    assert!(identity::is_alive(record.main_pid, record.main_ticks) && is_gone(first));
    shim.send(Request::Signal { signal: libc::SIGTERM, scope: Scope::Main });
    let record = shim.until_over();
    assert_eq!((record.stage, record.end), (Stage::Ended, End::Code(9)), "the heir's end is the daemon's");
}

#[test]
fn a_pid_file_that_names_strangers_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    for stranger in [1, std::process::id()] {
        fs::write(&file, format!("{stranger}\n")).unwrap();
        // Only the time is over does the one that stayed count: its file may be late.
        let mut shim = Shim::start(daemon(file.to_str().unwrap(), 500, "(setsid sleep 50 &) ; exit 0"));
        let launcher = shim.until_running().main_pid;
        let record = shim.until("the daemon", |record| record.main_pid != launcher);
        assert!(identity::is_alive(record.main_pid, record.main_ticks) && record.main_pid != stranger);
        shim.send(Request::KillTree);
        assert_eq!(shim.until_over().end, End::Signal(9, false));
        assert!(!is_gone(stranger), "a stranger was killed");
    }
}

#[test]
fn a_daemon_without_pid_file_is_the_one_that_stays_and_not_the_one_between() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    // The launcher is gone before the process between has forked: that one is no daemon, its child is.
    let script = format!(
        "exec perl -e 'exit 0 if fork; setpgrp; select(undef,undef,undef,0.3); exit 0 if fork; $SIG{{TERM}}=sub{{exit 9}}; \
         open(F,\">{}\"); print F \"$$\\n\"; close F; while(1){{select(undef,undef,undef,0.05)}}'",
        file.display()
    );
    let mut shim = Shim::start(daemon("", 5_000, &script));
    shim.until_running();
    // For a moment the one between may count, as it is the oldest; its end is not the daemon's.
    let stays = number_in(&file);
    let record = wait_for("the one that stays", || Some(shim.on_disk()).filter(|record| record.main_pid == stays));
    assert_eq!(record.stage, Stage::Running, "{record:?}");
    assert!(identity::is_alive(record.main_pid, record.main_ticks));
    shim.send(Request::Signal { signal: libc::SIGTERM, scope: Scope::Main });
    let record = shim.until_over();
    assert_eq!((record.stage, record.end), (Stage::Ended, End::Code(9)));
}

#[test]
fn launchers_that_fail_hang_or_leave_nothing_are_failed_starts() {
    let mut shim = Shim::start(daemon("", 5_000, "exit 4"));
    assert_eq!(shim.until_over().end, End::Code(4));
    let mut shim = Shim::start(daemon("", 300, "sleep 50"));
    let record = shim.until_over();
    assert_eq!(
        (record.stage, record.failed_step, record.failed_errno),
        (Stage::StartFailed, Step::Daemon, libc::ETIMEDOUT)
    );
    let mut shim = Shim::start(daemon("", 5_000, "exit 0"));
    let record = shim.until_over();
    assert_eq!(
        (record.stage, record.failed_step, record.failed_errno),
        (Stage::StartFailed, Step::Daemon, libc::ESRCH)
    );
}

/// A cgroup v2 directory of this test, where the machine has one that may be used.
fn cgroup(name: &str) -> Option<std::path::PathBuf> {
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].iter().find_map(|root| {
        let root = std::path::Path::new(root);
        let own = root.join(format!("minder-shim-test-{}-{name}", std::process::id()));
        (root.join("cgroup.procs").exists() && fs::create_dir(&own).is_ok() && own.join("cgroup.kill").exists())
            .then_some(own)
    })
}

#[test]
fn a_cgroup_holds_the_tree_and_who_leaves_it_is_ended_too() {
    let Some(cgroup) = is_root().then(|| cgroup("tree")).flatten() else {
        eprintln!("skipped: no cgroup v2 that this user may use");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let root_procs = cgroup.parent().unwrap().join("cgroup.procs");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}/in; while :; do sleep 1; done' & \
         sh -c 'echo 0 > {1}; echo $$ > {0}/out; while :; do sleep 1; done' & wait",
        folder.path().display(),
        root_procs.display()
    );
    let mut launch = shell(&script);
    launch.cgroup = cgroup.as_os_str().as_encoded_bytes().to_vec();
    let mut shim = Shim::start(launch);
    let main = shim.until_running().main_pid;
    let (inside, outside) = (number_in(&folder.path().join("in")), number_in(&folder.path().join("out")));
    let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert!(members.lines().any(|pid| pid == main.to_string()), "{members}");
    assert!(!members.lines().any(|pid| pid == shim.process.id().to_string()), "the recorder is not with the recorded");
    shim.send(Request::KillTree);
    shim.until_over();
    assert!(is_gone(inside) && is_gone(outside));
    shim.release();
    wait_for("an empty cgroup", || fs::remove_dir(&cgroup).ok());
}

#[test]
fn a_killed_shim_leaves_its_program_alive_and_known() {
    let mut shim = Shim::start(shell("exec sleep 50"));
    let record = shim.until_running();
    shim.process.kill().unwrap();
    shim.process.wait().unwrap();
    let left = shim.on_disk();
    assert_eq!((left.main_pid, left.main_ticks, left.stage), (record.main_pid, record.main_ticks, Stage::Running));
    assert_eq!(left.boot_id, identity::boot_id());
    assert!(identity::is_alive(left.main_pid, left.main_ticks));
    assert!(!identity::is_alive(left.shim_pid, left.shim_ticks));
    end(left.main_pid);
}

#[test]
fn a_shim_killed_at_any_moment_of_a_start_leaves_nobody_unknown() {
    let mark = format!("minder-shim-{}", std::process::id());
    for delay_us in (0..6_000).step_by(150) {
        let folder = tempfile::tempdir().unwrap();
        let mut launch = shell("exec sleep 50");
        launch.env.push((b"MARK".to_vec(), mark.clone().into_bytes()));
        launch.log_directory = folder.path().join("logs").into_os_string().into_encoded_bytes();
        fs::write(folder.path().join(minder_shim::bundle::LAUNCH), launch.encode()).unwrap();
        let mut process = crate::support::spawn(folder.path());
        let begin = std::time::Instant::now();
        while begin.elapsed().as_micros() < delay_us {}
        process.kill().unwrap();
        process.wait().unwrap();
        let known =
            minder_shim::record::read(&folder.path().join(minder_shim::bundle::RECORD)).unwrap().unwrap_or_default();
        // A child that was not let go ends by itself; whoever executes is in the record.
        wait_for("a clear situation", || marked(&mark).iter().all(|pid| *pid == known.main_pid).then_some(()));
        if identity::is_alive(known.main_pid, known.main_ticks) {
            end(known.main_pid);
            wait_for("its end", || is_gone(known.main_pid).then_some(()));
        }
    }
}

/// Processes whose environment carries the mark.
fn marked(mark: &str) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.windows(mark.len()).any(|window| window == mark.as_bytes()))
    })
    .collect()
}

/// A kernel that compares the kill counters of two different groups ends every child that is born into a group by a
/// parent from a group which was killed in before.
#[test]
fn a_program_runs_in_its_cgroup_although_its_shims_was_killed_in() {
    let Some(group) = is_root().then(|| cgroup("killed-in")).flatten() else {
        eprintln!("skipped: no cgroup v2 that this user may use");
        return;
    };
    fs::write(group.join("cgroup.kill"), "1").unwrap();
    let leaf = group.join("leaf");
    fs::create_dir(&leaf).unwrap();
    let mut launch = shell("exec sleep 50");
    launch.cgroup = leaf.as_os_str().as_encoded_bytes().to_vec();
    let mut shim = Shim::start_in(launch, &group);
    let record = shim.until_running();
    assert_eq!(fs::read_to_string(leaf.join("cgroup.procs")).unwrap().trim(), record.main_pid.to_string());
    shim.send(Request::Signal { signal: libc::SIGTERM, scope: Scope::Main });
    assert_eq!(shim.until_over().end, End::Signal(15, false));
    shim.release();
    wait_for("empty groups", || fs::remove_dir(&leaf).and_then(|()| fs::remove_dir(&group)).ok());
}
