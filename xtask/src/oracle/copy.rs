//! Cases about COPY and ADD: deep trees, patterns, links, archives, ignore files, stages and a second context, from scratch.

use oci::compress::{Compression, Encoder};
use oci::content::MemoryContent;
use oci::index::{Attrs, Entry, Kind, LayerIndex};

use super::case::{Case, Item, What};
use crate::random::Random;

const NAMES: &[&str] = &[
    "a", "b", "c", "aa", "ab", "a.txt", "b.md", ".a", "A", "a b", "a", "b", "aa", "a.txt", "ü", "g[1]", "h*",
];
const DIRECTORY_MODES: &[u32] = &[0o700, 0o1777, 0o2755, 0o750, 0o555, 0o777];
const FILE_MODES: &[u32] = &[0o600, 0o755, 0o4755, 0, 0o400, 0o2755, 0o1644, 0o640];
const PLACES: &[&str] = &[
    "/", "/d", "/d/", "d", "d/", ".", "./", "/d/e", "/d/e/", "/a", "/a/", "/a/b", "/a/b/c/", "/d/../x", "/l",
    "/l/", "/l/x", "../up",
];
/// Patterns of ignore files and of `--exclude` that no path of the tree makes.
#[rustfmt::skip]
const PATTERNS: &[&str] = &[
    "*", "**", "*/*", "*.txt", "**/*.md", ".*", "**/.a", "a/**/b", "**/a/**", "a**", "**a", "*/**/b.md",
    "./a", "a/", "/a", "a/../b", "a//b", " a", "a/*/", "# c", "?", "[a-c]*",
];
const WILD: &[&str] = &["*", "?", "a*", "*b", "[ab]", "[^a]", "*.*", "**", "a?"];

/// Paths that can be named in a context or in an earlier stage.
pub(super) struct Paths(pub(super) Vec<String>);

impl Paths {
    /// Those of the items of a context.
    pub(super) fn of(items: &[Item]) -> Paths {
        Paths(items.iter().map(|i| i.path.clone()).collect())
    }

    /// Where the paths of a context may be after it was copied. Patterns for most, since what they do not find is no error.
    fn copied(&self) -> Paths {
        let under = |p: &String| [format!("?/{p}"), format!("[ad]/{p}"), p.replacen(|_| true, "?", 1)];
        Paths(self.0.iter().flat_map(under).chain(["*".into(), "/".into()]).collect())
    }

    fn one(&self, r: &mut Random) -> String {
        if self.0.is_empty() { "a".into() } else { self.0[r.below(self.0.len())].clone() }
    }

    /// A pattern of an ignore file.
    fn pattern(&self, r: &mut Random) -> String {
        let path = self.one(r);
        let mut parts: Vec<&str> = path.split('/').collect();
        match r.below(100) {
            0..30 => path,
            30..45 => {
                let at = r.below(parts.len());
                parts[at] = r.of(WILD);
                parts.join("/")
            }
            45..60 => format!("**/{}", parts[parts.len() - 1]),
            60..70 => format!("{}/**", parts[0]),
            70..82 => r.of(PATTERNS).into(),
            _ => parts[parts.len() - 1].into(),
        }
    }

    /// A source of COPY or ADD.
    pub(super) fn source(&self, r: &mut Random, parents: bool) -> String {
        let path = self.one(r);
        let mut parts: Vec<&str> = path.split('/').collect();
        if parents && r.percent(40) {
            parts.insert(r.below(parts.len()), ".");
            if r.percent(40) {
                let at = r.below(parts.len());
                parts[at] = r.of(&["*", "**", "[ab]*", "?", "."]);
            }
            return parts.join("/");
        }
        match r.below(100) {
            0..55 => path,
            55..62 => format!("{}{path}", r.of(&["./", "/"])),
            62..67 => format!("{path}/"),
            67..74 => ".".into(),
            74..88 => {
                let at = r.below(parts.len());
                parts[at] = r.of(&["*", "?", "a*", "[ab]", "*b*", "[^a]", "[a-b]*", "\\a"]);
                parts.join("/")
            }
            88..92 => {
                let last = parts.len() - 1;
                parts[last] = "*";
                parts.join("/")
            }
            92..96 => format!("{path}{}", r.of(&["/.", "/.."])),
            _ => r
                .of(&[
                    "*", "*/*", "a*", "a/..", "./*", "a/./b", "a/../b", "../a", "/", "**", "h\\*", "g[[]1]",
                ])
                .into(),
        }
    }
}

/// Makes a case.
pub(super) fn case(r: &mut Random) -> Case {
    let mut context = tree(r);
    let paths = Paths::of(&context);
    let mut other = if r.percent(30) { tree(r) } else { Vec::new() };
    let others = Paths::of(&other);
    if !other.is_empty() && r.percent(50) {
        other.push(ignored(r, ".dockerignore", &others));
    }
    if r.percent(30) {
        let name = r.of(&[".dockerignore", ".dockerignore", "Dockerfile.dockerignore"]);
        context.push(ignored(r, name, &paths));
    }
    let mut lines = vec!["FROM scratch AS s0".to_owned()];
    let stages = r.of(&[1, 1, 2]);
    for stage in 0..stages {
        if stage == 1 {
            lines.push(r.of(&["FROM scratch AS s1", "FROM s0 AS s1"]).into());
        }
        for _ in 0..1 + r.below(4) {
            let mut from = Vec::new();
            if stage == 1 {
                from.push(("s0", paths.copied()));
            }
            if !other.is_empty() {
                from.push(("other", Paths(others.0.clone())));
            }
            lines.push(line(r, &paths, &from, PLACES, Owners::Numbers));
            if r.percent(10) {
                lines.push(format!("WORKDIR {}", r.of(&["/w", "d", "/a/b"])));
            }
        }
    }
    Case { dockerfile: lines.join("\n") + "\n", context, other, ..Case::default() }
}

/// Whom files can be given to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// There is no file with names.
    Numbers,
    /// The image has users and groups.
    Names,
}

/// A COPY or ADD of some paths of the context, or of what a name has with its paths.
pub(super) fn line(
    r: &mut Random,
    paths: &Paths,
    from: &[(&str, Paths)],
    places: &[&str],
    owners: Owners,
) -> String {
    let copy = r.percent(75);
    let mut words = vec![if copy { "COPY" } else { "ADD" }.to_owned()];
    let mut paths = paths;
    if copy && !from.is_empty() && r.percent(35) {
        let (name, theirs) = &from[r.below(from.len())];
        words.push(format!("--from={name}"));
        paths = theirs;
    } else if r.percent(6) {
        let end = r.of(&["EOF", "file.txt"]);
        let quoted =
            r.of(&[format!("<<{end}"), format!("<<'{end}'"), format!("<<-{end}")].each_ref()).clone();
        return format!("{} {quoted} {}\nhello $A\n\t${{B:-x}} \\$q\n{end}", words[0], r.of(places));
    }
    let parents = copy && r.percent(30);
    if parents {
        words.push("--parents".into());
    }
    while r.percent(20) {
        let pattern = paths.pattern(r);
        // A blank would end the flag, and BuildKit garbles what is beyond ASCII in one.
        if pattern.is_ascii() && !pattern.contains(' ') {
            words.push(format!("--exclude={}{pattern}", if r.percent(20) { "!" } else { "" }));
        }
    }
    if r.percent(12) {
        words.push(format!("--chown={}", owner(r, owners)));
    }
    if r.percent(15) {
        let modes = [
            "700",
            "u=rwX,go=rX",
            "4750",
            "g+w",
            "0",
            "u+x",
            "go-rwx",
            "a=rX",
            "1777",
            "+t",
            "u+s",
            "o=u",
            "a-x+X",
        ];
        words.push(format!("--chmod={}", r.of(&modes)));
    }
    if r.percent(12) {
        words.push(r.of(&["--link", "--link=true", "--link=false"]).into());
    }
    if !copy && r.percent(15) {
        words.push(r.of(&["--unpack", "--unpack=false", "--unpack=true"]).into());
    }
    let mut last: Vec<String> = (0..r.of(&[1, 1, 1, 2, 3])).map(|_| paths.source(r, parents)).collect();
    let several = last.len() > 1;
    last.push(r.of(places).into());
    if let Some(place) = last.last_mut().filter(|p| several && !p.ends_with('/')) {
        place.push('/');
    }
    if last.iter().any(|w| w.contains([' ', '[', '\\'])) || r.percent(20) {
        words.push(serde_json::Value::from(last).to_string());
    } else {
        words.extend(last);
    }
    words.join(" ")
}

fn owner(r: &mut Random, owners: Owners) -> &'static str {
    let names = ["nobody", "root:1000", "daemon:daemon", "nosuch", "mail", "5:nosuch", "$U", "-1", ":"];
    match owners {
        Owners::Names if r.percent(60) => r.of(&names),
        _ => r.of(&["5:6", "7", "0:9", ":7", "1000:", "0:0"]),
    }
}

fn ignored(r: &mut Random, name: &str, paths: &Paths) -> Item {
    let mut text = String::new();
    for _ in 0..1 + r.below(5) {
        let not = if r.percent(35) { "!" } else { "" };
        text.push_str(&format!("{not}{}\n", paths.pattern(r)));
    }
    Item::text(name, &text)
}

/// The files of a context: directories in directories, and what can lie in them.
pub(super) fn tree(r: &mut Random) -> Vec<Item> {
    let mut out: Vec<Item> = Vec::new();
    let mut dirs = vec![String::new()];
    for _ in 0..5 + r.below(14) {
        let path = format!("{}{}", dirs[r.below(dirs.len())], r.of(NAMES));
        if out.iter().any(|i| i.path == path) {
            continue;
        }
        let owner = r.percent(25).then(|| (r.of(&[0, 5, 1000]), r.of(&[0, 7, 1000])));
        let mode = |r: &mut Random, modes| r.percent(35).then(|| r.of(modes));
        let files: Vec<&String> =
            out.iter().filter(|i| matches!(i.what, What::File(_))).map(|i| &i.path).collect();
        let item = match r.below(100) {
            0..42 => {
                dirs.push(format!("{path}/"));
                Item { what: What::Directory, mode: mode(r, DIRECTORY_MODES), owner, path }
            }
            42..76 => {
                let bytes = if r.percent(8) { Vec::new() } else { format!("{path}\n").into_bytes() };
                Item { what: What::File(bytes), mode: mode(r, FILE_MODES), owner, path }
            }
            76..90 => {
                let name = r.of(NAMES);
                let to = match r.below(9) {
                    0..3 => name.into(),
                    3 => format!("../{name}"),
                    4 => format!("/{name}"),
                    5 => format!("a/{name}"),
                    n => [".", "..", "../.."][n - 6].into(),
                };
                Item { what: What::Symlink(to), mode: None, owner, path }
            }
            90..94 if !files.is_empty() => {
                Item { what: What::HardLink(r.of(&files).clone()), mode: None, owner: None, path }
            }
            94..96 => Item { what: What::Fifo, mode: None, owner, path },
            _ => Item { what: What::File(archive(r)), mode: None, owner, path },
        };
        out.push(item);
    }
    out
}

/// A small tar, which ADD unpacks.
fn archive(r: &mut Random) -> Vec<u8> {
    let mut content = MemoryContent::default();
    let entry = |path: &str, kind, mode, uid| Entry {
        path: path.into(),
        kind,
        attrs: Attrs { mode, uid, ..Attrs::default() },
    };
    let mut entries = vec![
        entry("td", Kind::Directory { opaque: false }, r.of(&[0o755, 0o700]), 0),
        entry("td/l", Kind::Symlink { target: r.of(&["../t0", "/abs", "x"]).into() }, 0o777, 0),
    ];
    for n in 0..1 + r.below(3) {
        let text = format!("T{n}");
        let kind = Kind::File { size: text.len() as u64, digest: content.add(text.as_bytes()) };
        entries.push(entry(&format!("t{n}"), kind, r.of(&[0o644, 0o600, 0o755, 0o4755]), r.of(&[0, 9])));
    }
    let compression = r.of(&[Compression::None, Compression::Gzip(5), Compression::Zstd(3)]);
    let made = LayerIndex::from_entries(entries).map_err(|e| e.to_string()).and_then(|index| {
        let mut out = Encoder::new(Vec::new(), compression, 1).map_err(|e| e.to_string())?;
        oci::tar::write_layer(&index, &content, &mut out).map_err(|e| e.to_string())?;
        out.finish().map_err(|e| e.to_string())
    });
    made.expect("a sound archive in memory")
}
