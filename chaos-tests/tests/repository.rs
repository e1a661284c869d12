//! The repository's own rules, as ratchets: they hold now and may only get tighter.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use minder_chaos_tests::{bin, repository};

/// Which of our crates each crate may depend on. A new edge is a decision, written here and in ARCHITECTURE.md.
const MAY_DEPEND_ON: [(&str, &[&str]); 15] = [
    ("minder-model", &[]),
    ("minder-proto", &["minder-model"]),
    ("minder-state", &["minder-model"]),
    ("minder-raft-store", &["minder-model", "minder-state"]),
    ("minder-fleet", &["minder-model"]),
    ("minder-manager", &["minder-fleet", "minder-model", "minder-proto", "minder-raft-store", "minder-state"]),
    ("minder-supervisor", &["minder-model"]),
    ("minder-shim", &[]),
    ("minder-slave", &["minder-model", "minder-proto", "minder-shim", "minder-supervisor"]),
    ("minder-client", &["minder-model", "minder-proto"]),
    ("minder-cli", &["minder-client", "minder-model", "minder-proto", "minder-state"]),
    ("minder-chaos-tests", &["minder-client", "minder-model", "minder-proto"]),
    (
        "minder-fuzz",
        &[
            "minder-client",
            "minder-model",
            "minder-proto",
            "minder-raft-store",
            "minder-shim",
            "minder-slave",
            "minder-state",
            "minder-supervisor",
        ],
    ),
    ("minder-sim", &["minder-fleet", "minder-model", "minder-state", "minder-supervisor"]),
    (
        "minder-managers-sim",
        &["minder-chaos-tests", "minder-fleet", "minder-manager", "minder-proto", "minder-raft-store", "minder-sim"],
    ),
];
/// Crates in which clocks, files and threads do not exist.
const PURE: [&str; 4] = ["proto/model", "raft-store/state", "manager/fleet", "slave/supervisor"];
/// Longest source file. Lower it when the longest one gets shorter.
const LINES_MAX: usize = 550;

fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(repository()).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| repository().join(name))
        .filter(|path| path.exists())
        .collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = tracked().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_DEPEND_ON.into_iter().map(|(name, others)| (name, others.iter().copied().collect())).collect();
    for manifest in tracked().into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let parsed: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        let Some(name) = parsed.get("package").and_then(|package| package["name"].as_str().map(str::to_owned)) else {
            continue;
        };
        let Some(allowed) = allowed.get(name.as_str()) else { continue };
        let dependencies =
            parsed.get("dependencies").and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys());
        let ours: BTreeSet<&str> =
            dependencies.map(String::as_str).filter(|other| other.starts_with("minder-")).collect();
        let more: Vec<_> = ours.difference(allowed).collect();
        assert!(more.is_empty(), "{name} must not depend on {more:?}");
    }
}

#[test]
fn pure_crates_have_no_std() {
    for folder in PURE {
        let root = fs::read_to_string(repository().join(folder).join("src/lib.rs")).unwrap();
        assert!(root.contains("#![cfg_attr(not(test), no_std)]"), "{folder} is not no_std");
    }
}

#[test]
fn nothing_is_left_undone_and_no_file_grows_without_bound() {
    for (path, text) in sources() {
        let name = path.strip_prefix(repository()).unwrap().display().to_string();
        for word in
            [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("#[", "ignore")]
        {
            assert!(!text.contains(word), "{name} contains {word}");
        }
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines, the limit is {LINES_MAX}: split it by ideas");
    }
}

#[test]
fn the_repository_speaks_of_no_machine_of_its_makers() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")];
    for path in tracked() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for place in places {
            assert!(!text.contains(place), "{} contains {place}", path.display());
        }
    }
}

#[test]
fn examples_are_what_they_claim_to_be() {
    let examples = repository().join("deploy/examples");
    let check = |args: &[&str]| {
        let output = Command::new(bin("minderctl")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for example in ["demo.yaml", "nginx.yaml", "redis.yaml", "http-server.yaml", "note.json"] {
        check(&["validate", "-f", examples.join(example).to_str().unwrap()]);
    }
    // A configuration that is read to its end fails only on the folder, which is nobody's here.
    for (program, file) in [("minder-manager", "manager.toml"), ("minder-slave", "slave.toml")] {
        let output = Command::new(bin(program))
            .args(["--config", examples.join(file).to_str().unwrap(), "--data", "/dev/null/no-folder"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("/dev/null/no-folder"), "{program}: {said}");
        assert_ne!(output.status.code(), Some(2), "{program} refuses its own example: {said}");
    }
}

/// A unit runs a program of ours with a configuration file; a slave's unit leaves what it supervises alone.
#[test]
fn units_start_what_is_there() {
    for program in ["minder-manager", "minder-slave"] {
        let text = fs::read_to_string(repository().join(format!("deploy/systemd/{program}.service"))).unwrap();
        let setting = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("{program}.service says no {name}"))
        };
        let started = format!("/usr/bin/{program} --config /etc/minder/");
        assert!(setting("ExecStart").starts_with(&started), "{program}.service starts something else");
        assert!(setting("RestartPreventExitStatus").split(' ').any(|code| code == "2"), "{program}");
        if program == "minder-slave" {
            assert_eq!((setting("KillMode"), setting("Delegate")), ("process", "yes"));
        }
    }
}

#[test]
fn documents_name_what_is_there() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for command in ["make demo", "make test", "deploy/local/up --dir", "deploy/local/down --dir"] {
        assert!(readme.contains(command), "README.md does not say `{command}`");
    }
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(repository().join(name)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let local = !link.starts_with("http") && !link.starts_with('#');
            let target = link.split('#').next().unwrap();
            assert!(
                !local || repository().join(Path::new(target)).exists(),
                "{name} links to {link}, which is not there"
            );
        }
    }
}
