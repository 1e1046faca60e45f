//! Package lists and downloads that a package manager leaves in the layer of the RUN that used it. They go at the end of that RUN; in
//! one of their own they would stay.
//!
//! When it is right: no later RUN of the stage reads them. The lists are fetched again by the next `update`.

use crate::facts::{Facts, Stage, Step};
use crate::kinds::size;
use crate::{Advice, Edit, Kind, Worth};

struct Manager {
    programs: &'static [&'static str],
    /// Directories whose content is left.
    dirs: &'static [&'static str],
    /// The command that clears them.
    clean: &'static str,
}

const MANAGERS: &[Manager] = &[
    Manager {
        programs: &["apt-get", "apt", "aptitude"],
        dirs: &["var/lib/apt/lists", "var/cache/apt/archives"],
        clean: "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb",
    },
    Manager {
        programs: &["dnf", "yum", "microdnf"],
        dirs: &["var/cache/dnf", "var/cache/yum", "var/cache/libdnf5"],
        clean: "rm -rf /var/cache/dnf /var/cache/yum /var/cache/libdnf5",
    },
    Manager { programs: &["zypper"], dirs: &["var/cache/zypp"], clean: "rm -rf /var/cache/zypp/*" },
    Manager {
        programs: &["pacman"],
        dirs: &["var/cache/pacman/pkg", "var/lib/pacman/sync"],
        clean: "rm -rf /var/cache/pacman/pkg/* /var/lib/pacman/sync/*",
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
    let bytes: u64 = m.dirs.iter().map(|d| facts.live_bytes(stage, step, d.as_bytes())).sum();
    if bytes < facts.min_bytes {
        return None;
    }
    // A directory that is listed empty, too, on the way of an `update` is no use of what is in it.
    let files: std::collections::BTreeSet<Vec<u8>> =
        m.dirs.iter().flat_map(|d| step.files_below(d.as_bytes())).map(|(p, _)| p.to_vec()).collect();
    if stage.steps[n + 1..].iter().any(|s| s.run().is_some() && s.read_any(&files)) {
        return None;
    }
    let end = script.commands.last()?.span.end;
    let text = format!(" && {}\n    {}", facts.escape(), m.clean);
    Some(Advice {
        kind: Kind::Lists,
        line: statement.first_line,
        title: format!("remove the package lists of {} in the RUN that fetches them", m.programs[0]),
        why: format!("{} of lists and downloads stay in the layer; no later step reads them.", size(bytes)),
        worth: Worth { bytes, ..Worth::default() },
        edits: vec![Edit::insert(end, text)],
        ignore: Vec::new(),
        probe: None,
        changes: m.dirs.iter().map(|d| format!("/{d}")).collect(),
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
             rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb\nRUN other\n"
        );
        out.clear();
        find(&scene(&["var/lib/apt/lists/main"]), &mut out);
        assert_eq!(out, [], "a later step reads them");
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
