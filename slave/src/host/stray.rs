//! Strays: processes where this slave keeps its own, of which its ledger knows nothing. The ledger was lost or is an older
//! one, or somebody put them there. They are told with the machine's samples and once as an event. Nobody's process is
//! a stray's: what is not in a leaf or a bundle of this slave is never looked at.
//!
//! What holds an instance's place is attended to as its living incarnation, and makes way when the instance is assigned;
//! whatever else is of an instance is ended before that starts again. What nobody assigns is ended or left alone, as
//! the setting says.

use std::{collections::BTreeSet, path::PathBuf};

use minder_model::{Incarnation, InstanceKey, Stray};
use minder_supervisor::Record;

use super::Host;
use crate::{clock::now, os::stray::StrayPlace, settings::StrayPolicy};

impl Host {
    /// Takes note of those in bundles and of those in leaves that are not `kept`.
    pub(super) fn find_strays(&mut self, in_bundles: Vec<StrayPlace>, kept: &BTreeSet<PathBuf>) {
        let leaves = self.cgroups.sweep(kept);
        let in_leaves = leaves.into_iter().filter(|leaf| !in_bundles.iter().any(|place| place.leaf() == leaf));
        let in_leaves: Vec<StrayPlace> = in_leaves.filter_map(|leaf| self.place_of_leaf(leaf)).collect();
        for place in &in_leaves {
            self.pass_by(place);
        }
        let places: Vec<StrayPlace> = in_bundles.into_iter().chain(in_leaves).collect();
        for (place, stray) in places.iter().filter_map(|place| Some((place, place.look()?))) {
            self.tell_of_stray(&stray);
            if self.settings.stray == StrayPolicy::Kill && !self.holds_its_place(place) {
                let place = place.clone();
                tokio::spawn(async move { place.end().await });
            }
        }
        self.strays = places.into();
    }

    /// Those that must be gone before this incarnation starts.
    pub(super) fn strays_of(&self, key: &InstanceKey, incarnation: Incarnation) -> Vec<StrayPlace> {
        let own = self.strays.iter().filter(|place| place.key == *key && place.incarnation != incarnation);
        own.filter(|place| place.look().is_some()).cloned().collect()
    }

    /// Whether what there is of an instance that nobody assigns are strays, and those go on all the same. Without a living
    /// incarnation it is kept for its number, which no start may have while they are there.
    pub(super) fn is_left_alone(&self, key: &InstanceKey) -> bool {
        if self.settings.stray != StrayPolicy::Report || self.strays.is_empty() {
            return false;
        }
        let live = self.units.get(key).and_then(|unit| unit.supervisor.live());
        let mut own = self.strays.iter().filter(|place| place.key == *key);
        own.any(|place| live.is_none_or(|live| live == place.incarnation) && place.look().is_some())
    }

    pub(super) fn stray_place(&self, key: &InstanceKey, incarnation: Incarnation) -> StrayPlace {
        let (leaf, bundle) = (self.leaf_of(key, incarnation), self.folders.bundle(key, incarnation));
        StrayPlace::new(key.clone(), incarnation, leaf, bundle)
    }

    /// A leaf bears the name of its instance and the number of its start; one that bears another is not ours.
    fn place_of_leaf(&self, leaf: PathBuf) -> Option<StrayPlace> {
        let (key, number) = leaf.file_name()?.to_str()?.rsplit_once('.')?;
        let (key, incarnation) = (InstanceKey::parse(key).ok()?, Incarnation(number.parse().ok()?));
        let bundle = self.folders.bundle(&key, incarnation);
        Some(StrayPlace::new(key, incarnation, leaf, bundle))
    }

    /// No later start gets the number, and so the leaf, of this one.
    fn pass_by(&mut self, place: &StrayPlace) {
        let record = self.ledger.record(&place.key).cloned();
        let record = record.unwrap_or_else(|| Record::new(place.key.clone(), now().wall_ms));
        if record.incarnation < place.incarnation {
            self.ledger.put_record(&Record { incarnation: place.incarnation, ..record });
        }
    }

    /// Attended to as the living incarnation of its instance, whatever it runs.
    fn holds_its_place(&self, place: &StrayPlace) -> bool {
        let live = self.ledger.record(&place.key).and_then(|record| record.live);
        live.is_some_and(|live| live.incarnation == place.incarnation)
    }

    fn tell_of_stray(&self, stray: &Stray) {
        let then = match self.settings.stray {
            StrayPolicy::Report => "left as they are until their instance starts",
            StrayPolicy::Kill => "ended, or replaced where their instance is assigned",
        };
        tracing::warn!(%stray, then, "the ledger does not know of processes");
        self.events.tell_of_host(format!("{stray}; {then}"));
    }
}
