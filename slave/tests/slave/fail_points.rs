//! At most one, nothing lost and nothing stuck, whichever named step a slave or a shim dies at, with cgroups and without.
//! The points are read from the source, so a new one is walked without anybody thinking of it.
//!
//! For each, two processes live a whole life: started, ended by themselves and restarted, taken over by another slave, one
//! of them without its shim, stopped, started again, removed. On the way whoever comes by the point dies there, alone or
//! with its slave and every shim. The programs keep the account: each holds a lock that all it is made of holds, and writes
//! down where it begins and how it ends. `make drill-steps` walks every passage of every point; here it is the first of
//! each, and every sync.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use minder_model::{Assignment, File, Hook, InstanceKey, Millis, Revision, RunSpec, Spec, Wanted};
use minder_proto::v1::{self, exit_status::Kind, from_slave::Message as FromSlave, to_slave::Message as ToSlave};
use nix::sys::signal::Signal;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Semaphore;

use crate::stage::{CLUSTER, DEADLINE, Programs, Stage, host, item, kill, shims, spec};

/// Lives at a time: they mostly wait.
const AT_ONCE: usize = 24;
/// The point of which every passage is walked, for it is passed in every turn.
const EVERY_TURN: &str = "turn-after-sync";
/// Of its passages this many are walked at a time. No life has more than the other.
const PASSAGES_AT_ONCE: u64 = 12;
const PASSAGES_MAX: u64 = 200;
/// A step that is there only when somebody died at another one before.
const AFTER: [(&str, &str); 1] = [("left-shim-released", "end-recorded")];
/// What each process does of itself: begin three times and end twice before it is removed.
const STARTS: usize = 3;
const NAMES: [&str; 2] = ["polite", "deaf"];

/// Holds the lock; ends with 7 when it is told to go, and by TERM unless it is deaf. Its children hold the lock as well,
/// unless it is told to close the descriptor for them.
const SCRIPT: &str = r#"exec 9>>"$0.$1.lock"; flock -n 9 || echo "DOUBLE $1 $2" >> "$0"; echo "start $1 $2" >> "$0"
if [ $1 = deaf ]; then trap '' TERM; else trap 'echo "end $1 $2 0" >> "$0"; exit 0' TERM; fi
pause() { if [ $3 = close ]; then sleep 0.1 9>&-; else sleep 0.1; fi; }
while :; do [ -e "$0.$1.go" ] && rm "$0.$1.go" && echo "end $1 $2 7" >> "$0" && exit 7; pause "$@"; done"#;

/// A named step and whose it is.
#[derive(Debug, Clone)]
struct Point {
    name: String,
    of_shim: bool,
}

/// How the slave holds its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// By cgroups, where they can be used here.
    Firmly,
    /// By sessions alone. Whoever of a tree outlives both its shim and its main process is not found again, and does not
    /// count here.
    BySession,
}

/// Who dies at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    /// Whoever comes by.
    Alone,
    /// Both it and its slave, and every shim.
    WithAll,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_each_named_step() {
    walk_all(Held::Firmly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_each_named_step_without_cgroups() {
    walk_all(Held::BySession).await;
}

async fn walk_all(held: Held) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: there are no fail points in a build without debug assertions");
        return;
    }
    let points = points();
    let every_passage = std::env::var_os("MINDER_EVERY_PASSAGE").is_some();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut walks = Vec::new();
    for point in &points {
        for dies in [Dies::Alone, Dies::WithAll] {
            let all = every_passage || (point.name == EVERY_TURN && dies == Dies::Alone);
            let (point, slots) = (point.clone(), slots.clone());
            let name = format!("{} {dies:?}", point.name);
            walks.push((name, tokio::spawn(walk((point, dies, held), all, slots))));
        }
    }
    let mut lives = 0;
    let mut failed = Vec::new();
    for (name, walk) in walks {
        match walk.await {
            Ok(count) => lives += count,
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    println!("{} points, {lives} lives with a death in them", points.len());
}

/// All points of slave and shim, from their source.
fn points() -> Vec<Point> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut points = Vec::new();
    for (folder, of_shim) in [(own.join("src"), false), (own.join("shim/src"), true)] {
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let names = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                points.extend(names.map(|name| Point { name: name.into(), of_shim }));
            }
        }
    }
    let mut names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert!(count > 40 && names.len() == count, "points are missing or have one name: {names:?}");
    points
}

/// Lives with a death at each passage of one point, or at its first; gives their number.
async fn walk(how: (Point, Dies, Held), every_passage: bool, slots: Arc<Semaphore>) -> usize {
    let at_once = if every_passage { PASSAGES_AT_ONCE } else { 1 };
    let mut reached = 0;
    for first in (1..PASSAGES_MAX).step_by(at_once as usize) {
        let lives = (first..first + at_once).map(|passage| live(&how, passage, &slots));
        let came_by = futures::future::join_all(lives).await.into_iter().filter(|came_by| *came_by).count();
        reached += came_by;
        assert!(reached > 0, "nobody comes by {}", how.0.name);
        if !every_passage || came_by < at_once as usize {
            break;
        }
    }
    reached
}

async fn live((point, dies, held): &(Point, Dies, Held), passage: u64, slots: &Semaphore) -> bool {
    let _slot = slots.acquire().await.unwrap();
    Life::begin(point, *dies, *held, passage).await.live().await
}

/// One life of both processes.
struct Life {
    stage: Stage,
    account: PathBuf,
    point: Point,
    dies: Dies,
    held: Held,
    passage: u64,
    /// Counts who came by.
    passages: PathBuf,
    /// Everybody has been killed where everybody is to die.
    killed: bool,
    specs: Vec<RunSpec>,
    /// What the slave said last of its assignment.
    revision: u64,
    term: u64,
    greeted: bool,
    /// Every exit that was ever told.
    told: BTreeMap<(String, u64), Kind>,
}

impl Life {
    async fn begin(point: &Point, dies: Dies, held: Held, passage: u64) -> Self {
        let (setting, lock) = match held {
            Held::Firmly => ("", "keep"),
            Held::BySession => ("supervision = \"session\"", "close"),
        };
        let stage = Stage::set_without_slave(Programs::present(), setting).await;
        let account = stage.folder.path().join("account");
        let specs = NAMES.map(|name| {
            let args = ["-c", SCRIPT, account.to_str().unwrap(), name, "${incarnation}", lock];
            let spec = spec(name, "/bin/sh", &args);
            if name == "polite" { with_everything(spec) } else { deaf(spec) }.resolve(&host())
        });
        Self {
            account,
            point: point.clone(),
            dies,
            held,
            passage,
            passages: stage.folder.path().join("passages"),
            killed: false,
            specs: specs.into(),
            revision: 0,
            term: 1,
            greeted: false,
            told: BTreeMap::new(),
            stage,
        }
    }

    /// The whole of it. Whether anybody came by the point.
    async fn live(mut self) -> bool {
        self.want(Some(Wanted::Running));
        self.until("both begin", |life| NAMES.iter().all(|name| life.starts(name) >= 1)).await;
        for name in NAMES {
            fs::write(format!("{}.{name}.go", self.account.display()), "").unwrap();
        }
        let restarted = |life: &Self, name| life.ends(name).len() == 1 && life.starts(name) == 2;
        self.until("both end and begin again", |life| NAMES.iter().all(|name| restarted(life, name))).await;
        self.until("both run", |life| life.all_in(v1::Phase::Running)).await;

        self.kill_slave();
        end_shims(&self.stage.data().join("run/deaf:1"));
        self.until("they are taken over", |life| life.greeted && life.all_in(v1::Phase::Running)).await;
        self.want(Some(Wanted::Stopped));
        self.until("both are stopped", |life| life.is_heard() && life.all_in(v1::Phase::Stopped)).await;
        self.nothing_runs();
        let before = NAMES.map(|name| self.starts(name));
        self.want(Some(Wanted::Stopped));
        self.until("a later word is heard", Self::is_heard).await;
        assert_eq!(NAMES.map(|name| self.starts(name)), before, "what was stopped did not stay so");

        self.want(Some(Wanted::Running));
        self.until("both begin once more", |life| NAMES.iter().all(|name| life.starts(name) == STARTS)).await;
        self.until("both run once more", |life| life.all_in(v1::Phase::Running)).await;
        self.want(None);
        let run = self.stage.data().join("run");
        let bundles = || fs::read_dir(&run).into_iter().flatten().count();
        let came_by = loop {
            self.until("both are gone", |life| life.is_heard() && life.stage.seen.is_empty() && bundles() == 0).await;
            self.until("no shim is left", |life| shims(&life.stage.data()).is_empty()).await;
            let came_by = self.has_come_by();
            if !came_by || self.dies == Dies::Alone || self.killed {
                break came_by;
            }
            // In its last turns, when nobody looked any more.
            self.turn().await;
        };
        self.judge();
        came_by
    }

    /// What the account says, which nobody in Minder has written.
    fn judge(&self) {
        self.nothing_runs();
        let by_session = self.stage.facts.supervision() == v1::SupervisionLevel::Session;
        assert!(self.held == Held::Firmly || by_session, "{:?}", self.stage.facts);
        let text = fs::read_to_string(&self.account).unwrap();
        assert!(!text.contains("DOUBLE"), "{text}");
        for name in NAMES {
            assert_eq!(self.starts(name), STARTS, "{name} began without need, or not at all: {text}");
        }
        let mut starts: Vec<&str> = text.lines().filter(|line| line.starts_with("start")).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), STARTS * NAMES.len(), "an incarnation began twice: {text}");
        // Where a shim died, its exit code may be unknown. The one after it is not, nor is anybody else's.
        let unknown_max = match self.dies {
            Dies::Alone => usize::from(self.point.of_shim),
            Dies::WithAll => NAMES.len(),
        };
        let mut unknown = 0;
        for (name, incarnation, code) in NAMES.iter().flat_map(|name| self.ends(name)) {
            // The last one's end goes with the instance.
            if self.last_start(&name) == incarnation {
                continue;
            }
            match self.told.get(&(name.clone(), incarnation)) {
                Some(Kind::Code(told)) => assert_eq!(*told, code, "{name} {incarnation}"),
                Some(Kind::Unknown(_)) => unknown += 1,
                told => panic!("{name} {incarnation} ended with {code}, which was told as {told:?}: {:?}", self.told),
            }
        }
        assert!(unknown <= unknown_max, "{unknown} exit codes lost: {text}{:?}", self.told);
    }

    fn nothing_runs(&self) {
        for name in NAMES {
            let lock =
                fs::File::options().append(true).open(format!("{}.{name}.lock", self.account.display())).unwrap();
            assert!(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(), "{name} still runs");
        }
    }

    fn lines(&self, what: &str, name: &str) -> Vec<Vec<u64>> {
        let text = fs::read_to_string(&self.account).unwrap_or_default();
        let begin = format!("{what} {name} ");
        let rest = text.lines().filter_map(|line| line.strip_prefix(&begin));
        rest.map(|rest| rest.split(' ').map(|word| word.parse().unwrap()).collect()).collect()
    }

    fn starts(&self, name: &str) -> usize {
        self.lines("start", name).len()
    }

    fn last_start(&self, name: &str) -> u64 {
        self.lines("start", name).last().map_or(0, |line| line[0])
    }

    fn ends(&self, name: &str) -> Vec<(String, u64, u32)> {
        self.lines("end", name).into_iter().map(|line| (name.to_owned(), line[0], line[1] as u32)).collect()
    }

    /// Whether both are in this phase, and nothing that began later is not yet told.
    fn all_in(&self, phase: v1::Phase) -> bool {
        let seen = |name: &str| self.stage.seen.get(&format!("{name}:1"));
        NAMES.iter().all(|name| {
            seen(name).is_some_and(|seen| seen.phase() == phase && seen.incarnation >= self.last_start(name))
        })
    }

    /// Whether the slave acts on the latest assignment.
    fn is_heard(&self) -> bool {
        self.revision == self.stage.held.revision.0
    }

    fn want(&mut self, wanted: Option<Wanted>) {
        self.stage.held.revision = Revision(self.stage.held.revision.0 + 1);
        self.stage.held.items = wanted.map_or_else(Default::default, |wanted| {
            let items = self
                .specs
                .iter()
                .map(|run_spec| (InstanceKey::new(run_spec.spec().name.clone(), 1), item(run_spec.digest(), wanted)));
            items.collect()
        });
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            let Self { point, dies, passage, stage, .. } = self;
            assert!(
                begin.elapsed() < DEADLINE,
                "{} {dies:?}, passage {passage}: not in time: {what}\n{}\n{:?}\n{}",
                point.name,
                fs::read_to_string(&self.account).unwrap_or_default(),
                stage.seen,
                fs::read_to_string(stage.folder.path().join("slave.log")).unwrap_or_default(),
            );
            self.turn().await;
        }
    }

    /// One look at everything: a slave that died is started again, a stream that it opened is led, what it lacks is sent.
    async fn turn(&mut self) {
        if self.dies == Dies::WithAll && !self.killed && self.has_come_by() {
            self.killed = true;
            self.kill_slave();
            end_shims(&self.stage.data());
        }
        if self.stage.slave.as_mut().is_none_or(|slave| slave.try_wait().unwrap().is_some()) {
            (self.greeted, self.revision) = (false, 0);
            self.term += 1;
            let how = if self.dies == Dies::WithAll { "stop" } else { "die" };
            let file = self.passages.display();
            let mut value = format!("{} {} {how} {file}", self.point.name, self.passage);
            for (_, before) in AFTER.iter().filter(|(name, _)| *name == self.point.name) {
                value.push_str(&format!("\n{before} 1 die {file}-before"));
            }
            self.stage.spawn_slave(Some((minder_shim::fail_point::VARIABLE, value)));
        }
        let look = Duration::from_millis(10);
        if !self.stage.take_stream(self.term).await {
            return tokio::time::sleep(look).await;
        }
        let Ok(Some(message)) = tokio::time::timeout(look, self.stage.try_next()).await else { return };
        match message {
            FromSlave::Hello(hello) => {
                self.stage.facts = hello.facts.unwrap_or_default();
                self.stage
                    .try_say(ToSlave::Hello(v1::HelloReply { cluster_id: CLUSTER.into(), ..Default::default() }))
                    .await;
            }
            FromSlave::Heartbeat(_) if self.greeted && !self.is_heard() => {
                let (nonce, held) = (self.stage.nonce, self.stage.held.clone());
                let run_specs = self.specs.iter().map(|run_spec| run_spec.to_bytes().into()).collect();
                let delta = minicbor::to_vec(Assignment::delta_from(&held, None)).unwrap().into();
                self.stage.try_say(ToSlave::Assignment(v1::Assignment { nonce, delta, run_specs })).await;
            }
            FromSlave::Report(report) => {
                self.greeted |= report.full;
                self.revision = report.assignment_revision;
                self.note_exits();
            }
            _ => {}
        }
    }

    fn note_exits(&mut self) {
        for status in self.stage.seen.values() {
            for exit in &status.exits {
                let Some(kind) = exit.status.as_ref().and_then(|status| status.kind) else { continue };
                let before = self.told.insert((status.process.clone(), exit.incarnation), kind);
                assert!(before.is_none_or(|before| before == kind), "an exit was told in two ways");
            }
        }
    }

    fn has_come_by(&self) -> bool {
        fs::metadata(&self.passages).is_ok_and(|file| file.len() >= self.passage)
    }

    fn kill_slave(&mut self) {
        self.stage.kill_slave();
        self.stage.seen.clear();
        self.greeted = false;
    }
}

/// Files and hooks, so that their steps are come by as well.
fn with_everything(mut spec: Spec) -> Spec {
    // A word that dies with its shim costs no more than this.
    spec.stop.grace = Millis(2_000);
    let hook = || Some(Hook::new("/bin/true", Vec::new()));
    (spec.hooks.pre_start, spec.hooks.post_stop) = (hook(), hook());
    let content = String::from("x");
    spec.files = vec![File { path: "file".into(), content, mode: None, owner: None, group: None, expand: false }];
    spec
}

fn deaf(mut spec: Spec) -> Spec {
    spec.stop.grace = Millis(150);
    spec
}

/// All shims below a folder, also those that run a hook and those that stand still.
fn end_shims(folder: &Path) {
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("minder-shim") && line.contains(folder.to_str().unwrap()) {
            kill(process.file_name().to_str().unwrap().parse().unwrap(), Signal::SIGKILL);
        }
    }
}
