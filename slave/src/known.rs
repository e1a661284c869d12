//! The managers that a leader has told of, kept in the data folder: when all that the configuration names have been
//! replaced over time, a slave that starts again still finds its cluster.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

const NAME: &str = "managers";
/// A cluster has at most nine managers; twice that leaves room for those of a change.
const MANAGERS_MAX: usize = 18;

/// The addresses that were kept; none when there are none or they cannot be read, for the configuration's remain.
pub fn read(data: &Path) -> BTreeSet<String> {
    let path = data.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MANAGERS_MAX).map(String::from).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the managers told of before cannot be read");
            BTreeSet::new()
        }
    }
}

/// Keeps these addresses, wholly or not at all.
pub fn write(data: &Path, managers: &BTreeSet<String>) -> io::Result<()> {
    let (path, new) = (data.join(NAME), data.join("managers.new"));
    let mut file = File::create(&new)?;
    for address in managers.iter().take(MANAGERS_MAX) {
        writeln!(file, "{address}")?;
    }
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_damage_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let managers = BTreeSet::from(["a:1".to_owned(), "b:2".to_owned()]);
        write(folder.path(), &managers).unwrap();
        assert_eq!(read(folder.path()), managers);
        fs::write(folder.path().join(NAME), [0xff, 0xfe]).unwrap();
        assert!(read(folder.path()).is_empty());
    }
}
