//! Who the program runs as: users and groups, looked up before the fork, taken on in the child.

use std::ffi::CStr;

use minder_shim::record::Step;

use super::{Failed, text};
use crate::sys::check;

/// A user, a group and all groups to be.
pub struct Account {
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    /// All of its groups, looked up beforehand: later there may be no descriptor left to read them with.
    pub groups: Vec<libc::gid_t>,
    /// What was asked for where groups cannot be taken on.
    pub blame: Step,
}

impl Account {
    /// Hands it standard output and error: a program that opens `/dev/stdout` or `/dev/stderr` again, as for its log
    /// file, is asked whose they are. Where that is refused the program may still write to what it has.
    pub fn give_output(&self) {
        for fd in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: three integers.
            unsafe { libc::fchown(fd, self.uid, self.gid) };
        }
    }

    /// Becomes it, for good.
    pub fn take(&self) -> Result<(), Failed> {
        // SAFETY: the list is live and of that length; the rest are integers. Groups first: afterwards there is no right.
        unsafe {
            check(libc::setgroups(self.groups.len(), self.groups.as_ptr())).map_err(Failed::of(self.blame))?;
            check(libc::setresgid(self.gid, self.gid, self.gid)).map_err(Failed::of(self.blame))?;
            check(libc::setresuid(self.uid, self.uid, self.uid)).map_err(Failed::of(Step::User))?;
        }
        Ok(())
    }

    /// Does something with its rights to files, then goes back. Its groups stay on, for the steps that follow need none.
    pub fn lend<T>(&self, act: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        // SAFETY: as in `take`; the effective ids alone change, and the real ones allow to change them back.
        unsafe {
            let (uid, gid) = (libc::geteuid(), libc::getegid());
            check(libc::setgroups(self.groups.len(), self.groups.as_ptr())).map_err(Failed::of(self.blame))?;
            check(libc::setegid(self.gid)).map_err(Failed::of(self.blame))?;
            check(libc::seteuid(self.uid)).map_err(Failed::of(Step::User))?;
            let done = act();
            check(libc::seteuid(uid)).map_err(Failed::of(Step::User))?;
            check(libc::setegid(gid)).map_err(Failed::of(self.blame))?;
            done
        }
    }
}

/// What the password database says of a user.
pub struct User {
    pub uid: libc::uid_t,
    pub gid: libc::gid_t,
    pub name: Vec<u8>,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

/// A user by name or number.
pub fn find_user(text_or_number: &[u8]) -> Result<User, Failed> {
    let name = text(text_or_number, Step::User)?;
    // SAFETY: getpwnam gives null or a record that is copied before the next look-up; there is one thread.
    let found = unsafe { copy_user(libc::getpwnam(name.as_ptr())) };
    let by_number = || {
        let uid = std::str::from_utf8(text_or_number).ok()?.parse().ok()?;
        Some(describe(uid).unwrap_or(User { uid, gid: uid, name: Vec::new(), home: Vec::new(), shell: Vec::new() }))
    };
    found.or_else(by_number).ok_or(Failed::new(Step::User, libc::ENOENT))
}

/// A user by number, if anybody knows him.
pub fn describe(uid: libc::uid_t) -> Option<User> {
    // SAFETY: as in `find_user`.
    unsafe { copy_user(libc::getpwuid(uid)) }
}

/// # Safety
/// `record` is null or points to a record of the password database.
unsafe fn copy_user(record: *const libc::passwd) -> Option<User> {
    // SAFETY: by contract the record and its texts are valid until the next look-up.
    unsafe {
        let record = record.as_ref()?;
        let copy = |text: *const libc::c_char| {
            if text.is_null() { Vec::new() } else { CStr::from_ptr(text).to_bytes().to_vec() }
        };
        Some(User {
            uid: record.pw_uid,
            gid: record.pw_gid,
            name: copy(record.pw_name),
            home: copy(record.pw_dir),
            shell: copy(record.pw_shell),
        })
    }
}

/// Every group of a user, the given one first; only that one where nobody knows the user.
pub fn groups_of(name: &CStr, gid: libc::gid_t) -> Vec<libc::gid_t> {
    /// The kernel takes no more (NGROUPS_MAX).
    const MOST: usize = 65_536;
    let mut groups = vec![gid; 32];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: the name is a C string, the list has room for `count` groups.
        let fits = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) } >= 0;
        if fits || groups.len() >= MOST {
            groups.truncate(count.max(1) as usize);
            return groups;
        }
        groups.resize((groups.len() * 2).max(count as usize).min(MOST), gid);
    }
}

/// A group by name or number.
pub fn find_group(text_or_number: &[u8]) -> Result<libc::gid_t, Failed> {
    let name = text(text_or_number, Step::Group)?;
    // SAFETY: getgrnam gives null or a record that is read at once; there is one thread.
    let found = unsafe { libc::getgrnam(name.as_ptr()).as_ref().map(|record| record.gr_gid) };
    let by_number = || std::str::from_utf8(text_or_number).ok()?.parse().ok();
    found.or_else(by_number).ok_or(Failed::new(Step::Group, libc::ENOENT))
}
