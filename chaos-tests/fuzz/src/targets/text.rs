//! The small languages of users: what is read is written in a way that is read as the same.

use std::{collections::BTreeMap, fmt::Display};

use minder_client::document::program_spec;
use minder_model::{
    Bytes, Cores, HostName, InstanceKey, InstanceRef, Limit, Millis, ProcessName, Selection, Signal, WINDOW_MS_MAX,
};

use super::choice;

pub fn run(input: &[u8]) {
    let (which, bytes) = choice(input, 9);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match which {
        0 => {
            // Longer ones are refused by every field; their text is for messages alone.
            if let Ok(millis) = said(Millis::parse(text))
                && millis.0 <= WINDOW_MS_MAX
            {
                again(&millis, Millis::parse);
            }
        }
        1 => drop(said(Bytes::parse(text)).map(|bytes| again(&bytes, Bytes::parse))),
        2 => drop(said(Signal::parse(text)).map(|signal| again(&signal, Signal::parse))),
        3 => drop(said(Limit::parse(text)).map(|limit| again(&limit, Limit::parse))),
        4 => drop(said(Cores::parse(text)).map(|cores| again(&cores, Cores::parse))),
        5 => drop(said(InstanceKey::parse(text)).map(|key| again(&key, InstanceKey::parse))),
        6 => drop(said(ProcessName::new(text)).map(|name| again(&name, |text| ProcessName::new(text)))),
        7 => selection(text),
        _ => drop(program_spec(text, Vec::new()).map(|spec| super::documents::if_checked(&spec))),
    }
}

fn selection(text: &str) {
    let words: Vec<&str> = text.split('\n').collect();
    let (terms, labels) = words.split_at(words.len() / 2);
    let Ok(selection) = said(Selection::parse(terms, labels)) else { return };
    let host = HostName::new("web-1").expect("a name");
    for name in ["api", "web", "a.b-c_9"] {
        let key = InstanceKey::new(ProcessName::new(name).expect("a name"), 2);
        selection.matches(&InstanceRef { host: host.clone(), key: key.clone() }, &BTreeMap::new());
        selection.matches_process(&key.process, &BTreeMap::new());
    }
    selection.matches_host(&host);
}

fn said<T, E: Display>(read: Result<T, E>) -> Result<T, E> {
    if let Err(error) = &read {
        assert!(!error.to_string().is_empty(), "refused without a word");
    }
    read
}

fn again<T: Display + PartialEq + std::fmt::Debug, E: Display>(value: &T, read: impl Fn(&str) -> Result<T, E>) {
    let text = value.to_string();
    match read(&text) {
        Ok(back) => assert_eq!(&back, value, "{text:?}"),
        Err(error) => panic!("its own text {text:?} is refused: {error}"),
    }
}
