//! Which users and groups exist here: a process in a user namespace can give files only to those that are mapped.

use std::sync::OnceLock;

/// Ranges of numbers of a user namespace: first number and count, as in the first and third column of uid_map.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn parse(text: &str) -> Ranges {
        let row = |line: &str| {
            let mut fields = line.split_whitespace();
            let first = fields.next()?.parse().ok()?;
            Some((first, fields.nth(1)?.parse().ok()?))
        };
        Ranges(text.lines().filter_map(row).collect())
    }

    fn holds(&self, id: u32) -> bool {
        self.0.iter().any(|&(first, count)| id.checked_sub(first).is_some_and(|n| n < count))
    }
}

/// The users and groups that this process can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    users: Ranges,
    groups: Ranges,
    /// Whether this is a user namespace other than the first.
    nested: bool,
    setgroups: bool,
    text: String,
}

impl Ids {
    fn parse(uid_map: &str, gid_map: &str, setgroups: &str) -> Ids {
        let (users, groups) = (Ranges::parse(uid_map), Ranges::parse(gid_map));
        let all = "0 0 4294967295";
        let nested = uid_map.split_whitespace().collect::<Vec<_>>().join(" ") != all;
        let text = format!("{uid_map};{gid_map}");
        Ids { users, groups, nested, setgroups: setgroups.trim() != "deny", text }
    }

    /// Those of this process, as they were when this was first asked for: ask after the namespace was entered.
    pub fn here() -> &'static Ids {
        static HERE: OnceLock<Ids> = OnceLock::new();
        HERE.get_or_init(|| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
            match (read("uid_map"), read("gid_map")) {
                // A kernel without user namespaces.
                (u, _) if u.is_empty() => Ids::parse("0 0 4294967295", "0 0 4294967295", "allow"),
                (u, g) => Ids::parse(&u, &g, &read("setgroups")),
            }
        })
    }

    /// The two maps: where they are equal, so are the owners of files.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this is a user namespace other than the first.
    pub fn nested(&self) -> bool {
        self.nested
    }

    /// Whether only one user can be named: every file belongs to it.
    pub fn single(&self) -> bool {
        self.users.0.iter().map(|r| u64::from(r.1)).sum::<u64>() <= 1
    }

    /// Whether supplementary groups can be set.
    pub(crate) fn setgroups(&self) -> bool {
        self.setgroups
    }

    /// Whether a user exists here.
    pub fn has_user(&self, uid: u32) -> bool {
        self.users.holds(uid)
    }

    /// Whether a group exists here.
    pub fn has_group(&self, gid: u32) -> bool {
        self.groups.holds(gid)
    }

    /// The user that a file of `uid` is shown as having: root, if there is no such user here.
    pub fn user(&self, uid: u32) -> u32 {
        if self.has_user(uid) { uid } else { 0 }
    }

    /// The group that a file of `gid` is shown as having.
    pub fn group(&self, gid: u32) -> u32 {
        if self.has_group(gid) { gid } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_mapped_is_root() {
        let all = Ids::parse("         0          0 4294967295\n", "0 0 4294967295", "allow\n");
        assert!(!all.nested() && !all.single() && all.setgroups());
        assert_eq!((all.user(7), all.group(4_294_967_294)), (7, 4_294_967_294));
        let range = Ids::parse("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 10\n", "allow");
        assert!(range.nested() && !range.single());
        assert_eq!(
            (range.user(65536), range.user(65537), range.group(10), range.group(11)),
            (65536, 0, 10, 0)
        );
        let single = Ids::parse("0 1000 1", "0 1000 1", "deny\n");
        assert!(single.nested() && single.single() && !single.setgroups());
        assert_eq!((single.user(0), single.user(42)), (0, 0));
    }
}
