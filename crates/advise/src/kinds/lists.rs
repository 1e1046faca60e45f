//! Package lists and downloads that a package manager leaves in the layer of the RUN that used it. They go at the end of that RUN; in
//! one of their own they would stay.
//!
//! When it is right: no later RUN of the stage reads them. The lists are fetched again by the next `update`.

use crate::facts::{Facts, Stage, Step};
use crate::kinds::size;
use crate::{Advice, Edit, Kind, Worth};

struct Manager {
    programs: &'static [&'static str],
    left: &'static [Left],
}

/// Something that is left, and the words for `rm -rf` that clear it.
struct Left {
    what: &'static str,
    dirs: &'static [&'static str],
    clean: &'static str,
}

const MANAGERS: &[Manager] = &[
    Manager {
        programs: &["apt-get", "apt", "aptitude"],
        left: &[
            Left { what: "package lists", dirs: &["var/lib/apt/lists"], clean: "/var/lib/apt/lists/*" },
            // The package files, and the two caches of the lists, which are larger than the lists. (`apt-get clean` removes both, but
            // makes directories for lists again.)
            Left {
                what: "downloads and caches",
                dirs: &["var/cache/apt"],
                clean: "/var/cache/apt/archives/*.deb /var/cache/apt/*.bin",
            },
        ],
    },
    Manager {
        programs: &["dnf", "yum", "microdnf"],
        left: &[Left {
            what: "package lists and downloads",
            dirs: &["var/cache/dnf", "var/cache/yum", "var/cache/libdnf5"],
            clean: "/var/cache/dnf /var/cache/yum /var/cache/libdnf5",
        }],
    },
    Manager {
        programs: &["zypper"],
        left: &[Left {
            what: "package lists and downloads",
            dirs: &["var/cache/zypp"],
            clean: "/var/cache/zypp/*",
        }],
    },
    Manager {
        programs: &["pacman"],
        left: &[
            Left { what: "downloads", dirs: &["var/cache/pacman/pkg"], clean: "/var/cache/pacman/pkg/*" },
            Left { what: "package lists", dirs: &["var/lib/pacman/sync"], clean: "/var/lib/pacman/sync/*" },
        ],
    },
];

pub(super) fn find(facts: &Facts, out: &mut Vec<Advice>) {
    for stage in facts.stages.iter().filter(|s| s.shipped) {
        for (n, step) in stage.steps.iter().enumerate() {
            for m in MANAGERS {
                out.extend(advice(facts, stage, n, step, m));
            }
        }
    }
}

fn advice(facts: &Facts, stage: &Stage, n: usize, step: &Step, m: &Manager) -> Option<Advice> {
    let (script, statement) = (facts.script(step)?, facts.statement(step)?);
    let used = script.commands.iter().any(|c| c.program().is_some_and(|p| m.programs.contains(&p)));
    if !script.plain || !used {
        return None;
    }
    let bytes_of =
        |l: &Left| -> u64 { l.dirs.iter().map(|d| facts.live_bytes(stage, step, d.as_bytes())).sum() };
    let left: Vec<&Left> = m.left.iter().filter(|l| bytes_of(l) > 0).collect();
    let bytes: u64 = left.iter().map(|l| bytes_of(l)).sum();
    if bytes < facts.min_bytes {
        return None;
    }
    let dirs: Vec<&str> = left.iter().flat_map(|l| l.dirs).copied().collect();
    // A directory that is listed empty, too, on the way of an `update` is no use of what is in it.
    let files: std::collections::BTreeSet<Vec<u8>> =
        dirs.iter().flat_map(|d| step.files_below(d.as_bytes())).map(|(p, _)| p.to_vec()).collect();
    if stage.steps[n + 1..].iter().any(|s| s.run().is_some() && s.read_any(&files)) {
        return None;
    }
    let end = script.commands.last()?.span.end;
    let cleans: Vec<&str> = left.iter().map(|l| l.clean).collect();
    let text = format!(" && {}\n    rm -rf {}", facts.escape(), cleans.join(" "));
    let what = left.iter().map(|l| l.what).collect::<Vec<_>>().join(", ");
    Some(Advice {
        kind: Kind::Lists,
        line: statement.first_line,
        title: format!("remove the {what} of {} in the RUN that makes them", m.programs[0]),
        why: format!("{} of {what} stay in the layer; no later step reads them.", size(bytes)),
        worth: Worth { bytes, ..Worth::default() },
        edits: vec![Edit::insert(end, text)],
        ignore: Vec::new(),
        probe: None,
        changes: dirs.iter().map(|d| format!("/{d}")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    #[test]
    fn lists_go_at_the_end_of_the_run() {
        let scene = |reads: &[&'static str]| {
            Scene::new("FROM base\nRUN apt-get update && apt-get install -y x\nRUN other\n")
                .step(2, vec![file("var/lib/apt/lists/main", 9000), file("usr/x", 1)], &[])
                .step(3, vec![], reads)
                .facts()
        };
        let mut out = Vec::new();
        let facts = scene(&["usr/x"]);
        find(&facts, &mut out);
        assert_eq!((out.len(), out[0].worth.bytes), (1, 9000));
        assert_eq!(
            after(&facts, &out[0]),
            "FROM base\nRUN apt-get update && apt-get install -y x && \\\n    \
             rm -rf /var/lib/apt/lists/*\nRUN other\n"
        );
        out.clear();
        find(&scene(&["var/lib/apt/lists/main"]), &mut out);
        assert_eq!(out, [], "a later step reads them");
    }

    /// With lists removed already, they were removed a second time, and the caches of the lists stayed.
    #[test]
    fn only_what_is_left_is_cleared() {
        let facts = Scene::new(
            "FROM base\nRUN apt-get update && apt-get install -y x && rm -rf /var/lib/apt/lists/*\n",
        )
        .step(
            2,
            vec![file("var/cache/apt/pkgcache.bin", 7000), file("var/cache/apt/archives/x.deb", 2000)],
            &[],
        )
        .facts();
        let mut out = Vec::new();
        find(&facts, &mut out);
        assert_eq!((out.len(), out[0].worth.bytes), (1, 9000));
        assert_eq!(out[0].changes, ["/var/cache/apt"]);
        assert!(out[0].title.starts_with("remove the downloads and caches of apt-get"), "{}", out[0].title);
        assert!(
            after(&facts, &out[0])
                .ends_with("lists/* && \\\n    rm -rf /var/cache/apt/archives/*.deb /var/cache/apt/*.bin\n"),
            "{}",
            after(&facts, &out[0])
        );
    }

    #[test]
    fn lists_that_are_removed_later_are_the_matter_of_another_kind() {
        let facts = Scene::new("FROM base\nRUN apt-get update\nRUN rm -rf /var/lib/apt/lists/*\n")
            .step(2, vec![file("var/lib/apt/lists/main", 9000)], &[])
            .step(3, vec![gone("var/lib/apt/lists/main")], &[])
            .facts();
        let mut out = Vec::new();
        find(&facts, &mut out);
        assert_eq!(out, []);
    }
}
