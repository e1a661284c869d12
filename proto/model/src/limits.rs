//! Every bound of the contract, with its reason. A refusal names the constant's meaning and its value.

use crate::version::CommandVersion;

/// Longest process name, in bytes: it becomes a directory and a cgroup name, and leaves room for suffixes below 255.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest label key or value, in bytes; the same as a host name's upper bound in DNS.
pub const LABEL_BYTES_MAX: usize = 253;
/// Labels on one process or host: enough for people, too few for a database.
pub const LABELS_MAX: usize = 64;
/// Arguments of one command. The kernel's own limit is on bytes (`ARG_MAX`); this keeps a spec readable.
pub const ARGS_MAX: usize = 1_024;
/// Longest single argument or command, in bytes; the kernel refuses single strings above 128 KiB.
pub const ARG_BYTES_MAX: usize = 64 * 1_024;
/// Environment variables of one process.
pub const ENV_MAX: usize = 1_000;
/// Longest environment value, in bytes.
pub const ENV_BYTES_MAX: usize = 32 * 1_024;
/// Files of variables of one process.
pub const ENV_FILES_MAX: usize = 32;
/// Small files of one process.
pub const FILES_MAX: usize = 64;
/// Longest path of a small file within its folder, in bytes; with the folder's own it stays below the kernel's 4,096.
pub const FILE_PATH_BYTES_MAX: usize = 1_024;
/// Largest small file, in bytes: configuration, not data.
pub const FILE_BYTES_MAX: usize = 64 * 1_024;
/// All small files of one process together, in bytes: a few such specs still fit one log entry.
pub const FILES_BYTES_MAX: usize = 256 * 1_024;
/// Largest spec in its stored form, in bytes, without the content of its files. A thousand of these still fit one host's assignment comfortably.
pub const SPEC_BYTES_MAX: usize = 64 * 1_024;
/// Instances of one process on one host.
pub const INSTANCES_PER_HOST_MAX: u32 = 1_000;
/// Instances of all processes on one host; a shim and its log pipes cost about 0.2 MiB each.
pub const HOST_INSTANCES_MAX: usize = 5_000;
/// Hosts named one by one in a spec; use a selector for more.
pub const SPEC_HOSTS_MAX: usize = 10_000;
/// Specs in one `apply` request, which is one log entry: all of them or none. A cluster whose upgrade is not finished
/// takes fewer, see [`CommandVersion::apply_specs_max`].
pub const APPLY_SPECS_MAX: usize = CommandVersion::NEWEST.apply_specs_max();
/// Largest replicated command, in bytes. Followers take whole entries and apply them in one step, so this bounds their
/// pauses to some 50 ms. A cluster whose upgrade is not finished takes less, see [`CommandVersion::command_bytes_max`].
pub const COMMAND_BYTES_MAX: usize = CommandVersion::NEWEST.command_bytes_max();
/// Instances that one request may write, remove or give an order to. All managers apply a request in one step, and a leader
/// whose step takes two seconds gives its lead up: 190,000 took 0.5 s new and 0.7 s changed, three managers on two cores.
pub const REQUEST_INSTANCES_MAX: u64 = 200_000;
/// Largest document `minderctl` reads, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Largest gRPC message either side accepts, in bytes: one full report of [`HOST_INSTANCES_MAX`] instances fits, each
/// with every text in it at its longest.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// Longest delay, grace or interval a spec may ask for: one day.
pub const DURATION_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Shortest wait between two questions of a health or ready check: more often only warms the machine.
pub const PROBE_INTERVAL_MS_MIN: u64 = 100;
/// Longest a health or ready check may take: a check under way holds one of the slave's few places for them.
pub const PROBE_TIMEOUT_MS_MAX: u64 = 10 * 60 * 1_000;
/// Most failures in a row a check may ask for.
pub const PROBE_THRESHOLD_MAX: u32 = 1_000;
/// Longest a hook may take: until then its process is neither started nor over.
pub const HOOK_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;
/// How long the command of a `reload` may take, in milliseconds: as long as a hook that says nothing else.
pub const RELOAD_TIMEOUT_MS: u64 = 30_000;
/// Most processes one may come `after`, and as many that it `requires`: each is looked at whenever it is about to start.
pub const ORDER_NAMES_MAX: usize = 32;
/// Pids told of one group of stray processes: enough to look at them.
pub const STRAY_PIDS_MAX: usize = 8;
/// Longest answer of a check that is kept, in bytes: a line for people, part of every status it changes.
pub const PROBE_MESSAGE_BYTES_MAX: usize = 200;
/// Longest window a restart limit may be counted over: thirty days.
pub const WINDOW_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Most restarts a limit may allow; a slave remembers the time of each within the window.
pub const RESTART_LIMIT_MAX: u32 = 10_000;
/// Signals of one stop after the first: more steps than anybody tells apart.
pub const STOP_STEPS_MAX: usize = 8;
/// Largest log file of one stream.
pub const LOG_BYTES_MAX: u64 = 16 * 1_024 * 1_024 * 1_024;
/// Smallest log file of one stream: below this, rotation costs more than it keeps.
pub const LOG_BYTES_MIN: u64 = 4 * 1_024;
/// Rotated files of one stream.
pub const LOG_FILES_MAX: u32 = 100;
/// Answers to write requests that are remembered, so that a repeated request gets the first answer.
/// At 1,000 writes a second this is more than a minute, several times the longest client retry.
pub const REQUESTS_REMEMBERED_MAX: usize = 65_536;
/// Longest user name that is kept with what that user did, in bytes; the system's own limit is 32.
pub const USER_NAME_BYTES_MAX: usize = 64;
/// Exits kept per instance on its slave and shown by `status`.
pub const EXITS_KEPT_MAX: usize = 10;
/// The latest exits whose last output is kept as well: enough to see whether it is the same trouble each time, and few
/// enough that a full report of [`HOST_INSTANCES_MAX`] instances stays below [`MESSAGE_BYTES_MAX`].
pub const EXITS_WITH_OUTPUT_MAX: usize = 3;
/// Last lines kept of each stream of an ended incarnation.
pub const LAST_OUTPUT_LINES: usize = 4;
/// And their bytes: as many lines of a terminal's width.
pub const LAST_OUTPUT_BYTES_MAX: usize = 320;
/// Smallest memory limit: below this no program gets as far as its first line.
pub const MEMORY_LIMIT_BYTES_MIN: u64 = 1024 * 1024;
/// Smallest processor limit, in thousandths of a core: the kernel gives no less than 1 ms in 100.
pub const CPU_LIMIT_MILLICORES_MIN: u32 = 10;
/// Largest processor limit, in thousandths of a core; no machine has more.
pub const CPU_LIMIT_MILLICORES_MAX: u32 = 4_000_000;
/// Largest limit on the number of processes and threads: the kernel's own.
pub const PIDS_LIMIT_MAX: u32 = 4_194_304;
/// Longest a drill may keep a manager or slave away or cut off, in milliseconds: it is to be over while somebody looks on.
pub const DRILL_MS_MAX: u64 = 60_000;
