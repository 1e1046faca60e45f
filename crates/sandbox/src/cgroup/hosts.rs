//! Where the machine's control groups are, and which of them we are in.

use std::path::{Component, Path, PathBuf};

use super::limits::Controller;

/// All hierarchies that we see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    pub(super) v1: Vec<Hierarchy>,
    pub(super) unified: Option<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its controllers; of v1 only.
    controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The directory of the group that we are in.
    pub(super) own: PathBuf,
}

impl Hierarchies {
    pub(super) fn here() -> Hierarchies {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Hierarchies::parse(&read("mountinfo"), &read("cgroup"))
    }

    /// The v1 hierarchy of a controller.
    pub(super) fn of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller.name()))
    }

    /// From /proc/self/mountinfo and /proc/self/cgroup.
    fn parse(mountinfo: &str, cgroup: &str) -> Hierarchies {
        let mut out = Hierarchies::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
            let (Some(fstype), Some(options)) = (right.next(), right.nth(1)) else { continue };
            let controllers: Vec<&str> = options.split(',').collect();
            let of_line = |line: &&str| {
                let mut fields = line.splitn(3, ':');
                let names = fields.nth(1).unwrap_or_default();
                match fstype {
                    "cgroup2" => names.is_empty(),
                    "cgroup" => !names.is_empty() && names.split(',').all(|n| controllers.contains(&n)),
                    _ => false,
                }
            };
            let Some(group) = cgroup.lines().find(of_line) else { continue };
            let mut fields = group.splitn(3, ':').skip(1);
            let (names, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            let mount = PathBuf::from(unescape(mount));
            // A container may be shown a part of the hierarchy, and be in it or not.
            let rest = Path::new(path).strip_prefix(unescape(root)).ok();
            let inside = |p: &&Path| p.components().all(|c| matches!(c, Component::Normal(_)));
            let own = rest.filter(inside).map_or_else(|| mount.clone(), |rest| mount.join(rest));
            let hierarchy =
                Hierarchy { controllers: names.split(',').map(str::to_owned).collect(), mount, own };
            if fstype == "cgroup2" {
                out.unified.get_or_insert(hierarchy);
            } else {
                out.v1.push(hierarchy);
            }
        }
        out
    }
}

impl Hierarchy {
    #[cfg(test)]
    pub(super) fn at(mount: PathBuf, own: PathBuf) -> Hierarchy {
        Hierarchy { controllers: Vec::new(), mount, own }
    }

    /// The group in which ours are made: our own, or what the user says.
    pub(super) fn base(&self, parent: Option<&str>) -> PathBuf {
        let Some(parent) = parent else { return self.own.clone() };
        let start = if parent.starts_with('/') { &self.mount } else { &self.own };
        let names = Path::new(parent).components().filter(|c| matches!(c, Component::Normal(_)));
        names.fold(start.clone(), |path, name| path.join(name))
    }
}

/// Spaces and the like are octal numbers in mountinfo.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_machines_have_both() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/a\\040b rw,relatime shared:5 - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = "9:name=systemd:/\n4:memory:/one/two\n2:cpu,cpuacct:/\n0::/three\n";
        let h = Hierarchies::parse(mounts, groups);
        let memory = h.of(Controller::Memory).unwrap();
        assert_eq!(memory.own, Path::new("/sys/fs/cgroup/a b/one/two"));
        assert_eq!(h.of(Controller::Cpu).unwrap().own, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(h.of(Controller::Pids), None);
        assert_eq!(h.unified.as_ref().unwrap().own, Path::new("/sys/fs/cgroup/unified/three"));
        assert_eq!(memory.base(Some("/x/../y")), Path::new("/sys/fs/cgroup/a b/x/y"), "never out of it");
        assert_eq!(memory.base(Some("x")), Path::new("/sys/fs/cgroup/a b/one/two/x"));
    }

    #[test]
    fn containers_see_a_part() {
        let mount = "41 31 0:38 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let own = |group: &str| Hierarchies::parse(mount, group).unified.map(|h| h.own);
        assert_eq!(own("0::/docker/x/y"), Some("/sys/fs/cgroup/y".into()));
        assert_eq!(own("0::/../z"), Some("/sys/fs/cgroup".into()));
        assert_eq!(own("1:cpu:/"), None);
        assert_eq!(Hierarchies::parse("", ""), Hierarchies::default());
    }
}
