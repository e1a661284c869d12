//! RocksDB as this store needs it. Each setting that matters has its reason; figures from measurements on ext4.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBRecoveryMode, LogLevel, MemtableFactory, Options, WriteOptions,
};

/// Vote, marks, identity.
pub(crate) const META: &str = "meta";
/// Log entries by index.
pub(crate) const LOG: &str = "log";
/// Rows of the state machine, behind their generation.
pub(crate) const ROWS: &str = "sm";

/// Shared by all columns: rows live in memory anyway, so the cache only helps recovery.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Options of the database.
pub(crate) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default forgets acknowledged entries after damage, in silence. This one accepts a torn tail and refuses
    // everything else; the mark finds the tails that were promised.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // One write to the file per sync instead of one per append: what is not synced is promised to nobody.
    options.set_manual_wal_flush(true);
    options.set_use_fsync(false);
    // Quiet columns would pin old logs for ever.
    options.set_max_total_wal_size(64 * 1024 * 1024);
    options.set_max_open_files(128);
    options.set_max_background_jobs(2);
    // What the rows' buffer asks for; one thread appends and one applies, so there is little to be concurrent.
    options.set_allow_concurrent_memtable_write(false);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 * 1024 * 1024);
    options.set_log_level(LogLevel::Warn);
    // The list of files is written anew when it has grown to this; the default lets it grow to a GiB.
    options.set_max_manifest_file_size(4 * 1024 * 1024);
    options
}

/// The columns, each with what it needs.
pub(crate) fn columns() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let column = |name: &str, buffer_bytes: usize, edit: &dyn Fn(&mut Options)| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(buffer_bytes);
        options.set_max_write_buffer_number(2);
        edit(&mut options);
        ColumnFamilyDescriptor::new(name, options)
    };
    vec![
        column("default", 1024 * 1024, &|_| {}),
        column(META, 1024 * 1024, &|_| {}),
        column(LOG, 16 * 1024 * 1024, &|options| {
            // A burst must never stall the core task; purged entries disappear soon anyway.
            options.set_level_zero_slowdown_writes_trigger(40);
            options.set_level_zero_stop_writes_trigger(80);
        }),
        // A large apply writes some ten MiB of rows: a smaller buffer has them written out and merged again and again.
        column(ROWS, 16 * 1024 * 1024, &|options| {
            // Rows are read when a folder is opened and never after that. They need no order before they are written out, and
            // to sort them then costs a fraction of finding the place of each as it comes.
            options.set_memtable_factory(MemtableFactory::Vector);
        }),
    ]
}

/// A write that the sync thread makes durable later.
pub(crate) fn unsynced() -> WriteOptions {
    WriteOptions::default()
}

/// A write that is durable when it returns.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
