//! Small files that a spec brings along, written into the bundle before its program starts: all of them or none.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use minder_model::{Spec, StartFailure};
use nix::unistd::{Group, User};

use super::launch::{Place, expand};

/// Anybody may pass through and look; what a file shows is its own mode's business.
const FOLDER_MODE: u32 = 0o755;
/// Until it has its content and its owner, a file is the slave's alone.
const UNFINISHED_MODE: u32 = 0o600;
/// Mode of a file that says none.
const FILE_MODE: u32 = 0o644;

/// A file as it is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    path: String,
    content: String,
    mode: u32,
    /// By name or number; the slave's own user when absent.
    owner: Option<String>,
    /// By name or number; the owner's own group when absent.
    group: Option<String>,
}

/// The files of a spec, their variables filled in. They belong to the process' user where they do not say otherwise.
pub fn render(spec: &Spec, place: &Place<'_>) -> Vec<RenderedFile> {
    let render = |file: &minder_model::File| RenderedFile {
        path: file.path.clone(),
        content: if file.expand { expand(&file.content, place) } else { file.content.clone() },
        mode: file.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(FILE_MODE),
        owner: file.owner.clone().or_else(|| spec.user.clone()),
        group: file.group.clone().or_else(|| spec.group.clone().filter(|_| file.owner.is_none())),
    };
    spec.files.iter().map(render).collect()
}

/// Writes them below `folder`, which does not exist yet and appears when all are in it. Waits for the disk and for
/// look-ups of users, so it is not for the host's own task.
pub fn write(folder: &Path, files: &[RenderedFile]) -> Result<(), StartFailure> {
    let unfinished = folder.with_extension("unfinished");
    make_folder(&unfinished).map_err(|error| failure("", "cannot make their folder", &error))?;
    for file in files {
        write_one(&unfinished, file)?;
    }
    fs::rename(&unfinished, folder).map_err(|error| failure("", "cannot move them into place", &error))
}

fn write_one(folder: &Path, file: &RenderedFile) -> Result<(), StartFailure> {
    let failed = |what: &'static str| move |error: io::Error| failure(&file.path, what, &error);
    let path = folder.join(&file.path);
    let above = path.parent().and_then(|above| above.strip_prefix(folder).ok()).into_iter().flat_map(Path::components);
    let mut deeper = folder.to_owned();
    for component in above {
        deeper.push(component);
        make_folder(&deeper).map_err(failed("cannot make its folder"))?;
    }
    let created = OpenOptions::new().write(true).create_new(true).mode(UNFINISHED_MODE).open(&path);
    let mut written = created.map_err(failed("cannot be made"))?;
    written.write_all(file.content.as_bytes()).map_err(failed("cannot be written"))?;
    give(&written, file)?;
    // After the owner: a change of that one takes bits away.
    written.set_permissions(fs::Permissions::from_mode(file.mode)).map_err(failed("cannot get its mode"))
}

/// Makes a folder with exactly this mode, whatever the slave's mask; one that is there already stays.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn give(written: &File, file: &RenderedFile) -> Result<(), StartFailure> {
    let owner = file.owner.as_deref().map(|owner| find_user(&file.path, owner)).transpose()?;
    let group = match &file.group {
        Some(group) => Some(find_group(&file.path, group)?),
        None => owner.map(|(_, group)| group),
    };
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    fchown(written, owner.map(|(user, _)| user), group)
        .map_err(|error| failure(&file.path, "cannot be given to its owner", &error))
}

/// User and own group, as the shim finds those of the process: by name first, else a number.
fn find_user(path: &str, name: &str) -> Result<(u32, u32), StartFailure> {
    let ids = |user: User| (user.uid.as_raw(), user.gid.as_raw());
    if let Some(user) =
        User::from_name(name).map_err(|errno| failure(path, "its owner cannot be looked up", &errno.into()))?
    {
        return Ok(ids(user));
    }
    let uid: u32 = name.parse().map_err(|_| unknown(path, "user", name))?;
    Ok(User::from_uid(uid.into()).ok().flatten().map_or((uid, uid), ids))
}

fn find_group(path: &str, name: &str) -> Result<u32, StartFailure> {
    match Group::from_name(name).map_err(|errno| failure(path, "its group cannot be looked up", &errno.into()))? {
        Some(group) => Ok(group.gid.as_raw()),
        None => name.parse().map_err(|_| unknown(path, "group", name)),
    }
}

fn unknown(path: &str, kind: &str, name: &str) -> StartFailure {
    StartFailure {
        step: "files".into(),
        errno: libc::ENOENT,
        message: format!("files: {path}: no such {kind}: {name}"),
    }
}

fn failure(path: &str, what: &str, error: &io::Error) -> StartFailure {
    let which = if path.is_empty() { String::new() } else { format!("{path}: ") };
    StartFailure {
        step: "files".into(),
        errno: error.raw_os_error().unwrap_or_default(),
        message: format!("files: {which}{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str, mode: u32) -> RenderedFile {
        RenderedFile { path: path.into(), content: content.into(), mode, owner: None, group: None }
    }

    #[test]
    fn files_appear_together_with_their_modes_or_not_at_all() {
        let bundle = tempfile::tempdir().unwrap();
        let folder = bundle.path().join("files");
        write(&folder, &[file("a", "A", 0o600), file("b/c/d", "D", 0o755), file("b/e", "", 0o440)]).unwrap();
        let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o7777;
        for (path, expected) in
            [("a", 0o600), ("b/c/d", 0o755), ("b/e", 0o440), ("b", 0o755), ("b/c", 0o755), ("", 0o755)]
        {
            assert_eq!(mode(path), expected, "{path}");
        }
        assert_eq!(fs::read_to_string(folder.join("b/c/d")).unwrap(), "D");

        let other = bundle.path().join("other");
        let foreign = RenderedFile { owner: Some("no-such-user".into()), ..file("b", "", 0o644) };
        let told = write(&other, &[file("a", "", 0o644), foreign]).unwrap_err();
        assert_eq!((told.errno, told.message.as_str()), (libc::ENOENT, "files: b: no such user: no-such-user"));
        let foreign = RenderedFile { group: Some("no-such-group".into()), ..file("b", "", 0o644) };
        let told = write(&bundle.path().join("third"), &[foreign]).unwrap_err();
        assert_eq!(told.message, "files: b: no such group: no-such-group");
        assert!(!other.exists(), "half of them");
    }
}
