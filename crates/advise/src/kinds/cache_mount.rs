//! A package manager's downloads belong in a cache mount: there the next build finds them, and no layer has them.
//!
//! Two signs: the layer of a RUN holds files in a known cache directory; or the RUN deletes such a directory at its end, so that nothing
//! stays, but every build downloads everything again. The mount is added to every RUN of the stage that uses the directory, and commands
//! that do nothing but clear it are taken out. (pip's cache that stays has a flag of its own: see `flags`.)
//!
//! When it is right: no COPY takes from the directory, and the RUN is root's, since a new cache mount belongs to root.

use crate::facts::{Facts, Stage, Step, is_below};
use crate::kinds::flags::home;
use crate::kinds::size;
use crate::shell::{self, Command};
use crate::{Advice, Edit, Kind, Worth};

struct Cache {
    name: &'static str,
    programs: &'static [&'static str],
    /// Directories; those with `~` are in HOME.
    dirs: &'static [&'static str],
    /// Commands whose only effect is to clear it: program and arguments in front.
    clears: &'static [&'static [&'static str]],
    /// Files that stay are this kind's matter.
    left: bool,
}

const CACHES: &[Cache] = &[
    Cache {
        name: "npm",
        programs: &["npm", "npx"],
        dirs: &["~/.npm"],
        clears: &[&["npm", "cache", "clean"], &["npm", "cache", "verify"]],
        left: true,
    },
    Cache {
        name: "yarn",
        programs: &["yarn", "yarnpkg"],
        dirs: &["/usr/local/share/.cache/yarn", "~/.cache/yarn", "~/.yarn/berry/cache"],
        clears: &[&["yarn", "cache", "clean"]],
        left: true,
    },
    Cache { name: "pnpm", programs: &["pnpm"], dirs: &["~/.cache/pnpm"], clears: &[], left: true },
    Cache {
        name: "pip",
        programs: &["pip", "pip3", "python", "python3"],
        dirs: &["~/.cache/pip"],
        clears: &[&["pip", "cache", "purge"], &["pip3", "cache", "purge"]],
        left: false,
    },
    Cache {
        name: "uv",
        programs: &["uv"],
        dirs: &["~/.cache/uv"],
        clears: &[&["uv", "cache", "clean"]],
        left: true,
    },
    Cache {
        name: "poetry",
        programs: &["poetry"],
        dirs: &["~/.cache/pypoetry"],
        clears: &[&["poetry", "cache", "clear"]],
        left: true,
    },
    Cache {
        name: "go",
        programs: &["go", "make"],
        dirs: &["/go/pkg/mod", "~/go/pkg/mod", "~/.cache/go-build"],
        clears: &[&["go", "clean", "-modcache"], &["go", "clean", "-cache"]],
        left: true,
    },
    Cache {
        name: "cargo",
        programs: &["cargo"],
        dirs: &["/usr/local/cargo/registry", "/usr/local/cargo/git", "~/.cargo/registry", "~/.cargo/git"],
        clears: &[],
        left: true,
    },
    Cache { name: "maven", programs: &["mvn", "mvnw"], dirs: &["~/.m2"], clears: &[], left: true },
    Cache { name: "gradle", programs: &["gradle", "gradlew"], dirs: &["~/.gradle"], clears: &[], left: true },
    Cache {
        name: "composer",
        programs: &["composer"],
        dirs: &["~/.composer/cache", "~/.cache/composer"],
        clears: &[&["composer", "clear-cache"], &["composer", "clearcache"]],
        left: true,
    },
    Cache { name: "nuget", programs: &["dotnet"], dirs: &["~/.local/share/NuGet"], clears: &[], left: true },
];

fn absolute(dir: &str, home: &str) -> String {
    dir.strip_prefix('~').map_or_else(|| dir.to_owned(), |rest| format!("{home}{rest}"))
}

/// The path of a word without what a glob at its end stands for, `~` and `$HOME` put in.
fn path_of(raw: &str, home: &str) -> String {
    let raw = raw.trim_matches(['"', '\'']);
    let raw = raw.strip_suffix("/*").unwrap_or(raw).trim_end_matches('/');
    for start in ["~/", "$HOME/", "${HOME}/"] {
        if let Some(rest) = raw.strip_prefix(start) {
            return format!("{home}/{rest}");
        }
    }
    raw.to_owned()
}

/// What of a command clears the cache: all of it, or some of its words.
fn clearing(c: &Command, cache: &Cache, dirs: &[String], home: &str) -> Option<Vec<usize>> {
    let raw: Vec<&str> = c.words.iter().map(|w| w.raw.as_str()).collect();
    if cache.clears.iter().any(|k| raw.starts_with(k)) {
        return Some(Vec::new());
    }
    if c.program() != Some("rm") {
        return None;
    }
    let paths: Vec<usize> = (1..raw.len()).filter(|&n| !raw[n].starts_with('-')).collect();
    let hit: Vec<usize> = paths
        .iter()
        .copied()
        .filter(|&n| {
            let p = path_of(raw[n], home);
            // `~/.cache` as a whole holds pip's, too.
            dirs.iter().any(|d| is_below(d.as_bytes(), p.as_bytes()) || is_below(p.as_bytes(), d.as_bytes()))
                && p.len() > home.len() + 1
        })
        .collect();
    match hit.len() {
        0 => None,
        n if n == paths.len() => Some(Vec::new()),
        _ => Some(hit),
    }
}

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in &facts.stages {
        for (n, step) in stage.steps.iter().enumerate() {
            for cache in CACHES {
                out.extend(advice(facts, stage, n, step, cache));
            }
        }
    }
}

fn touches(step: &Step, dir: &str) -> bool {
    let dir = dir.trim_start_matches('/').as_bytes();
    let read = step.reads.iter().flatten().any(|o| is_below(&o.path, dir) && o.path != dir);
    read || step.files_below(dir).next().is_some()
}

fn advice(facts: &Facts, stage: &Stage, n: usize, step: &Step, cache: &Cache) -> Option<Advice> {
    let (run, statement, script) = (step.run()?, facts.statement(step)?, facts.script(step)?);
    let used = |s: &shell::Script| {
        s.commands.iter().any(|c| c.program().is_some_and(|p| cache.programs.contains(&p)))
    };
    if !used(&script) || !matches!(run.user.as_str(), "" | "root" | "0" | "0:0" | "root:root") {
        return None;
    }
    let home = home(run);
    let dirs: Vec<String> = cache.dirs.iter().map(|d| absolute(d, home)).collect();
    let mounted = |d: &String| run.mounts.iter().any(|m| m.target.trim_end_matches('/') == d);
    if dirs.iter().any(mounted) {
        return None;
    }
    let bytes_of =
        |d: &String| step.files_below(d.trim_start_matches('/').as_bytes()).map(|(_, s)| s).sum::<u64>();
    let left: Vec<String> = dirs.iter().filter(|d| bytes_of(d) >= facts.min_bytes).cloned().collect();
    let mut edits = Vec::new();
    let mut gone = Vec::new();
    let mut deleted = Vec::new();
    if script.is_chain() {
        for (i, c) in script.commands.iter().enumerate() {
            let Some(words) = clearing(c, cache, &dirs, home) else { continue };
            if words.is_empty() {
                gone.push(i);
            }
            for w in words {
                edits.push(Edit::remove(c.words[w - 1].span.end, c.words[w].span.end));
            }
            let named = |d: &&String| {
                let path = |w: &shell::Word| path_of(&w.raw, home);
                c.args().iter().any(|w| {
                    is_below(path(w).as_bytes(), d.as_bytes()) || is_below(d.as_bytes(), path(w).as_bytes())
                })
            };
            deleted.extend(dirs.iter().filter(named).cloned());
            if deleted.is_empty() {
                deleted.extend(dirs.first().cloned());
            }
        }
    }
    let targets: Vec<String> =
        dirs.iter().filter(|d| deleted.contains(d) || (cache.left && left.contains(d))).cloned().collect();
    if targets.is_empty() {
        return None;
    }
    // A cache that a step without the mount needs must stay where it is.
    let mut others: Vec<&Step> = Vec::new();
    for s in &stage.steps[n + 1..] {
        if targets.iter().any(|d| touches(s, d)) {
            match (facts.script(s), s.run()) {
                (Some(_), Some(r)) if r.mounts.iter().all(|m| !targets.contains(&m.target)) => others.push(s),
                _ => return None,
            }
        }
    }
    if stage.steps[..n].iter().any(|s| {
        s.run().is_some()
            && targets.iter().any(|d| s.files_below(d.trim_start_matches('/').as_bytes()).next().is_some())
    }) {
        // The first of several is advised about, and takes the others along.
        return None;
    }
    if !gone.is_empty() {
        edits.extend(shell::without(&script, &gone)?);
    }
    let flags: String = targets.iter().map(|d| format!(" --mount=type=cache,target={d}")).collect();
    edits.push(Edit::insert(statement.keyword_span.end, flags.clone()));
    for s in &others {
        edits.push(Edit::insert(facts.statement(s)?.keyword_span.end, flags.clone()));
    }
    let bytes: u64 = targets.iter().map(bytes_of).sum();
    let why = if deleted.is_empty() {
        format!(
            "{} of downloads stay in the layer. In a cache mount they are in no layer, and the next build has them.",
            size(bytes)
        )
    } else {
        format!(
            "what is downloaded is deleted again, so each of its builds ({:.1} s) downloads everything. In a cache mount it is \
             in no layer either, and the next build has it.",
            step.seconds
        )
    };
    Some(Advice {
        kind: Kind::CacheMount,
        line: statement.first_line,
        title: format!("keep the cache of {} in a cache mount", cache.name),
        why,
        worth: Worth {
            bytes: if stage.shipped { bytes } else { 0 },
            build_bytes: if stage.shipped { 0 } else { bytes },
            seconds: if deleted.is_empty() { 0.0 } else { step.seconds },
        },
        edits,
        ignore: Vec::new(),
        probe: None,
        changes: targets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    fn found(facts: &Facts) -> Vec<Advice> {
        let mut out = Vec::new();
        find(facts, &mut out);
        out
    }

    #[test]
    fn a_cache_that_stays_is_mounted_wherever_it_is_used() {
        let facts = Scene::new("FROM base\nRUN go mod download\nCOPY . /src\nRUN go build\nRUN other\n")
            .step(2, vec![file("go/pkg/mod/x.go", 8000)], &[])
            .step(4, vec![file("out", 1)], &["go/pkg/mod/x.go"])
            .step(5, vec![], &["out"])
            .facts();
        let all = found(&facts);
        let mount = "--mount=type=cache,target=/go/pkg/mod";
        assert_eq!(
            after(&facts, &all[0]),
            format!("FROM base\nRUN {mount} go mod download\nCOPY . /src\nRUN {mount} go build\nRUN other\n")
        );
        assert_eq!((all[0].worth.bytes, all[0].changes[0].as_str()), (8000, "/go/pkg/mod"));
    }

    #[test]
    fn a_cache_that_is_deleted_is_kept_instead() {
        let facts = Scene::new(
            "FROM base\nRUN npm ci && \\\n    npm cache clean --force && \\\n    rm -rf /tmp/* /root/.npm\n",
        )
        .step(2, vec![file("app/x", 1)], &[])
        .facts();
        let all = found(&facts);
        assert_eq!(
            after(&facts, &all[0]),
            "FROM base\nRUN --mount=type=cache,target=/root/.npm npm ci && \\\n    rm -rf /tmp/*\n"
        );
        assert_eq!((all[0].worth.bytes, all[0].worth.seconds), (0, 1.0));
        let facts =
            Scene::new("FROM base\nRUN pip install x && rm -rf ~/.cache\n").step(2, vec![], &[]).facts();
        assert_eq!(
            after(&facts, &found(&facts)[0]),
            "FROM base\nRUN --mount=type=cache,target=/root/.cache/pip pip install x\n"
        );
    }

    #[test]
    fn not_for_pip_leftovers_and_not_where_a_copy_takes_them() {
        let facts = Scene::new("FROM base\nRUN pip install x\n")
            .step(2, vec![file("root/.cache/pip/a", 9000)], &[])
            .facts();
        assert_eq!(found(&facts), []);
        let facts = Scene::new("FROM base\nRUN npm ci\nCOPY x /root/.npm/x\n")
            .step(2, vec![file("root/.npm/a", 9000)], &[])
            .step(3, vec![file("root/.npm/x", 1)], &[])
            .facts();
        assert_eq!(found(&facts), []);
    }
}
