//! The first design note's command: `minder_client -m start -s "10.10.10.10:8888" -p /bin/sleep 100`.

use clap::{Parser, ValueEnum};
use minder_client::{Client, Error, document, v1};
use minder_model::HostName;
use minder_proto::convert::spec::spec_from_wire;

use crate::{
    commands::{apply, order, status},
    context::Context,
    failure::{FAILED, Failure, NOTHING_MATCHED},
    flags::{Change, Global, Output, Select, Wait},
};

/// Starts, stops and looks at one program on one machine.
#[derive(Debug, Parser)]
#[command(name = "minder_client", version, max_term_width = 100)]
pub struct NoteClient {
    /// What to do
    #[arg(short, long, value_enum)]
    pub mode: Mode,
    /// The machine, by its slave's address; or a manager's address, with --on for the machine
    #[arg(short, long, value_name = "HOST:PORT")]
    pub server: String,
    /// The program, and its arguments
    #[arg(short, long, required = true, num_args = 1.., allow_hyphen_values = true, value_name = "PROGRAM")]
    pub program: Vec<String>,
    /// Managers, when -s is a machine; several with commas
    #[arg(long, env = "MINDER_SERVERS", hide_env_values = true, value_delimiter = ',', value_name = "LIST")]
    pub managers: Vec<String>,
    /// The machine by name, when -s is a manager
    #[arg(long, value_name = "HOST")]
    pub on: Option<String>,
    /// Limit on the whole command
    #[arg(long, value_parser = crate::flags::duration, value_name = "DURATION")]
    pub timeout: Option<std::time::Duration>,
    /// Return as soon as the change is safe with the managers
    #[arg(long)]
    pub no_wait: bool,
}

/// The note's four modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Start,
    Stop,
    Restart,
    Status,
}

pub async fn run(flags: NoteClient) -> Result<u8, Failure> {
    let program = flags.program.first().cloned().unwrap_or_default();
    let args = flags.program.iter().skip(1).cloned().collect();
    let spec = document::program_spec(&program, args).map_err(|why| Failure::usage(format!("-p: {why}")))?;
    let (context, host) = find(&flags).await?;
    let wait = Wait { wait: false, no_wait: flags.no_wait };
    let select = Select { terms: vec![format!("{}@{host}", spec.name)], ..Select::default() };
    let order = order::Order { select: select.clone(), change: Change::default(), wait: wait.clone() };
    match flags.mode {
        Mode::Start => {
            let spec = placed(&context, spec, &host).await?;
            apply::apply(&context, &[spec], &Change::default(), &Wait { wait: false, no_wait: true }).await?;
            order::run(&context, v1::OrderKind::Start, order).await
        }
        Mode::Stop => order::run(&context, v1::OrderKind::Stop, order).await,
        Mode::Restart => order::run(&context, v1::OrderKind::Restart, order).await,
        Mode::Status => status::run(&context, status::Status { select }).await,
    }
}

/// The cluster to ask and the machine that is meant.
async fn find(flags: &NoteClient) -> Result<(Context, HostName), Failure> {
    let context = |server: Vec<String>| Context::new(&Global { server, output: Output::Table, timeout: flags.timeout });
    if let Some(host) = &flags.on {
        let host = HostName::new(host.clone()).map_err(|error| Failure::usage(format!("--on: {error}")))?;
        return Ok((context(vec![flags.server.clone()])?, host));
    }
    // What stands as an address must be one, whoever it belongs to.
    Client::new(vec![flags.server.clone()])?;
    let managers = match crate::settings::servers(&flags.managers) {
        Ok(managers) => managers,
        // Nobody else is named, so the address itself is asked: on a small set-up it is a manager's.
        Err(_) => vec![flags.server.clone()],
    };
    let context = context(managers)?;
    match context.client.host(&flags.server).await {
        Ok(reply) => {
            let name = reply.host.unwrap_or_default().name;
            let host = HostName::new(name)
                .map_err(|error| Failure::new(FAILED, "the manager named a host oddly").cause(error.to_string()))?;
            Ok((context, host))
        }
        Err(Error::NothingMatched(_) | Error::Usage(_)) => {
            Err(Failure::new(NOTHING_MATCHED, format!("no slave announced the address {}", flags.server)).hint(
                "`minderctl host list` shows the addresses; if it is a manager's, name the machine with --on HOST",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// The spec with this host added to where the same process runs already.
async fn placed(
    context: &Context,
    mut spec: minder_model::Spec,
    host: &HostName,
) -> Result<minder_model::Spec, Failure> {
    let selection = v1::Selection { terms: vec![spec.name.to_string()], ..Default::default() };
    let known = context.client.processes(selection, false).await?.processes;
    let known = known.into_iter().filter_map(|process| process.spec).find(|wire| wire.name == spec.name.as_str());
    let Some(known) = known else {
        spec.hosts = vec![host.clone()];
        return Ok(spec);
    };
    let mut known = spec_from_wire(known).map_err(|errors| {
        Failure::new(FAILED, "the process's spec does not fit this version").cause(errors.to_string())
    })?;
    if known.command != spec.command || (!spec.args.is_empty() && known.args != spec.args) {
        return Err(Failure::new(FAILED, format!("there is another process named {}", spec.name))
            .cause(format!("it runs {} {}", known.command, known.args.join(" ")))
            .hint("change it with `minderctl apply`, or start this one under another name there"));
    }
    if !known.hosts.contains(host) && known.selector.is_empty() {
        known.hosts.push(host.clone());
    }
    Ok(known)
}
