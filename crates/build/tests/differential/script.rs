//! Random Dockerfiles: small programs over a small universe of names, so that steps meet each other's files all the time.

use crate::Rng;
use crate::base::Traits;

/// Names that programs and edits work on, below /w.
const NAMES: &[&str] =
    &["a", "b", "c", "d/a", "d/b", "d/e/a", "d/e/b", "l", "k", "d/l", "x.sh", "d/x.sh", "n/new", "l/a"];
const DIRS: &[&str] = &["", "d", "d/e", "n", "s", "l"];

/// A path below /w.
fn name(r: &mut Rng) -> String {
    format!("/w/{}", r.pick(NAMES))
}

fn dir(r: &mut Rng) -> String {
    format!("/w/{}", r.pick(DIRS)).trim_end_matches('/').to_owned()
}

/// One operation of the program that a step is.
fn operation(r: &mut Rng, traits: &Traits) -> String {
    let (p, q, d) = (name(r), name(r), dir(r));
    if r.chance(traits.twins) {
        return format!("same /w/{} /w/{}", r.pick(&["a", "b"]), r.pick(&["k", "d/k"]));
    }
    match r.below(64) {
        0..=5 => format!("cat {p}"),
        6 => format!("map {p}"),
        7..=9 => format!("stat {p}"),
        10 | 11 => format!("lstat {p}"),
        12 | 13 => format!("there {p}"),
        14 => format!("runnable {p}"),
        15..=17 => format!("ls {d}"),
        18 => format!("glob {d} {}", r.pick(&["a", "d", "n"])),
        19 | 20 => format!("find {d}"),
        21 => format!("readlink {p}"),
        22 => format!("below {d} {}", r.pick(&["a", "b", "l", "../w/a"])),
        23 | 24 => format!("append {p}"),
        25 | 26 => format!("write {p}"),
        27 => format!("patch {p}"),
        28 => format!("create {p}"),
        29 => format!("truncate {p} {}", r.below(6)),
        30 | 31 => format!("chmod {p} {}", r.pick(&["600", "644", "755", "4711"])),
        32 => format!("chmod {d} {}", r.pick(&["755", "711"])),
        33 => format!("chown {p} {}", r.below(3)),
        34 => format!("touch {p}"),
        35 | 36 => format!("rm {p}"),
        37 => format!("rmdir {d}"),
        38 => format!("rm-r {d}"),
        39 => format!("renew {d}"),
        40 => format!("mkdir {d}/made"),
        41 | 42 => format!("mv {p} {q}"),
        43 => format!("mv {d} {d}.moved"),
        44 => format!("swap {p} {q}"),
        45 => format!("mv-new {p} {q}"),
        46 | 47 => format!("cp {p} {q}"),
        48 | 49 => format!("cp-p {p} {q}"),
        50 | 51 => format!("ln-s {} {q}", r.pick(&["a", "d", "../w/b", "/w/c", "d/e", "nowhere", "l"])),
        52 => format!("ln {p} {q}"),
        53 => format!("same {p} {q}"),
        54 | 55 => format!("exec {}", r.pick(&["/w/x.sh", "/w/d/x.sh", "/w/x.bin", "/w/l"])),
        56 => format!("chroot {d} /a"),
        57 => format!("cd {d}"),
        58 => format!("unnamed {d} {q}"),
        59 => format!("setcap {p} {}", r.below(3)),
        60 => format!("getcap {p}"),
        // Under a name that no shell opens: it would wait there for ever.
        61 => format!("fifo {d}/pipe"),
        _ if traits.dynamic => {
            r.pick(&["exec /bin/dyn", "exec /bin/dyn", "exec /sbin/ldconfig", "exec /bin/host"]).into()
        }
        _ => "cat /w/unread".to_owned(),
    }
}

/// What is done with a bind mount.
fn mounted(r: &mut Rng, at: &str) -> String {
    let p = format!("{at}/{}", r.pick(&["a", "b", "d/a", "l", "k", "n/a"]));
    match r.below(10) {
        0..=2 => format!("cat {p}"),
        3 => format!("stat {p}"),
        4 => format!("there {p}"),
        5 => format!("ls {at}"),
        6 => format!("find {at}"),
        7 => format!("append {p}"),
        8 => format!("cp {p} /w/n"),
        _ => format!("same {at}/a {at}/k"),
    }
}

/// One shell command; it prints what it learned, and never fails.
fn command(r: &mut Rng) -> String {
    let (p, q, d) = (name(r), name(r), dir(r));
    match r.below(20) {
        0 => format!("cat {p}"),
        1 => format!("stat -c '%F %a %u %g' {p}"),
        2 => format!("[ -f {p} ] && stat -c '%s %h' {p}"),
        3 => format!("echo {d}/*"),
        4 => format!("for t in -e -f -d -L -x -s; do [ $t {p} ] && echo $t; done"),
        5 => format!("find {d} | sort"),
        6 => format!("echo one >> {p}"),
        7 => format!("rm -rf {d}"),
        8 => format!("mv {p} {q}"),
        9 => format!("cp -a {p} {q}"),
        10 => format!("cp -a {d} /w/copy"),
        11 => format!("ln -sfn {} {q}", r.pick(&["a", "d", "../w/b", "/w/c", "d/e", "nowhere", "l"])),
        12 => format!("sh {p}"),
        13 => format!("cd {d} && pwd && cat a"),
        14 => format!("tar -cf - {d} | tar -tf - | sort"),
        15 => format!("cmp {p} {q} && echo same"),
        16 => format!("[ {p} -ef {q} ] && echo same"),
        17 => format!("find {d} -type f -exec grep one {{}} + | sort"),
        18 => format!("mv {d} {d}.moved && ls -1 {d}.moved && mv {d}.moved {d}"),
        _ => format!("dd if={p} bs=1 count=2"),
    }
}

/// A RUN; its output goes to a file, so that what it learned is part of the image.
fn run(r: &mut Rng, traits: &Traits, number: usize, other: Option<&str>) -> String {
    let user = match r.below(24) {
        0 => "USER 7:8\n",
        1 => "USER u\n",
        _ => "",
    };
    let back = if user.is_empty() { "" } else { "USER 0:0\n" };
    let (mount, at) = if r.chance(traits.binds) { bind(r, other) } else { (String::new(), String::new()) };
    if traits.shell && r.chance(60) {
        let commands: Vec<String> = (0..1 + r.below(3)).map(|_| command(r)).collect();
        let mounted =
            if mount.is_empty() { String::new() } else { format!("cat {at}/a {at}/d/a; ls -1 {at}; ") };
        let all = commands.join("; ");
        return format!("{user}RUN {mount}{{ {mounted}{all}; }} > /out/r{number} 2> /dev/null; true\n{back}");
    }
    let mut operations = Vec::new();
    for _ in 0..1 + r.below(4) {
        if !mount.is_empty() && r.chance(60) {
            operations.push(mounted(r, &at));
        } else {
            operations.push(operation(r, traits));
        }
    }
    let words: Vec<String> = operations.join(" , ").split(' ').map(|w| format!("\"{w}\"")).collect();
    format!("{user}RUN {mount}[\"/bin/t\", \"/out/r{number}\", {}]\n{back}", words.join(", "))
}

/// A bind mount and where it is.
fn bind(r: &mut Rng, other: Option<&str>) -> (String, String) {
    let at = r.pick(&["/m", "/m", "/w/d/m", "/w/l/m"]);
    let rw = if r.chance(25) { ",rw" } else { "" };
    let from = match (other, r.below(4)) {
        (Some(stage), 0 | 1) => format!("from={stage},source={}", r.pick(&["/w", "/w/d", "/w/l"])),
        (_, 2) => format!("from=base,source={}", r.pick(&["/w", "/w/d"])),
        _ => format!("source={}", r.pick(&["c", "c", "c/d", "c/l"])),
    };
    (format!("--mount=type=bind,{from},target={at}{rw} "), at.to_owned())
}

/// A COPY of the context or of another stage.
fn copy(r: &mut Rng, other: Option<&str>) -> String {
    let chown = if r.chance(15) { "--chown=3:4 " } else { "" };
    let chmod = if r.chance(15) { "--chmod=711 " } else { "" };
    let link = if r.chance(10) { "--link " } else { "" };
    if let (Some(stage), true) = (other, r.chance(40)) {
        let from = r.pick(&["/w/*", "/w/a*", "/w", "/out", "/w/l*"]);
        return format!("COPY --from={stage} {link}{chown}{chmod}{from} /w/s/\n");
    }
    let (source, dest) = r.pick(&[
        ("c/", "/w/"),
        ("c/", "/w/"),
        ("c/d*", "/w/d"),
        ("c/a*", "/w/a/"),
        ("c/[ab]", "/w/d/"),
        ("c/d*/", "/w/n/"),
        ("c/*", "/w/"),
        ("c/l*", "/w/"),
    ]);
    format!("COPY {link}{chown}{chmod}{source} {dest}\n")
}

/// A Dockerfile as a list of instructions, so that edits can change one.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    lines: Vec<String>,
    stages: usize,
    made: usize,
    traits: Traits,
}

impl Script {
    pub(crate) fn new(r: &mut Rng, traits: &Traits) -> Script {
        let mut s = Script { lines: Vec::new(), stages: 1 + r.below(2), made: 0, traits: traits.clone() };
        s.lines.push(traits.first_stage());
        for stage in 0..s.stages {
            s.lines.push(format!("FROM base AS s{stage}\n"));
            for _ in 0..2 + r.below(3) {
                let line = s.line(r, stage);
                s.lines.push(line);
            }
        }
        s
    }

    fn line(&mut self, r: &mut Rng, stage: usize) -> String {
        self.made += 1;
        let other = (stage > 0).then_some("s0");
        match r.below(12) {
            0..=2 => copy(r, other),
            3 => format!("WORKDIR {}\n", dir(r)),
            4 => format!("ENV V={}\n", r.below(3)),
            _ => run(r, &self.traits, self.made, other),
        }
    }

    /// Changes, adds or removes one instruction.
    pub(crate) fn edit(&mut self, r: &mut Rng) -> String {
        let at = 1 + r.below(self.lines.len() - 1);
        let long = self.lines.len() > 4 + 4 * self.stages;
        if self.lines[at].starts_with("FROM") {
            let line = self.line(r, 0);
            self.lines.insert(at + 1, line.clone());
            return format!("insert {line}");
        }
        let stage = self.lines[..at].iter().filter(|l| l.starts_with("FROM")).count().saturating_sub(2);
        match r.below(3) {
            0 => format!("remove {}", self.lines.remove(at)),
            1 if !long => {
                let line = self.line(r, stage);
                self.lines.insert(at, line.clone());
                format!("insert {line}")
            }
            _ => {
                self.lines[at] = self.line(r, stage);
                format!("replace by {}", self.lines[at])
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.concat()
    }
}
