//! One output stream into its files. The active name is stable; a full file is renamed to `.1`, `.2` and so on, and the
//! oldest goes. Lines of less than 64 KiB are never torn between files. A disk that takes nothing costs output, never
//! the program.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

/// A shorter line is never torn between two files, so that a file may grow beyond its size by this much.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// After a failed write the disk is tried again this often.
const RETRY: Duration = Duration::from_secs(2);

/// Where one stream goes.
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
    /// Length of the line that has no end yet.
    line_bytes: usize,
    /// Dropped since the last marker line.
    dropped_unmarked: u64,
    failed_at: Option<Instant>,
    /// Dropped altogether.
    pub dropped: u64,
}

impl LogFile {
    /// Opens the stream's active file, adding to what is there.
    pub fn open(path: PathBuf, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let file = append_to(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path,
            file: Some(file),
            bytes,
            bytes_max,
            files_max,
            line_bytes: 0,
            dropped_unmarked: 0,
            failed_at: None,
            dropped: 0,
        })
    }

    /// Writes all of it, or counts what the disk does not take.
    pub fn write_or_drop(&mut self, bytes: &[u8]) {
        let taken = self.write(bytes);
        let lost = (bytes.len() - taken) as u64;
        self.dropped += lost;
        self.dropped_unmarked += lost;
    }

    /// Writes as much as the disk takes; gives how much that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return 0;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if !self.mark_drops() {
                break;
            }
            let (piece, then_rotate) = self.next_piece(rest);
            if piece == 0 {
                self.rotate();
                continue;
            }
            let written = self.put(&rest[..piece]);
            rest = &rest[written..];
            if written < piece {
                self.failed_at = Some(Instant::now());
                break;
            }
            if then_rotate {
                self.rotate();
            }
        }
        bytes.len() - rest.len()
    }

    /// How many bytes go into the current file, and whether it is full then.
    fn next_piece(&self, rest: &[u8]) -> (usize, bool) {
        let room = self.bytes_max.saturating_sub(self.bytes) as usize;
        if rest.len() <= room {
            return (rest.len(), false);
        }
        let last_line_end = rest[..room].iter().rposition(|byte| *byte == b'\n');
        match last_line_end {
            Some(end) => (end + 1, true),
            // Not one whole line fits: begin a new file, unless a line is half written or the file is empty.
            None if self.line_bytes == 0 && self.bytes > 0 => (0, true),
            None => {
                let line_room = LINE_BYTES_MAX.saturating_sub(self.line_bytes);
                let line_end = rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
                let piece = line_end.unwrap_or(rest.len());
                // The rest of the line has not come yet: it belongs here as well, unless it has no end at all.
                (piece.min(line_room), line_end.is_some() || piece >= line_room)
            }
        }
    }

    fn put(&mut self, piece: &[u8]) -> usize {
        let Some(file) = &mut self.file else { return 0 };
        let mut written = 0;
        while written < piece.len() {
            match file.write(&piece[written..]) {
                Ok(0) | Err(_) => break,
                Ok(more) => written += more,
            }
        }
        if written > 0 {
            self.bytes += written as u64;
            self.line_bytes = match piece[..written].iter().rposition(|byte| *byte == b'\n') {
                Some(end) => written - end - 1,
                None => self.line_bytes + written,
            };
            self.failed_at = None;
        }
        written
    }

    /// Says once how much is missing here, when the disk takes output again. `false` when it still does not.
    fn mark_drops(&mut self) -> bool {
        if self.dropped_unmarked == 0 {
            return true;
        }
        let newline = if self.line_bytes == 0 { "" } else { "\n" };
        let marker = format!("{newline}[minder: {} bytes of output dropped here]\n", self.dropped_unmarked);
        if self.put(marker.as_bytes()) < marker.len() {
            self.failed_at = Some(Instant::now());
            return false;
        }
        self.dropped_unmarked = 0;
        true
    }

    /// Shifts the files by one and begins a new one. What fails here costs old output only.
    fn rotate(&mut self) {
        let name = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        if self.files_max <= 1 {
            let _ = fs::remove_file(&self.path);
        } else {
            for number in (1..self.files_max - 1).rev() {
                let _ = fs::rename(name(number), name(number + 1));
            }
            let _ = fs::rename(&self.path, name(1));
        }
        match append_to(&self.path) {
            Ok(file) => {
                self.bytes = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some(file);
            }
            Err(_) => {
                // The old file, under its new name, takes the output until the next try.
                self.bytes = 0;
            }
        }
        self.line_bytes = 0;
    }
}

fn append_to(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(folder: &std::path::Path) -> String {
        let mut text = String::new();
        for number in (0..10).rev() {
            let suffix = if number == 0 { String::new() } else { format!(".{number}") };
            text.push_str(&fs::read_to_string(folder.join(format!("out.log{suffix}"))).unwrap_or_default());
        }
        text
    }

    #[test]
    fn rotation_loses_and_tears_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path().join("out.log"), 4_096, 10).unwrap();
        let lines: String = (0..600).map(|number| format!("line {number} of many that are written here\n")).collect();
        for piece in lines.as_bytes().chunks(977) {
            log.write_or_drop(piece);
        }
        assert_eq!(all(folder.path()), lines);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(text.starts_with("line ") && text.ends_with('\n'), "a torn line");
            assert!(text.len() < 4_096 + 977, "{} bytes in one file", text.len());
        }
    }

    #[test]
    fn files_are_bounded_in_number_and_a_line_without_end_in_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path().join("out.log"), 4_096, 3).unwrap();
        for _ in 0..300 {
            log.write_or_drop(&[b'x'; 1_000]);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        for entry in fs::read_dir(folder.path()).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().len() <= LINE_BYTES_MAX as u64);
        }
    }

    #[test]
    fn a_single_file_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path().join("out.log"), 4_096, 1).unwrap();
        for _ in 0..100 {
            log.write_or_drop(b"a line of some length, forty-two bytes or so\n");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(fs::metadata(folder.path().join("out.log")).unwrap().len() <= 4_096);
    }
}
