//! Reading what the shims write: the last lines, then what comes, over rotation and restarts, at the reader's pace.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use minder_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// A follower looks for new output this often: quick enough for a person, cheap enough for many.
const LOOK: Duration = Duration::from_millis(100);
/// Largest piece on the wire.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the manager to take them.
const QUEUE: usize = 4;
/// The end of a log is searched at most this far back, whatever was asked for.
const TAIL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Rotated files there can be; the spec's limit.
const FILES_MAX: u32 = minder_model::LOG_FILES_MAX;

/// Pushes what an order asks for, until it is all there was, or nobody reads any more.
pub async fn push(channel: Channel, order: v1::LogOrder, folder: PathBuf) {
    let (pieces, queue) = mpsc::channel(QUEUE);
    let reader = tokio::spawn(read(order, folder, pieces));
    let pushed = v1::slave_client::SlaveClient::new(channel).push_logs(ReceiverStream::new(queue)).await;
    if let Err(status) = pushed {
        tracing::debug!(message = status.message(), "output not taken to its end");
    }
    reader.abort();
}

/// Reads what an order asks for into a queue, until it is all there was, or the queue is dropped.
pub fn read_to_queue(order: v1::LogOrder, folder: PathBuf) -> mpsc::Receiver<v1::LogPush> {
    let (pieces, queue) = mpsc::channel(QUEUE);
    tokio::spawn(read(order, folder, pieces));
    queue
}

async fn read(order: v1::LogOrder, folder: PathBuf, pieces: mpsc::Sender<v1::LogPush>) {
    let streams: Vec<&str> =
        ["stdout", "stderr"].into_iter().filter(|stream| order.stream.is_empty() || order.stream == *stream).collect();
    let mut followers: Vec<Follower> =
        streams.iter().map(|stream| Follower::new(&folder, stream, u64::from(order.tail_lines))).collect();
    // The first push makes the manager know whose output this is, even when there is none.
    let hello = v1::LogPush { id: order.id.clone(), ..Default::default() };
    if pieces.send(hello).await.is_err() {
        return;
    }
    loop {
        let mut anything = false;
        for follower in &mut followers {
            match tokio::task::block_in_place(|| follower.next()) {
                Ok(Some(data)) => {
                    anything = true;
                    let push = v1::LogPush {
                        id: order.id.clone(),
                        stream: follower.stream.clone(),
                        data: data.into(),
                        ..Default::default()
                    };
                    if pieces.send(push).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let push = v1::LogPush { id: order.id.clone(), error: error.to_string(), ..Default::default() };
                    // Nobody reads it if this fails, and the output ends here in both cases.
                    let _ = pieces.send(push).await;
                    return;
                }
            }
        }
        match (anything, order.follow) {
            (true, _) => {}
            (false, false) => return,
            // May be dropped at its await: nothing is held over it.
            (false, true) => tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = pieces.closed() => return,
            },
        }
    }
}

/// One stream of one instance, read onwards.
struct Follower {
    stream: String,
    path: PathBuf,
    tail_lines: Option<u64>,
    current: Option<(File, u64)>,
}

impl Follower {
    fn new(folder: &Path, stream: &str, tail_lines: u64) -> Self {
        Self {
            stream: stream.into(),
            path: folder.join(format!("{stream}.log")),
            tail_lines: Some(tail_lines),
            current: None,
        }
    }

    /// The next piece; `None` when there is nothing now.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.current.is_none() && !self.begin()? {
                return Ok(None);
            }
            let Some((file, _)) = &mut self.current else { return Ok(None) };
            let mut piece = vec![0; PIECE_BYTES];
            let read = file.read(&mut piece)?;
            if read > 0 {
                piece.truncate(read);
                file.seek_relative(keep_lines_whole(&mut piece))?;
                return Ok(Some(piece));
            }
            if !self.move_on()? {
                return Ok(None);
            }
        }
    }

    /// Opens the file in which the asked-for lines begin. `false` while there is no file.
    fn begin(&mut self) -> io::Result<bool> {
        let files = self.files();
        let Some(newest) = files.first() else { return Ok(false) };
        let Some(mut lines) = self.tail_lines.take() else {
            // The stream began while it was followed: everything is new.
            return self.open(newest, 0).map(|()| true);
        };
        let mut budget = TAIL_BYTES_MAX;
        for (at, path) in files.iter().enumerate() {
            let length = fs::metadata(path)?.len();
            let (offset, found) = last_lines(path, lines, budget)?;
            lines -= found.min(lines);
            budget = budget.saturating_sub(length);
            let oldest = at + 1 == files.len();
            if lines == 0 || offset > 0 || oldest || budget == 0 {
                return self.open(path, offset).map(|()| true);
            }
        }
        Ok(false)
    }

    fn open(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let inode = file.metadata()?.ino();
        self.current = Some((file, inode));
        Ok(())
    }

    /// At the end of a file: when it has been rotated, the next newer one. `false` when it is the active one.
    fn move_on(&mut self) -> io::Result<bool> {
        let Some((_, inode)) = &self.current else { return Ok(false) };
        let files = self.files();
        let place = files.iter().position(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == *inode));
        let newer = match place {
            Some(0) => return Ok(false),
            Some(place) => &files[place - 1],
            // It is gone altogether: go on with the oldest there is.
            None => match files.last() {
                Some(oldest) => oldest,
                None => return Ok(false),
            },
        };
        self.open(newer, 0)?;
        Ok(true)
    }

    /// The stream's files, newest first.
    fn files(&self) -> Vec<PathBuf> {
        let rotated = (1..FILES_MAX).map(|number| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        });
        std::iter::once(self.path.clone()).chain(rotated).take_while(|path| path.exists()).collect()
    }
}

/// Cuts a full piece after its last line; gives how far the file has to go back for it.
fn keep_lines_whole(piece: &mut Vec<u8>) -> i64 {
    let read = piece.len();
    if read == PIECE_BYTES
        && let Some(end) = piece.iter().rposition(|byte| *byte == b'\n')
    {
        piece.truncate(end + 1);
    }
    piece.len() as i64 - read as i64
}

/// Where the last `lines` lines of a file begin, and how many there are, looking at most `budget` bytes back.
fn last_lines(path: &Path, lines: u64, budget: u64) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut end = length;
    let mut found = 0;
    let mut block = vec![0; PIECE_BYTES];
    while end > 0 && length - end < budget {
        let begin = end.saturating_sub(PIECE_BYTES as u64);
        let block = &mut block[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = begin + at as u64;
            // The newline at the very end ends the last line, it does not begin another.
            if *byte == b'\n' && position + 1 < length {
                found += 1;
                if found == lines {
                    return Ok((position + 1, found));
                }
            }
        }
        end = begin;
    }
    if lines == 0 {
        return Ok((length, 0));
    }
    Ok((end, found + u64::from(end == 0 && length > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(follower: &mut Follower) -> String {
        let mut text = Vec::new();
        while let Some(piece) = follower.next().unwrap() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_tail_reaches_over_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stdout.log.2"), "1\n2\n").unwrap();
        fs::write(folder.path().join("stdout.log.1"), "3\n4\n").unwrap();
        fs::write(folder.path().join("stdout.log"), "5\n6").unwrap();
        for (lines, expected) in [
            (0, ""),
            (1, "6"),
            (2, "5\n6"),
            (3, "4\n5\n6"),
            (4, "3\n4\n5\n6"),
            (5, "2\n3\n4\n5\n6"),
            (99, "1\n2\n3\n4\n5\n6"),
        ] {
            assert_eq!(all(&mut Follower::new(folder.path(), "stdout", lines)), expected, "{lines} lines");
        }
    }

    #[test]
    fn long_output_is_cut_between_lines() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        fs::write(folder.path().join("stdout.log"), &text).unwrap();
        let mut follower = Follower::new(folder.path(), "stdout", u64::MAX);
        let pieces: Vec<Vec<u8>> = std::iter::from_fn(|| follower.next().unwrap()).collect();
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(pieces.concat(), text.as_bytes());
    }

    #[test]
    fn following_goes_on_over_rotation_without_gap_or_double() {
        let folder = tempfile::tempdir().unwrap();
        let path = |suffix: &str| folder.path().join(format!("stdout.log{suffix}"));
        let mut follower = Follower::new(folder.path(), "stdout", 10);
        assert_eq!(all(&mut follower), "");
        fs::write(path(""), "a\n").unwrap();
        assert_eq!(all(&mut follower), "a\n");
        fs::rename(path(""), path(".1")).unwrap();
        fs::write(path(""), "b\n").unwrap();
        fs::rename(path(".1"), path(".2")).unwrap();
        fs::rename(path(""), path(".1")).unwrap();
        fs::write(path(""), "c\n").unwrap();
        assert_eq!(all(&mut follower), "b\nc\n");
        fs::write(path(""), "c\nd\n").unwrap();
        assert_eq!(all(&mut follower), "d\n");
    }
}
