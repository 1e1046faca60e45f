//! One stage builds and ships: compilers, sources and what lies between are in the image. A second stage takes only what is needed.
//!
//! What is needed, for an image whose command is a program that one of its own RUNs made:
//!
//! 1. the closure of the command: an ELF program, its loader, and the shared libraries that they name, found as the loader finds them
//!    (what a script runs is not known from its text, so there is no such advice for one);
//! 2. files of a COPY that no RUN looked at: they can only be there for the running program;
//! 3. what RUNs made outside of the directories that sources were copied to, unless a package manager's database has it, it is a
//!    package manager's own, or a later RUN read it or something else in the same program's directory: then it is a tool. The lists of
//!    users and groups always come along.
//!
//! When it is right: what a program opens by a name that it makes up at run time is not in its closure. The advice lists what is left
//! out, as what differs; try the image before it goes out.

use std::collections::{BTreeMap, BTreeSet};

use build::observe::Fact;
use dockerfile::Instruction;
use oci::index::{join, show, split};
use oci::tree::{Node, ROOT, Walk};
use oci::{Kind as EntryKind, Tree};

use crate::edit::line_of;
use crate::facts::{Facts, Stage, What, ancestors, is_below};
use crate::kinds::size;
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

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    let froms =
        facts.file.statements.iter().filter(|s| matches!(s.instruction, Instruction::From(_))).count();
    if let ([stage], 1) = (&facts.stages[..], froms) {
        out.extend(advice(facts, stage));
    }
}

fn advice(facts: &Facts, stage: &Stage) -> Option<Advice> {
    let tree = &*facts.last;
    let needed = closure(facts, tree)?;
    // The program itself must be made here, by a RUN that read sources.
    let program = needed.first()?;
    let made = stage.steps.iter().find(|s| s.layer.get(program).is_some())?;
    made.run()?;
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
    let owned = packaged(facts, tree);
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
                None => {
                    !is_tool(&e.path)
                        && !source_dirs.iter().any(|d| is_below(&e.path, d))
                        && !owned.contains(&e.path)
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
    let dropped: BTreeMap<&Vec<u8>, u64> =
        all.iter().filter(|(p, _)| !keep.contains(*p)).map(|(p, b)| (p, *b)).collect();
    let bytes: u64 = dropped.values().sum();
    if bytes < facts.min_bytes || keep.is_empty() {
        return None;
    }
    let copies = roots(tree, &stage.base, &keep, &all)?;
    let edits = edits(facts, stage, &copies)?;
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
        changes.extend(step.writes().into_iter().filter(|p| !keep.contains(p)).map(|p| show(&p)));
    }
    Some(Advice {
        kind: Kind::Split,
        line: facts.file.statements.get(stage.from)?.first_line,
        title: format!(
            "build in one stage, and ship another with the {} paths that the command needs",
            copies.len()
        ),
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

/// A name for the first stage, a second FROM behind its last step, COPYs, and the settings again.
fn edits(facts: &Facts, stage: &Stage, copies: &[Vec<u8>]) -> Option<Vec<Edit>> {
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
    let mut text = format!("\nFROM {flags}{base}\n");
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

/// Files that dpkg and apk say are theirs.
fn packaged(facts: &Facts, tree: &Tree) -> BTreeSet<Vec<u8>> {
    let mut out = BTreeSet::new();
    let read = |path: &[u8]| -> Option<String> {
        let place = tree.resolve(path, true).ok().filter(|p| p.exists())?;
        let Node::File { digest, .. } = &tree.inode(place.id).node else { return None };
        Some(String::from_utf8_lossy(&facts.content.read_all(digest, 256 << 20).ok()?).into_owned())
    };
    let mut add = |path: &str| {
        let path = path.trim_start_matches('/').as_bytes();
        if let Some(p) = tree.resolve(path, false).ok().filter(|p| p.exists()) {
            out.insert(p.path);
        }
    };
    if let Some(dir) = tree.resolve(b"var/lib/dpkg/info", true).ok().filter(|p| p.exists()) {
        for (name, _) in tree.children(dir.id).iter().filter(|(n, _)| n.ends_with(b".list")) {
            if let Some(text) = read(&join(&dir.path, name)) {
                text.lines().for_each(&mut add);
            }
        }
    }
    for db in [&b"lib/apk/db/installed"[..], b"usr/lib/apk/db/installed"] {
        let mut folder = String::new();
        for line in read(db).unwrap_or_default().lines() {
            match line.split_once(':') {
                Some(("F", f)) => f.clone_into(&mut folder),
                Some(("R", r)) => add(&format!("{folder}/{r}")),
                _ => {}
            }
        }
    }
    out
}

/// The files that the command needs, the program first; links on the way are files, too. `None` if the command is no path that can be
/// found, or runs through a shell.
fn closure(facts: &Facts, tree: &Tree) -> Option<Vec<Vec<u8>>> {
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
            let found = lib.iter().find_map(|c| follow(tree, c.as_bytes(), &mut out));
            if let Some(f) = found {
                out.push(f.clone());
                todo.push(f);
            }
        }
    }
    Some(out)
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

mod elf {
    //! What an ELF file needs: its interpreter and its shared libraries, as the paths where the loader would look.

    const DIRS: &[&str] = &[
        "/lib",
        "/usr/lib",
        "/usr/local/lib",
        "/lib64",
        "/usr/lib64",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];

    /// For each thing that it needs, where it may be. `None` if it is no little-endian 64-bit ELF file, or damaged.
    pub(super) fn needs(b: &[u8], own: &[u8]) -> Option<Vec<Vec<String>>> {
        if !b.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let u = |at: usize, n: usize| -> Option<usize> {
            let part = b.get(at..at.checked_add(n)?)?;
            usize::try_from(part.iter().rev().fold(0u64, |a, x| (a << 8) | u64::from(*x))).ok()
        };
        let text = |at: usize| -> Option<String> {
            let rest = b.get(at..)?;
            let end = rest.iter().position(|&c| c == 0)?;
            Some(String::from_utf8_lossy(&rest[..end]).into_owned())
        };
        let (table, size, count) = (u(32, 8)?, u(54, 2)?, u(56, 2)?);
        let mut loads = Vec::new();
        let (mut dynamic, mut out) = (None, Vec::new());
        for n in 0..count {
            let at = table.checked_add(n.checked_mul(size)?)?;
            let (kind, offset, address, len) = (u(at, 4)?, u(at + 8, 8)?, u(at + 16, 8)?, u(at + 32, 8)?);
            match kind {
                1 => loads.push((address, offset, len)),
                2 => dynamic = Some((offset, len)),
                3 => out.push(vec![text(offset)?]),
                _ => {}
            }
        }
        let Some((offset, len)) = dynamic else { return Some(out) };
        let mut tags = Vec::new();
        for at in (offset..offset.checked_add(len)?).step_by(16) {
            match u(at, 8)? {
                0 => break,
                tag => tags.push((tag, u(at + 8, 8)?)),
            }
        }
        let strings = tags.iter().find(|(t, _)| *t == 5)?.1;
        let base =
            loads.iter().find(|(a, _, l)| (*a..a + l).contains(&strings)).map(|(a, o, _)| strings - a + o)?;
        let origin = show_dir(own);
        let mut dirs: Vec<String> = Vec::new();
        for (_, v) in tags.iter().filter(|(t, _)| matches!(t, 15 | 29)) {
            let path = text(base.checked_add(*v)?)?;
            dirs.extend(path.split(':').map(|d| d.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin)));
        }
        dirs.extend(DIRS.iter().map(|d| (*d).to_owned()));
        for (_, v) in tags.iter().filter(|(t, _)| *t == 1) {
            let name = text(base.checked_add(*v)?)?;
            out.push(if name.contains('/') {
                vec![name]
            } else {
                dirs.iter().map(|d| format!("{d}/{name}")).collect()
            });
        }
        Some(out)
    }

    fn show_dir(path: &[u8]) -> String {
        oci::index::show(oci::index::split(path).0)
    }
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

    #[test]
    fn libraries_of_a_real_program_are_found() {
        let own = std::env::current_exe().unwrap();
        let bytes = std::fs::read(own).unwrap();
        let needs = elf::needs(&bytes, b"x/y").unwrap();
        assert!(needs.iter().flatten().any(|n| n.contains("libc.so") || n.contains("ld-")), "{needs:?}");
        for n in (0..bytes.len().min(4096)).step_by(7) {
            elf::needs(&bytes[..n], b"x");
        }
    }
}
