//! Documents, good and bad: each line is a user's file and what comes of it.
#![allow(clippy::unwrap_used, missing_docs)]

use minder_client::document;
use minder_model::{Daemon, Millis, RestartPolicy, Signal};

fn names(file: &str, text: &str) -> Vec<String> {
    let specs = document::parse(file, text).unwrap_or_else(|complaints| panic!("{file}: {complaints}"));
    specs.into_iter().map(|spec| spec.name.to_string()).collect()
}

fn complaint(file: &str, text: &str) -> String {
    document::parse(file, text).map(|specs| panic!("{file}: accepted {specs:?}")).unwrap_err().to_string()
}

#[test]
fn every_form_is_read() {
    for (file, text, expected) in [
        ("a.yaml", "name: a\ncommand: /bin/a\n", vec!["a"]),
        ("a.yaml", "---\nname: a\ncommand: x\n---\nname: b\ncommand: x\n---\n", vec!["a", "b"]),
        ("a.yaml", "- {name: a, command: x}\n- {name: b, command: x}\n", vec!["a", "b"]),
        ("a.yml", "processes:\n  - name: a\n    command: x\n", vec!["a"]),
        ("a.json", "{\"name\": \"a\", \"command\": \"x\"} // why not\n", vec!["a"]),
        (
            "a.json",
            "/* two */ [{\"name\": \"a\", \"command\": \"x\"}, {\"name\": \"b\", \"command\": \"//x\"}]",
            vec!["a", "b"],
        ),
        ("a.toml", "name = \"a\"\ncommand = \"x\"\n[restart]\ndelay = \"2s\"\n", vec!["a"]),
        (
            "a.toml",
            "[[processes]]\nname = \"a\"\ncommand = \"x\"\n[[processes]]\nname = \"b\"\ncommand = \"x\"\n",
            vec!["a", "b"],
        ),
        ("standard input", "name: a\ncommand: x\n", vec!["a"]),
        ("standard input", "{name: a, command: x}", vec!["a"]),
        ("standard input", "// c\n{\"name\": \"a\", \"command\": \"x\"}", vec!["a"]),
        ("standard input", "# c\nname = \"a\"\ncommand = \"x\"\n", vec!["a"]),
        ("standard input", "[[processes]]\nname = \"a\"\ncommand = \"x\"\n", vec!["a"]),
    ] {
        assert_eq!(names(file, text), expected, "{file}: {text}");
    }
}

#[test]
fn bad_input_is_refused_by_file_line_and_field() {
    for (file, text, expected) in [
        ("a.yaml", "", "a.yaml: is empty; declare at least one process"),
        ("a.yaml", "name: a\n", "a.yaml:1: command: is missing; name the program to run"),
        (
            "a.yaml",
            "processes:\n  - name: a\n    comand: x\n",
            "a.yaml:3: processes[0].comand: unknown key, did you mean \"command\"? (known: name, command, args,",
        ),
        (
            "a.json",
            "{\"processes\": [{\"name\": \"a\",\n\"comand\": \"x\"}]}",
            "a.json:2: processes[0].comand: unknown key, did you mean \"command\"?",
        ),
        ("a.toml", "name = \"a\"\ncomand = \"x\"\n", "a.toml:2: comand: unknown key, did you mean \"command\"?"),
        ("a.yaml", "name: a\ncommand: x\nrestart: {delay: -1}\n", "a.yaml:3: restart.delay: "),
        (
            "a.yaml",
            "name: a\ncommand: x\nrestart:\n  dellay: 1s\n",
            "a.yaml:4: restart.dellay: unknown key, did you mean \"delay\"?",
        ),
        (
            "a.yaml",
            "name: a\ncommand: x\nrestart: {policy: sometimes}\n",
            "a.yaml:3: restart.policy: \"sometimes\" is not one of them (known: always, on_failure, never)",
        ),
        (
            "a.yaml",
            "name: a\ncommand: x\ninstances: many\n",
            "a.yaml:3: instances: invalid type: string \"many\", expected u32",
        ),
        ("a.yaml", "name: a\ncommand: x\ninstances: 5000000\n", "a.yaml: instances: "),
        ("a.yaml", "name: a\ncommand: x\nrestart: {delay: 99999999}\n", "a.yaml: restart.delay: "),
        (
            "a.yaml",
            "name: a\ncommand: x\nstop: {escalation: [{signal: INT, afer: 1}]}\n",
            "a.yaml:3: stop.escalation[0].afer: unknown key, did you mean \"after\"? (known: signal, after)",
        ),
        (
            "a.yaml",
            "name: a\ncommand: x\nstop: {grace: 2, escalation: [{signal: INT, after: 3s}]}\n",
            "a.yaml: stop.escalation[0].after: 3s is not within stop.grace, 2s, when everything is killed",
        ),
        ("a.yaml", "name: a\ncommand: x\nsecrets: {KEY: x}\n", "a.yaml:3: secrets: secrets do not exist yet; keep "),
        (
            "a.yaml",
            "name: a\ncommand: x\nfiles:\n  - {path: k, secret: x}\n",
            "a.yaml:4: files[0].secret: secrets do not exist yet; keep ",
        ),
        (
            "a.toml",
            "name = \"a\"\ncommand = \"x\"\n[[files]]\npath = \"../x\"\ncontent = \"\"\n",
            "a.toml: files[0].path: \"../x\" is no path in the folder of files: ",
        ),
        (
            "a.yaml",
            "- {name: a, command: x, after: [b]}\n- {name: b, command: x, requires: [c, a]}\n",
            "a.yaml: [0].after[0]: a waits for b, which waits for it: none would ever start",
        ),
        ("a.yaml", "name: a\ncommand: x\nrequires: [a]\n", "a.yaml: requires[0]: a cannot wait for itself"),
        ("a.yaml", "name: a/b\ncommand: x\n", "a.yaml:1: name: \"a/b\" is no process name"),
        ("a.yaml", "name: a\n command: x\n", "a.yaml:2"),
        ("a.yaml", "just words\n", "a.yaml: is a single value; write one process"),
        ("a.json", "{\"name\": \"a\",\n\"command\": }", "a.json:2: command: expected value"),
        ("a.json", "{\"name\": \"a\", \"command\": \"x\"} {}", "a.json:1: something follows"),
        ("a.toml", "name = \n", "a.toml:1: "),
        (
            "a.yaml",
            "- {name: a, command: x}\n- {name: a, command: y}\n",
            "a.yaml: [1].name: \"a\" is declared twice, first at a.yaml: [0].name",
        ),
        ("a.yaml", "processes: []\n", "a.yaml: declares no process"),
        ("a.yaml", "processes: 7\n", "a.yaml:1: processes: invalid type: integer `7`, expected a sequence"),
        ("a.json", "{\"processInfos\": [{\"isDaemon\": true}]}", "a.json:1: processInfos[0].processName: is missing"),
        (
            "a.json",
            "{\"processInfos\": [{\"procesName\": \"x\"}]}",
            "a.json:1: processInfos[0].procesName: unknown key, did you mean \"processName\"?",
        ),
        (
            "a.json",
            "{\"processInfos\": [{\"processName\": \"x\", \"signal\": 99}]}",
            "a.json:1: processInfos[0].signal: \"99\" is no signal",
        ),
        (
            "a.json",
            "{\"processInfos\": [{\"processName\": \"x\", \"parameters\": \"'a\"}]}",
            "a.json: processInfos[0].parameters: ",
        ),
        (
            "a.json",
            "{\"processInfos\": [{\"processName\": \"/bin/\"}]}",
            "a.json: processInfos[0].processName: \"/bin/\" names no program",
        ),
    ] {
        let said = complaint(file, text);
        assert!(said.starts_with(expected), "{text}\n said: {said}\n want: {expected}");
    }
}

/// The YAML parser would take the square of their number, half an hour for the largest document.
#[test]
fn brackets_without_an_end_are_refused_before_they_are_read() {
    let text = format!("name: a\nargs: {}", "[".repeat(4_000_000));
    for file in ["a.yaml", "standard input"] {
        let said = complaint(file, &text);
        assert!(said.contains("2: more than 10000 brackets are open; is one not closed?"), "{said}");
    }
}

#[test]
fn the_first_design_note_is_read_word_for_word() {
    let text = r#"{
        // everything that runs
        "processInfos":[{"isDaemon":true,"processName":"app","restartInterval":10,"restartCountLimit":10,"signal":9, /* hard */
        "parameters":"-m cluster -n 1","environmentVariable":{"key":"key","value":"value"}}]}"#;
    let specs = document::parse("note.json", text).unwrap();
    assert_eq!(document::parse("standard input", text).unwrap(), specs);
    let spec = &specs[0];
    assert_eq!((spec.name.as_str(), spec.command.as_str()), ("app", "app"));
    assert_eq!(spec.args, ["-m", "cluster", "-n", "1"]);
    assert_eq!(spec.env["key"], "value");
    assert_eq!(spec.daemon, Some(Daemon::default()));
    assert_eq!(spec.stop.signal, Signal::KILL);
    assert_eq!((spec.restart.delay, spec.restart.factor), (Millis::from_secs(10), 100));
    assert_eq!((spec.restart.delay_max, spec.restart.jitter_percent), (Millis::from_secs(10), 0));
    assert_eq!((spec.restart.limit, spec.restart.window, spec.restart.slow_retry), (10, None, None));
    assert_eq!(spec.restart.policy, RestartPolicy::Always);

    let several = r#"{"processInfos":[{"processName":"/usr/bin/tail","parameters":["-f","/dev/null"],"environmentVariable":[{"key":"a","value":"1"},{"key":"b","value":"2"}]}]}"#;
    let spec = &document::parse("note.json", several).unwrap()[0];
    assert_eq!((spec.name.as_str(), spec.command.as_str()), ("tail", "/usr/bin/tail"));
    assert_eq!((spec.env.len(), spec.daemon.is_none()), (2, true));
}

#[test]
fn files_directories_and_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("b.yaml"), "name: b\ncommand: x\n").unwrap();
    std::fs::write(path("a.toml"), "name = \"a\"\ncommand = \"x\"\n").unwrap();
    std::fs::write(path(".hidden.yaml"), "nonsense: yes\n").unwrap();
    std::fs::write(path("README"), "nothing").unwrap();
    let read = document::read(&[dir.path().display().to_string()]).unwrap();
    assert_eq!(read.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let said = |name: &str| document::read(&[path(name)]).unwrap_err().to_string();
    assert!(said("absent.yaml").contains("absent.yaml: cannot be read: No such file"), "{}", said("absent.yaml"));
    std::fs::write(path("bad.yaml"), b"name: a\ncommand: \xff\n").unwrap();
    assert!(
        said("bad.yaml").ends_with("bad.yaml:2: is not UTF-8 text: byte 0xff at offset 17; save the file as UTF-8"),
        "{}",
        said("bad.yaml")
    );
    std::fs::write(path("big.yaml"), vec![b'#'; 10 << 20]).unwrap();
    assert!(
        said("big.yaml").ends_with("big.yaml: is larger than 8MiB, the limit of one document; split it"),
        "{}",
        said("big.yaml")
    );
    std::fs::create_dir(path("empty")).unwrap();
    assert!(said("empty").contains("holds no document"), "{}", said("empty"));
}

/// What is shown of a spec in a document is a document of that spec: `get -o yaml` can be applied again.
#[test]
fn what_is_written_out_is_read_as_the_same() {
    for text in [
        r#"{"processInfos":[{"processName":"app","restartCountLimit":10}]}"#,
        r#"{"name": "app", "command": "x", "restart": {"window": "forever", "slow_retry": "never"}}"#,
        r#"{"name": "app", "command": "x", "restart": {"slow_retry": null}}"#,
        r#"{"name": "app", "command": "x"}"#,
    ] {
        let specs = document::parse("a.json", text).unwrap();
        let yaml = serde_yaml_ng::to_string(&specs).unwrap();
        assert_eq!(document::parse("a.yaml", &yaml).unwrap(), specs, "{text}:\n{yaml}");
        let json = serde_json::to_string(&specs).unwrap();
        assert_eq!(document::parse("b.json", &json).unwrap(), specs, "{text}:\n{json}");
    }
}

#[test]
fn every_complaint_is_given_at_once() {
    let said = complaint("a.yaml", "name: a\ncommand: x\ninstances: 0\nnice: 99\numask: '9'\n");
    assert_eq!(said.lines().count(), 3, "{said}");
}
