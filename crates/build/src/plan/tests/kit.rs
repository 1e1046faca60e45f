//! Made-up base images, and plans as text.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use oci::platform::Platform;
use oci::types::{History, ImageConfig, RunConfig};

use crate::plan::{
    BaseImage, Bases, Choices, Copy, Plan, PlanError, Resolved, Run, Stage, Start, StepKind, plan,
};

#[derive(Debug, thiserror::Error)]
#[error("no such image")]
pub(super) struct NoImage;

/// Images by name, names of contexts, and what was asked for.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) images: BTreeMap<&'static str, ImageConfig>,
    pub(super) contexts: Vec<&'static str>,
    pub(super) asked: RefCell<Vec<String>>,
}

/// `alpine` with some configuration, as most base images have.
pub(super) fn alpine() -> ImageConfig {
    ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        created: Some("2020-01-01T00:00:00Z".into()),
        author: Some("somebody".into()),
        config: RunConfig {
            env: vec!["PATH=/bin".into(), "LANG=C".into()],
            cmd: Some(vec!["/bin/sh".into()]),
            ..RunConfig::default()
        },
        history: vec![History { created_by: Some("base".into()), ..History::default() }],
        ..ImageConfig::default()
    }
}

impl Fake {
    pub(super) fn new() -> Fake {
        Fake { images: BTreeMap::from([("alpine", alpine()), ("busybox", alpine())]), ..Fake::default() }
    }

    /// With an image that has these triggers.
    pub(super) fn with_triggers(mut self, name: &'static str, triggers: &[&str]) -> Fake {
        let mut image = alpine();
        image.config.on_build = Some(triggers.iter().map(|t| (*t).to_owned()).collect());
        self.images.insert(name, image);
        self
    }
}

impl Bases for Fake {
    type Error = NoImage;

    fn is_named_context(&self, name: &str) -> bool {
        self.contexts.contains(&name)
    }

    fn resolve(&self, name: &str, platform: &Platform) -> Result<Resolved, NoImage> {
        self.asked.borrow_mut().push(format!("{name} {platform}"));
        if self.contexts.contains(&name) {
            return Ok(Resolved::Local(name.to_owned()));
        }
        let config = self.images.get(name).ok_or(NoImage)?.clone();
        let image =
            BaseImage { name: name.into(), config, layers: Vec::new(), digest: None, other_platform: false };
        Ok(Resolved::Image(Arc::new(image)))
    }
}

/// `K=V K=V ...` as build arguments, for linux/amd64.
pub(super) fn given(args: &str) -> Choices {
    let pairs = args.split(' ').filter_map(|w| w.split_once('='));
    Choices {
        build_args: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        platform: Some(Platform::new("linux", "amd64", None)),
        ..Choices::default()
    }
}

pub(super) fn target(name: &str) -> Choices {
    Choices { target: Some(name.into()), ..given("") }
}

/// Plans a Dockerfile; lines may be separated by ` / ` to keep tables short. An error is one line of text.
pub(super) fn try_plan(text: &str, choices: &Choices, bases: &Fake) -> Result<Plan, String> {
    let parsed = dockerfile::parse(&text.replace(" / ", "\n"));
    let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    plan(&parsed.file, choices, bases).map_err(|e| match e {
        PlanError::At { line, message, help } => {
            format!("{}: {message}{}", line.unwrap_or(0), help.map_or(String::new(), |h| format!(" ({h})")))
        }
        PlanError::Base { line, name, source } => format!("{}: {name}: {source}", line.unwrap_or(0)),
        PlanError::Whole { message, help } => {
            format!("{message}{}", help.map_or(String::new(), |h| format!(" ({h})")))
        }
    })
}

pub(super) fn planned(text: &str) -> Plan {
    try_plan(text, &given(""), &Fake::new()).unwrap()
}

pub(super) fn error_of(text: &str) -> String {
    try_plan(text, &given(""), &Fake::new()).map(|p| shape(&p)).unwrap_err()
}

pub(super) fn target_of(plan: &Plan) -> &Stage {
    &plan.stages[plan.target]
}

/// One line for each stage that is needed: number, name, start, steps.
pub(super) fn shape(plan: &Plan) -> Vec<String> {
    let stages = plan.stages.iter().enumerate().filter(|(_, s)| s.needed);
    stages
        .map(|(i, s)| {
            let start = match &s.start {
                Start::Scratch => "scratch".into(),
                Start::Image(i) => format!("image {}", i.name),
                Start::Stage(n) => format!("stage {n}"),
                Start::Local(n) => format!("context {n}"),
                Start::Unknown => "?".into(),
            };
            let steps: Vec<_> = s.steps.iter().map(|s| s.title.as_str()).collect();
            let sign = if i == plan.target { "*" } else { "" };
            format!("{sign}{i} {} <- {start}: {}", s.name, steps.join(", "))
                .trim_end_matches([' ', ':'])
                .into()
        })
        .collect()
}

pub(super) fn copies(stage: &Stage) -> Vec<&Copy> {
    let copies = stage.steps.iter().filter_map(|s| match &s.kind {
        StepKind::Copy(c) => Some(c),
        _ => None,
    });
    copies.collect()
}

pub(super) fn runs(stage: &Stage) -> Vec<&Run> {
    let runs = stage.steps.iter().filter_map(|s| match &s.kind {
        StepKind::Run(r) => Some(r),
        _ => None,
    });
    runs.collect()
}

/// The environment of a RUN, without PATH.
pub(super) fn env(run: &Run) -> String {
    let words: Vec<_> =
        run.env.iter().filter(|(k, _)| k != "PATH").map(|(k, v)| format!("{k}={v}")).collect();
    words.join(" ")
}

/// The history of the target; lines that made a layer end in `+`.
pub(super) fn history(plan: &Plan) -> Vec<String> {
    let lines = target_of(plan).config.history.iter();
    lines
        .map(|h| {
            let text = h.created_by.as_deref().unwrap_or_default();
            format!("{text}{}", if h.empty_layer { "" } else { " +" })
        })
        .collect()
}
