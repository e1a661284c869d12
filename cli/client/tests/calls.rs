//! Calls against managers that lose leaders, answers and connections.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;

use std::time::{Duration, Instant};

use fake::Fake;
use minder_client::{Client, Error, Write, v1};
use minder_model::{HostName, ProcessName, Spec};
use tonic::{Code, Status};

fn spec() -> Spec {
    Spec { hosts: vec![HostName::new("h1").unwrap()], ..Spec::new(ProcessName::new("web").unwrap(), "/bin/web") }
}

fn client(servers: &[&str]) -> Client {
    let servers = servers.iter().map(|server| (*server).to_string()).collect();
    Client::new(servers).unwrap().with_deadline(Duration::from_secs(3))
}

/// An address nobody listens at.
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_dead_manager_costs_nothing_but_a_look_at_the_next() {
    let fake = Fake::start().await;
    let client = client(&[&nobody(), &fake.address]);
    let began = Instant::now();
    client.apply(&[spec()], &Write::default()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_leader_named_in_an_answer_is_asked_from_then_on() {
    let follower = Fake::start().await;
    let leader = Fake::start().await;
    follower.table.lock().unwrap().leader_address.clone_from(&leader.address);
    let client = client(&[&follower.address]);
    client.apply(&[spec()], &Write::default()).await.unwrap();
    client.apply(&[spec()], &Write::default()).await.unwrap();
    assert_eq!(follower.table.lock().unwrap().writes.len(), 1);
    assert_eq!(leader.table.lock().unwrap().writes.len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_request_id() {
    let fake = Fake::start().await;
    fake.table.lock().unwrap().lost.extend([Status::deadline_exceeded("lost"), Status::unavailable("gone")]);
    let reply = client(&[&fake.address]).apply(&[spec()], &Write::default()).await.unwrap();
    assert_eq!(reply.position.unwrap().revision, 1);
    let table = fake.table.lock().unwrap();
    assert_eq!((table.request_ids.len(), table.writes.len(), table.revision), (3, 1, 1));
    assert!(table.request_ids.iter().all(|id| *id == table.request_ids[0] && id.len() == 36));
}

#[tokio::test]
async fn an_answer_that_stays_lost_is_unknown_and_a_call_that_changed_nothing_is_unreachable() {
    let fake = Fake::start().await;
    let client = client(&[&fake.address]).with_deadline(Duration::from_millis(600));
    fake.table.lock().unwrap().lost.extend((0..500).map(|_| Status::deadline_exceeded("lost")));
    let write = Write { request_id: Some("r1".into()), ..Write::default() };
    match client.apply(&[spec()], &write).await.unwrap_err() {
        Error::Unknown { request_id, .. } => assert_eq!(request_id, "r1"),
        other => panic!("{other:?}"),
    }
    fake.table.lock().unwrap().lost.clear();
    fake.table.lock().unwrap().troubles.extend((0..500).map(|_| Status::unavailable("no leader; nothing was changed")));
    assert!(matches!(client.apply(&[spec()], &write).await.unwrap_err(), Error::Unreachable(_)));
    fake.table.lock().unwrap().troubles.clear();
    client.apply(&[spec()], &write).await.unwrap();
}

/// The leader died with the write in its log, and the next one, which has that log, refused for its full disk: the write was
/// called refused, and it had happened.
#[tokio::test]
async fn a_refusal_after_a_lost_answer_says_nothing_about_the_write() {
    let (dying, full) = (Fake::start().await, Fake::start().await);
    let write = Write { request_id: Some("r1".into()), ..Write::default() };
    let full_disk = || Status::failed_precondition("its disk is full; nothing was changed");
    full.table.lock().unwrap().troubles.push_back(full_disk());
    match client(&[&full.address]).apply(&[spec()], &write).await.unwrap_err() {
        Error::Refused(why) => assert!(why.contains("disk is full"), "{why}"),
        other => panic!("{other:?}"),
    }
    dying.table.lock().unwrap().lost.push_back(Status::unavailable("gone"));
    full.table.lock().unwrap().troubles.push_back(full_disk());
    match client(&[&dying.address, &full.address]).apply(&[spec()], &write).await.unwrap_err() {
        Error::Unknown { request_id, tried } => {
            assert_eq!(request_id, "r1");
            assert!(
                tried.iter().any(|(server, why)| *server == full.address && why.contains("disk is full")),
                "{tried:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(dying.table.lock().unwrap().writes.len(), 1, "it had happened");
}

#[tokio::test]
async fn nobody_listening_is_said_soon() {
    let began = Instant::now();
    let client = client(&[&nobody(), &nobody()]).with_deadline(Duration::from_secs(30));
    match client.managers(true).await.unwrap_err() {
        Error::Unreachable(tried) => {
            assert_eq!(tried.len(), 2);
            assert!(tried[0].1.contains("refused"), "{tried:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn each_status_is_its_own_error_and_is_not_repeated() {
    let fake = Fake::start().await;
    let client = client(&[&fake.address]);
    for (code, is_it) in [
        (Code::InvalidArgument, (|error| matches!(error, Error::Usage(_))) as fn(&Error) -> bool),
        (Code::NotFound, |error| matches!(error, Error::NothingMatched(_))),
        (Code::Aborted, |error| matches!(error, Error::Conflict(_))),
        (Code::FailedPrecondition, |error| matches!(error, Error::Refused(_))),
        (Code::PermissionDenied, |error| matches!(error, Error::Permission(_))),
        (Code::Unimplemented, |error| matches!(error, Error::Unsupported(_))),
        (Code::OutOfRange, |error| matches!(error, Error::Compacted(_))),
    ] {
        fake.table.lock().unwrap().troubles.push_back(Status::new(code, "because"));
        let error = client.instances(v1::Selection::default()).await.unwrap_err();
        assert!(is_it(&error), "{code:?}: {error:?}");
        assert!(error.to_string().contains("because"));
    }
}

#[tokio::test]
async fn a_watch_resumes_without_gap_or_double() {
    let fake = Fake::start().await;
    let event = |revision: u64, name: &str, more: bool| v1::WatchEvent {
        revision,
        change: Some(v1::watch_event::Change::ProcessDeleted(name.into())),
        more,
    };
    // The first stream breaks in the middle of revision 7, the second begins again with it, the third is late.
    fake.table.lock().unwrap().watches.extend([
        vec![event(6, "a", false), event(7, "b", true)],
        vec![event(7, "b", true), event(7, "c", false)],
        vec![event(7, "c", false), event(9, "d", false)],
    ]);
    let client = client(&[&fake.address]);
    let mut watch = client.watch(5);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        match watch.next().await.unwrap().change {
            Some(v1::watch_event::Change::ProcessDeleted(name)) => seen.push(name),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d"]);
    assert_eq!(fake.table.lock().unwrap().watched_from, [5, 6, 7]);
    fake.table.lock().unwrap().troubles.push_back(Status::out_of_range("compacted"));
    assert!(matches!(watch.next().await.unwrap_err(), Error::Compacted(_)));
}

#[tokio::test]
async fn a_manager_that_is_too_busy_is_asked_again_after_the_time_it_says() {
    let fake = Fake::start().await;
    let mut busy = Status::resource_exhausted("too busy; nothing was changed");
    busy.metadata_mut().insert("grpc-retry-pushback-ms", "300".parse().unwrap());
    fake.table.lock().unwrap().troubles.extend([busy.clone(), busy]);
    let began = Instant::now();
    client(&[&fake.address]).apply(&[spec()], &Write::default()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(fake.table.lock().unwrap().writes.len(), 1);
}

fn many(count: usize) -> Vec<Spec> {
    let spec = |at| Spec { name: ProcessName::new(format!("p{at}")).unwrap(), ..spec() };
    (0..count).map(spec).collect()
}

#[tokio::test]
async fn a_large_apply_goes_in_parts_and_is_one_write_where_the_cluster_takes_it() {
    let fake = Fake::start().await;
    let client = client(&[&fake.address]);
    let mut told = Vec::new();
    let reply = client.apply_all(&many(2_500), &Write::default(), |done| told.push((done.parts, done.specs))).await;
    assert_eq!(reply.unwrap().processes.len(), 2_500);
    assert_eq!(told, [(1, 1_000), (2, 2_000)]);
    assert_eq!(fake.table.lock().unwrap().writes.len(), 3);
    fake.table.lock().unwrap().version = 2;
    client.apply_all(&many(2_500), &Write::default(), |_| panic!("it has one part")).await.unwrap();
    assert_eq!(fake.table.lock().unwrap().writes.len(), 4);
}

#[tokio::test]
async fn an_apply_that_stopped_says_where_and_goes_on_there_when_it_is_said_again() {
    let fake = Fake::start().await;
    let client = client(&[&fake.address]).with_deadline(Duration::from_millis(600));
    let write = Write { request_id: Some("all".into()), ..Write::default() };
    let mut specs = many(2_500);
    // The second part is refused.
    let refuse = |told: minder_client::Progress| {
        if told.parts == 1 {
            fake.table.lock().unwrap().troubles.push_back(Status::failed_precondition("there is no room"));
        }
    };
    let stopped = client.apply_all(&specs, &write, refuse).await.unwrap_err();
    assert_eq!((stopped.done.parts, stopped.done.specs, stopped.done.parts_total), (1, 1_000, 3));
    assert_eq!((stopped.next.as_str(), stopped.error), ("p1000", Error::Refused("there is no room".into())));
    // The answer to the second part stays lost, and whoever asks again asks for the whole.
    let lose = |told: minder_client::Progress| {
        if told.parts == 1 {
            let lost = (0..500).map(|_| Status::deadline_exceeded("lost"));
            fake.table.lock().unwrap().lost.extend(lost);
        }
    };
    let stopped = client.apply_all(&specs, &write, lose).await.unwrap_err();
    assert!(matches!(&stopped.error, Error::Unknown { request_id, .. } if request_id == "all"), "{stopped:?}");
    fake.table.lock().unwrap().lost.clear();
    let first = fake.table.lock().unwrap().revision;
    client.apply_all(&specs, &write, |_| ()).await.unwrap();
    // The first two parts were done before: one more write.
    assert_eq!(fake.table.lock().unwrap().revision, first + 1);
    // What was mended is another content, and not taken for what was done.
    specs[1_500].command = "/bin/other".into();
    client.apply_all(&specs, &write, |_| ()).await.unwrap();
    assert_eq!(fake.table.lock().unwrap().revision, first + 2);
}

#[tokio::test]
async fn a_part_that_reaches_too_many_instances_is_halved_until_it_is_taken() {
    let fake = Fake::start().await;
    let client = client(&[&fake.address]);
    let too_large = || {
        let mut status = Status::failed_precondition("reaches more than 3 instances");
        status.metadata_mut().insert(minder_proto::TOO_LARGE_METADATA, "1".parse().unwrap());
        status
    };
    fake.table.lock().unwrap().troubles.extend([too_large(), too_large()]);
    let mut told = Vec::new();
    let tell = |done: minder_client::Progress| told.push((done.parts, done.parts_total, done.specs));
    let reply = client.apply_all(&many(5), &Write::default(), tell).await.unwrap();
    let names: Vec<String> = reply.processes.into_iter().map(|process| process.name).collect();
    assert_eq!(names, ["p0", "p1", "p2", "p3", "p4"]);
    assert_eq!(told, [(1, 3, 1), (2, 3, 2)]);
    // One process cannot be split.
    fake.table.lock().unwrap().troubles.extend([too_large(), too_large()]);
    let stopped = client.apply_all(&many(2), &Write::default(), |_| ()).await.unwrap_err();
    assert_eq!((stopped.done.parts, stopped.next.as_str()), (0, "p0"));
    assert!(matches!(stopped.error, Error::TooLarge(_)), "{stopped:?}");
}

#[tokio::test]
async fn a_manager_outside_the_cluster_does_not_speak_for_it() {
    let (outside, inside) = (Fake::start().await, Fake::start().await);
    outside.table.lock().unwrap().outside = true;
    for servers in [[&outside.address, &inside.address], [&inside.address, &outside.address]] {
        let client = client(&servers.map(String::as_str));
        assert_eq!(client.managers(false).await.unwrap().managers[0].role, "leader");
    }
    let role = |reply: v1::GetManagersReply| reply.managers[0].role.clone();
    let client = client(&[&outside.address, &nobody()]);
    assert_eq!(role(client.managers(false).await.unwrap()), "no cluster", "it is all there is");
    assert_eq!(role(client.managers(true).await.unwrap()), "no cluster");
}
