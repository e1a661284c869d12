//! Messages: what is accepted goes back to the wire and comes again equal.

use std::fmt::{Debug, Display};

use minder_model::note_exit;
use minder_proto::{
    convert::{machine_history as history, spec as specs, status as statuses},
    v1,
};
use prost::Message;

use super::{choice, documents};

pub fn spec(input: &[u8]) {
    let Ok(wire) = v1::ProcessSpec::decode(input) else { return };
    match specs::spec_from_wire(wire) {
        Ok(spec) => {
            let again = specs::spec_from_wire(specs::spec_to_wire(&spec)).expect("its own message is refused");
            assert_eq!(again, spec);
            documents::if_checked(&spec);
        }
        Err(errors) => assert!(!errors.0.is_empty() && !errors.to_string().is_empty(), "refused without a word"),
    }
}

pub fn status(input: &[u8]) {
    let (which, bytes) = choice(input, 8);
    match which {
        0 => there_and_back(bytes, statuses::instance_status_from_wire, |one| statuses::instance_status_to_wire(&one)),
        1 => sure(bytes, statuses::machine_facts_from_wire, |one| statuses::machine_facts_to_wire(&one)),
        2 => sure(bytes, statuses::machine_usage_from_wire, |one| statuses::machine_usage_to_wire(&one)),
        3 => there_and_back(bytes, statuses::cause_from_wire, |one| statuses::cause_to_wire(&one)),
        4 => there_and_back(bytes, statuses::exit_status_from_wire, |one| statuses::exit_status_to_wire(&one)),
        5 => there_and_back(bytes, statuses::exit_record_from_wire, |one| statuses::exit_record_to_wire(&one)),
        6 => added(bytes),
        _ => sure(bytes, |wire| history::machine_sample_from_wire(&wire), |one| history::machine_sample_to_wire(&one)),
    }
}

/// A status and one before it: what travels is what has come since, and together they give the whole.
fn added(bytes: &[u8]) {
    let both = super::pieces(bytes);
    let [before, after] = both.as_slice() else { return };
    let read = |bytes: &[u8]| statuses::instance_status_from_wire(v1::InstanceStatus::decode(bytes).ok()?).ok();
    let (Some(before), Some(after)) = (read(before), read(after)) else { return };
    let told = statuses::instance_status_to_wire_since(&before, &after);
    let added = told.exits_added;
    let heard = statuses::instance_status_from_wire(told).expect("its own message is refused").exits;
    let known = match added {
        true => heard.into_iter().fold(before.exits, |mut exits, exit| {
            note_exit(&mut exits, exit);
            exits
        }),
        false => heard,
    };
    assert_eq!(known, after.exits, "exits were lost or came twice");
}

fn there_and_back<W: Message + Default, M: PartialEq + Debug + Clone, E: Display>(
    bytes: &[u8],
    read: impl Fn(W) -> Result<M, E>,
    write: impl Fn(M) -> W,
) {
    let Ok(wire) = W::decode(bytes) else { return };
    match read(wire) {
        Ok(model) => {
            let bytes = write(model.clone()).encode_to_vec();
            let wire = W::decode(bytes.as_slice()).expect("its own message cannot be read");
            let again = read(wire).unwrap_or_else(|error| panic!("its own message is refused: {error}"));
            assert_eq!(again, model);
        }
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a word"),
    }
}

fn sure<W: Message + Default, M: PartialEq + Debug + Clone>(
    bytes: &[u8],
    read: impl Fn(W) -> M,
    write: impl Fn(M) -> W,
) {
    there_and_back(bytes, |wire| Ok::<M, String>(read(wire)), write);
}
