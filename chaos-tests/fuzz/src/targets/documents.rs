//! Documents of `minderctl`, and the specs in them.

use minder_client::document;
use minder_model::{HostName, RunSpec, Spec, check_spec, warnings};
use minder_proto::{convert::spec, v1};
use prost::Message;

pub fn yaml(input: &[u8]) {
    read("document.yaml", input);
}

pub fn json(input: &[u8]) {
    read("document.json", input);
}

pub fn toml(input: &[u8]) {
    read("document.toml", input);
}

/// Its own seeds are what makes this another target than [`json`].
pub fn note(input: &[u8]) {
    read("note.json", input);
}

pub fn look(input: &[u8]) {
    read("standard input", input);
}

fn read(name: &str, input: &[u8]) {
    // What is no text was refused when it was read.
    let Ok(text) = std::str::from_utf8(input) else { return };
    match document::parse(name, text) {
        Ok(specs) => {
            assert!(!specs.is_empty(), "a document that declares nothing was accepted");
            specs.iter().for_each(accepted);
        }
        Err(complaints) => {
            assert!(!complaints.0.is_empty(), "refused without a word");
            assert!(!complaints.to_string().is_empty(), "refused without a word");
        }
    }
}

/// [`accepted`] for a spec that nobody has checked yet.
pub fn if_checked(spec: &Spec) {
    if check_spec(spec).is_ok() {
        accepted(spec);
    }
}

/// What must be true of every spec that was accepted, wherever it came from.
pub fn accepted(spec: &Spec) {
    check_spec(spec).expect("accepted, and refused when looked at again");
    let bytes = spec::spec_to_wire(spec).encode_to_vec();
    let wire = v1::ProcessSpec::decode(bytes.as_slice()).expect("its own message cannot be read");
    assert_eq!(&spec::spec_from_wire(wire).expect("its own message is refused"), spec, "another one on the wire");
    let stored = minder_model::encode(spec);
    assert_eq!(&minicbor::decode::<Spec>(&stored).expect("its own stored form"), spec, "another one when stored");
    let json = serde_json::to_string(spec).expect("no JSON of it");
    assert_eq!(again("again.json", &json), std::slice::from_ref(spec), "another one in JSON");
    let yaml = serde_yaml_ng::to_string(spec).expect("no YAML of it");
    assert_eq!(again("again.yaml", &yaml), std::slice::from_ref(spec), "another one in YAML");
    // TOML has no numbers above 2^63.
    if let Ok(toml) = toml::to_string(spec) {
        assert_eq!(again("again.toml", &toml), std::slice::from_ref(spec), "another one in TOML");
    }
    let run_spec = spec.resolve(&HostName::new("host-1").expect("a name"));
    assert_eq!(RunSpec::from_bytes(&run_spec.to_bytes()).expect("its own stored form"), run_spec);
    run_spec.launch_digest();
    warnings(spec);
}

fn again(name: &str, text: &str) -> Vec<Spec> {
    document::parse(name, text).unwrap_or_else(|complaints| panic!("{complaints}, in its own document:\n{text}"))
}
