//! The shell around [`minder_fleet::Silence`]: looks at the clock while this manager leads, asks the other managers for
//! their opinion of who is silent, and tells what has changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use minder_model::HostName;
use minder_proto::v1;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::{core::Core, raft::Member};

/// A manager that has not answered within this has no opinion: the next round comes soon.
const OPINION_DEADLINE: Duration = Duration::from_secs(1);
/// Hosts in one question: more are asked about in the same round, in further questions.
const HOSTS_ASKED_MAX: usize = 10_000;

/// Listens for silence for ever. Does nothing while this manager does not lead.
pub async fn listen(core: Arc<Core>) {
    let mut leadership = core.node.leadership();
    while leadership.wait_for(|now| now.leading).await.is_ok() {
        let mut looks = tokio::time::interval(core.fleet.look_every());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<JoinHandle<()>> = None;
        while leadership.borrow().leading {
            looks.tick().await;
            look(&core, &mut asking);
        }
    }
}

fn look(core: &Arc<Core>, asking: &mut Option<JoinHandle<()>>) {
    let changes = core.fleet.silence(|silence, now_ms| silence.look(now_ms), |changes| !changes.is_empty());
    changes.iter().for_each(|change| core.silence_event(change));
    if asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
        return;
    }
    let questions = core.fleet.silence(|silence, now_ms| silence.questions(now_ms), |_| false);
    if !questions.is_empty() {
        *asking = Some(tokio::spawn(ask_others(core.clone(), questions)));
    }
}

/// One round: every other manager is asked about every silent host, and what they say is taken in.
async fn ask_others(core: Arc<Core>, questions: Vec<HostName>) {
    let others = core.node.others();
    for asked in questions.chunks(HOSTS_ASKED_MAX) {
        let answers: Vec<v1::GetPresenceReply> =
            join_all(others.iter().map(|other| ask(&core, other, asked))).await.into_iter().flatten().collect();
        if answers.is_empty() {
            continue;
        }
        let mut heard_by: BTreeMap<HostName, Vec<u64>> = BTreeMap::new();
        for answer in answers {
            for host in answer.hosts.into_iter().filter_map(|host| HostName::new(host).ok()) {
                heard_by.entry(host).or_default().push(answer.manager_id);
            }
        }
        let changes = core
            .fleet
            .silence(|silence, now_ms| silence.opinions(asked, &heard_by, now_ms), |changes| !changes.is_empty());
        changes.iter().for_each(|change| core.silence_event(change));
    }
}

async fn ask(core: &Core, other: &Member, asked: &[HostName]) -> Option<v1::GetPresenceReply> {
    let hosts = asked.iter().map(ToString::to_string).collect();
    let answer = async {
        let channel = core.leader.channel(&other.client_address)?;
        v1::control_client::ControlClient::new(channel).get_presence(v1::GetPresenceRequest { hosts }).await
    };
    let answer = tokio::time::timeout(OPINION_DEADLINE, answer).await.ok()?;
    answer.map(tonic::Response::into_inner).ok()
}
