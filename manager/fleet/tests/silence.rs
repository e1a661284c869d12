//! Silence, by the second: who is called what, when, and when the leader doubts itself instead.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use minder_fleet::{Change, Condition, Doubt, Silence, SilenceLimits};
use minder_model::HostName;

const S: u64 = 1_000;

fn host(number: usize) -> HostName {
    HostName::new(format!("h{number}")).unwrap()
}

/// A leader since second 0 with its fleet, looked at each half second.
struct World {
    silence: Silence,
    now_ms: u64,
    /// Hosts that beat each second.
    beating: Vec<HostName>,
    /// What the other managers hear; `None` while they do not answer.
    others: Option<BTreeMap<HostName, Vec<u64>>>,
    told: Vec<(u64, Change)>,
}

impl World {
    fn new(hosts: usize) -> Self {
        let mut silence = Silence::new(SilenceLimits::default(), 0);
        let beating: Vec<HostName> = (0..hosts).map(host).collect();
        for host in &beating {
            silence.heard(host, 0, 0);
        }
        Self { silence, now_ms: 0, beating, others: None, told: Vec::new() }
    }

    fn run_to(&mut self, until_ms: u64) {
        while self.now_ms < until_ms {
            self.now_ms += SilenceLimits::default().look_every_ms();
            let now = self.now_ms;
            let mut changes = Vec::new();
            if now.is_multiple_of(S) {
                changes.extend(self.beating.iter().filter_map(|host| self.silence.heard(host, now, now)));
            }
            changes.extend(self.silence.look(now));
            let asked = self.silence.questions(now);
            if let Some(others) = self.others.as_ref().filter(|_| !asked.is_empty()) {
                changes.extend(self.silence.opinions(&asked, others, now));
            }
            self.told.extend(changes.into_iter().map(|change| (now, change)));
        }
    }

    fn condition(&self, number: usize) -> Condition {
        self.silence.standing(&host(number), self.now_ms).condition
    }

    fn doubt(&self, number: usize) -> Option<Doubt> {
        self.silence.standing(&host(number), self.now_ms).doubt
    }

    fn fall_silent(&mut self, count: usize) {
        self.beating.drain(..count);
    }
}

#[test]
fn one_host_is_suspect_then_lost_then_back_each_on_its_second_whatever_the_size_of_the_fleet() {
    for hosts in [10, 5_000] {
        let mut world = World::new(hosts);
        // Between two of its timers.
        world.run_to(12 * S);
        world.fall_silent(1);
        world.run_to(40 * S);
        world.beating.push(host(0));
        world.run_to(42 * S);
        let told: Vec<(u64, Condition, Option<u64>)> = world
            .told
            .iter()
            .map(|(at, change)| match change {
                Change::Host { to, silent_ms, .. } => (*at, *to, *silent_ms),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            (17 * S, Condition::Suspect, Some(5 * S)),
            (27 * S, Condition::Lost, Some(15 * S)),
            (41 * S, Condition::Connected, Some(29 * S)),
        ];
        assert_eq!(told, expected, "{hosts} hosts");
    }
}

#[test]
fn a_host_that_another_manager_hears_is_not_lost_until_nobody_hears_it() {
    let mut world = World::new(10);
    world.others = Some(BTreeMap::from([(host(0), vec![2])]));
    world.fall_silent(1);
    world.run_to(60 * S);
    assert_eq!(world.condition(0), Condition::Suspect);
    assert_eq!(world.doubt(0), Some(Doubt::HeardBy(vec![2])));
    assert_eq!(world.doubt(0).unwrap().to_string(), "connected to manager 2, not to the leader");
    world.others = Some(BTreeMap::new());
    world.run_to(62 * S);
    assert_eq!(world.condition(0), Condition::Lost);
    // And it is not lost any more as soon as another one hears it again.
    world.others = Some(BTreeMap::from([(host(0), vec![2, 3])]));
    world.run_to(68 * S);
    assert_eq!(world.condition(0), Condition::Suspect);
}

#[test]
fn an_opinion_that_nobody_repeats_does_not_last() {
    let mut world = World::new(10);
    world.others = Some(BTreeMap::from([(host(0), vec![2])]));
    world.fall_silent(1);
    world.run_to(30 * S);
    assert_eq!(world.condition(0), Condition::Suspect);
    world.others = None;
    world.run_to(35 * S);
    assert_eq!(world.condition(0), Condition::Lost);
}

#[test]
fn many_silent_hosts_at_once_make_the_leader_suspect_itself() {
    // (hosts, of them silent, others answer that they hear nobody, condition after 60 s, after 200 s)
    for (hosts, silent, others, after_60, after_200) in [
        (10, 4, false, Condition::Lost, Condition::Lost),
        (10, 5, false, Condition::Suspect, Condition::Lost),
        (1_000, 1_000, false, Condition::Suspect, Condition::Lost),
        // Another manager hears none of them either: it is not the leader.
        (10, 10, true, Condition::Lost, Condition::Lost),
        // Two machines prove nothing.
        (2, 2, false, Condition::Lost, Condition::Lost),
    ] {
        let mut world = World::new(hosts);
        world.others = others.then(BTreeMap::new);
        world.fall_silent(silent);
        world.run_to(60 * S);
        assert_eq!(world.condition(0), after_60, "{silent} of {hosts}, {others}");
        if after_60 == Condition::Suspect {
            assert_eq!(world.doubt(0), Some(Doubt::ManyAtOnce { silent, of: hosts }));
            assert!(world.told.iter().any(|(_, change)| matches!(change, Change::SelfDoubt { begins: true, .. })));
        }
        world.run_to(200 * S);
        assert_eq!(world.condition(0), after_200, "{silent} of {hosts}, {others}");
        assert_eq!(world.silence.counts(), (0, silent, hosts));
    }
}

#[test]
fn a_doubt_ends_with_the_return_of_the_hosts() {
    let mut world = World::new(10);
    world.fall_silent(8);
    world.run_to(20 * S);
    assert!(world.silence.self_doubt().is_some());
    world.beating = (0..10).map(host).collect();
    world.run_to(22 * S);
    assert_eq!(world.silence.self_doubt(), None);
    assert!(world.told.iter().any(|(_, change)| matches!(change, Change::SelfDoubt { begins: false, .. })));
    assert!(!world.told.iter().any(|(_, change)| matches!(change, Change::Host { to: Condition::Lost, .. })));
}

#[test]
fn a_leader_that_was_away_blames_nobody() {
    let mut world = World::new(10);
    world.run_to(10 * S);
    // It gets no time for a minute, and with it nobody is heard.
    world.now_ms = 70 * S;
    world.fall_silent(1);
    let changes = world.silence.look(world.now_ms);
    assert_eq!(changes, [Change::LeaderWasAway { away_ms: 60 * S }]);
    world.run_to(74 * S);
    assert_eq!((world.condition(0), world.condition(1)), (Condition::Connected, Condition::Connected));
    world.run_to(84 * S);
    assert_eq!((world.condition(0), world.condition(1)), (Condition::Suspect, Condition::Connected));
    world.run_to(85 * S);
    assert_eq!(world.condition(0), Condition::Lost);
}

#[test]
fn a_new_leader_calls_nobody_lost_before_it_has_led_as_long_and_forgets_who_is_removed() {
    let mut world = World::new(0);
    for number in 0..2 {
        world.silence.expect(&host(number));
    }
    world.run_to(14 * S);
    assert_eq!((world.condition(0), world.doubt(0)), (Condition::Unheard, None));
    world.silence.forget(&host(1));
    world.run_to(15 * S);
    assert_eq!(world.condition(0), Condition::Lost);
    assert_eq!(world.silence.counts(), (0, 1, 1));
    assert!(world.told.iter().all(|(_, change)| change.host() != Some(&host(1))), "{:?}", world.told);
    world.silence.heard(&host(0), 16 * S, 16 * S);
    assert!(world.silence.is_connected(&host(0)));
}

/// What waited in a cut network comes in at once when that ends, the oldest first: the first of it says nothing of now.
#[test]
fn an_old_sign_of_life_ends_no_silence() {
    let mut world = World::new(1);
    world.beating.clear();
    world.run_to(9 * S);
    assert_eq!(world.condition(0), Condition::Suspect);
    let heard = |world: &mut World, at| world.silence.heard(&host(0), at, 9 * S);
    assert_eq!(heard(&mut world, S), None);
    assert_eq!(heard(&mut world, 4 * S), None);
    let standing = world.silence.standing(&host(0), 9 * S);
    assert_eq!((standing.condition, standing.silent_ms), (Condition::Suspect, Some(5 * S)));
    assert!(heard(&mut world, 8 * S).is_some());
    let standing = world.silence.standing(&host(0), 9 * S);
    assert_eq!((standing.condition, standing.silent_ms), (Condition::Connected, Some(S)));
    world.run_to(13 * S);
    assert_eq!(world.condition(0), Condition::Suspect, "its silence began when it was given");
}
