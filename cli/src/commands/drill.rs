mod judge;
mod observed;
mod progress;
mod report;
mod scene;
mod traffic;

use std::time::Duration;

use clap::{Args, Subcommand};
use minder_client::{Client, Error, Write, v1};
use minder_model::{DRILL_MS_MAX, Millis, ProcessName};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use v1::DrillKind;

use self::{
    judge::{Outcome, judge},
    observed::{Observed, Target},
    progress::Progress,
    report::Report,
    scene::Lookout,
    traffic::Traffic,
};
use crate::{
    confirm::consent,
    context::Context,
    failure::{DONE, FAILED, Failure, TIMED_OUT},
    flags,
    words::count,
};

/// Writes that must be acknowledged before the harm is done, so that what is usual here is known.
const WRITES_BEFORE: usize = 60;
/// And after all is back.
const WRITES_AFTER: usize = 60;
/// For both of them.
const WRITES_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at how many there are.
const LOOK: Duration = Duration::from_millis(20);
/// What was committed is followed to its end within this.
const FOLLOW_LIMIT: Duration = Duration::from_secs(10);
/// Names of drills' processes begin so.
const PREFIX: &str = "minder-drill-";
/// How often the process is deleted before it is called left over: a write of which nobody knows may come after a delete.
const DELETIONS: usize = 3;

/// Hurt the running cluster on purpose and say what came of it; only where its settings allow it
#[derive(Debug, Subcommand)]
pub enum Drill {
    /// Kill the leader's process as by kill -9; it comes back by itself
    LeaderKill(LeaderKill),
    /// Cut a manager off from the other managers for a while; users and slaves reach it still
    Partition(Partition),
    /// Kill the slave of a host as by kill -9; it comes back by itself, and what it supervises runs on
    SlaveKill(SlaveKill),
}

#[derive(Debug, Args)]
pub struct LeaderKill {
    /// How long it stays away before it comes back, at most 1m
    #[arg(long, value_parser = flags::duration, default_value = "1s", value_name = "DURATION")]
    pub down: Duration,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct Partition {
    /// Which manager, by node id, address or machine [default: the leader]
    #[arg(long, value_name = "MANAGER")]
    pub manager: Option<String>,
    /// How long it is cut off, at most 1m
    #[arg(long = "for", value_parser = flags::duration, default_value = "5s", value_name = "DURATION")]
    pub lasts: Duration,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct SlaveKill {
    /// The host, by its name or the address its slave announced
    #[arg(value_name = "HOST")]
    pub host: String,
    /// How long the slave stays away before it comes back, at most 1m
    #[arg(long, value_parser = flags::duration, default_value = "1s", value_name = "DURATION")]
    pub down: Duration,
    #[command(flatten)]
    pub how: How,
}

/// What all drills take.
#[derive(Debug, Args)]
pub struct How {
    /// Writers that go on meanwhile, each beginning at another manager
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "N")]
    pub writers: u8,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// What is to be done to whom.
struct Plan {
    request: v1::DrillRequest,
    lasts: Duration,
    target: Target,
    /// The target's process as it is now.
    instance: String,
    writers: usize,
    process: ProcessName,
    /// Client addresses of all managers, and of those that nothing is done to.
    managers: Vec<String>,
    unhurt: Vec<String>,
}

pub async fn run(context: &Context, command: Drill) -> Result<u8, Failure> {
    let (request, how) = match command {
        Drill::LeaderKill(LeaderKill { down, how }) => (request(DrillKind::LeaderKill, down, None, None)?, how),
        Drill::Partition(Partition { manager, lasts, how }) => {
            (request(DrillKind::Partition, lasts, manager, None)?, how)
        }
        Drill::SlaveKill(SlaveKill { host, down, how }) => {
            (request(DrillKind::SlaveKill, down, None, Some(host))?, how)
        }
    };
    // Whoever does not allow it says so before anybody is asked anything.
    let allowed = context.client.drill(v1::DrillRequest { check_only: true, ..request.clone() }).await?;
    let plan = plan(context, request, allowed, usize::from(how.writers)).await?;
    if !how.yes {
        consent(&context.screen, &plan.words())?;
    }
    carry_out(context, &plan).await
}

fn request(
    kind: DrillKind,
    lasts: Duration,
    manager: Option<String>,
    host: Option<String>,
) -> Result<v1::DrillRequest, Failure> {
    let duration_ms = lasts.as_millis() as u64;
    if duration_ms > DRILL_MS_MAX {
        let (asked, most) = (Millis(duration_ms), Millis(DRILL_MS_MAX));
        return Err(Failure::usage(format!("a drill of {asked} is too long; at most {most}")));
    }
    Ok(v1::DrillRequest {
        kind: kind.into(),
        manager: manager.unwrap_or_default(),
        host: host.unwrap_or_default(),
        duration_ms,
        check_only: false,
    })
}

/// Whom it will be done to, by names that mean nobody else in a moment; refused where the cluster could not go on.
async fn plan(
    context: &Context,
    request: v1::DrillRequest,
    allowed: v1::DrillReply,
    writers: usize,
) -> Result<Plan, Failure> {
    let reply = context.client.managers(false).await?;
    let member = |manager: &v1::ManagerStatus| manager.member.clone().unwrap_or_default();
    let managers: Vec<String> = reply.managers.iter().map(|manager| member(manager).client_address).collect();
    let kind = request.kind();
    let lasts = Duration::from_millis(request.duration_ms);
    let process = format!("{PREFIX}{:06x}", uuid::Uuid::new_v4().as_u128() as u32 & 0x00ff_ffff);
    let process = ProcessName::new(process).map_err(|error| Failure::new(FAILED, error.to_string()))?;
    if kind == DrillKind::SlaveKill {
        let request = v1::DrillRequest { host: allowed.host.clone(), ..request };
        let (target, unhurt) = (Target::Host(allowed.host), managers.clone());
        return Ok(Plan { request, lasts, target, instance: String::new(), writers, process, managers, unhurt });
    }
    let id = allowed.manager_id;
    let status = reply.managers.iter().find(|manager| scene::id(manager) == Some(id));
    let status =
        status.ok_or_else(|| Failure::new(FAILED, format!("manager {id} is not one of the cluster any more")))?;
    check_majority(&reply, status)?;
    let leads = status.role == "leader";
    let target = Target::Manager { id, address: allowed.manager_address.clone(), leads };
    let unhurt = managers.iter().filter(|address| **address != allowed.manager_address).cloned().collect();
    let request = v1::DrillRequest { manager: id.to_string(), ..request };
    Ok(Plan { request, lasts, target, instance: status.instance.clone(), writers, process, managers, unhurt })
}

/// What would leave the cluster without a majority is no drill.
fn check_majority(reply: &v1::GetManagersReply, target: &v1::ManagerStatus) -> Result<(), Failure> {
    let voters = reply.managers.iter().filter(|manager| manager.voter);
    let left =
        voters.clone().filter(|manager| manager.role != "unreachable" && manager.member != target.member).count();
    let all = voters.count();
    if left > all / 2 {
        return Ok(());
    }
    let id = scene::id(target).unwrap_or_default();
    Err(Failure::new(
        FAILED,
        format!("without manager {id} only {left} of {all} voters would be left, which is no majority"),
    )
    .hint("`minderctl doctor` says what is wrong; a drill wants a cluster that can spare one"))
}

impl Plan {
    fn kind(&self) -> DrillKind {
        self.request.kind()
    }

    /// For the question whether it is meant.
    fn words(&self) -> String {
        let lasts = Millis(self.request.duration_ms);
        match (&self.target, self.kind()) {
            (Target::Host(host), _) => format!("kill the slave of {host}, away for {lasts}"),
            (Target::Manager { id, address, .. }, DrillKind::LeaderKill) => {
                format!("kill the leader, manager {id} at {address}, away for {lasts}")
            }
            (Target::Manager { id, address, .. }, _) => {
                format!("cut manager {id} at {address} off from the others for {lasts}")
            }
        }
    }
}

/// The drill with its process, which is gone afterwards however it ends.
async fn carry_out(context: &Context, plan: &Plan) -> Result<u8, Failure> {
    let revision = leftovers(context).await?;
    let actor = "minderctl drill";
    let mut traffic =
        Traffic::begin(plan.process.clone(), &plan.managers, plan.unhurt.clone(), plan.writers, actor, revision)?;
    let progress = Progress::begin(&context.screen, traffic.counter());
    // Dropped when somebody ends this, the drill leaves its harm to end by itself; writers are told to stop below.
    let seen = tokio::select! {
        seen = Box::pin(perform(context, plan, revision, &mut traffic, &progress)) => Some(seen),
        () = told_to_end() => None,
    };
    progress.stage("cleaning up");
    // Whoever is impatient ends this as well; what is left over is named.
    let cleaned = tokio::select! {
        cleaned = clean_up(context, plan, &mut traffic) => cleaned,
        () = told_to_end() => Err(String::from("interrupted")),
    };
    progress.end();
    if let Err(why) = cleaned {
        eprintln!(
            "warning: {} may be left over ({why}); delete it with `minderctl delete {}`",
            plan.process, plan.process
        );
    }
    match seen {
        None => {
            eprintln!("interrupted; what was done ends by itself, and nothing was judged");
            Ok(130)
        }
        Some(seen) => show(context, plan, &seen?),
    }
}

fn show(context: &Context, plan: &Plan, seen: &Observed) -> Result<u8, Failure> {
    let verdict = judge(seen);
    let code = match verdict.outcome {
        Outcome::Held => DONE,
        Outcome::Broken => FAILED,
        // What it waited for was not to be seen.
        Outcome::Inconclusive => TIMED_OUT,
    };
    Report::new(plan.words(), seen, verdict).show(context)?;
    Ok(code)
}

/// Names what drills that were cut off have left; gives the revision that the table is at.
async fn leftovers(context: &Context) -> Result<u64, Failure> {
    let selection = v1::Selection { terms: vec![format!("{PREFIX}*")], ..Default::default() };
    let reply = context.client.processes(selection, false).await?;
    for process in &reply.processes {
        let name = process.spec.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default();
        eprintln!("warning: {name} is there, of a drill that goes on or was cut off; `minderctl delete {name}`");
    }
    Ok(reply.position.map_or(0, |position| position.revision))
}

/// Hurts the cluster while the traffic goes on, and gives what was seen.
async fn perform(
    context: &Context,
    plan: &Plan,
    first_index: u64,
    traffic: &mut Traffic,
    progress: &Progress,
) -> Result<Observed, Failure> {
    progress.stage("writers and readers begin");
    writes_go_on(traffic, WRITES_BEFORE).await?;
    let client = Client::new(plan.unhurt.clone())?.in_turn();
    let before = scene::look(&client).await?;
    progress.stage(&plan.words());
    let fault_us = traffic.now_us();
    context.client.drill(plan.request.clone()).await?;
    let lookout = Lookout {
        client: &client,
        kind: plan.kind(),
        target: &plan.target,
        instance: &plan.instance,
        before: &before,
        traffic,
        fault_us,
        lasts: plan.lasts,
        until: Instant::now() + plan.lasts + context.wait_limit,
    };
    let sighted = lookout.keep().await;
    progress.stage("all that is waited for was seen; writers go on for a moment");
    // Too few of them is for the judge to say.
    let _ = writes_go_on(traffic, WRITES_AFTER).await;
    let stopped_us = traffic.now_us();
    traffic.stop().await;
    progress.stage("looking at what became of it");
    let after = scene::look_after(&client, &before).await?;
    let last = traffic::look(&client, &plan.process).await?;
    let changes_whole = traffic.follow_to(last.as_ref().map_or(0, |last| last.revision), FOLLOW_LIMIT).await;
    let stands = scene::stands(&client, &before.managers).await;
    let seen = traffic.take();
    Ok(Observed {
        kind: plan.kind(),
        target: plan.target.clone(),
        fault_us,
        stopped_us,
        writers: plan.writers,
        first_index,
        writes: seen.writes,
        repeats: seen.repeats,
        reads: seen.reads,
        reads_failed: seen.reads_failed,
        last,
        changes: seen.changes,
        changes_whole,
        before,
        after,
        reattached: sighted.reattached,
        harmed_us: sighted.harmed_us,
        back_us: sighted.back_us,
        stands,
    })
}

/// Waits for so many more acknowledged writes.
async fn writes_go_on(traffic: &Traffic, more: usize) -> Result<(), Failure> {
    let (begin, from) = (Instant::now(), traffic.count().writes);
    while traffic.count().writes < from + more {
        if let Some(error) = traffic.refused() {
            return Err(error.into());
        }
        if begin.elapsed() > WRITES_LIMIT {
            let writes = traffic.count().writes - from;
            return Err(Failure::new(
                TIMED_OUT,
                format!("only {} acknowledged in {} s", count(writes as u64, "write"), WRITES_LIMIT.as_secs()),
            ));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Ends the writers, then deletes their process, and looks whether it is gone.
async fn clean_up(context: &Context, plan: &Plan, traffic: &mut Traffic) -> Result<(), String> {
    traffic.stop().await;
    for _ in 0..DELETIONS {
        match traffic::look(&context.client, &plan.process).await {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        match context.client.delete(vec![plan.process.to_string()], &Write::default()).await {
            Ok(_) | Err(Error::NothingMatched(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it comes again".into())
}

/// Ctrl-C, or a polite word from somebody else.
async fn told_to_end() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without a handler the signal ends this program itself.
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
