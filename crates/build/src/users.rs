//! Users and groups of an image: `/etc/passwd` and `/etc/group` of its tree.
//!
//! Two rules, both BuildKit's:
//!
//! - *USER* (at RUN time, runc's look-up): a name gives its uid, its primary group and the groups that list it; a bare number that
//!   passwd knows behaves like its name, one that it does not know has group 0. With an explicit group the groups that list the
//!   user do not count. The group is always among the supplementary groups. An unknown name is an error.
//! - *--chown* (COPY, ADD) and WORKDIR's owner: a user alone also gives the group, a number itself and a name its primary one;
//!   nothing after the colon is group 0. A user that is not found, or a missing file, gives 0, and a group that is not found
//!   leaves the user's. BuildKit does that silently; here the caller gets the name and warns (docs/differences.md). Where there
//!   is no image to look in (nothing above `FROM scratch`, or `COPY --link`), a name is an error. A number has 31 bits and may have a sign.

use oci::tree::Node;
use oci::{Content, Tree};

/// Larger passwd and group files are refused (BuildKit: 10 MiB).
const LIMIT: u64 = 10 << 20;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory of the passwd entry.
    pub home: Option<String>,
}

/// Why a name gives no user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("user {0:?} is not in the image's /etc/passwd")]
    NoUser(String),
    /// No such group.
    #[error("group {0:?} is not in the image's /etc/group")]
    NoGroup(String),
    /// A name where there is no image to look in.
    #[error("{0:?} cannot be looked up: there is no /etc/passwd and no /etc/group below; give a number")]
    NoImage(String),
    /// The file cannot be read.
    #[error("{file} of the image cannot be read")]
    Read {
        /// Which file.
        file: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

fn read(tree: &Tree, content: &dyn Content, file: &'static str) -> Result<String, UserError> {
    let place = match tree.resolve(file.as_bytes(), true) {
        Ok(p) if p.exists() => p,
        _ => return Ok(String::new()),
    };
    match &tree.inode(place.id).node {
        Node::File { digest, .. } => content
            .read_all(digest, LIMIT)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .map_err(|source| UserError::Read { file, source }),
        _ => Ok(String::new()),
    }
}

fn accounts(text: &str) -> impl Iterator<Item = Account> + '_ {
    text.lines().filter_map(|line| {
        let mut f = line.trim().split(':');
        let name = f.next()?.to_owned();
        let (_, uid, gid, _, home) = (f.next()?, f.next()?, f.next()?, f.next(), f.next());
        Some(Account {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.unwrap_or("").to_owned(),
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group> + '_ {
    text.lines().filter_map(|line| {
        let mut f = line.trim().split(':');
        let name = f.next()?.to_owned();
        let (_, gid, members) = (f.next()?, f.next()?, f.next().unwrap_or(""));
        Some(Group {
            name,
            gid: gid.parse().ok()?,
            members: members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
        })
    })
}

/// The identity of a USER value for a process in this image. The empty value is root.
pub fn for_process(user: &str, tree: &Tree, content: &dyn Content) -> Result<Identity, UserError> {
    let (user, group) = match user.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd = read(tree, content, "etc/passwd")?;
    let number: Option<u32> = user.parse().ok();
    let account = accounts(&passwd).find(|a| a.name == user || Some(a.uid) == number);
    let mut id = match (&account, number) {
        (Some(a), _) => Identity {
            uid: a.uid,
            gid: a.gid,
            groups: Vec::new(),
            home: Some(a.home.clone()).filter(|h| !h.is_empty()),
        },
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let group_text = read(tree, content, "etc/group")?;
    let mut listed: Vec<u32> = Vec::new();
    match group.filter(|g| !g.is_empty()) {
        Some(g) => {
            let number: Option<u32> = g.parse().ok();
            id.gid = match groups(&group_text).find(|e| e.name == g || Some(e.gid) == number) {
                Some(e) => e.gid,
                None => number.ok_or_else(|| UserError::NoGroup(g.to_owned()))?,
            };
        }
        None => {
            if let Some(a) = &account {
                listed = groups(&group_text).filter(|g| g.members.contains(&a.name)).map(|g| g.gid).collect();
            }
        }
    }
    id.groups = vec![id.gid];
    id.groups.extend(listed.into_iter().filter(|g| *g != id.gid));
    Ok(id)
}

/// What `--chown` or USER means for new files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that the image does not know.
    pub unknown: Vec<String>,
}

/// The number that stands for itself in `--chown`, `Some(0)` for root and for nothing at all.
fn number(text: &str) -> Option<u32> {
    match text {
        "" | "root" => Some(0),
        // -1 is "unchanged" to chown(2).
        n => n.parse::<i32>().ok().map(|n| if n == -1 { 0 } else { n.cast_unsigned() }),
    }
}

/// The owner that `--chown` or USER gives to new files. `tree` is the image to look names up in, if there is one.
pub fn for_owner(spec: &str, tree: Option<&Tree>, content: &dyn Content) -> Result<Owner, UserError> {
    let (user, group) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (spec, None),
    };
    let image = |name: &str| tree.ok_or_else(|| UserError::NoImage(name.to_owned()));
    let mut owner = Owner::default();
    if let Some(n) = number(user) {
        (owner.uid, owner.gid) = (n, n);
    } else {
        match accounts(&read(image(user)?, content, "etc/passwd")?).find(|a| a.name == user) {
            Some(a) => (owner.uid, owner.gid) = (a.uid, a.gid),
            None => owner.unknown.push(user.to_owned()),
        }
    }
    if let Some(group) = group {
        if let Some(n) = number(group) {
            owner.gid = n;
        } else {
            match groups(&read(image(group)?, content, "etc/group")?).find(|e| e.name == group) {
                Some(e) => owner.gid = e.gid,
                None => owner.unknown.push(group.to_owned()),
            }
        }
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::content::MemoryContent;
    use oci::index::Attrs;
    use oci::{Entry, Kind, LayerIndex};

    fn image() -> (Tree, MemoryContent) {
        let mut c = MemoryContent::default();
        let mut file = |path: &str, text: &str| {
            let digest = c.add(text.as_bytes());
            Entry {
                path: path.into(),
                kind: Kind::File { size: text.len() as u64, digest },
                attrs: Attrs::default(),
            }
        };
        let entries = vec![
            file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/sh\nbroken\n"),
            file("etc/group", "root:x:0:\nweb:x:34:\nlog:x:4:web,root\nstaff:x:50:web\n"),
        ];
        (Tree::from_layers([&LayerIndex::from_entries(entries).unwrap()]).unwrap(), c)
    }

    #[test]
    fn processes_follow_runc() {
        let (t, c) = image();
        let id =
            |u: &str| for_process(u, &t, &c).map(|i| (i.uid, i.gid, i.groups)).map_err(|e| e.to_string());
        assert_eq!(id(""), Ok((0, 0, vec![0, 4])));
        assert_eq!(id("web"), Ok((33, 34, vec![34, 4, 50])));
        assert_eq!(id("33"), Ok((33, 34, vec![34, 4, 50])));
        assert_eq!(id("web:root"), Ok((33, 0, vec![0])));
        assert_eq!(id("1234"), Ok((1234, 0, vec![0])));
        assert_eq!(id("1234:5678"), Ok((1234, 5678, vec![5678])));
        assert!(id("nobody").unwrap_err().contains("nobody"));
        assert!(id("web:none").unwrap_err().contains("none"));
    }

    #[test]
    fn owners_follow_chown_and_name_what_is_unknown() {
        let (t, c) = image();
        let own = |u: &str| {
            for_owner(u, Some(&t), &c).map(|o| (o.uid, o.gid, o.unknown)).map_err(|e| e.to_string())
        };
        assert_eq!(own("12"), Ok((12, 12, vec![])));
        assert_eq!(own("12:34"), Ok((12, 34, vec![])));
        assert_eq!(own("web"), Ok((33, 34, vec![])));
        assert_eq!(own("web:staff"), Ok((33, 50, vec![])));
        assert_eq!(own("root"), Ok((0, 0, vec![])));
        assert_eq!(own("nobody:none"), Ok((0, 0, vec!["nobody".into(), "none".into()])));
        assert_eq!(own("web:none"), Ok((33, 34, vec!["none".into()])));
        assert_eq!(own("12:"), Ok((12, 0, vec![])));
        assert_eq!(own(":"), Ok((0, 0, vec![])));
        assert_eq!(own(":34"), Ok((0, 34, vec![])));
        assert_eq!((own("-1"), own("-2")), (Ok((0, 0, vec![])), Ok((u32::MAX - 1, u32::MAX - 1, vec![]))));
        assert_eq!(own("3000000000"), Ok((0, 0, vec!["3000000000".into()])));
        assert_eq!(for_owner("web", Some(&Tree::new()), &c).unwrap().unknown, ["web"]);
    }

    #[test]
    fn without_an_image_only_numbers_own() {
        let c = MemoryContent::default();
        let own = |u: &str| for_owner(u, None, &c).map(|o| (o.uid, o.gid)).map_err(|e| e.to_string());
        assert_eq!(own("12:root"), Ok((12, 0)));
        assert!(own("web").unwrap_err().contains("web"));
        assert!(own("12:staff").unwrap_err().contains("staff"));
    }
}
