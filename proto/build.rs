//! Compiles the contract without a protoc install: protox parses, tonic generates.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = ["spec", "status", "control", "slave", "peer", "local"].map(|name| format!("minder/v1/{name}.proto"));
    for name in &names {
        println!("cargo:rerun-if-changed={name}");
    }
    let descriptors = protox::compile(names, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("minder.descriptors"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(descriptors)?;
    Ok(())
}
