//! Logs are bounded, however much a program says.

use std::{fs, path::Path};

use super::{Finding, Fleet};

pub(super) fn judge(fleet: &Fleet, finding: &mut Finding) {
    for (folder, bytes_max) in &fleet.logs {
        finding.checked += 1;
        let bytes = bytes_in(folder);
        if bytes > *bytes_max {
            finding.broken.push(format!("{} holds {bytes} bytes, with {bytes_max} allowed", folder.display()));
        }
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    bytes.map(|(path, metadata)| if metadata.is_dir() { bytes_in(&path) } else { metadata.len() }).sum()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn too_much_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stdout"), [0; 100]).unwrap();
        let of = |bytes_max| {
            let logs = vec![(folder.path().to_owned(), bytes_max)];
            broken(judge, &Fleet { logs, ..fleet("a:1@h", "", vec![]) })
        };
        assert_eq!((of(100), of(99)), (0, 1));
    }
}
