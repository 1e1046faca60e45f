//! One stage builds and ships: compilers, sources and what lies between are in the image. A second stage takes only what is needed.
//!
//! What is needed, for an image whose command is a program that one of its own RUNs made:
//!
//! 1. the closure of the command: an ELF program, its loader, and the shared libraries that they name, found as the loader finds them
//!    (what a script runs is not known from its text, so there is no such advice for one). A library that belongs to a package of dpkg or
//!    apk is not copied: its package is installed in the second stage, with what it needs;
//! 2. files of a COPY that no RUN looked at: they can only be there for the running program;
//! 3. what RUNs made outside of the directories that sources were copied to, unless a package manager's database has it, it is a
//!    package manager's own, or a later RUN read it or something else in the same program's directory: then it is a tool. The lists of
//!    users and groups always come along.
//!
//! When it is right: the program belongs to no package, since then its package would be what to ship. What a program opens by a name that it makes up at run time is not in its closure. The advice lists what is left
//! out, as what differs; try the image before it goes out.

use std::collections::{BTreeMap, BTreeSet};

use build::observe::Fact;
use dockerfile::Instruction;
use oci::index::{show, split};
use oci::tree::{Node, ROOT, Walk};
use oci::{Kind as EntryKind, Tree};

use crate::edit::line_of;
use crate::facts::{Facts, Stage, What, ancestors, is_below};
use crate::kinds::owners::Owners;
use crate::kinds::{elf, size};
use crate::{Advice, Edit, Kind, Worth};

/// Programs and libraries larger than this are not looked into, in bytes.
const MAX_PROGRAM: u64 = 512 << 20;

/// Lines of COPY at most; an image that needs more does not divide like this.
const MOST: usize = 24;

/// Where package managers keep their own.
const PACKAGED: &[&str] = &[
    "var/lib/dpkg",
    "var/lib/apt",
    "var/cache",
    "var/log",
    "lib/apk",
    "usr/lib/apk",
    "etc/apk",
    "var/lib/rpm",
    "usr/lib/sysimage",
    "root/.cache",
    "tmp",
    "var/tmp",
    "etc/ld.so.cache",
    "etc/alternatives",
];

/// What installing packages writes, and no two installations the same.
const MANAGED: &[&str] = &[
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/cache",
    "/var/log",
    "/etc/ld.so.cache",
    "/lib/apk/db",
    "/usr/lib/apk/db",
    "/etc/apk/world",
];

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    let froms =
        facts.file.statements.iter().filter(|s| matches!(s.instruction, Instruction::From(_))).count();
    if let ([stage], 1) = (&facts.stages[..], froms) {
        out.extend(advice(facts, stage));
    }
}

fn advice(facts: &Facts, stage: &Stage) -> Option<Advice> {
    let tree = &*facts.last;
    let owners = Owners::read(facts, tree);
    let Closure { files: needed, packages } = closure(facts, tree, stage, &owners)?;
    // The program itself must be made here, by a RUN that read sources.
    let program = needed.first()?;
    let made = stage.steps.iter().find(|s| s.layer.get(program).is_some())?;
    made.run()?;
    if owners.of(program).is_some() {
        return None;
    }
    let read: BTreeSet<&[u8]> = stage
        .steps
        .iter()
        .filter(|s| s.run().is_some())
        .map(|s| s.reads.as_ref())
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flatten()
        .filter(|o| matches!(o.fact, Fact::Content(_) | Fact::Attributes(_) | Fact::Link(_)))
        .map(|o| o.path.as_slice())
        .collect();
    let source_dirs: Vec<Vec<u8>> = stage
        .steps
        .iter()
        .filter_map(|s| s.copy())
        .map(|c| c.dest.trim_matches('/').as_bytes().to_vec())
        .filter(|d| !d.is_empty())
        .collect();
    let mut keep: BTreeSet<Vec<u8>> = needed.iter().cloned().collect();
    let mut all: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let users = [&b"etc/passwd"[..], b"etc/group", b"etc/shadow", b"etc/gshadow"];
    for step in &stage.steps {
        let later: BTreeSet<&[u8]> = stage
            .steps
            .iter()
            .filter(|s| s.number > step.number)
            .flat_map(|s| s.reads.iter().flatten())
            .filter(|o| matches!(o.fact, Fact::Content(_)))
            .map(|o| o.path.as_slice())
            .collect();
        let homes: BTreeSet<&[u8]> =
            later.iter().filter(|p| step.layer.get(p).is_some()).filter_map(|p| program_dir(p)).collect();
        let is_tool = |p: &[u8]| later.contains(p) || program_dir(p).is_some_and(|d| homes.contains(d));
        for e in step.layer.entries() {
            let here = tree.lookup(&e.path).is_some_and(|id| tree.inode(id).layer == step.number);
            let bytes = match e.kind {
                EntryKind::File { size, .. } => size,
                EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => 0,
                _ => continue,
            };
            if !here {
                continue;
            }
            all.insert(e.path.clone(), bytes);
            let ships = match step.copy() {
                Some(_) => !read.contains(e.path.as_slice()),
                None if users.contains(&e.path.as_slice()) => true,
                // What update-alternatives made for packages.
                None if matches!(&e.kind, EntryKind::Symlink { target } if target.starts_with(b"/etc/alternatives/")) => {
                    false
                }
                None => {
                    !is_tool(&e.path)
                        && !source_dirs.iter().any(|d| is_below(&e.path, d))
                        && owners.of(&e.path).is_none()
                        && !PACKAGED.iter().any(|d| is_below(&e.path, d.as_bytes()))
                }
            };
            if ships {
                keep.insert(e.path.clone());
            }
        }
    }
    // What the base has already need not be copied.
    keep.retain(|p| all.contains_key(p));
    let installed = owners.with_needed(facts, tree, &packages);
    let is_installed = |p: &[u8]| owners.of(p).is_some_and(|package| installed.contains(package));
    let dropped: BTreeMap<&Vec<u8>, u64> =
        all.iter().filter(|(p, _)| !keep.contains(*p) && !is_installed(p)).map(|(p, b)| (p, *b)).collect();
    let bytes: u64 = dropped.values().sum();
    if bytes < facts.min_bytes || keep.is_empty() {
        return None;
    }
    let copies = roots(tree, &stage.base, &keep, &all)?;
    let install = (!packages.is_empty()).then(|| owners.install(&packages, facts.escape()));
    let edits = edits(facts, stage, install.as_deref().unwrap_or_default(), &copies)?;
    let mut by_dir: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (p, b) in &dropped {
        let top: Vec<&[u8]> = ancestors(p).collect();
        let dir = top.get(top.len().saturating_sub(2)).copied().unwrap_or(p);
        *by_dir.entry(dir.to_vec()).or_default() += b;
    }
    let mut largest: Vec<(u64, Vec<u8>)> = by_dir.into_iter().map(|(d, b)| (b, d)).collect();
    largest.sort_by_key(|l| std::cmp::Reverse(l.0));
    let named: Vec<String> =
        largest.iter().take(5).map(|(b, d)| format!("{} ({})", show(d), size(*b))).collect();
    // Everything that the stage made and that is not copied is gone with its directories; what was deleted or changed of the base is back.
    let mut changes: BTreeSet<String> = dropped.keys().map(|p| show(p)).collect();
    for step in stage.steps.iter().filter(|s| !matches!(s.what, What::Workdir)) {
        changes.extend(
            step.writes().into_iter().filter(|p| !keep.contains(p) && !is_installed(p)).map(|p| show(&p)),
        );
    }
    if install.is_some() {
        changes.extend(MANAGED.iter().map(|p| (*p).to_owned()));
    }
    Some(Advice {
        kind: Kind::Split,
        line: facts.file.statements.get(stage.from)?.first_line,
        title: match copies.len() {
            1 => "build in one stage, and ship another with the one path that the command needs".to_owned(),
            n => format!("build in one stage, and ship another with the {n} paths that the command needs"),
        },
        why: format!(
            "{} are in the image only to build it: {}. What a program opens by a name that it makes up is not seen: try the image.",
            size(bytes),
            named.join(", ")
        ),
        worth: Worth { bytes, ..Worth::default() },
        edits,
        ignore: Vec::new(),
        probe: None,
        changes: changes.into_iter().collect(),
    })
}

/// The directory that belongs to one program: `/opt/x`, `/usr/local/x`, but not those that all share.
fn program_dir(path: &[u8]) -> Option<&[u8]> {
    const SHARED: [&[u8]; 9] =
        [b"bin", b"sbin", b"lib", b"lib64", b"etc", b"share", b"include", b"src", b"libexec"];
    let depth = if path.starts_with(b"opt/") { 2 } else { 3 };
    let all: Vec<&[u8]> = ancestors(path).collect();
    let dir = *all.get(all.len().checked_sub(depth)?)?;
    (dir.len() < path.len() && !SHARED.contains(&split(dir).1)).then_some(dir)
}

/// The highest directories of our own that hold nothing but what is kept, else the files themselves.
fn roots(
    tree: &Tree,
    base: &Tree,
    keep: &BTreeSet<Vec<u8>>,
    all: &BTreeMap<Vec<u8>, u64>,
) -> Option<Vec<Vec<u8>>> {
    let whole = |dir: &[u8]| -> bool {
        let Some(id) = tree.lookup(dir) else { return false };
        let result = tree.walk(id, &mut |p, i| {
            let inner = tree.inode(i).is_dir();
            if inner || keep.contains(p) { Ok(Walk::Into) } else { Err(()) }
        });
        result.is_ok() && all.keys().any(|p| is_below(p, dir))
    };
    let mut out: BTreeSet<Vec<u8>> = BTreeSet::new();
    for p in keep {
        let top = ancestors(split(p).0)
            .take_while(|a| base.lookup(a).is_none() && whole(a))
            .last()
            .map_or_else(|| p.clone(), <[u8]>::to_vec);
        out.insert(top);
    }
    (out.len() <= MOST
        && out
            .iter()
            .all(|p| std::str::from_utf8(p).is_ok_and(|s| !s.contains([' ', '*', '?', '[', '$', '\\', '"']))))
    .then(|| out.into_iter().collect())
}

/// A name for the first stage, a second FROM behind its last step, what installs packages, COPYs, and the settings again.
fn edits(facts: &Facts, stage: &Stage, install: &str, copies: &[Vec<u8>]) -> Option<Vec<Edit>> {
    let statements = &facts.file.statements;
    let from = statements.get(stage.from)?;
    let Instruction::From(inst) = &from.instruction else { return None };
    let mut edits = Vec::new();
    let name = match &inst.name_as_written {
        Some(n) => n.clone(),
        None => {
            edits.push(Edit::insert(from.span.end, " AS build"));
            "build".to_owned()
        }
    };
    let base = facts
        .text
        .get(
            from.args_span.start
                ..from
                    .words
                    .iter()
                    .find(|w| w.text.eq_ignore_ascii_case("as"))
                    .map_or(from.args_span.end, |w| w.span.start),
        )?
        .trim();
    let flags: String =
        from.flags.iter().map(|f| format!("{} ", &facts.text[f.span.start..f.span.end])).collect();
    let mut text = format!("\nFROM {flags}{base}\n{install}");
    // The settings of the image, in their order; WORKDIR makes its directory again.
    let mut moved = Vec::new();
    for s in &statements[stage.from + 1..] {
        let line = facts.source(s).trim_end();
        match &s.instruction {
            Instruction::Env(_)
            | Instruction::Label(_)
            | Instruction::Expose(_)
            | Instruction::Volume(_)
            | Instruction::Stopsignal(_)
            | Instruction::Healthcheck(_)
            | Instruction::Workdir(_)
            | Instruction::Arg(_) => {
                text.push_str(&format!("{line}\n"));
            }
            Instruction::User(_) | Instruction::Cmd(_) | Instruction::Entrypoint(_) => moved.push(s),
            Instruction::Onbuild(_) | Instruction::Shell(_) => return None,
            _ => {}
        }
    }
    for p in copies {
        let path = show(p);
        let to = if facts.last.lookup(p).is_some_and(|id| facts.last.inode(id).is_dir()) {
            format!("{path}/")
        } else {
            path.clone()
        };
        text.push_str(&format!("COPY --from={name} {} {to}\n", to.trim_end_matches(' ')));
    }
    for s in moved {
        let (start, end) =
            (line_of(&facts.text, s.span.start).0, line_of(&facts.text, s.span.end.saturating_sub(1)).1);
        text.push_str(&format!("{}\n", facts.source(s).trim_end()));
        // A user that a later RUN works as stays where it is as well.
        let last_step = stage.steps.iter().rev().find_map(|s| s.statement).unwrap_or(stage.from);
        if statements.iter().position(|x| x == s).is_some_and(|n| n > last_step)
            || !matches!(s.instruction, Instruction::User(_))
        {
            let mut gone = Edit::remove(start, end);
            gone.moves = true;
            edits.push(gone);
        }
    }
    if !facts.text.ends_with('\n') {
        text.insert(0, '\n');
    }
    edits.push(Edit::insert(facts.text.len(), text));
    Some(edits)
}

/// What the command needs.
struct Closure {
    /// Files that belong to no package, the program first; links on the way are files, too.
    files: Vec<Vec<u8>>,
    /// Packages that the stage installed.
    packages: BTreeSet<String>,
}

/// What the command needs. `None` if it is no path that can be found, or runs through a shell.
fn closure(facts: &Facts, tree: &Tree, stage: &Stage, owners: &Owners) -> Option<Closure> {
    let run = &facts.config.config;
    let entry = run.entrypoint.clone().unwrap_or_default();
    let argv: Vec<String> = entry.into_iter().chain(run.cmd.clone().unwrap_or_default()).collect();
    let first = argv.first()?;
    let shell = ["sh", "bash", "ash", "dash"].contains(&first.rsplit('/').next()?);
    let program = match (shell, argv.get(1).map(String::as_str), argv.get(2)) {
        // The shell form of a plain command.
        (true, Some("-c"), Some(line)) => {
            line.split_whitespace().find(|w| *w != "exec").map(str::to_owned)?
        }
        (true, ..) => return None,
        _ => first.clone(),
    };
    let candidates: Vec<String> = if program.starts_with('/') {
        vec![program]
    } else if program.contains('/') {
        vec![format!("{}/{program}", run.working_dir)]
    } else {
        let path = run.env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(build::plan::DEFAULT_PATH);
        path.split(':').map(|d| format!("{d}/{program}")).collect()
    };
    let mut packages = BTreeSet::new();
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    let start = candidates.iter().find_map(|c| follow(tree, c.as_bytes(), &mut out))?;
    out.insert(0, start.clone());
    todo.push(start);
    let mut seen = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let Node::File { digest, .. } = &tree.inode(tree.lookup(&path)?).node else { continue };
        let bytes = facts.content.read_all(digest, MAX_PROGRAM).ok()?;
        if bytes.starts_with(b"#!") {
            // What a script runs is not known from its text.
            return None;
        }
        for lib in elf::needs(&bytes, &path)? {
            let mut links = Vec::new();
            let Some(f) = lib.iter().find_map(|c| follow(tree, c.as_bytes(), &mut links)) else { continue };
            let is_new = tree.lookup(&f).is_some_and(|id| tree.inode(id).layer >= stage.base_layers);
            match owners.of(&f).filter(|_| is_new) {
                Some(package) => {
                    packages.insert(package.to_owned());
                }
                None => {
                    out.append(&mut links);
                    out.push(f.clone());
                    todo.push(f);
                }
            }
        }
    }
    Some(Closure { files: out, packages })
}

/// The file that a path leads to; links on the way are added to `links`.
fn follow(tree: &Tree, path: &[u8], links: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let mut seen = Vec::new();
    let place = tree
        .resolve_with(path, true, &mut |id| {
            if id != ROOT && matches!(tree.inode(id).node, Node::Symlink(_)) {
                seen.push(tree.path(id));
            }
        })
        .ok()
        .filter(|p| p.exists())?;
    matches!(tree.inode(place.id).node, Node::File { .. }).then(|| {
        links.extend(seen);
        place.path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;
    use oci::{Digest, Entry};

    /// The least ELF file: no program headers, so static.
    fn program() -> Vec<u8> {
        let mut b = vec![0; 64];
        b[..6].copy_from_slice(b"\x7fELF\x02\x01");
        b
    }

    fn scene(cmd: &[&str], text: &str) -> Facts {
        let mut scene = Scene::new(text).cmd(cmd);
        let bytes = program();
        let digest = Digest::of(&bytes);
        assert_eq!(scene.content.add(&bytes), digest);
        let bin = Entry { kind: EntryKind::File { size: 64, digest }, ..file("src/app", 0) };
        scene
            .step(2, vec![file("usr/bin/gcc", 90_000), file("var/log/x", 5)], &[])
            .step(3, vec![dir("src"), file("src/main.c", 500), file("src/page.html", 70)], &[])
            .step(4, vec![bin, file("src/main.o", 800), file("opt/data", 10)], &["src/main.c", "usr/bin/gcc"])
            .facts()
    }

    const TEXT: &str =
        "FROM base\nRUN install gcc\nCOPY . /src\nRUN make\nENV A=1\nUSER u\nCMD [\"/src/app\"]\n";

    #[test]
    fn the_second_stage_takes_the_closure_data_and_outputs() {
        let facts = scene(&["/src/app"], TEXT);
        let mut out = Vec::new();
        find(&facts, &mut out);
        assert_eq!(
            after(&facts, &out[0]),
            "FROM base AS build\nRUN install gcc\nCOPY . /src\nRUN make\nENV A=1\n\nFROM base\nENV A=1\n\
             COPY --from=build /opt/ /opt/\nCOPY --from=build /src/app /src/app\nCOPY --from=build /src/page.html /src/page.html\n\
             USER u\nCMD [\"/src/app\"]\n"
        );
        assert_eq!(out[0].worth.bytes, 90_000 + 5 + 500 + 800);
        assert!(out[0].changes.contains(&"/usr/bin/gcc".to_owned()), "{:?}", out[0].changes);
        assert!(!out[0].changes.contains(&"/src/app".to_owned()));
    }

    #[test]
    fn not_for_scripts_shells_and_programs_of_the_base() {
        for cmd in [&["/src/page.html"][..], &["sh"], &["/bin/none"], &["sh", "-c", "cd /x"]] {
            let mut out = Vec::new();
            find(&scene(cmd, TEXT), &mut out);
            assert_eq!(out, [], "{cmd:?}");
        }
        let mut out = Vec::new();
        find(&scene(&["sh", "-c", "exec /src/app --x"], TEXT), &mut out);
        assert_eq!(out.len(), 1);
    }

    /// A program with one segment, in which all lies: what the loader is told of is a library's name.
    fn linked(library: &str) -> Vec<u8> {
        let mut b = vec![0; 64];
        b[..6].copy_from_slice(b"\x7fELF\x02\x01");
        b[32] = 64;
        (b[54], b[56]) = (56, 2);
        let strings = 64 + 2 * 56 + 3 * 16;
        let all = strings + library.len() + 1;
        // Kind, offset, address, size.
        for (kind, at, len) in [(1u64, 0usize, all), (2, 64 + 2 * 56, 48)] {
            let mut h = [0; 56];
            h[..4].copy_from_slice(&(kind as u32).to_le_bytes());
            h[8..16].copy_from_slice(&(at as u64).to_le_bytes());
            h[16..24].copy_from_slice(&(at as u64).to_le_bytes());
            h[32..40].copy_from_slice(&(len as u64).to_le_bytes());
            b.extend(h);
        }
        for (tag, value) in [(5u64, strings as u64), (1, 0), (0, 0)] {
            b.extend(tag.to_le_bytes());
            b.extend(value.to_le_bytes());
        }
        b.extend(library.as_bytes());
        b.push(0);
        b
    }

    /// Libraries of packages were copied one by one, and if there were many of them, there was no advice at all.
    #[test]
    fn packages_of_libraries_are_installed() {
        let package = |name: &str, more: &str| {
            format!("Package: {name}\nStatus: install ok installed\nVersion: 1\n{more}\n\n")
        };
        let status = [package("libz", "Depends: deep"), package("deep", ""), package("cc", "")].concat();
        let scene = |program_of: &str| {
            let mut scene = Scene::new(TEXT).cmd(&["/src/app"]);
            let mut put = |path: &str, bytes: &[u8]| Entry {
                kind: EntryKind::File { size: bytes.len() as u64, digest: scene.content.add(bytes) },
                ..file(path, 0)
            };
            let installed = vec![
                put("var/lib/dpkg/status", status.as_bytes()),
                put("var/lib/dpkg/info/libz:amd64.list", b"/usr/lib/libz.so.1\n"),
                put("var/lib/dpkg/info/deep.list", b"/usr/lib/libdeep.so\n"),
                put("var/lib/dpkg/info/cc.list", format!("/usr/bin/gcc\n{program_of}\n").as_bytes()),
                put("usr/lib/libz.so.1", &linked("libdeep.so")),
                put("usr/lib/libdeep.so", &program()),
                file("usr/bin/gcc", 90_000),
                Entry {
                    kind: EntryKind::Symlink { target: b"/etc/alternatives/cc".to_vec() },
                    ..file("usr/bin/cc", 0)
                },
            ];
            let app = put("src/app", &linked("libz.so.1"));
            let facts = scene
                .step(2, installed, &[])
                .step(3, vec![dir("src"), file("src/main.c", 500)], &[])
                .step(4, vec![app], &["src/main.c", "usr/bin/gcc"])
                .facts();
            let mut out = Vec::new();
            find(&facts, &mut out);
            (facts, out)
        };
        let (facts, out) = scene("");
        assert!(
            after(&facts, &out[0]).contains(
                "\nFROM base\nRUN apt-get update && \\\n    apt-get install -y --no-install-recommends libz && \\\n    \
                 apt-get clean && rm -rf /var/lib/apt/lists/*\nENV A=1\nCOPY --from=build /src/app /src/app\nUSER u\n"
            ),
            "{}",
            after(&facts, &out[0])
        );
        let names = |p: &str| out[0].changes.iter().any(|c| c == p);
        assert!(names("/usr/bin/gcc") && names("/var/lib/dpkg") && !names("/usr/lib/libz.so.1"));
        assert!(names("/usr/bin/cc"), "a link to an alternative is its package's");
        assert!(!names("/usr/lib/libdeep.so"), "it comes with what needs it: {:?}", out[0].changes);
        assert_eq!(scene("/src/app").1, [], "a packaged program needs more than its libraries");
    }
}
