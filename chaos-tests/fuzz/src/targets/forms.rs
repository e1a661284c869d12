//! Everything that is stored, and what travels in its stored form: what is accepted is written and read again as the same,
//! and every name and number in it is one.

use std::fmt::Debug;

use minder_model::{Assignment, AssignmentDelta, InstanceKey, InstanceStatus, ProcessName, RunSpec, Spec};
use minder_raft_store::STORED_FORMS;
use minder_state::{Command, Proposal, Reply};
use minder_supervisor::Record;
use minicbor::{CborLen, Decode, Encode};

use super::{choice, documents};

/// Forms of the model, before those of the store.
const OF_THE_MODEL: usize = 8;

pub fn run(input: &[u8]) {
    let (which, bytes) = choice(input, OF_THE_MODEL + STORED_FORMS.len());
    match which {
        0 => again::<Spec>(bytes, documents::if_checked),
        1 => again::<RunSpec>(bytes, |run_spec| {
            run_spec.launch_digest();
        }),
        2 => again::<Assignment>(bytes, |assignment| assignment.items.keys().for_each(is_key)),
        3 => again::<AssignmentDelta>(bytes, |delta| {
            delta.upserts.iter().map(|(key, _)| key).chain(&delta.removes).for_each(is_key);
        }),
        4 => again::<Record>(bytes, |record| is_key(&record.key)),
        5 => again::<InstanceStatus>(bytes, |status| is_key(&status.key)),
        6 => again::<Reply>(bytes, |_| {}),
        7 => proposal(bytes),
        _ => of_the_store(which - OF_THE_MODEL, bytes),
    }
}

fn again<T>(bytes: &[u8], holds: impl Fn(&T))
where
    T: for<'b> Decode<'b, ()> + Encode<()> + CborLen<()> + PartialEq + Debug,
{
    let Ok(value) = minicbor::decode::<T>(bytes) else { return };
    let form = minder_model::encode(&value);
    assert_eq!(minicbor::decode::<T>(&form).expect("its own form is refused"), value);
    holds(&value);
}

fn is_key(key: &InstanceKey) {
    ProcessName::new(key.process.as_str()).expect("a name that is none was accepted");
    assert!(key.index > 0, "an instance 0 was accepted");
}

fn proposal(bytes: &[u8]) {
    let Ok(proposal) = Proposal::from_bytes(bytes) else { return };
    let again = Proposal::from_bytes(&proposal.to_bytes()).expect("its own form is refused");
    assert_eq!(again, proposal);
    if let Command::Order(order) = &proposal.command
        && let Err(error) = order.selection()
    {
        assert!(!error.to_string().is_empty(), "refused without a word");
    }
}

fn of_the_store(which: usize, bytes: &[u8]) {
    let (name, again) = STORED_FORMS[which];
    if let Some(form) = again(bytes) {
        let twice = again(&form).unwrap_or_else(|| panic!("{name}: its own form is refused"));
        assert_eq!(twice, form, "{name}: another one when written again");
    }
}
