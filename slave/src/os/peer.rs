//! Who is at the other end of a local connection, and who may be.

use minder_model::USER_NAME_BYTES_MAX;
use nix::unistd::{Gid, Uid, User, getgrouplist};

/// Who may give orders on this machine: root, the user that the slave runs as, and the members of one group.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// That group, if there is one.
    pub group: Option<Gid>,
}

impl Allowed {
    /// The name of a user who may give orders; `None` for one who may not.
    pub fn name_of(self, uid: u32, gid: u32) -> Option<String> {
        let uid = Uid::from_raw(uid);
        // A user that the system has no entry for is none the less known by number.
        let user = User::from_uid(uid).ok().flatten();
        let may = uid.is_root() || uid == Uid::effective() || self.is_member(Gid::from_raw(gid), user.as_ref());
        may.then(|| user.map_or_else(|| format!("uid {uid}"), |user| bounded(user.name)))
    }

    fn is_member(self, gid: Gid, user: Option<&User>) -> bool {
        let Some(group) = self.group else { return false };
        let others = || {
            let name = std::ffi::CString::new(user?.name.as_str()).ok()?;
            getgrouplist(&name, user?.gid).ok()
        };
        gid == group || others().is_some_and(|groups| groups.contains(&group))
    }
}

fn bounded(mut name: String) -> String {
    while name.len() > USER_NAME_BYTES_MAX {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Surely nobody's.
    const STRANGER: u32 = 3_999_999_999;

    #[test]
    fn root_itself_and_members_and_nobody_else() {
        let group = Gid::from_raw(STRANGER - 1);
        let allowed = Allowed { group: Some(group) };
        assert_eq!(allowed.name_of(0, STRANGER).as_deref(), Some("root"));
        assert!(allowed.name_of(Uid::effective().as_raw(), STRANGER).is_some());
        assert_eq!(allowed.name_of(STRANGER, group.as_raw()), Some(format!("uid {STRANGER}")));
        assert_eq!(allowed.name_of(STRANGER, STRANGER), None);
        assert_eq!(Allowed { group: None }.name_of(STRANGER, group.as_raw()), None);
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(bounded("é".repeat(USER_NAME_BYTES_MAX)).len(), USER_NAME_BYTES_MAX);
    }
}
