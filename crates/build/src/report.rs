//! What the stages of a finished build did and came to, for who wants to look at it (advise).

use oci::Digest;

use crate::account::BuildRecord;
use crate::plan::{Plan, Start, StepKind};

/// A stage that the build needed.
#[derive(Debug, Clone)]
pub struct StageReport {
    /// Its layers are in the image: it is the target, or the target is built on it.
    pub shipped: bool,
    /// Layers that it started from, base first.
    pub base: Vec<Digest>,
    /// Its steps, in order.
    pub steps: Vec<StageStep>,
}

/// A step of a stage.
#[derive(Debug, Clone)]
pub struct StageStep {
    /// Lines in the Dockerfile, 1-based; none for inherited triggers.
    pub lines: Option<(u32, u32)>,
    /// What it did.
    pub kind: StepKind,
    /// Its key.
    pub key: Digest,
    /// Chain of the layers that it started from: with the key, the name of its record.
    pub parent: Digest,
    /// Its layer.
    pub layer: Digest,
}

/// The needed stages, in the order of the Dockerfile, of a build that ended well.
pub(crate) fn stages(plan: &Plan, account: &BuildRecord) -> Vec<StageReport> {
    let mut shipped = vec![plan.target];
    while let Some(Start::Stage(b)) = shipped.last().map(|s| &plan.stages[*s].start) {
        shipped.push(*b);
    }
    let needed = plan.stages.iter().enumerate().filter(|(_, s)| s.needed);
    needed
        .zip(&account.stages)
        .map(|((i, stage), record)| StageReport {
            shipped: shipped.contains(&i),
            base: record.below.clone(),
            steps: stage
                .steps
                .iter()
                .zip(&record.steps)
                .filter_map(|(step, r)| {
                    let (key, parent, layer) = (r.key?, r.parent?, r.layer?);
                    Some(StageStep { lines: step.lines, kind: step.kind.clone(), key, parent, layer })
                })
                .collect(),
        })
        .collect()
}
