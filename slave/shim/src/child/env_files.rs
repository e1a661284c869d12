//! Reading files of variables, as the program's user could.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
};

use minder_shim::{
    env_file::{self, FILE_BYTES_MAX, Variable},
    launch::EnvFile,
    record::Step,
};

use super::{Account, Failed};

/// The variables of all the files; what a later one says comes first.
pub fn read(files: &[EnvFile], account: Option<&Account>) -> Result<Vec<Variable>, Failed> {
    let all = || {
        let mut found = Vec::new();
        for file in files {
            found.extend(one(file)?);
        }
        found.reverse();
        Ok(found)
    };
    match account {
        Some(account) => account.lend(all),
        None => all(),
    }
}

fn one(file: &EnvFile) -> Result<Vec<Variable>, Failed> {
    let failed = |errno: i32, what: String| {
        let detail = [&file.path, b": ".as_slice(), what.as_bytes()].concat();
        Failed { step: Step::EnvFiles, errno, detail }
    };
    let bytes = match content(file) {
        Ok(bytes) => bytes,
        Err(error) if file.may_be_missing && is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.raw_os_error().unwrap_or_default(), error.to_string())),
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(libc::EFBIG, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    env_file::parse(&bytes).map_err(|bad| failed(0, bad.to_string()))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// At most one byte more than may be. Only a file: the end of a pipe may never come.
fn content(file: &EnvFile) -> io::Result<Vec<u8>> {
    let path = OsStr::from_bytes(&file.path);
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
