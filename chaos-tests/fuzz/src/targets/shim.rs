//! What outlives versions of the slave: the socket's protocol and the files of a bundle.

use minder_shim::{
    env_file,
    launch::Launch,
    outcome::Outcome,
    output::Output,
    protocol::{self, Request},
    record::{self, Record},
};

use super::choice;

/// A stream in pieces of some size: frames are the same however they come, and each is read or refused.
pub fn protocol(input: &[u8]) {
    let (size, bytes) = choice(input, 64);
    let whole = frames(bytes, bytes.len());
    assert_eq!(frames(bytes, size), whole, "other frames when they come in small pieces");
    for frame in whole {
        if let Ok(request) = Request::decode(&frame) {
            let mut buffer = request.encode();
            let content = protocol::next_frame(&mut buffer).expect("its own frame").expect("a whole frame");
            assert_eq!(Request::decode(&content), Ok(request));
        }
        if let Ok(record) = protocol::decode_record(&frame) {
            recorded(&record);
        }
    }
}

fn frames(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut buffer, mut frames) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match protocol::next_frame(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn recorded(record: &Record) {
    assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(record));
}

pub fn bundle(input: &[u8]) {
    let (which, bytes) = choice(input, 6);
    match which {
        0 => {
            if let Ok(launch) = Launch::decode(bytes) {
                assert_eq!(Launch::decode(&launch.encode()), Ok(launch));
            }
        }
        1 => {
            if let Some(record) = record::newest(bytes) {
                recorded(&record);
            }
        }
        2 => {
            if let Ok(record) = Record::decode(bytes) {
                recorded(&record);
            }
        }
        3 => drop(Output::decode(bytes)),
        4 => {
            if let Some((outcome, rest)) = Outcome::split(bytes) {
                let said = [outcome.line().as_bytes(), rest].concat();
                assert_eq!(Outcome::split(&said), Some((outcome, rest)));
            }
        }
        _ => match env_file::parse(bytes) {
            Ok(variables) => assert!(variables.iter().all(|(key, _)| !key.is_empty() && !key.contains(&b'='))),
            Err(error) => assert!(error.line > 0, "{error}"),
        },
    }
}
