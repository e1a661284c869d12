//! The simulated world: managers and clients on hosts of a network, moved on by one step after the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use minder_manager::RaftSettings;
use minder_sim::Chance;
use turmoil::Sim;

use crate::{
    callers::Caller,
    disk::{self, Loss},
    faults::Faults,
    looks,
    manager::{self, Place},
    net,
    operator::{self, Duties},
    options::{Fault, Options},
    planted::Planted,
    seam,
    shared::Shared,
    trace, watchers,
};

/// One step.
const TICK: Duration = Duration::from_millis(1);
const WATCHERS: usize = 3;
/// Numbers of watchers begin here.
pub const FIRST_WATCHER: usize = 100;
/// How old the folder is that a planted bug brings back.
const BACK_MS: u64 = 1_500;

/// Everything there is.
pub struct World {
    pub options: Options,
    pub planted: Option<Planted>,
    pub sim: Sim<'static>,
    pub shared: Arc<Shared>,
    pub chance: Chance,
    pub faults: Faults,
    /// The first promise that was broken.
    pub failure: Option<String>,
    /// Managers that are down, and when each comes back, in milliseconds.
    down: Vec<Option<u64>>,
    /// Folders as they were some time ago, for a planted bug.
    older: Vec<Option<PathBuf>>,
    root: PathBuf,
}

impl World {
    /// The world of a seed, with its folders under `root`.
    pub fn new(options: Options, planted: Option<Planted>, root: &Path) -> turmoil::Result<Self> {
        let mut chance = Chance::new(options.seed ^ 0x6d61_6e61_6765_7273);
        disk::begin();
        minder_proto::dial::through(net::connect);
        manager::begin_disks(chance.fork(), planted);
        net::begin(chance.fork());
        if let Some(planted) = planted {
            planted.plant();
        }
        let raft = RaftSettings {
            snapshot_every_entries: options.snapshot_every,
            keep_entries: options.keep,
            ..RaftSettings::default()
        };
        let total = options.managers + options.spare;
        let places: Vec<_> = (0..total).map(|index| Place::new(index, root, raft.clone())).collect();
        for place in &places {
            fs::create_dir_all(place.folder())?;
        }
        let sim = turmoil::Builder::new()
            .rng_seed(chance.any())
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(TICK)
            .max_message_latency(Duration::from_millis(options.latency_ms))
            .tcp_capacity(65_536)
            .build();
        let faults = Faults::new(&options);
        let mut world = Self {
            planted,
            sim,
            shared: Shared::new(places),
            chance,
            faults,
            failure: None,
            down: vec![None; total],
            older: vec![None; total],
            root: root.to_owned(),
            options,
        };
        world.settle_hosts()?;
        Ok(world)
    }

    fn settle_hosts(&mut self) -> turmoil::Result {
        for place in self.shared.places.clone() {
            let name = place.name.clone();
            self.sim.host(name, move || {
                let place = place.clone();
                async move {
                    place.run().await;
                    Ok(())
                }
            });
        }
        for number in 0..self.options.callers {
            let caller = (self.shared.clone(), self.chance.fork(), self.options.pause_ms);
            self.shared.callers(true);
            self.sim.client(caller_host(number), async move {
                let (shared, chance, pause_ms) = caller;
                Caller::new(shared, number, chance)?.call_on(pause_ms).await;
                Ok(())
            });
        }
        for number in 0..WATCHERS {
            let (shared, chance) = (self.shared.clone(), self.chance.fork());
            self.shared.watchers(true);
            self.sim.client(format!("w{}", number + 1), async move {
                watchers::watch(shared.clone(), FIRST_WATCHER + number, chance).await;
                shared.watchers(false);
                Ok(())
            });
        }
        let (shared, chance, number) = (self.shared.clone(), self.chance.fork(), self.options.callers);
        self.sim.client("audit", async move {
            Caller::new(shared, number, chance)?.audit().await;
            Ok(())
        });
        for at in 0..self.shared.places.len() {
            self.sim.client(format!("look{}", at + 1), looks::look(self.shared.clone(), at));
        }
        let duties = Duties {
            managers: self.options.managers,
            membership: self.options.faults.contains(&Fault::Membership),
            transfers: self.options.faults.contains(&Fault::Transfer),
            every_ms: self.options.change_every_ms,
        };
        self.sim.client("op", operator::operate(self.shared.clone(), duties, self.chance.fork()));
        Ok(())
    }

    /// Milliseconds since the simulation began.
    pub fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    /// One step, and what follows from it.
    pub fn step(&mut self) {
        seam::set_now(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            self.fail(format!("a host ended: {error}"));
        }
        seam::set_now(self.sim.elapsed());
        if let Some(complaint) = self.shared.complaint() {
            self.fail(complaint);
        }
        let now = self.now_ms();
        for at in 0..self.down.len() {
            if self.down[at].is_some_and(|back| back <= now) {
                self.start(at);
            }
        }
        let looked = self.look_for_ends().and_then(|()| self.keep_older());
        if let Err(error) = looked {
            self.fail(format!("the harness: {error}"));
        }
    }

    /// A promise is broken.
    pub fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            tracing::error!("FAILED: {why}");
            self.failure = Some(why);
        }
    }

    /// Goes on until then, or until something fails.
    pub fn run_until(&mut self, ms: u64) {
        self.run_while(ms, |_| true);
    }

    /// Goes on while this is so, at most until then or until something fails.
    pub fn run_while(&mut self, ms: u64, is_so: impl Fn(&Self) -> bool) {
        while self.now_ms() < ms && self.failure.is_none() && is_so(self) {
            self.step();
            Faults::tick(self);
        }
    }

    /// Goes on until this is so. It must be within the bound.
    pub fn demand(&mut self, what: &str, within_ms: u64, mut is_so: impl FnMut(&mut Self) -> Result<(), String>) {
        let begin = self.now_ms();
        while self.failure.is_none() {
            match is_so(self) {
                Ok(()) => {
                    tracing::info!("{what}: after {} ms", self.now_ms() - begin);
                    return;
                }
                Err(why) if self.now_ms() > begin + within_ms => {
                    self.fail(format!("{what}: not within {within_ms} ms: {why}"));
                }
                Err(_) => self.step(),
            }
        }
    }

    /// A manager that ends by itself has been removed, or something is wrong.
    fn look_for_ends(&mut self) -> io::Result<()> {
        for at in 0..self.shared.places.len() {
            let place = self.shared.places[at].clone();
            let Some(ended) = place.ended() else { continue };
            let may_be_removed = self.shared.may_be_removed(at);
            match ended.code {
                // It was told to.
                0 => {}
                // An operator gives it an empty folder; a manager that was cut off may still call it by its old id.
                20 | 12 if may_be_removed => {
                    trace::count("managers removed", u64::from(ended.code == 20));
                    self.sim.crash(place.name.as_str());
                    place.is_down();
                    let before = place.folder();
                    fs::create_dir_all(place.next_folder())?;
                    disk::remove(&before)?;
                    self.down[at] = Some(self.now_ms() + 300);
                }
                code => self.fail(format!("{} ended with {code}: {}", place.name, ended.message)),
            }
        }
        Ok(())
    }

    /// Whether a manager is up and serves.
    pub fn serves(&self, at: usize) -> bool {
        self.down.get(at) == Some(&None) && self.shared.places[at].serves()
    }

    /// Whether a manager is down and comes back later.
    pub fn is_down(&self, at: usize) -> bool {
        self.down.get(at).is_some_and(Option::is_some)
    }

    /// Ends a manager at once; it comes back then. Gives the bytes that its folder lost.
    pub fn crash(&mut self, at: usize, loss: Loss, back_ms: u64) -> io::Result<u64> {
        let place = self.shared.places[at].clone();
        let before = place.folder();
        let after = place.next_folder();
        let older = self.older[at].take().filter(|_| loss == Loss::Power);
        let lost = match older {
            Some(older) => disk::image(&older, &after, Loss::Process, &mut self.chance)?,
            None => disk::image(&before, &after, loss, &mut self.chance)?,
        };
        tracing::info!(manager = place.name, ?loss, lost, "crashes");
        if loss == Loss::Power {
            // Nobody is told: no connection is closed.
            self.silence(&place.name);
        }
        self.sim.crash(place.name.as_str());
        if loss == Loss::Power {
            self.speak(&place.name);
        }
        place.is_down();
        disk::remove(&before)?;
        self.down[at] = Some(back_ms);
        trace::note(&[self.now_ms(), at as u64, lost]);
        Ok(lost)
    }

    /// A manager that has stopped in order comes back then.
    pub fn stopped(&mut self, at: usize, back_ms: u64) {
        let place = self.shared.places[at].clone();
        self.sim.crash(place.name.as_str());
        place.is_down();
        self.down[at] = Some(back_ms);
    }

    /// Makes all disks slow: a sync takes at most this, in milliseconds.
    pub fn slow_down_all(&self, at_most_ms: u64) {
        (0..self.shared.places.len()).for_each(|at| manager::slow_down(at, at_most_ms));
    }

    /// Makes all disks as fast as ever; gives the syncs that were slow.
    pub fn speed_up_all(&self) -> u64 {
        (0..self.shared.places.len()).map(manager::speed_up).sum()
    }

    /// Starts a manager that is down.
    pub fn start(&mut self, at: usize) {
        if self.down[at].take().is_some() {
            let name = self.shared.places[at].name.clone();
            tracing::info!(manager = name, "comes back");
            trace::count("starts again", 1);
            self.sim.bounce(name.as_str());
        }
    }

    /// Starts all that are down.
    pub fn start_all(&mut self) {
        (0..self.down.len()).for_each(|at| self.start(at));
    }

    fn silence(&mut self, name: &str) {
        for other in self.hosts().iter().filter(|other| *other != name) {
            self.sim.partition(name, other.as_str());
        }
    }

    fn speak(&mut self, name: &str) {
        for other in self.hosts().iter().filter(|other| *other != name) {
            self.sim.repair(name, other.as_str());
        }
        Faults::reapply(self);
    }

    /// Names of all hosts that take part in the work; who only looks is left out of all trouble.
    pub fn hosts(&self) -> Vec<String> {
        let managers = self.shared.places.iter().map(|place| place.name.clone());
        managers.chain((0..self.options.callers).map(caller_host)).collect()
    }

    fn keep_older(&mut self) -> io::Result<()> {
        if self.planted != Some(Planted::FolderGoesBack) || !self.now_ms().is_multiple_of(BACK_MS) {
            return Ok(());
        }
        for at in 0..self.older.len() {
            let kept = self.root.join(format!("older-{at}-{}", self.now_ms()));
            if self.serves(at) {
                disk::image(&self.shared.places[at].folder(), &kept, Loss::Process, &mut self.chance)?;
                self.older[at] = Some(kept);
            }
        }
        Ok(())
    }
}

fn caller_host(number: usize) -> String {
    format!("c{}", number + 1)
}
