//! The ledger's file: a header, then frames of u32 length, u32 crc32c and content. Everything a turn changes is one
//! append and one sync; when the file has grown, the whole ledger is written anew.
//!
//! Each append begins with a mark that names its own place. It is written only after the sync of everything before it,
//! so damage before a mark is never what a crash leaves: the file is set aside under another name and the slave says so
//! and stops, for acting on half a ledger could start what was stopped. Damage after the last mark may be a crash's: that
//! end is cut off, for nothing acted on it.
//!
//! Behind the last frame lies room: bytes that are on disk already and mean nothing. A sync of what is written over them
//! need not tell the file system that the file has grown, which takes half of its time and more beside other writes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use crate::disk::write_file;

const HEADER: &[u8; 8] = b"MNDRLDG1";
/// Begins a mark; as the length of a frame it would be absurd.
const MARK: &[u8; 8] = b"\xffMNDMARK";
const MARK_BYTES: usize = 20;
/// A frame holds a run spec, a change of an assignment, or an instance's record; more than this is damage.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A journal this much longer than its content is worth writing anew: a burst of a thousand restarts fits without.
const SURPLUS_BYTES: u64 = 4 * 1024 * 1024;
/// Room is made in such pieces: some hundred restarts each, and not much to read at a start.
const ROOM_BYTES: usize = 256 * 1024;
/// What room consists of. As the length of a frame it would be absurd, so that whoever reads it takes it for what a crash
/// leaves behind the last frame, versions included that made no room.
const ROOM: u8 = 0xff;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Damage before the end.
    #[error(
        "{} is damaged at byte {at}; it was set aside as {}. Processes run on unsupervised. Start this slave again to \
         begin with an empty ledger: it leaves them alone until a leader assigns, and then starts them anew",
        path.display(),
        aside.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its new name.
        aside: PathBuf,
        /// Where.
        at: u64,
    },
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// Where the next frame goes.
    bytes: u64,
    /// Where the room behind that ends.
    room_end: u64,
    compact_bytes: u64,
    synced: bool,
    /// A sync that is under way on another thread, of everything that was added.
    syncing: Option<mpsc::Receiver<io::Result<()>>>,
}

impl Journal {
    /// Opens or makes the file; gives its frames, oldest first.
    pub fn open(path: &Path) -> Result<(Self, Vec<Vec<u8>>), JournalError> {
        let io = |source| JournalError::Io { path: path.into(), source };
        if !path.exists() {
            write_file(path, HEADER).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io)?;
        let (frames, whole) = match parse(&content) {
            Ok(parsed) => parsed,
            Err(at) => {
                let free =
                    (1..).map(|number| path.with_extension(format!("damaged-{number}"))).find(|aside| !aside.exists());
                let aside = free.unwrap_or_else(|| path.with_extension("damaged"));
                fs::rename(path, &aside).map_err(io)?;
                return Err(JournalError::Damaged { path: path.into(), aside, at: at as u64 });
            }
        };
        if content[whole..].iter().any(|byte| *byte != ROOM) {
            file.set_len(whole as u64).map_err(io)?;
            content.truncate(whole);
        }
        // The slave before may have been killed before its sync; what is acted on from here is durable.
        file.sync_all().map_err(io)?;
        let (bytes, room_end) = (whole as u64, content.len() as u64);
        let (path, file) = (path.into(), Arc::new(file));
        Ok((Self { path, file, bytes, room_end, compact_bytes: bytes, synced: true, syncing: None }, frames))
    }

    /// Adds frames. A slave that comes after this one finds them from here on; a machine that comes up again does after
    /// [`Self::sync`], which comes before the next of these.
    pub fn append(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        if self.syncing.is_some() {
            // What is under way may not hold these.
            self.sync()?;
        }
        let mut bytes = mark(self.bytes);
        bytes.extend(frames.iter().flat_map(|content| frame(content)));
        self.file.write_all_at(&bytes, self.bytes)?;
        self.send_to_disk(bytes.len());
        self.bytes += bytes.len() as u64;
        self.synced = false;
        if self.bytes > self.room_end {
            // A disk that is too full for room is not for that too full for frames.
            let room = self.file.write_all_at(&[ROOM; ROOM_BYTES], self.bytes);
            self.room_end = self.bytes + room.map_or(0, |()| ROOM_BYTES as u64);
        }
        Ok(())
    }

    /// Has the kernel begin to write what was just added, and waits for nothing: a sync that comes after other work has the
    /// less to wait for. A kernel that refuses leaves all of it to that sync.
    fn send_to_disk(&self, bytes: usize) {
        let (file, at, bytes) = (self.file.as_raw_fd(), self.bytes as libc::off_t, bytes as libc::off_t);
        // SAFETY: a descriptor that is open and integers.
        unsafe { libc::sync_file_range(file, at, bytes, libc::SYNC_FILE_RANGE_WRITE) };
    }

    /// Begins to make what was added durable, beside whatever the caller does until [`Self::sync`]. Within a runtime.
    pub fn begin_sync(&mut self) {
        if !self.synced && self.syncing.is_none() {
            let (sender, receiver) = mpsc::channel();
            let file = self.file.clone();
            // Nobody listens any more only when the whole slave ends.
            tokio::task::spawn_blocking(move || drop(sender.send(file.sync_data())));
            self.syncing = Some(receiver);
        }
    }

    /// Makes what was added durable.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            match self.syncing.take() {
                Some(syncing) => syncing.recv().map_err(io::Error::other)??,
                None => self.file.sync_data()?,
            }
            self.synced = true;
        }
        Ok(())
    }

    /// Whether the file should be written anew.
    pub fn is_long(&self) -> bool {
        self.bytes > self.compact_bytes * 2 + SURPLUS_BYTES
    }

    /// Replaces everything by these frames.
    pub fn rewrite(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = HEADER.to_vec();
        bytes.extend(frames.iter().flat_map(|content| frame(content)));
        // The rename comes after the sync, so the whole of it is marked.
        bytes.extend(mark(bytes.len() as u64));
        write_file(&self.path, &bytes)?;
        self.file = Arc::new(OpenOptions::new().write(true).open(&self.path)?);
        self.bytes = bytes.len() as u64;
        self.room_end = self.bytes;
        self.compact_bytes = self.bytes;
        Ok(())
    }
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// Says that everything before it was synced when this was written.
fn mark(at: u64) -> Vec<u8> {
    let mut mark = MARK.to_vec();
    mark.extend_from_slice(&at.to_le_bytes());
    mark.extend_from_slice(&crc32c::crc32c(&mark).to_le_bytes());
    mark
}

/// The whole frames of a file's content and where they end. Any bytes give frames or an error, which is where damage
/// begins that no crash explains.
pub fn parse(content: &[u8]) -> Result<(Vec<Vec<u8>>, usize), usize> {
    if !content.starts_with(HEADER) {
        return Err(0);
    }
    let mut frames = Vec::new();
    let mut at = HEADER.len();
    while at < content.len() {
        if is_mark(content, at) {
            at += MARK_BYTES;
        } else if let Some(frame) = frame_at(&content[at..]) {
            at += 8 + frame.len();
            frames.push(frame.to_vec());
        } else if (at + 1..content.len()).any(|later| is_mark(content, later)) {
            return Err(at);
        } else {
            break;
        }
    }
    Ok((frames, at))
}

fn is_mark(content: &[u8], at: usize) -> bool {
    content[at..].starts_with(MARK) && content[at..].starts_with(&mark(at as u64))
}

fn frame_at(content: &[u8]) -> Option<&[u8]> {
    let (length, rest) = content.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let frame = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (frame.len() <= FRAME_BYTES_MAX && crc32c::crc32c(frame) == u32::from_le_bytes(*crc)).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) -> (PathBuf, Vec<Vec<u8>>) {
        let path = folder.join("ledger");
        let (mut journal, frames) = Journal::open(&path).unwrap();
        assert!(frames.is_empty());
        let written: Vec<Vec<u8>> = (1..20_u8).map(|n| vec![n; usize::from(n)]).collect();
        journal.append(&written[..5]).unwrap();
        journal.sync().unwrap();
        journal.append(&written[5..]).unwrap();
        (path, written)
    }

    /// Takes the room away, as a version that made none would have left the file.
    fn without_room(path: &Path) -> Vec<u8> {
        let mut content = fs::read(path).unwrap();
        let all = content.len();
        content.truncate(content.iter().rposition(|byte| *byte != ROOM).unwrap() + 1);
        assert!(all - content.len() > ROOM_BYTES / 2, "no room was made");
        fs::write(path, &content).unwrap();
        content
    }

    #[test]
    fn what_follows_goes_into_the_room_and_the_file_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut written) = filled(folder.path());
        let length = || fs::metadata(&path).unwrap().len();
        let before = length();
        let (mut journal, _) = Journal::open(&path).unwrap();
        while length() == before {
            let content = vec![7; 10_000];
            journal.append(std::slice::from_ref(&content)).unwrap();
            written.push(content);
            assert!(written.len() < 100, "room that is never used up");
        }
        assert!(written.len() > 40, "{}", written.len());
        assert_eq!(length(), journal.bytes + ROOM_BYTES as u64);
        assert_eq!(Journal::open(&path).unwrap().1, written);
    }

    #[test]
    fn room_that_is_not_what_was_made_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (path, written) = filled(folder.path());
        let mut content = fs::read(&path).unwrap();
        let end = without_room(&path).len();
        content[end + 5_000] = 0;
        fs::write(&path, &content).unwrap();
        let (mut journal, frames) = Journal::open(&path).unwrap();
        assert_eq!((frames, fs::metadata(&path).unwrap().len()), (written.clone(), end as u64));
        journal.append(&written[..1]).unwrap();
        let all: Vec<_> = written.iter().chain(&written[..1]).cloned().collect();
        assert_eq!(Journal::open(&path).unwrap().1, all);
    }

    #[tokio::test]
    async fn a_sync_that_was_begun_is_waited_for_and_its_failure_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut written) = filled(folder.path());
        let (mut journal, _) = Journal::open(&path).unwrap();
        for content in [vec![1; 9], vec![2; 9]] {
            journal.append(std::slice::from_ref(&content)).unwrap();
            journal.begin_sync();
            assert!(!journal.synced);
            written.push(content);
        }
        // The second one waited for the first.
        journal.sync().unwrap();
        assert!(journal.synced && journal.syncing.is_none());
        assert_eq!(Journal::open(&path).unwrap().1, written);

        journal.append(&written[..1]).unwrap();
        // A file that cannot be synced.
        journal.file = Arc::new(File::open("/proc/self/status").unwrap());
        journal.begin_sync();
        assert!(journal.sync().is_err());
        assert!(!journal.synced);
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, written) = filled(folder.path());
        let (mut journal, frames) = Journal::open(&path).unwrap();
        assert_eq!(frames, written);
        journal.rewrite(&written[..2]).unwrap();
        journal.append(&written[2..3]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, written[..3]);
    }

    #[test]
    fn every_cut_leaves_a_whole_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let (path, written) = filled(folder.path());
        let whole = without_room(&path);
        for cut in HEADER.len()..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (_, frames) = Journal::open(&path).unwrap();
            assert_eq!(frames, written[..frames.len()]);
        }
    }

    #[test]
    fn damage_before_a_mark_is_set_aside_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, written) = filled(folder.path());
        let whole = without_room(&path);
        let marks: Vec<usize> = (0..whole.len()).filter(|at| is_mark(&whole, *at)).collect();
        assert_eq!(marks.len(), 2);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            fs::write(&path, &damaged).unwrap();
            match Journal::open(&path) {
                Err(JournalError::Damaged { aside, .. }) => {
                    assert!(at < marks[1], "{at}: what may be torn is no damage");
                    assert_eq!(fs::read(&aside).unwrap(), damaged);
                }
                Ok((_, frames)) => {
                    assert!(at >= marks[1], "{at}: damage was passed over");
                    assert_eq!(frames, written[..frames.len()]);
                    assert!(frames.len() >= 5);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_rewritten_journal_is_marked_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, written) = filled(folder.path());
        Journal::open(&path).unwrap().0.rewrite(&written).unwrap();
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - MARK_BYTES - 1;
        content[last] ^= 1;
        fs::write(&path, &content).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Damaged { .. })));
    }
}
