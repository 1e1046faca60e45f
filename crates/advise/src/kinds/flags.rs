//! Flags of package managers that leave less in the layer: `apk add --no-cache`, `pip install --no-cache-dir`, and
//! `apt-get install --no-install-recommends`.
//!
//! What they are worth is measured: for the first two, the files of the caches in the layer of the RUN; for the third, the packages that
//! the RUN installed and that no chain of `Depends` from the named ones reaches (dpkg's status before and after), with the files that
//! dpkg lists for them.
//!
//! When it is right: caches are not read by the image. Recommended packages may be missed at run time; the advice names them.

use std::collections::{BTreeMap, BTreeSet};

use analyse::packages::paragraphs;
use oci::tree::Node;
use oci::{Content, Tree};

use crate::facts::{Facts, Stage, Step};
use crate::kinds::size;
use crate::shell::{self, Command, Script, Word};
use crate::{Advice, Edit, Kind, Worth};

/// Largest status file that is read, in bytes.
const MAX_STATUS: u64 = 64 << 20;

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in facts.stages.iter().filter(|s| s.shipped) {
        for step in &stage.steps {
            let Some(script) = facts.script(step).filter(|s| s.plain) else { continue };
            out.extend(apk(facts, stage, step, &script));
            out.extend(pip(facts, stage, step, &script));
            out.extend(apt(facts, step, &script));
        }
    }
}

/// Whether a command is `pip install`, however pip is called.
fn is_pip_install(c: &Command) -> bool {
    let Some(program) = c.program() else { return false };
    let args: Vec<&str> = c.args().iter().map(|w| w.raw.as_str()).collect();
    let is_version = |p: &str, name: &str| {
        p.strip_prefix(name).is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    let pip = is_version(program, "pip") && args.iter().find(|a| !a.starts_with('-')) == Some(&"install");
    pip || (is_version(program, "python") && args.windows(3).any(|w| w == ["-m", "pip", "install"]))
}

fn word<'c>(c: &'c Command, raw: &str) -> Option<&'c Word> {
    c.args().iter().find(|w| w.raw == raw)
}

fn advice(
    facts: &Facts,
    step: &Step,
    title: &str,
    why: String,
    bytes: u64,
    edits: Vec<Edit>,
) -> Option<Advice> {
    Some(Advice {
        kind: Kind::Flags,
        line: facts.statement(step)?.first_line,
        title: title.to_owned(),
        why,
        worth: Worth { bytes, ..Worth::default() },
        edits,
        ignore: Vec::new(),
        probe: None,
        changes: Vec::new(),
    })
}

fn apk(facts: &Facts, stage: &Stage, step: &Step, script: &Script) -> Option<Advice> {
    const DIRS: [&str; 2] = ["var/cache/apk", "etc/apk/cache"];
    let bytes: u64 = DIRS.iter().map(|d| facts.live_bytes(stage, step, d.as_bytes())).sum();
    let adds: Vec<&Command> =
        script.commands.iter().filter(|c| c.is("apk", "add") && !c.has("--no-cache")).collect();
    if bytes < facts.min_bytes || adds.is_empty() {
        return None;
    }
    // `update` fetches the very index that --no-cache leaves out.
    let updates: Vec<usize> =
        (0..script.commands.len()).filter(|&n| script.commands[n].is("apk", "update")).collect();
    let mut edits =
        if updates.is_empty() || !script.is_chain() { Vec::new() } else { shell::without(script, &updates)? };
    for c in adds {
        edits.push(Edit::insert(word(c, "add")?.span.end, " --no-cache"));
    }
    let why = format!("the package index and downloads stay in the layer: {}.", size(bytes));
    let mut a = advice(facts, step, "apk add --no-cache", why, bytes, edits)?;
    a.changes = DIRS.iter().map(|d| format!("/{d}")).collect();
    Some(a)
}

fn pip(facts: &Facts, stage: &Stage, step: &Step, script: &Script) -> Option<Advice> {
    let installs: Vec<&Command> =
        script.commands.iter().filter(|c| is_pip_install(c) && !c.has("--no-cache-dir")).collect();
    let home = step.run().map_or("/root", home);
    let dir = format!("{home}/.cache/pip");
    let bytes = facts.live_bytes(stage, step, dir.trim_start_matches('/').as_bytes());
    if bytes < facts.min_bytes || installs.is_empty() {
        return None;
    }
    let edits: Vec<Edit> = installs
        .iter()
        .filter_map(|c| word(c, "install"))
        .map(|w| Edit::insert(w.span.end, " --no-cache-dir"))
        .collect();
    let why = format!("pip's downloads stay in the layer: {}.", size(bytes));
    let mut a = advice(facts, step, "pip install --no-cache-dir", why, bytes, edits)?;
    a.changes = vec![dir];
    Some(a)
}

/// HOME of a RUN.
pub(super) fn home(run: &build::plan::Run) -> &str {
    run.env.iter().rev().find(|(k, _)| k == "HOME").map_or("/root", |(_, v)| v.trim_end_matches('/'))
}

/// An installed package: what it needs, each as a list of alternatives.
#[derive(Default)]
pub(super) struct Debian {
    depends: Vec<Vec<String>>,
    provides: Vec<String>,
}

/// The installed packages by dpkg's status.
pub(super) fn status(tree: &Tree, content: &dyn Content) -> Option<BTreeMap<String, Debian>> {
    let place = tree.resolve(b"var/lib/dpkg/status", true).ok().filter(|p| p.exists())?;
    let Node::File { digest, .. } = &tree.inode(place.id).node else { return None };
    let text = String::from_utf8_lossy(&content.read_all(digest, MAX_STATUS).ok()?).into_owned();
    // `a (>= 1) | b:any, c`: names only.
    let name = |s: &str| s.trim().split([' ', '(', ':']).next().unwrap_or_default().to_owned();
    let mut out = BTreeMap::new();
    for p in paragraphs(&text).iter().filter(|p| p.is_installed()) {
        let mut d = Debian::default();
        for field in ["Pre-Depends", "Depends"] {
            for group in p.get(field).unwrap_or_default().split(',').filter(|g| !g.trim().is_empty()) {
                d.depends.push(group.split('|').map(name).collect());
            }
        }
        d.provides = p.get("Provides").unwrap_or_default().split(',').map(name).collect();
        out.insert(p.get("Package")?.to_owned(), d);
    }
    Some(out)
}

/// The packages of `after` that are named or needed by one that is.
pub(super) fn needed<'a>(after: &'a BTreeMap<String, Debian>, named: &'a [String]) -> BTreeSet<&'a str> {
    let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, d) in after {
        d.provides.iter().for_each(|p| providers.entry(p).or_default().push(name));
    }
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut todo: Vec<&str> = named.iter().map(String::as_str).collect();
    while let Some(n) = todo.pop() {
        let found: Vec<&str> = match after.get_key_value(n) {
            Some((k, _)) => vec![k.as_str()],
            None => providers.get(n).cloned().unwrap_or_default(),
        };
        for f in found {
            if needed.insert(f)
                && let Some(d) = after.get(f)
            {
                todo.extend(d.depends.iter().flatten().map(String::as_str));
            }
        }
    }
    needed
}

/// The packages of `after` that are new and that nothing named needs.
fn unneeded(
    before: &BTreeMap<String, Debian>,
    after: &BTreeMap<String, Debian>,
    named: &[String],
) -> BTreeSet<String> {
    let needed = needed(after, named);
    after.keys().filter(|k| !before.contains_key(*k) && !needed.contains(k.as_str())).cloned().collect()
}

/// What dpkg keeps about a package: its list of files, its scripts.
fn info(facts: &Facts, tree: &Tree, package: &str, what: &str) -> Option<String> {
    let names = [format!("var/lib/dpkg/info/{package}.{what}")].into_iter().chain(
        ["amd64", "arm64", "i386", "armhf"].map(|a| format!("var/lib/dpkg/info/{package}:{a}.{what}")),
    );
    let id = names.filter_map(|n| tree.lookup(n.as_bytes())).next()?;
    let Node::File { digest, .. } = &tree.inode(id).node else { return None };
    Some(String::from_utf8_lossy(&facts.content.read_all(digest, MAX_STATUS).ok()?).into_owned())
}

/// What the scripts of these packages make when they are installed: paths that are written out in a script, that the step made, and that no
/// package has in its list.
fn made_by_scripts(facts: &Facts, step: &Step, tree: &Tree, packages: &BTreeSet<String>) -> Vec<String> {
    let mut found: BTreeSet<Vec<u8>> = BTreeSet::new();
    for script in
        packages.iter().flat_map(|p| ["preinst", "postinst"].map(|what| info(facts, tree, p, what))).flatten()
    {
        let words = script.split(|c: char| c.is_whitespace() || "\"'=;()`|&<>".contains(c));
        for word in words.filter(|w| w.starts_with('/')) {
            let path = word.trim_matches('/').as_bytes();
            if step.layer.get(path).is_some() && step.before.lookup(path).is_none() {
                found.insert(path.to_vec());
            }
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let Some(id) = tree.lookup(b"var/lib/dpkg/info") else { return Vec::new() };
    for (_, file) in tree.children(id).filter(|(n, _)| n.ends_with(b".list")) {
        let Node::File { digest, .. } = &tree.inode(file).node else { continue };
        // A list that cannot be read may have any of them.
        let Ok(list) = facts.content.read_all(digest, MAX_STATUS) else { return Vec::new() };
        for line in list.split(|c| *c == b'\n') {
            found.remove(line.strip_prefix(b"/").unwrap_or(line));
        }
    }
    found.iter().map(|p| oci::index::show(p)).collect()
}

fn apt(facts: &Facts, step: &Step, script: &Script) -> Option<Advice> {
    let installs: Vec<&Command> = script
        .commands
        .iter()
        .filter(|c| {
            (c.is("apt-get", "install") || c.is("apt", "install")) && !c.has("--no-install-recommends")
        })
        .collect();
    let after_tree = if installs.is_empty() { return None } else { step.after()? };
    let (before, after) = (status(&step.before, &*facts.content)?, status(&after_tree, &*facts.content)?);
    let mut named = Vec::new();
    for c in script.commands.iter().filter(|c| c.is("apt-get", "install") || c.is("apt", "install")) {
        for w in c.args().iter().filter(|w| !w.raw.starts_with('-') && w.raw != "install") {
            // What a variable stands for is not known here.
            named.push(w.literal.as_ref()?.split(['=', ':', '/']).next().unwrap_or_default().to_owned());
        }
    }
    let extra = unneeded(&before, &after, &named);
    let mut changes = made_by_scripts(facts, step, &after_tree, &extra);
    let mut bytes = 0;
    for name in &extra {
        let Some(list) = info(facts, &after_tree, name, "list") else { continue };
        for path in list.lines() {
            let path = path.trim_start_matches('/');
            let resolved = after_tree.resolve(path.as_bytes(), false).ok().filter(|p| p.exists());
            let Some(place) = resolved.filter(|p| step.layer.get(&p.path).is_some()) else { continue };
            if let Node::File { size, .. } = after_tree.inode(place.id).node {
                bytes += size;
            }
            if step.before.lookup(&place.path).is_none() {
                changes.push(oci::index::show(&place.path));
            }
        }
    }
    if bytes < facts.min_bytes {
        return None;
    }
    let edits = installs
        .iter()
        .filter_map(|c| word(c, "install"))
        .map(|w| Edit::insert(w.span.end, " --no-install-recommends"))
        .collect();
    let names: Vec<&str> = extra.iter().map(String::as_str).collect();
    let why = format!(
        "{} packages are installed only because others recommend them, {} of files: {}. Name those that you do want.",
        names.len(),
        size(bytes),
        names.join(", ")
    );
    let mut a = advice(facts, step, "apt-get install --no-install-recommends", why, bytes, edits)?;
    for dir in ["/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/etc", "/run"] {
        changes.push(dir.to_owned());
    }
    a.changes = changes;
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;
    use oci::{Entry, Kind};

    fn found(facts: &Facts) -> Vec<Advice> {
        let mut out = Vec::new();
        find(facts, &mut out);
        out
    }

    #[test]
    fn apk_without_a_cache() {
        let facts = Scene::new("FROM base\nRUN apk update && \\\n    apk add -U curl && \\\n    other\n")
            .step(2, vec![file("var/cache/apk/index", 2000), file("usr/bin/curl", 1)], &[])
            .facts();
        let all = found(&facts);
        assert_eq!(after(&facts, &all[0]), "FROM base\nRUN apk add --no-cache -U curl && \\\n    other\n");
        assert_eq!((all[0].worth.bytes, all[0].changes[0].as_str()), (2000, "/var/cache/apk"));
        let clean =
            Scene::new("FROM base\nRUN apk add curl\n").step(2, vec![file("usr/bin/curl", 1)], &[]).facts();
        assert_eq!(found(&clean), []);
    }

    #[test]
    fn pip_however_it_is_called() {
        for call in ["pip install", "pip3.11 install", "python3 -m pip install", "/usr/bin/pip -q install"] {
            let facts = Scene::new(&format!("FROM base\nRUN {call} flask\n"))
                .base(vec![dir("root")])
                .step(2, vec![file("root/.cache/pip/http/a", 2000)], &[])
                .facts();
            let all = found(&facts);
            assert_eq!(after(&facts, &all[0]), format!("FROM base\nRUN {call} --no-cache-dir flask\n"));
            assert_eq!(all[0].changes, ["/root/.cache/pip"]);
        }
    }

    #[test]
    fn recommended_packages_are_those_that_nothing_named_needs() {
        let package = |name: &str, more: &str| {
            format!("Package: {name}\nStatus: install ok installed\nVersion: 1\n{more}\n\n")
        };
        let old = package("base", "");
        let new = [
            old.clone(),
            package("git", "Depends: libc (>= 2), perl | other, virtual:any"),
            package("libc", ""),
            package("perl", ""),
            package("real", "Provides: virtual (= 1)"),
            package("less", "Depends: deep"),
            package("deep", ""),
        ]
        .concat();
        let list = "/.\n/usr/bin/less\n/usr/bin\n";
        let script =
            "#!/bin/sh\nDIR=/usr/local/share/less\ntest -x /usr/bin/git && mkdir \"$DIR\" /srv/none\n";
        let mut scene =
            Scene::new("FROM base\nRUN apt-get update && apt-get install -y git=1 \\\n  && apt-get clean\n");
        let mut text = |path: &str, t: &str| Entry {
            kind: Kind::File { size: t.len() as u64, digest: scene.content.add(t.as_bytes()) },
            ..file(path, 0)
        };
        let base = vec![text("var/lib/dpkg/status", &old)];
        let made = vec![
            text("var/lib/dpkg/status", &new),
            text("var/lib/dpkg/info/less.list", list),
            text("var/lib/dpkg/info/less.postinst", script),
            text("var/lib/dpkg/info/git.list", "/usr/bin/git\n"),
            dir("usr/local/share/less"),
            file("usr/bin/less", 7000),
            file("usr/bin/git", 9000),
        ];
        let facts = scene.base(base).step(2, made, &[]).facts();
        let all = found(&facts);
        assert_eq!((all.len(), all[0].worth.bytes), (1, 7000));
        assert!(all[0].why.contains("2 packages") && all[0].why.contains("deep, less"), "{}", all[0].why);
        let names = |p: &str| all[0].changes.iter().any(|c| c == p);
        assert!(names("/usr/bin/less"));
        // What a script makes goes with its package, and what another package has stays.
        assert!(names("/usr/local/share/less") && !names("/usr/bin/git"), "{:?}", all[0].changes);
        assert!(
            after(&facts, &all[0])
                .contains("apt-get install --no-install-recommends -y git=1 \\\n  && apt-get clean")
        );
    }
}
