//! Random Dockerfiles: small shell programs over a small universe of names, so that steps meet each other's files all the time.

use crate::Rng;

/// Names that programs and edits work on, below /w.
const NAMES: &[&str] =
    &["a", "b", "c", "d/a", "d/b", "d/e/a", "d/e/b", "l", "k", "d/l", "x.sh", "d/x.sh", "n/new"];
const DIRS: &[&str] = &["", "d", "d/e", "n", "s"];

/// A path below /w or of the whole image.
pub(crate) fn name(r: &mut Rng) -> String {
    format!("/w/{}", r.pick(NAMES))
}

pub(crate) fn dir(r: &mut Rng) -> String {
    format!("/w/{}", r.pick(DIRS)).trim_end_matches('/').to_owned()
}

/// One command; it prints what it learned, and never fails.
fn command(r: &mut Rng) -> String {
    let (p, q, d) = (name(r), name(r), dir(r));
    match r.below(36) {
        0..=3 => format!("cat {p}"),
        4 | 5 => format!("stat -c '%F %a %u %g' {p}"),
        6 => format!("[ -f {p} ] && stat -c '%s %h' {p}"),
        7 | 8 => format!("ls -1 {d}"),
        9 => format!("echo {d}/*"),
        10 => format!("for t in -e -f -d -L -x -s; do [ $t {p} ] && echo $t; done"),
        11 => format!("readlink {p}"),
        12 => format!("find {d} | sort"),
        13 => format!("echo one >> {p}"),
        14 => format!("echo two > {p}"),
        15 => format!("chmod {} {p}", r.pick(&["600", "644", "755"])),
        16 => format!("chown {} {p}", r.pick(&["0:0", "5:6"])),
        17 => format!("rm -f {p}"),
        18 => format!("rm -rf {d}"),
        19 => format!("mkdir -p {d}"),
        20 => format!("mv {p} {q}"),
        21 => format!("cp -a {p} {q}"),
        22 => format!("cp {p} {q}"),
        23 => format!("ln -sfn {} {q}", r.pick(&["a", "d", "../w/b", "/w/c", "d/e", "nowhere", "l"])),
        24 => format!("ln -f {p} {q}"),
        25 => format!("cat {d}/a {d}/b"),
        26 => format!("sh {p}"),
        27 => format!("mkdir -p {d}/made && echo m > {d}/made/f"),
        28 => format!("cd {d} && pwd && cat a"),
        29 => format!("tar -cf - {d} | tar -tf - | sort"),
        30 => format!("cmp {p} {q} && echo same"),
        31 => format!("[ -d {d} ] && rm -rf {d} && mkdir {d} && echo r > {d}/fresh"),
        32 => format!("touch {p}"),
        33 => format!("grep -r one {d} | sort"),
        34 => format!("mv {d} {d}.moved && ls -1 {d}.moved && mv {d}.moved {d}"),
        _ => format!("dd if={p} bs=1 count=2"),
    }
}

/// A RUN; its output goes to a file, so that what it learned is part of the image.
fn run(r: &mut Rng, number: usize) -> String {
    let mut commands = Vec::new();
    for _ in 0..1 + r.below(4) {
        commands.push(command(r));
    }
    let user = if r.chance(8) { "USER 7:8\n" } else { "" };
    let back = if user.is_empty() { "" } else { "USER 0:0\n" };
    let mount = match r.below(12) {
        0 => "--mount=type=bind,source=c,target=/m ",
        1 => "--mount=type=bind,from=base,source=/w,target=/m ",
        _ => "",
    };
    let mounted = if mount.is_empty() { "" } else { "cat /m/a /m/d/a; ls -1 /m; " };
    format!(
        "{user}RUN {mount}{{ {mounted}{}; }} > /out/r{number} 2> /dev/null; true\n{back}",
        commands.join("; ")
    )
}

/// A COPY of the context or of another stage.
fn copy(r: &mut Rng, other: Option<&str>) -> String {
    let chown = if r.chance(15) { "--chown=3:4 " } else { "" };
    let chmod = if r.chance(15) { "--chmod=711 " } else { "" };
    if let (Some(stage), true) = (other, r.chance(40)) {
        let from = r.pick(&["/w/*", "/w/a*", "/w", "/out"]);
        return format!("COPY --from={stage} {chown}{chmod}{from} /w/s/\n");
    }
    let (source, dest) = r.pick(&[
        ("c/", "/w/"),
        ("c/d*", "/w/d"),
        ("c/a*", "/w/a/"),
        ("c/[ab]", "/w/d/"),
        ("c/d*/", "/w/n/"),
        ("c/*", "/w/"),
    ]);
    format!("COPY {chown}{chmod}{source} {dest}\n")
}

/// A Dockerfile as a list of instructions, so that edits can change one.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) lines: Vec<String>,
    stages: usize,
    made: usize,
}

impl Script {
    pub(crate) fn new(r: &mut Rng) -> Script {
        let mut s = Script { lines: Vec::new(), stages: 1 + r.below(2), made: 0 };
        // The first RUN makes a place for the outputs; busybox is called by its names.
        s.lines.push(
            "FROM scratch AS base\nCOPY base/ /\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"mkdir -p /out /tmp && busybox --install -s /bin\"]\n".into(),
        );
        for stage in 0..s.stages {
            s.lines.push(format!("FROM base AS s{stage}\n"));
            for _ in 0..2 + r.below(4) {
                let line = s.line(r, stage);
                s.lines.push(line);
            }
        }
        s
    }

    fn line(&mut self, r: &mut Rng, stage: usize) -> String {
        self.made += 1;
        let other = (stage > 0).then_some("s0");
        match r.below(10) {
            0..=2 => copy(r, other),
            3 => format!("WORKDIR {}\n", dir(r)),
            4 => format!("ENV V={}\n", r.below(3)),
            _ => run(r, self.made),
        }
    }

    /// Changes, adds or removes one instruction.
    pub(crate) fn edit(&mut self, r: &mut Rng) -> String {
        let at = 1 + r.below(self.lines.len() - 1);
        if self.lines[at].starts_with("FROM") {
            let line = self.line(r, 0);
            self.lines.insert(at + 1, line.clone());
            return format!("insert {line}");
        }
        let stage = self.lines[..at].iter().filter(|l| l.starts_with("FROM")).count().saturating_sub(2);
        match r.below(3) {
            0 => format!("remove {}", self.lines.remove(at)),
            1 => {
                self.lines[at] = self.line(r, stage);
                format!("replace {}", self.lines[at])
            }
            _ => {
                let line = self.line(r, stage);
                self.lines.insert(at, line.clone());
                format!("insert {line}")
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.concat()
    }
}
