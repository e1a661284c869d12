//! Programs that change the network, and what they say when they cannot.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs a program to its end; the error is its own words.
pub(super) fn run(program: &str, args: &[&str]) -> Result<(), String> {
    run_with_input(program, args, "")
}

/// The same, with something to read.
pub(super) fn run_with_input(program: &str, args: &[&str], input: &str) -> Result<(), String> {
    let say = |why: &dyn std::fmt::Display| format!("{program} {}: {why}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| say(&error))?;
    // A program that does not want to read says why at its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|error| say(&error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(say(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// What a program prints.
pub(super) fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
