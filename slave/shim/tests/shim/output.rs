//! What programs write is kept within its bounds, and nothing that happens to it happens to them.

use std::{fs, path::Path, process::Command};

use crate::support::{Shim, is_root, shell, wait_for};
use minder_shim::{launch::Launch, protocol::Request, record::End};

fn sorted_text(folder: &Path, name: &str) -> (String, Vec<(String, u64)>) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(name))
        .map(|entry| {
            let number = entry
                .file_name()
                .to_str()
                .unwrap()
                .rsplit_once(".log")
                .unwrap()
                .1
                .trim_matches('.')
                .parse()
                .unwrap_or(0_u32);
            (number, entry.path())
        })
        .collect();
    files.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let text = files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
    (text, files.iter().map(|(_, path)| (path.display().to_string(), fs::metadata(path).unwrap().len())).collect())
}

#[test]
fn rotation_loses_nothing_and_tears_no_line() {
    let lines = 4_000;
    let script =
        format!("i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo \"line $i with some words behind it\"; done");
    let mut shim = Shim::start(Launch { log_bytes_max: 8_192, log_files_max: 100, ..shell(&script) });
    assert_eq!(shim.until_over().dropped_bytes, 0);
    let (text, files) = sorted_text(&shim.folder.path().join("logs"), "stdout.log");
    let expected: String = (1..=lines).map(|i| format!("line {i} with some words behind it\n")).collect();
    assert!(text == expected);
    assert!(files.len() > 10);
    for (path, bytes) in files {
        assert!(bytes <= 8_192, "{path} has {bytes} bytes");
        assert!(fs::read_to_string(path).unwrap().ends_with('\n'));
    }
}

#[test]
fn lines_that_come_in_pieces_or_are_longer_than_a_file_stay_whole() {
    // Pieces of a line arrive one by one; lines of 20,000 bytes do not fit a file of 4,096.
    let script = r#"perl -e '$|=1; for my $n (1..12) { for (1..20) { print "x" x ($n % 3 ? 1000 : 30); select(undef,undef,undef,0.001) } print "\n" }'"#;
    let mut shim = Shim::start(Launch { log_bytes_max: 4_096, log_files_max: 100, ..shell(script) });
    shim.until_over();
    let (text, files) = sorted_text(&shim.folder.path().join("logs"), "stdout.log");
    assert_eq!(text.lines().count(), 12);
    assert!(files.len() >= 8, "{files:?}");
    for (path, bytes) in files {
        assert!(bytes <= 4_096 + 65_536);
        assert!(fs::read_to_string(&path).unwrap().ends_with('\n') || bytes == 0, "{path} ends within a line");
    }
}

#[test]
fn both_streams_may_share_a_file() {
    let mut shim = Shim::start(Launch { log_combine: true, ..shell("echo one; echo two >&2; echo three") });
    shim.until_over();
    assert_eq!(shim.log("stdout.log"), "one\ntwo\nthree\n");
    assert!(!shim.log_path("stderr.log").exists());
}

#[test]
fn the_last_words_before_a_kill_are_kept() {
    let mut shim = Shim::start(shell("echo last words; sleep 50"));
    shim.until_running();
    wait_for("them", || shim.log("stdout.log").contains("last words").then_some(()));
    shim.send(Request::KillTree);
    shim.until_over();
    let mut shim = Shim::start(shell("head -c 60000 /dev/zero | tr '\\0' x; echo; kill -9 $$"));
    shim.until_over();
    assert_eq!(shim.log("stdout.log").len(), 60_001);
}

/// A file system of one MiB, gone with its guard.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1m", "none"])
                .arg(folder.path())
                .status()
                .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_harms_nobody_and_is_said() {
    let Some(disk) = Small::mount() else {
        eprintln!("skipped: only root may mount a small file system");
        return;
    };
    let log_directory = disk.0.path().join("logs").into_os_string().into_encoded_bytes();
    let script = format!(
        "head -c 4000000 /dev/zero | tr '\\0' x; echo; rm -f {0}/filler; sleep 2.2; echo after; exit 7",
        disk.0.path().display()
    );
    fs::write(disk.0.path().join("filler"), [0; 300_000]).unwrap();
    let mut shim = Shim::start(Launch { log_directory, log_bytes_max: 10 << 20, ..shell(&script) });
    let record = shim.until_over();
    assert_eq!(record.end, End::Code(7));
    assert!(record.dropped_bytes > 2_000_000, "{record:?}");
    let text = fs::read_to_string(disk.0.path().join("logs/stdout.log")).unwrap();
    assert_eq!(text.matches("bytes of output dropped here]\n").count(), 1);
    assert!(text.ends_with("after\n"));
    shim.release();
}

#[test]
fn where_it_is_asked_for_the_program_waits_for_the_disk() {
    let Some(disk) = Small::mount() else {
        eprintln!("skipped: only root may mount a small file system");
        return;
    };
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; 900_000]).unwrap();
    let log_directory = disk.0.path().join("logs").into_os_string().into_encoded_bytes();
    let script = "head -c 600000 /dev/zero | tr '\\0' x; echo; exit 7";
    let mut shim = Shim::start(Launch { log_directory, log_block: true, log_bytes_max: 10 << 20, ..shell(script) });
    shim.until_running();
    let log = disk.0.path().join("logs/stdout.log");
    wait_for("a full disk", || fs::metadata(&log).is_ok_and(|meta| meta.len() > 50_000).then_some(()));
    fs::remove_file(&filler).unwrap();
    let record = shim.until_over();
    assert_eq!((record.end, record.dropped_bytes), (End::Code(7), 0));
    assert_eq!(fs::metadata(&log).unwrap().len(), 600_001);
    shim.release();
}

#[test]
fn logs_that_cannot_be_opened_are_a_failed_start() {
    let mut shim = Shim::start(Launch { log_directory: b"/proc/nowhere".to_vec(), ..shell("true") });
    let record = shim.until_over();
    assert_eq!(record.failed_step, minder_shim::record::Step::Logs);
}
