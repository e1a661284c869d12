use clap::Args;
use minder_client::{Progress, Write, document, v1};
use minder_model::{HostName, Spec};

use super::{revision, show_write};
use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::{self, Change},
    waiting::{self, Goal, wait},
};

/// Declare processes from documents: create, change, or leave as they are
#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    pub documents: Documents,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub wait: flags::Wait,
}

/// Where documents are.
#[derive(Debug, Args)]
pub struct Documents {
    /// YAML, JSON or TOML file, directory of them, or - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<String>,
}

/// Where processes run, in place of what their documents say.
#[derive(Debug, Args)]
pub struct Place {
    /// Run on these hosts, whatever the documents say
    #[arg(long, value_name = "HOST", value_delimiter = ',', num_args = 1..)]
    pub on: Vec<String>,
    /// Run on the hosts with these labels, whatever the documents say; KEY=VALUE, several with commas
    #[arg(short = 'l', long, value_name = "KEY=VALUE", value_delimiter = ',', conflicts_with = "on")]
    pub selector: Vec<String>,
}

impl Place {
    /// Places the specs, where flags say so.
    pub fn put(&self, specs: &mut [Spec]) -> Result<(), Failure> {
        let hosts: Result<Vec<HostName>, _> = self.on.iter().map(|host| HostName::new(host.clone())).collect();
        let hosts = hosts.map_err(|error| Failure::usage(format!("--on: {error}")))?;
        let label = |pair: &String| {
            let parts = pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            parts.ok_or_else(|| Failure::usage(format!("--selector: {pair:?} is no label; write KEY=VALUE")))
        };
        let selector = self.selector.iter().map(label).collect::<Result<std::collections::BTreeMap<_, _>, _>>()?;
        if hosts.is_empty() && selector.is_empty() {
            return Ok(());
        }
        for spec in specs {
            spec.hosts.clone_from(&hosts);
            spec.selector.clone_from(&selector);
        }
        Ok(())
    }
}

pub async fn run(context: &Context, command: Apply) -> Result<u8, Failure> {
    let mut specs = document::read(&command.documents.files)?;
    command.place.put(&mut specs)?;
    if let Some(spec) = specs.iter().find(|spec| spec.hosts.is_empty() && spec.selector.is_empty()) {
        return Err(Failure::usage(format!("{} says nothing about where it runs", spec.name))
            .hint("add --on HOST or --selector KEY=VALUE, or write hosts or selector into its document"));
    }
    apply(context, &specs, &command.change, &command.wait).await
}

/// Applies specs and waits for them.
pub async fn apply(context: &Context, specs: &[Spec], change: &Change, flags: &flags::Wait) -> Result<u8, Failure> {
    let tell = |done: Progress| {
        let Progress { parts, parts_total, specs, specs_total } = done;
        eprintln!("part {parts} of {parts_total} is applied: {specs} of {specs_total} processes");
    };
    let reply = context.client.apply_all(specs, &Write::from(change), tell).await?;
    show_write(context, &reply, "applied")?;
    if reply.dry_run || !waiting::wanted(flags, true) {
        return Ok(DONE);
    }
    let terms = specs.iter().map(|spec| spec.name.to_string()).collect();
    let selection = v1::Selection { terms, ..Default::default() };
    wait(context, selection, revision(&reply), Goal::Settled, context.wait_limit).await
}
