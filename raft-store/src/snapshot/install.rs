//! Installing a snapshot: its rows become a new generation beside the current one, then one synced batch switches. A
//! crash before the switch leaves an orphan that the next start removes.

use std::io;

use rocksdb::{DB, WriteBatch};

use super::file::{self, SnapshotFile};
use crate::{
    codec::{self, LogIdForm},
    error::rocks,
    fail_point::fail_point,
    machine::{APPLIED_KEY, GENERATION_KEY, MEMBERSHIP_KEY, Published, STATE_HASH_KEY, row_key},
    options::{self, META, ROWS},
    planted::Planted,
    store::column,
    types::SnapshotMeta,
    version,
};

/// Rows are written in batches of about this size, so that memory does not hold the table twice.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Replaces generation `generation` by the snapshot's rows as the next one. Gives what is published then.
pub(crate) fn install(db: &DB, generation: u32, meta: &SnapshotMeta, snapshot: &SnapshotFile) -> io::Result<Published> {
    let (_, state) = file::read(snapshot.path())?;
    let next = generation + 1;
    fail_point!("install-rows-write");
    let rows = column(db, ROWS)?;
    let mut batch = WriteBatch::default();
    for (key, value) in state.rows() {
        batch.put_cf(rows, row_key(next, &key), value);
        if batch.size_in_bytes() >= BATCH_BYTES {
            db.write_opt(std::mem::take(&mut batch), &options::unsynced()).map_err(rocks)?;
        }
    }
    db.write_opt(batch, &options::unsynced()).map_err(rocks)?;
    fail_point!("install-rows-written");
    let mut switch = WriteBatch::default();
    version::raise(db, &mut switch, state.version())?;
    let meta_column = column(db, META)?;
    switch.put_cf(meta_column, GENERATION_KEY, next.to_be_bytes());
    if let Some(last) = meta.last_log_id.as_ref().filter(|_| !Planted::SnapshotWithoutApplied.is_in()) {
        switch.put_cf(meta_column, APPLIED_KEY, codec::seal(&LogIdForm::from(last)));
    }
    switch.put_cf(meta_column, MEMBERSHIP_KEY, codec::encode_membership(&meta.last_membership));
    switch.put_cf(meta_column, STATE_HASH_KEY, state.hash().to_bytes());
    fail_point!("install-switch");
    db.write_opt(switch, &options::synced()).map_err(rocks)?;
    fail_point!("install-switched");
    remove_other_generations(db, next)?;
    Ok(Published { state, applied: meta.last_log_id, membership: meta.last_membership.clone() })
}

/// Removes rows of every generation but this one.
pub(crate) fn remove_other_generations(db: &DB, generation: u32) -> io::Result<()> {
    let rows = column(db, ROWS)?;
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(rows, &0_u32.to_be_bytes()[..], &generation.to_be_bytes()[..]);
    batch.delete_range_cf(rows, &generation.saturating_add(1).to_be_bytes()[..], &[0xff; 5][..]);
    db.write_opt(batch, &options::unsynced()).map_err(rocks)
}
