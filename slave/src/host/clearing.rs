//! What comes after an end: the shim goes, its bundle and its cgroup are removed. Until that is done nobody gets the number
//! of the incarnation again, not even an instance that was forgotten and has come back, which else begins with the first.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use minder_model::{Incarnation, InstanceKey};
use minder_shim::{fail_point, protocol::Request};
use minder_supervisor::Effect;

use super::{Host, Owed};

/// Nobody waits for an end to be cleared away, and somebody may for the start that follows it: that goes first.
const CLEAR_DELAY: Duration = Duration::from_millis(100);

/// Incarnations that are being cleared away.
#[derive(Debug, Clone, Default)]
pub(super) struct Clearing(Arc<Mutex<BTreeSet<(InstanceKey, Incarnation)>>>);

/// One of them, until it is dropped.
struct Cleared {
    clearing: Clearing,
    what: (InstanceKey, Incarnation),
}

impl Clearing {
    fn begin(&self, key: &InstanceKey, incarnation: Incarnation) -> Cleared {
        let what = (key.clone(), incarnation);
        self.change(|all| all.insert(what.clone()));
        Cleared { clearing: self.clone(), what }
    }

    /// The highest number of this instance that is being cleared away; 0 when there is none.
    pub(super) fn latest(&self, key: &InstanceKey) -> Incarnation {
        let numbers = (key.clone(), Incarnation::ZERO)..=(key.clone(), Incarnation(u64::MAX));
        self.change(|all| all.range(numbers).next_back().map_or(Incarnation::ZERO, |(_, incarnation)| *incarnation))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<(InstanceKey, Incarnation)>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Cleared {
    fn drop(&mut self) {
        self.clearing.change(|all| all.remove(&self.what));
    }
}

impl Host {
    /// After the sync the shim may go and its bundle with it.
    pub(super) fn release(&mut self, key: &InstanceKey, incarnation: Incarnation) {
        let unit = self.units.get_mut(key);
        let requests = unit.and_then(|unit| {
            unit.asked.clear();
            (unit.post_start, unit.pre_stop, unit.reload) = (None, None, None);
            unit.requests.take()
        });
        let bundle = self.folders.bundle(key, incarnation);
        let leaf = self.cgroups.leaf(key, incarnation);
        let cgroups = self.cgroups.clone();
        let until_then = self.clearing.begin(key, incarnation);
        let clear = async move {
            tokio::time::sleep(CLEAR_DELAY).await;
            if let Some(requests) = requests {
                // A full or closed queue belongs to a shim that is gone.
                let _ = requests.try_send(Request::Release);
            }
            fail_point!("end-recorded");
            bundle.remove();
            fail_point!("bundle-removed");
            cgroups.remove(&leaf);
            drop(until_then);
        };
        // A spawn that the same step asked for has not happened yet, so `requests` is the old incarnation's.
        self.after_sync.push(Box::new(move || drop(tokio::spawn(clear))));
    }

    /// An instance that is assigned again in the turn that forgets it is not forgotten.
    pub(super) fn keep_what_came_back(&mut self, owed: &mut Owed) {
        owed.retain(|(key, effect)| {
            let back = self.units.get(key).filter(|unit| unit.told.is_some());
            match (effect, back) {
                (Effect::Forget, Some(unit)) => {
                    self.ledger.put_record(unit.supervisor.record());
                    false
                }
                _ => true,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;
    use minder_model::{
        Assignment, ClusterId, Generation, HostName, Item, ProcessName, Revision, RunSpec, Spec, Wanted,
    };
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        events::Events,
        host::{HostHandle, Local, Message},
        ledger::Ledger,
        os::cgroup::Cgroups,
        settings::{Flags, Settings},
    };

    /// A host without a shim: what it starts fails, and what it knows is all that is looked at.
    fn host(data: &Path) -> (Host, HostHandle) {
        let flags =
            ["slave", "--name", "h", "--managers", "127.0.0.1:1", "--shim", "/nowhere", "--supervision", "session"];
        let flags = Flags::parse_from(flags.into_iter().chain(["--data", data.to_str().unwrap()]));
        let settings = Settings::resolve(flags).unwrap();
        let ledger = Ledger::open(data, &settings.name).unwrap();
        let cgroups = Cgroups::find(data, settings.supervision);
        Host::begin(Arc::new(settings), ledger, cgroups, Arc::new(Events::new())).unwrap()
    }

    fn key() -> InstanceKey {
        InstanceKey::parse("app").unwrap()
    }

    fn run_spec() -> RunSpec {
        let name = HostName::new("h").unwrap();
        Spec::new(ProcessName::new("app").unwrap(), "/bin/true").resolve(&name)
    }

    /// What a manager says at this revision: that the instance is wanted so, or not at all.
    fn assign(revision: u64, wanted: Option<Wanted>) -> Message {
        let mut assignment = Assignment::empty(HostName::new("h").unwrap());
        assignment.revision = Revision(revision);
        if let Some(wanted) = wanted {
            let (spec, zero) = (run_spec().digest(), Revision::ZERO);
            let item = Item {
                generation: Generation(1),
                spec,
                wanted,
                restart_at: zero,
                retry_at: zero,
                signal: None,
                start_at: zero,
            };
            assignment.items.insert(key(), item);
        }
        let run_specs = vec![run_spec().to_bytes().into()];
        let cluster = ClusterId::new("cluster").unwrap();
        Message::Assign { cluster, delta: assignment.delta_from(None), run_specs, reply: oneshot::channel().0 }
    }

    fn turn(host: &mut Host, handle: &HostHandle, messages: impl IntoIterator<Item = Message>) {
        let mut messages = messages.into_iter();
        let first = messages.next().unwrap();
        messages.for_each(|message| assert!(handle.inbox.try_send(message).is_ok()));
        let owed = host.on_messages(first);
        host.finish_turn(owed).unwrap();
    }

    /// It was assigned, removed, asked for on the machine and assigned again, all in one turn, and the end of that turn
    /// forgot it: its process went on with nobody who knew of it, and the next assignment began a second one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_assigned_again_in_the_turn_that_forgets_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mut host, handle) = host(folder.path());
        turn(&mut host, &handle, [assign(1, Some(Wanted::Stopped))]);
        assert!(host.units.contains_key(&key()));
        let list = Local::List { selection: minder_model::Selection::all(), reply: oneshot::channel().0 };
        let again = [assign(2, None), Message::Local(list), assign(3, Some(Wanted::Running))];
        turn(&mut host, &handle, again);
        let unit = host.units.get(&key()).expect("it is there");
        assert_eq!(unit.supervisor.live(), Some(Incarnation(1)));
        assert_eq!(host.ledger.record(&key()), Some(unit.supervisor.record()));
    }

    /// A process that was deleted and applied again at once began with the number of the one before, whose bundle, the new
    /// one's by then, was removed under it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_number_that_is_being_cleared_away_is_not_given_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut host, handle) = host(folder.path());
        let until_then = host.clearing.begin(&key(), Incarnation(7));
        turn(&mut host, &handle, [assign(1, Some(Wanted::Running))]);
        assert_eq!(host.units[&key()].supervisor.live(), Some(Incarnation(8)));
        let other = InstanceKey::parse("app:2").unwrap();
        assert_eq!((host.clearing.latest(&key()), host.clearing.latest(&other)), (Incarnation(7), Incarnation::ZERO));
        drop(until_then);
        assert_eq!(host.clearing.latest(&key()), Incarnation::ZERO);
    }
}
