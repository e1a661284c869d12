use clap::Args;
use minder_client::document;
use minder_model::{Spec, warnings};

use super::apply::{Documents, Place};
use crate::{
    failure::{DONE, Failure},
    flags::{Global, Output},
    screen::put,
    views::print,
    words::count,
};

/// Check documents without asking a manager; -o yaml or json shows them with what they mean
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    pub documents: Documents,
    #[command(flatten)]
    pub place: Place,
}

pub fn run(global: &Global, command: Validate) -> Result<u8, Failure> {
    let mut specs = document::read(&command.documents.files)?;
    command.place.put(&mut specs)?;
    for (spec, warning) in specs.iter().flat_map(|spec| warnings(spec).into_iter().map(move |warning| (spec, warning)))
    {
        eprintln!("warning: {}: {warning}", spec.name);
    }
    show(global.output, &specs)?;
    Ok(DONE)
}

fn show(output: Output, specs: &[Spec]) -> Result<(), Failure> {
    match output {
        Output::Json | Output::Yaml => print(output, &std::collections::BTreeMap::from([("processes", specs)])),
        Output::Name => {
            put(&specs.iter().map(|spec| format!("{}\n", spec.name)).collect::<String>());
            Ok(())
        }
        Output::Table | Output::Wide => {
            let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let noun = if specs.len() == 1 { "1 process".into() } else { count(specs.len() as u64, "processe") };
            put(&format!("{noun} valid: {}\n", names.join(", ")));
            Ok(())
        }
    }
}
