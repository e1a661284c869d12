//! Which fault comes when: drawn by the seed among those that may come now, several at once, those that have not come yet
//! before the others.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use minder_chaos_tests::{Chance, Nemesis, Outcome, World, mixed, nemeses};
use tokio::task::JoinSet;

use crate::Settings;

/// Faults are begun for so long, then all of them are waited for.
const ROUND: Duration = Duration::from_secs(20);
/// At most so many at a time: more would leave nothing to be hurt.
const AT_ONCE: usize = 6;
/// Between two of them.
const BETWEEN_MS: std::ops::Range<u64> = 200..1_500;
/// One that has not come yet is drawn so many times as often.
const NOT_YET: u64 = 6;

/// One fault that was begun.
#[derive(Debug)]
pub struct Fault {
    /// Its kind.
    pub kind: &'static str,
    /// When it was begun, and when it was over.
    pub begun: Instant,
    pub over: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// Everything that may be drawn.
pub struct Schedule {
    world: Arc<World>,
    seed: u64,
    chance: Chance,
    kinds: Vec<&'static Nemesis>,
    skipped: Vec<(&'static str, String)>,
    came: BTreeMap<&'static str, usize>,
    begun: u64,
}

impl Schedule {
    /// Tries which kinds this machine can have.
    pub fn new(world: Arc<World>, settings: &Settings) -> Self {
        let all = nemeses();
        for kind in &settings.kinds {
            assert!(all.iter().any(|nemesis| nemesis.name == kind), "KINDS: there is no {kind}");
        }
        let asked =
            |nemesis: &&Nemesis| settings.kinds.is_empty() || settings.kinds.iter().any(|kind| kind == nemesis.name);
        let (mut kinds, mut skipped) = (Vec::new(), Vec::new());
        for nemesis in all.into_iter().filter(asked) {
            match (nemesis.lacks)(&world) {
                None => kinds.push(nemesis),
                Some(why) => skipped.push((nemesis.name, why)),
            }
        }
        let chance = Chance::new(settings.seed);
        Self { world, seed: settings.seed, chance, kinds, skipped, came: BTreeMap::new(), begun: 0 }
    }

    /// Kinds that this machine cannot have, with the reason.
    pub fn skipped(&self) -> Vec<(&'static str, String)> {
        self.skipped.clone()
    }

    /// Begins faults for a while, then waits until all of them are over and made good.
    pub async fn round(&mut self, left: Duration) -> Vec<Fault> {
        let begin = Instant::now();
        let mut running = JoinSet::new();
        let mut faults = Vec::new();
        while begin.elapsed() < ROUND.min(left) {
            while let Some(over) = running.try_join_next() {
                faults.push(over.unwrap());
            }
            if running.len() < AT_ONCE {
                self.begin_one(&mut running).await;
            }
            let pause = BETWEEN_MS.start + self.chance.below(BETWEEN_MS.end - BETWEEN_MS.start);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        while let Some(over) = running.join_next().await {
            faults.push(over.unwrap());
        }
        faults
    }

    async fn begin_one(&mut self, running: &mut JoinSet<Fault>) {
        let leader = self.world.leader().await;
        let members = self.world.members();
        // Who may not come now is not waited for.
        for _ in 0..4 {
            let Some(nemesis) = self.draw() else { return };
            let chance = &mut self.chance;
            let pick = |bound| chance.below(bound);
            let Some(lease) = self.world.leases.take(nemesis.needs, &members, leader, self.world.hosts.len(), pick)
            else {
                continue;
            };
            *self.came.entry(nemesis.name).or_default() += 1;
            self.begun += 1;
            let chance = Chance::new(mixed(self.seed, self.begun));
            let world = self.world.clone();
            running.spawn(async move {
                let begun = Instant::now();
                let outcome = (nemesis.run)(world, lease, chance).await;
                println!("{:<22} {outcome:?}", nemesis.name);
                Fault { kind: nemesis.name, begun, over: Instant::now(), outcome }
            });
            return;
        }
    }

    fn draw(&mut self) -> Option<&'static Nemesis> {
        let weight = |nemesis: &Nemesis| match self.came.contains_key(nemesis.name) {
            true => nemesis.weight,
            false => nemesis.weight * NOT_YET,
        };
        let weights: Vec<u64> = self.kinds.iter().map(|nemesis| weight(nemesis)).collect();
        let all = weights.iter().sum::<u64>();
        let mut drawn = self.chance.below(all.max(1));
        self.kinds.iter().zip(weights).find_map(|(nemesis, weight)| match drawn.checked_sub(weight) {
            None => Some(*nemesis),
            Some(left) => {
                drawn = left;
                None
            }
        })
    }
}
