//! What a slave keeps on its disk.

use minder_model::HostName;
use minder_slave::{journal, ledger::Content};

use super::pieces;

/// A journal's file as it may lie there. What was taken for whole is read again as the same, without what was cut off.
pub fn journal(input: &[u8]) {
    if let Ok((frames, end)) = journal::parse(input) {
        assert!(end <= input.len(), "more than there is");
        assert_eq!(journal::parse(&input[..end]), Ok((frames.clone(), end)), "another journal without its torn end");
        read(&frames);
    }
}

/// Frames that are whole, whatever is in them.
pub fn ledger(input: &[u8]) {
    read(&pieces(input).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
}

fn read(frames: &[Vec<u8>]) {
    let host = HostName::new("host-1").expect("a name");
    match Content::read(&host, frames) {
        Ok(content) => {
            let again = Content::read(&host, &content.frames()).expect("its own frames are refused");
            assert_eq!(again, content, "another ledger when written anew");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a word"),
    }
}
