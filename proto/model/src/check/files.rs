//! Small files: paths that stay in their folder and do not meet, modes, sizes.

use alloc::format;
use core::fmt::Display;

use super::Check;
use crate::{
    limits::{FILE_BYTES_MAX, FILE_PATH_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, LABEL_BYTES_MAX},
    spec::{File, Spec},
};

/// All of a spec, those of its overrides included; gives their bytes.
pub(super) fn check_size(check: &mut Check, spec: &Spec) -> usize {
    let all = spec.files.iter().chain(spec.overrides.values().flat_map(|over| &over.files));
    let bytes: usize = all.map(|file| file.content.len()).sum();
    check.that(bytes <= FILES_BYTES_MAX, "files", || {
        format!("have {bytes} bytes together, the limit is {FILES_BYTES_MAX}")
    });
    bytes
}

/// The files at this path, and `all` that one host gets with them.
pub(super) fn check_files(check: &mut Check, base: impl Display + Copy, files: &[File], all: &[File]) {
    check.that(all.len() <= FILES_MAX, base, || format!("has {} files, the limit is {FILES_MAX}", all.len()));
    for (at, file) in files.iter().enumerate() {
        let path = |field: &str| format!("{base}[{at}].{field}");
        check.text(&path("path"), &file.path, FILE_PATH_BYTES_MAX);
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.len() > LABEL_BYTES_MAX;
        check.that(!file.path.split('/').any(odd), &path("path"), || {
            format!("{:?} is no path in the folder of files: no '/' at either end, no '.' and no '..'", file.path)
        });
        let others = files[..at].iter().chain(all.iter().filter(|other| !files.contains(other)));
        let mut others = others.filter(|other| within(&file.path, &other.path) || within(&other.path, &file.path));
        let clash = others.next();
        if let Some(other) = clash {
            check.that(false, &path("path"), || format!("{:?} does not go together with {:?}", file.path, other.path));
        }
        check.that(file.content.len() <= FILE_BYTES_MAX, &path("content"), || {
            format!("has {} bytes, the limit is {FILE_BYTES_MAX}", file.content.len())
        });
        if let Some(mode) = &file.mode {
            let octal = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777);
            check.that(octal, &path("mode"), || format!("{mode:?} is no mode; write octal text such as \"0640\""));
        }
    }
}

/// Whether two paths are the same or one lies in the other, which would have to be file and folder.
fn within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec, vec::Vec};

    use crate::{Bytes, File, HostName, Override, ProcessName, Resources, Spec, check_spec, limits::*};

    fn file(path: &str, bytes: usize) -> File {
        let content = "x".repeat(bytes);
        File { path: path.into(), content, mode: None, owner: None, group: None, expand: false }
    }

    #[test]
    fn what_one_host_has_instead_is_checked_as_it_is_there() {
        let complaints = |over: Override| -> Vec<String> {
            let mut spec = Spec::new(ProcessName::new("app").unwrap(), "/bin/true");
            spec.hosts = vec![HostName::new("h").unwrap()];
            spec.files = vec![file("a", FILE_BYTES_MAX), file("b/c", 1)];
            spec.overrides = [(spec.hosts[0].clone(), over)].into();
            check_spec(&spec).err().into_iter().flat_map(|errors| errors.0).map(|error| error.path).collect()
        };
        let files = |files: &[(&str, usize)]| Override {
            files: files.iter().map(|(path, bytes)| file(path, *bytes)).collect(),
            ..Override::default()
        };
        const WHOLE: usize = FILE_BYTES_MAX;
        assert!(complaints(files(&[("a", 1), ("b/d", 1)])).is_empty());
        for (over, path) in [
            (files(&[("x", 1), ("b", 1)]), "spec.overrides.h.files[1].path"),
            (files(&[("x", 1), ("x", 1)]), "spec.overrides.h.files[1].path"),
            (files(&[("../x", 1)]), "spec.overrides.h.files[0].path"),
            (files(&[("x", WHOLE + 1)]), "spec.overrides.h.files[0].content"),
            (files(&[("x", WHOLE), ("y", WHOLE), ("z", WHOLE)]), "spec.files"),
            (Override { env_files: Some(vec!["etc".into()]), ..Override::default() }, "spec.overrides.h.env_files[0]"),
            (
                Override {
                    resources: Some(Resources { memory: Some(Bytes(1)), ..Resources::default() }),
                    ..Override::default()
                },
                "spec.overrides.h.resources.memory",
            ),
        ] {
            assert_eq!(complaints(over), [path]);
        }
        let many: Vec<(String, usize)> = (0..FILES_MAX).map(|at| (alloc::format!("f{at}"), 1)).collect();
        let many: Vec<(&str, usize)> = many.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
        assert_eq!(complaints(files(&many)), ["spec.overrides.h.files"]);
    }
}
