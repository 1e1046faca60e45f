//! WORKDIR: makes the directory and its parents; always a layer, empty if the directory is there.

use oci::{Time, Tree};
use serde_json::{Map, json};

use crate::copy::{Spec, Work, clean};
use crate::error::BuildError;
use crate::events::Event;
use crate::key::{Key, key};
use crate::plan::Workdir;
use crate::solve::{Ran, Solver};
use crate::state::State;
use crate::users;

pub(crate) struct PreparedWorkdir<'p> {
    workdir: &'p Workdir,
    pub(super) key: Key,
}

impl<'p> PreparedWorkdir<'p> {
    pub(super) fn new(workdir: &'p Workdir, epoch: Option<i64>) -> PreparedWorkdir<'p> {
        let mut inputs = Map::new();
        inputs.insert("step".into(), json!("workdir"));
        inputs.insert("path".into(), json!(workdir.path));
        inputs.insert("owner".into(), json!(workdir.user));
        if let Some(e) = epoch {
            inputs.insert("epoch".into(), json!(e));
        }
        PreparedWorkdir { workdir, key: key(inputs) }
    }

    pub(super) fn execute(&self, solver: &Solver<'_>, parent: &State) -> Result<Ran, BuildError> {
        let tree = parent.tree(solver.store)?;
        let chown = owner(solver, &self.workdir.user, (!parent.layers().is_empty()).then_some(&*tree))?;
        let now = solver.plan.epoch.map_or_else(Time::now, Time::from_secs);
        let spec = Spec { chown, now, ..Spec::default() };
        let mut work = Work::new(Tree::clone(&tree), &spec);
        work.make_dirs(clean(&self.workdir.path).as_bytes(), 0o755)?;
        Ok(Ran { layer: work.finish()?, batch: solver.store.batch(), log: Vec::new(), observations: None })
    }
}

/// The owner of `--chown` or USER, looked up in `tree`; names that the image does not know are warned about.
pub(super) fn owner(
    solver: &Solver<'_>,
    spec: &str,
    tree: Option<&Tree>,
) -> Result<Option<(u32, u32)>, BuildError> {
    if spec.is_empty() {
        return Ok(None);
    }
    let owner = users::for_owner(spec, tree, solver.store)?;
    if !owner.unknown.is_empty() {
        let unknown = owner.unknown.join(" and ");
        let text =
            format!("{unknown} is not known in the image; {}:{} is used instead", owner.uid, owner.gid);
        solver.listener.event(Event::Warning { text, line: None });
    }
    Ok(Some((owner.uid, owner.gid)))
}
