//! A share of `make drill-supervision`: what it takes minutes to try hard is tried here for seconds.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

fn drill(part: &str, settings: &[(&str, &str)]) {
    let mut drill = Command::new(env!("CARGO_BIN_EXE_drill-supervision"));
    let drill = drill.env("PARTS", part).envs(settings.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&drill.stdout).into_owned();
    println!("{said}");
    assert!(drill.status.success(), "{said}{}", String::from_utf8_lossy(&drill.stderr));
}

#[test]
fn ten_slave_kills_over_forty_processes() {
    drill("kills", &[("KILLS", "10"), ("PROCESSES", "40"), ("SEED", "7")]);
}

#[test]
fn hostile_programs_harm_nobody() {
    drill("hostile", &[("DEAF", "20"), ("SECONDS", "1")]);
}

#[test]
fn a_crash_loop_keeps_nobody_from_starting() {
    drill("crash-loop", &[("LOOPING", "100"), ("SECONDS", "2")]);
}
