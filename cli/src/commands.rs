//! Routes to the commands; each has its own file.

pub mod apply;
pub mod backup;
pub mod completion;
pub mod delete;
pub mod doctor;
pub mod drill;
pub mod events;
pub mod explain;
pub mod get;
pub mod host;
mod host_history;
pub mod init;
pub mod local;
pub mod logs;
pub mod manager;
pub mod order;
pub mod ps;
pub mod reload;
pub mod status;
pub mod validate;
pub mod version;
pub mod wait;

use minder_client::v1::{OrderKind, WriteReply};

use crate::{
    context::Context,
    failure::Failure,
    flags::{Command, Minderctl, Output},
    screen::put,
    views::{WriteView, print},
    words::{count, full},
};

/// Runs one command. The answer is the exit code.
pub async fn run(flags: Minderctl) -> Result<u8, Failure> {
    let global = flags.global;
    let context = || Context::new(&global);
    match flags.command {
        Command::Apply(command) => apply::run(&context()?, command).await,
        Command::Validate(command) => validate::run(&global, command),
        Command::Delete(command) => delete::run(&context()?, command).await,
        Command::Start(command) => order::run(&context()?, OrderKind::Start, command).await,
        Command::Stop(command) => order::run(&context()?, OrderKind::Stop, command).await,
        Command::Restart(command) => order::run(&context()?, OrderKind::Restart, command).await,
        Command::Retry(command) => order::run(&context()?, OrderKind::Retry, command).await,
        Command::Reload(command) => reload::run(&context()?, command).await,
        Command::Signal(command) => order::signal(&context()?, command).await,
        Command::Ps(command) => ps::run(&context()?, command).await,
        Command::Get(command) => get::run(&context()?, command).await,
        Command::Status(command) => status::run(&context()?, command).await,
        Command::Explain(command) => explain::run(&context()?, command).await,
        Command::Wait(command) => wait::run(&context()?, command).await,
        Command::Logs(command) => logs::run(&context()?, command).await,
        Command::Events(command) => events::run(&context()?, command).await,
        Command::Host(command) => host::run(&context()?, command).await,
        Command::Manager(command) => manager::run(&context()?, command).await,
        Command::Backup(command) => backup::run(&global, command).await,
        Command::Doctor(command) => doctor::run(&context()?, &command).await,
        Command::Drill(command) => drill::run(&context()?, command).await,
        Command::Local(command) => local::run(&global, command).await,
        Command::Init(command) => init::run(&context()?, command).await,
        Command::Version(command) => version::run(&global, &command).await,
        Command::Completion(command) => Ok(completion::run(&command)),
    }
}

/// Shows what a write did. Warnings go to standard error, in every form of output.
fn show_write(context: &Context, reply: &WriteReply, verb: &str) -> Result<(), Failure> {
    for warning in &reply.warnings {
        eprintln!("warning: {warning}");
    }
    match context.output {
        Output::Json | Output::Yaml => print(context.output, &WriteView::new(reply))?,
        Output::Name => {
            let processes = reply.processes.iter().map(|change| change.name.clone());
            let instances = reply.instances.iter().map(full);
            put(&processes.chain(instances).map(|name| name + "\n").collect::<String>());
        }
        Output::Table | Output::Wide => put(&lines(reply, verb)),
    }
    Ok(())
}

fn lines(reply: &WriteReply, verb: &str) -> String {
    let dry = if reply.dry_run { " (dry run)" } else { "" };
    let mut text = String::new();
    for change in &reply.processes {
        let word = crate::views::change_word(change.kind());
        let instances = count(change.instances, "instance");
        text.push_str(&format!("{} {word}, generation {}, {instances}{dry}\n", change.name, change.generation));
    }
    if let Some(counts) = &reply.counts {
        let kinds = [(counts.created, "created"), (counts.changed, "changed"), (counts.unchanged, "unchanged")];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        let instances = count(counts.instances, "instance");
        text.push_str(&format!(
            "{}, {instances}: the first answer to this request\n",
            kinds.collect::<Vec<_>>().join(", ")
        ));
    } else if reply.processes.is_empty() {
        text.push_str(&format!("{verb}: {}{dry}\n", count(reply.instance_count, "instance")));
    }
    text
}

/// The revision a write stands for.
fn revision(reply: &WriteReply) -> u64 {
    reply.position.as_ref().map_or(0, |position| position.revision)
}
