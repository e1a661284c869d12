//! The share of fuzzing that every change meets: each input that once broke something, each that a writer makes, and some
//! thousands by a fixed seed for every target. `make fuzz` does the rest.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_fuzz::{
    corpus, judge,
    mutate::Mutator,
    seeds,
    targets::{TARGETS, Target, find},
};

/// Inputs for each target: a second or two of it.
const INPUTS: u64 = 10_000;
const SEED: u64 = 1;

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut inputs = corpus::read(target).unwrap();
    let made = seeds::made().into_iter().filter(|(name, _, _)| *name == target.name);
    inputs.extend(made.map(|(_, name, bytes)| (name, bytes)));
    inputs
}

fn holds(name: &str) {
    let target = find(name).unwrap();
    judge::listen();
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{name} has nothing to begin with");
    for (input, bytes) in &inputs {
        if let Err(why) = judge::judge(target, bytes) {
            panic!(
                "{name}/{input}: {why}\n  run it again: make fuzz TARGETS={name} INPUT=chaos-tests/fuzz/corpus/{name}/{input}"
            );
        }
    }
    let bytes: Vec<Vec<u8>> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
    let words = corpus::words(target).unwrap();
    let mutator = Mutator::new(name, SEED, &bytes, &words);
    for number in 0..INPUTS {
        let input = mutator.input(number);
        if let Err(why) = judge::judge(target, &input) {
            let kept = std::env::temp_dir().join(format!("{name}-{SEED}-{number}"));
            std::fs::write(&kept, &input).unwrap();
            panic!(
                "{name}, input {number} of seed {SEED}: {why}\n  run it again: make fuzz TARGETS={name} INPUT={}",
                kept.display()
            );
        }
    }
}

macro_rules! each_target {
    ($($test:ident: $name:literal),* $(,)?) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { holds($name) })*
    };
}

each_target! {
    yaml: "yaml", json: "json", toml: "toml", note: "note", look: "look", text: "text",
    wire_spec: "wire-spec", wire_status: "wire-status", forms: "forms", rows: "rows", snapshot: "snapshot",
    backup: "backup", apply: "apply", shim: "shim", bundle: "bundle", journal: "journal", ledger: "ledger",
}

#[test]
fn every_target_is_tested() {
    assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), TESTED);
}

/// What costs more than its bytes when it is large: many documents in one, many names, deep nesting, long words.
#[test]
fn large_documents_are_read_in_time() {
    judge::listen();
    let documents =
        |count: usize| -> String { (0..count).map(|at| format!("---\nname: a{at}\ncommand: x\n")).collect() };
    let after: String = (0..2_000).map(|at| format!("- {{name: a{at}, command: x, after: [a{}]}}\n", at + 1)).collect();
    for (target, input) in [
        ("yaml", documents(5_000)),
        ("yaml", format!("{after}- {{name: a2000, command: x}}\n")),
        ("yaml", format!("{after}- {{name: a2000, command: x, after: [a0]}}\n")),
        ("yaml", "[".repeat(100_000)),
        ("yaml", format!("a: &a [{}]\n", "*a,".repeat(10_000))),
        ("yaml", format!("{}: 1\n", "k".repeat(100_000))),
        ("json", "[".repeat(1_000_000)),
        ("json", format!("{{\"{}\": 1}}", "k".repeat(1_000_000))),
        ("json", "/*".repeat(500_000)),
        ("note", format!("{{\"processInfos\": [{}]}}", "{\"processName\": \"a\"},".repeat(5_000))),
        ("toml", format!("a = {}", "[".repeat(100_000))),
        ("toml", format!("{} = 1", "a.".repeat(50_000))),
        ("look", "{".repeat(100_000)),
    ] {
        let start: String = input.chars().take(40).collect();
        assert_eq!(judge::judge(find(target).unwrap(), input.as_bytes()), Ok(()), "{target}: {start}...");
    }
}

/// The judge finds what it is there for.
#[test]
fn a_panic_a_hang_and_a_flood_are_found() {
    judge::listen();
    let judged = |run| {
        let target = Target { name: "planted", about: "", dictionary: None, run };
        judge::judge(&target, b"input").unwrap_err()
    };
    assert!(judged(|input| assert!(input.is_empty(), "planted words")).contains("planted words"));
    assert!(judged(|_| drop(vec![1_u8; judge::PEAK_BYTES_MAX + 1])).contains("held"));
    let busy = |_: &[u8]| {
        let begun = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec - begun.tv_sec;
        while spent() <= judge::CPU_MAX.as_secs() as i64 {
            std::hint::spin_loop();
        }
    };
    assert!(judged(busy).contains("processor time"));
    let fine = Target { name: "planted", about: "", dictionary: None, run: |_| drop(vec![0_u8; 1_000]) };
    assert_eq!(judge::judge(&fine, b""), Ok(()));
}

#[test]
fn a_seed_makes_the_same_inputs_again_and_others_than_another_seed() {
    let corpus = [b"some words to change".to_vec(), b"others".to_vec()];
    let words = [b"word".to_vec()];
    let inputs = |seed| -> Vec<Vec<u8>> {
        let mutator = Mutator::new("name", seed, &corpus, &words);
        (0..100).map(|number| mutator.input(number)).collect()
    };
    assert_eq!(inputs(7), inputs(7));
    assert_ne!(inputs(7), inputs(8));
    let different: std::collections::BTreeSet<Vec<u8>> = inputs(7).into_iter().collect();
    assert!(different.len() > 90, "{}", different.len());
}
