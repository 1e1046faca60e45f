//! Five projects and their commits, generated: the same on each run.
//!
//! The files are made up; the kinds of commits and how often each occurs are those of such projects: most commits touch one source, a template or
//! a test, some only documentation, few the dependencies. Steps do what such steps do (compile, bundle, test, collect), on files
//! that are many enough to take a while.

use std::collections::BTreeMap;

use crate::random::Random;

/// A kind of commit: how often of 100, what it is called, which files it may touch (a prefix and a suffix), and how many of them.
type Kind = (usize, &'static str, &'static str, &'static str, usize);

/// A project at one commit.
pub(super) struct Project {
    pub(super) name: &'static str,
    pub(super) dockerfile: &'static str,
    pub(super) files: BTreeMap<String, String>,
    kinds: &'static [Kind],
    random: Random,
}

impl Project {
    fn new(
        name: &'static str,
        dockerfile: &'static str,
        kinds: &'static [Kind],
        files: Vec<(String, String)>,
    ) -> Project {
        let seed = name.bytes().fold(7, |s: u64, b| s.wrapping_mul(31).wrapping_add(u64::from(b)));
        Project {
            name,
            dockerfile,
            files: files.into_iter().collect(),
            kinds,
            random: Random::from_state(seed),
        }
    }

    /// Makes the next commit; says what it is.
    pub(super) fn commit(&mut self, number: usize) -> String {
        let total: usize = self.kinds.iter().map(|k| k.0).sum();
        let mut at = self.random.below(total);
        let kinds = self.kinds;
        let mut kind = &kinds[0];
        for k in kinds {
            kind = k;
            if at < k.0 {
                break;
            }
            at -= k.0;
        }
        let (_, what, prefix, suffix, count) = *kind;
        let fits = |p: &&String| p.starts_with(prefix) && p.ends_with(suffix);
        let paths: Vec<String> = self.files.keys().filter(fits).cloned().collect();
        let mut touched = Vec::new();
        for _ in 0..count {
            let path = &paths[self.random.below(paths.len())];
            if let Some(text) = self.files.get_mut(path) {
                edit(path, text, number);
                touched.push(path.clone());
            }
        }
        format!("{what} ({})", touched.join(", "))
    }
}

/// One more line, in the language of the file; every third commit to a source changes no more than a comment.
fn edit(path: &str, text: &mut String, n: usize) {
    let suffix = path.rsplit('.').next().unwrap_or_default();
    let comment = n.is_multiple_of(3);
    let line = match (suffix, comment) {
        ("py", true) => format!("# note {n}\n"),
        ("py", false) => format!("def added_{n}():\n    return {n}\n"),
        ("c" | "h" | "js" | "rs", true) => format!("/* note {n} */\n"),
        ("c", false) => format!("int added_{n}(void) {{ return {n}; }}\n"),
        ("h", false) => format!("#define ADDED_{n} {n}\n"),
        ("js", false) => format!("exports.added{n} = () => {n};\n"),
        ("rs", false) => format!("pub fn added_{n}() -> u32 {{ {n} }}\n"),
        ("txt", _) => format!("package{n}==1.{n}\n"),
        ("json", _) => {
            *text = text.replacen("\"version\": ", &format!("\"dep{n}\": \"1.{n}\",\n\"version\": "), 1);
            return;
        }
        ("css", _) => format!(".c{n} {{ width: {n}px }}\n"),
        ("po", _) => format!("msgid \"m{n}\"\nmsgstr \"n{n}\"\n"),
        _ => format!("line {n}\n"),
    };
    text.push_str(&line);
}

fn many(
    count: usize,
    path: impl Fn(usize) -> String,
    text: impl Fn(usize) -> String,
) -> Vec<(String, String)> {
    (0..count).map(|n| (path(n), text(n))).collect()
}

fn one(path: &str, text: &str) -> Vec<(String, String)> {
    vec![(path.to_owned(), text.to_owned())]
}

/// All histories.
pub(super) fn all() -> Vec<Project> {
    vec![django(), c(), node(), rust(), site()]
}

const INSTALL_PY: &str = r#"import os, py_compile, sys
# Stands for an installer: each package is some modules that are written and compiled.
for line in open(sys.argv[1]):
    name = line.split("==")[0].strip()
    where = "/opt/site/" + name
    os.makedirs(where, exist_ok=True)
    for n in range(40):
        path = "%s/m%d.py" % (where, n)
        with open(path, "w") as f:
            f.write("".join("def f%d(x):\n    return [x + %d for x in range(x)]\n" % (i, i + n) for i in range(60)))
        py_compile.compile(path)
"#;

fn django() -> Project {
    let dockerfile = r#"FROM replay/base
WORKDIR /app
COPY tools/install.py requirements.txt ./
RUN python3 install.py requirements.txt
COPY . .
RUN python3 -m compileall -q shop
RUN python3 tools/messages.py locale /srv/messages
RUN python3 tools/static.py static /srv/static
RUN python3 tools/templates.py shop/templates
RUN python3 -m unittest discover -q -s tests
CMD ["python3", "manage.py"]
"#;
    const KINDS: &[Kind] = &[
        (26, "a view", "shop/views", ".py", 1),
        (10, "a model and its test", "shop/models", ".py", 1),
        (18, "a template", "shop/templates", ".html", 1),
        (12, "styles", "static/", ".css", 1),
        (12, "a test", "tests/", ".py", 1),
        (10, "documentation", "docs/", ".md", 1),
        (6, "translations", "locale/", ".po", 1),
        (3, "requirements", "requirements", ".txt", 1),
        (3, "a refactoring", "shop/views", ".py", 4),
    ];
    let walk = |work: &str| {
        format!(
            "import hashlib, os, sys\nfor top, dirs, names in os.walk(sys.argv[1]):\n    for name in sorted(names):\n        data = open(os.path.join(top, name), 'rb').read()\n{work}"
        )
    };
    let copy = walk(
        "        os.makedirs(sys.argv[2], exist_ok=True)\n        for n in range(300):\n            key = hashlib.sha256(data * 20).hexdigest()\n        open('%s/%s-%s' % (sys.argv[2], key[:8], name), 'wb').write(data)\n",
    );
    let check = walk("        for n in range(300):\n            hashlib.sha256(data * 20).hexdigest()\n");
    let files = [
        one("requirements.txt", &(0..12).map(|n| format!("lib{n}==1.{n}\n")).collect::<String>()),
        one("manage.py", "import shop.views0\n"),
        one("tools/install.py", INSTALL_PY),
        one("tools/messages.py", &copy),
        one("tools/static.py", &copy),
        one("tools/templates.py", &check),
        one("README.md", "A shop.\n"),
        one("shop/__init__.py", ""),
        many(
            30,
            |n| format!("shop/views{n}.py"),
            |n| format!("from shop import models{}\ndef view():\n    return {n}\n", n % 10),
        ),
        many(10, |n| format!("shop/models{n}.py"), |n| format!("class M{n}:\n    size = {n}\n")),
        many(40, |n| format!("shop/templates/t{n}.html"), |n| format!("<p>{n}</p>\n").repeat(50)),
        many(30, |n| format!("static/s{n}.css"), |n| format!(".a{n} {{ top: {n}px }}\n").repeat(60)),
        many(12, |n| format!("locale/l{n}.po"), |n| format!("msgid \"{n}\"\nmsgstr \"{n}\"\n").repeat(60)),
        many(
            20,
            |n| format!("tests/test_{n}.py"),
            |n| {
                format!(
                    "import sys, time, unittest\nsys.path.insert(0, '/app')\nfrom shop import views{n}\nclass T(unittest.TestCase):\n    def test(self):\n        time.sleep(0.02)\n        self.assertEqual(views{n}.view(), {n})\n"
                )
            },
        ),
        many(10, |n| format!("docs/d{n}.md"), |n| format!("# {n}\n")),
    ];
    Project::new("django", dockerfile, KINDS, files.concat())
}

fn c() -> Project {
    let dockerfile = r#"FROM replay/base AS build
WORKDIR /src
COPY . .
RUN make -s -C core
RUN make -s -C net
RUN make -s -C app
RUN sh tests/run.sh
RUN sh docs/build.sh /out/man
FROM replay/base
COPY --from=build /src/app/app /usr/local/bin/app
COPY --from=build /out/man /usr/share/man
RUN app > /version
"#;
    const KINDS: &[Kind] = &[
        (24, "a source of core", "core/", ".c", 1),
        (22, "a source of net", "net/", ".c", 1),
        (14, "the program", "app/", ".c", 1),
        (6, "a header of net", "net/", ".h", 1),
        (14, "a test", "tests/case", ".sh", 1),
        (14, "documentation", "docs/", ".md", 1),
        (6, "other files", "", "EWS", 1),
    ];
    let lib = "OBJS := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))\nlib.a: $(OBJS)\n\tar rcsD $@ $^\n%.o: %.c $(wildcard *.h)\n\tgcc -O2 -c -o $@ $<\n";
    let source = |part: &'static str| {
        move |n: usize| {
            let body: String = (0..40).map(|i| format!("int {part}{n}_{i}(int x) {{ int s = 0; for (int k = 0; k < x; k++) s += k * {i} ^ {n}; return s; }}\n")).collect();
            format!("#include \"{part}.h\"\n{body}")
        }
    };
    let files = [
        one("core/Makefile", lib),
        one("core/core.h", "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"),
        many(24, |n| format!("core/c{n}.c"), source("core")),
        one("net/Makefile", lib),
        one("net/net.h", "#include <sys/socket.h>\n#include <netinet/in.h>\n"),
        many(24, |n| format!("net/n{n}.c"), source("net")),
        one("app/Makefile", "app: main.c util.c ../core/lib.a ../net/lib.a\n\tgcc -O2 -o $@ $^\n"),
        one(
            "app/main.c",
            "#include <stdio.h>\nint core0_1(int); int net1_2(int); int util(void);\nint main(void) { printf(\"%d\\n\", core0_1(9) + net1_2(9) + util()); return 0; }\n",
        ),
        one("app/util.c", "int util(void) { return 1; }\n"),
        one("tests/run.sh", "for t in tests/case*.sh; do sh $t || exit 1; done\n"),
        many(
            12,
            |n| format!("tests/case{n}.sh"),
            |n| format!("app/app | grep -q . && sleep 0.05 # {n}\nline() {{ :; }}\n"),
        ),
        one(
            "docs/build.sh",
            "mkdir -p $1; for d in docs/*.md; do sed 's/^# /.TH /' $d > $1/$(basename $d .md).1; sleep 0.02; done\n",
        ),
        many(10, |n| format!("docs/d{n}.md"), |n| format!("# {n}\n")),
        one("NEWS", "1\n"),
    ];
    Project::new("c-make", dockerfile, KINDS, files.concat())
}

const INSTALL_JS: &str = r#"// Stands for an installer: each dependency is some modules that are written.
const fs = require('fs');
const lock = JSON.parse(fs.readFileSync('package.json'));
for (const name of Object.keys(lock.dependencies)) {
  const where = `node_modules/${name}`;
  fs.mkdirSync(where, { recursive: true });
  for (let n = 0; n < 120; n++) {
    let text = '';
    for (let i = 0; i < 100; i++) text += `exports.f${i} = x => x * ${i + n};\n`;
    fs.writeFileSync(`${where}/m${n}.js`, text);
  }
  fs.writeFileSync(`${where}/index.js`, "module.exports = require('./m0.js');\n");
}
"#;

fn node() -> Project {
    let dockerfile = r#"FROM replay/base AS build
WORKDIR /web
COPY package.json tools/install.js ./
RUN node install.js
COPY . .
RUN node tools/lint.js src
RUN node tools/bundle.js src dist/app.js
RUN node tools/bundle.js admin dist/admin.js
RUN node tools/assets.js public dist/assets
RUN node test/run.js
FROM replay/base
COPY --from=build /web/dist /srv
RUN ls /srv | sort > /srv/manifest
"#;
    const KINDS: &[Kind] = &[
        (30, "a component", "src/", ".js", 1),
        (12, "the administration", "admin/", ".js", 1),
        (16, "styles", "public/", ".css", 1),
        (16, "a test", "test/case", ".js", 1),
        (12, "documentation", "docs/", ".md", 1),
        (5, "dependencies", "package", ".json", 1),
        (9, "a feature", "src/", ".js", 3),
    ];
    let head = "const fs = require('fs'), path = require('path'), crypto = require('crypto');\nconst files = fs.readdirSync(process.argv[2]).sort().map(n => path.join(process.argv[2], n));\nconst work = t => { for (let n = 0; n < 200; n++) crypto.createHash('sha256').update(t.repeat(20)).digest('hex'); return t; };\n";
    let files = [
        one(
            "package.json",
            "{\n\"name\": \"web\",\n\"dependencies\": {\n\"a\": \"1\", \"b\": \"1\", \"c\": \"1\", \"d\": \"1\",\n\"version\": \"1.0\"\n}\n}\n",
        ),
        one("tools/install.js", INSTALL_JS),
        one(
            "tools/lint.js",
            &format!(
                "{head}for (const f of files) new Function('exports', 'require', work(fs.readFileSync(f, 'utf8')));\n"
            ),
        ),
        one(
            "tools/bundle.js",
            &format!(
                "{head}require('/web/node_modules/a');\nfs.mkdirSync('dist', {{ recursive: true }});\nfs.writeFileSync(process.argv[3], files.map(f => work(fs.readFileSync(f, 'utf8')).replace(/\\/\\*.*?\\*\\//g, '').trim()).join('\\n'));\n"
            ),
        ),
        one(
            "tools/assets.js",
            &format!(
                "{head}fs.mkdirSync(process.argv[3], {{ recursive: true }});\nfor (const f of files) fs.writeFileSync(path.join(process.argv[3], path.basename(f)), work(fs.readFileSync(f, 'utf8')).replace(/ +/g, ' '));\n"
            ),
        ),
        one(
            "test/run.js",
            "const fs = require('fs');\nfor (const n of fs.readdirSync('test').sort()) if (n.startsWith('case')) require('/web/test/' + n);\n",
        ),
        many(
            16,
            |n| format!("test/case{n}.js"),
            |n| {
                format!(
                    "const m = require('/web/src/s{n}.js');\nif (m.f({n}) !== {}) throw new Error('{n}');\n",
                    n * 2
                )
            },
        ),
        many(
            40,
            |n| format!("src/s{n}.js"),
            |n| {
                format!(
                    "exports.f = x => x + {n};\n{}",
                    format!("exports.g{n} = x => [x, {n}];\n").repeat(30)
                )
            },
        ),
        many(20, |n| format!("admin/a{n}.js"), |n| format!("exports.f = x => x + {n};\n").repeat(30)),
        many(30, |n| format!("public/p{n}.css"), |n| format!(".a{n}   {{ top:   {n}px }}\n").repeat(60)),
        many(8, |n| format!("docs/d{n}.md"), |n| format!("# {n}\n")),
    ];
    Project::new("node", dockerfile, KINDS, files.concat())
}

fn rust() -> Project {
    let dockerfile = r#"FROM replay/base AS build
WORKDIR /src
COPY . .
RUN mkdir -p /out && rustc -O --edition 2021 --crate-type lib --crate-name model -o /out/libmodel.rlib model/lib.rs
RUN rustc -O --edition 2021 --crate-type lib --crate-name parser -o /out/libparser.rlib parser/lib.rs
RUN rustc -O --edition 2021 --extern model=/out/libmodel.rlib --extern parser=/out/libparser.rlib -o /out/app app/main.rs
RUN rustc --edition 2021 --test --crate-name parser -o /tmp/t parser/lib.rs && /tmp/t -q && rm /tmp/t
RUN sh migrations/check.sh
FROM replay/base
COPY --from=build /out/app /usr/local/bin/
RUN app > /version
"#;
    const KINDS: &[Kind] = &[
        (24, "the model", "model/", ".rs", 1),
        (22, "the parser", "parser/", ".rs", 1),
        (22, "the program", "app/", ".rs", 1),
        (12, "a migration", "migrations/", ".sql", 1),
        (14, "documentation", "docs/", ".md", 1),
        (6, "two crates", "", ".rs", 2),
    ];
    let body = |n: usize| {
        (0..20)
            .map(|i| format!("pub fn f{n}_{i}(x: u64) -> u64 {{ (0..x).map(|k| k * {i} ^ {n}).sum() }}\n"))
            .collect::<String>()
    };
    let modules = |count: usize| (0..count).map(|n| format!("pub mod m{n};\n")).collect::<String>();
    let files = [
        one("model/lib.rs", &modules(10)),
        many(10, |n| format!("model/m{n}.rs"), body),
        one(
            "parser/lib.rs",
            &format!("{}#[test]\nfn sums() {{ assert_eq!(m0::f0_1(3), 3); }}\n", modules(10)),
        ),
        many(10, |n| format!("parser/m{n}.rs"), body),
        one(
            "app/main.rs",
            "mod cli;\nfn main() { println!(\"{}\", model::m0::f0_1(9) + parser::m1::f1_2(9) + cli::one()); }\n",
        ),
        one("app/cli.rs", "#![allow(dead_code)]\npub fn one() -> u64 { 1 }\n"),
        one(
            "migrations/check.sh",
            "for f in migrations/*.sql; do grep -q . $f && sleep 0.02 || exit 1; done\n",
        ),
        many(15, |n| format!("migrations/{n:03}.sql"), |n| format!("create table t{n} (id int);\n")),
        many(8, |n| format!("docs/d{n}.md"), |n| format!("# {n}\n")),
    ];
    Project::new("rust", dockerfile, KINDS, files.concat())
}

fn site() -> Project {
    let dockerfile = r#"FROM replay/base AS build
WORKDIR /site
COPY . .
RUN python3 tools/pages.py content/blog /out/blog
RUN python3 tools/pages.py content/manual /out/manual
RUN python3 tools/pages.py content/about /out/about
RUN python3 tools/index.py content /out/search.json
RUN python3 tools/copy.py assets /out/assets
FROM replay/base
COPY --from=build /out /srv
RUN find /srv -type f | sort > /manifest
"#;
    const KINDS: &[Kind] = &[
        (36, "a post", "content/blog/", ".md", 1),
        (24, "the manual", "content/manual/", ".md", 1),
        (6, "about", "content/about/", ".md", 1),
        (16, "styles", "assets/", ".css", 1),
        (5, "the layout", "layout/", ".html", 1),
        (13, "notes that are not published", "notes/", ".md", 1),
    ];
    let pages = "import hashlib, os, sys\nlayout = open('layout/page.html').read()\nos.makedirs(sys.argv[2], exist_ok=True)\nfor name in sorted(os.listdir(sys.argv[1])):\n    text = open(os.path.join(sys.argv[1], name)).read()\n    for n in range(300):\n        hashlib.sha256((text * 20).encode()).hexdigest()\n    open('%s/%s.html' % (sys.argv[2], name[:-3]), 'w').write(layout.replace('BODY', text))\n";
    let index = "import json, os, sys\nwords = {}\nfor top, dirs, names in os.walk(sys.argv[1]):\n    for name in sorted(names):\n        for word in open(os.path.join(top, name)).read().split():\n            words.setdefault(word, []).append(name)\njson.dump({w: sorted(set(n)) for w, n in sorted(words.items())}, open(sys.argv[2], 'w'))\n";
    let copy = "import os, shutil, sys\nos.makedirs(sys.argv[2], exist_ok=True)\nfor name in sorted(os.listdir(sys.argv[1])):\n    shutil.copy(os.path.join(sys.argv[1], name), sys.argv[2])\n";
    let text = |n: usize| format!("# {n}\nSome words on {n} and more of them.\n").repeat(40);
    let files = [
        one("tools/pages.py", pages),
        one("tools/index.py", index),
        one("tools/copy.py", copy),
        one("layout/page.html", "<html>BODY</html>\n"),
        many(60, |n| format!("content/blog/p{n}.md"), text),
        many(40, |n| format!("content/manual/m{n}.md"), text),
        many(5, |n| format!("content/about/a{n}.md"), text),
        many(20, |n| format!("assets/s{n}.css"), |n| format!(".a{n} {{}}\n").repeat(100)),
        many(10, |n| format!("notes/n{n}.md"), text),
    ];
    Project::new("site", dockerfile, KINDS, files.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_the_same_on_each_run_and_every_commit_changes_something() {
        for (mut a, mut b) in all().into_iter().zip(all()) {
            for n in 1..30 {
                let before = a.files.clone();
                assert_eq!(a.commit(n), b.commit(n));
                assert_ne!(a.files, before, "{} {n}", a.name);
            }
            assert_eq!(a.files, b.files);
            let sum: usize = a.kinds.iter().map(|k| k.0).sum();
            assert_eq!(sum, 100, "{}", a.name);
        }
    }
}
