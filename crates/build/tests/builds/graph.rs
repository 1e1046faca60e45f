//! Stages: once, at the same time, not at all, and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use build::events::{Listener, Recorder};
use build::{BuildError, Event};

use crate::Case;
use crate::kit::World;

pub(crate) const CASES: &[Case] = &[
    ("equal_stages_run_a_step_once", equal_stages_run_a_step_once),
    ("two_builds_run_a_step_once", two_builds_run_a_step_once),
    ("independent_stages_run_at_the_same_time", independent_stages_run_at_the_same_time),
    ("the_first_failure_stops_the_others", the_first_failure_stops_the_others),
    ("an_interrupted_build_stops", an_interrupted_build_stops),
    ("what_is_not_needed_does_not_run", what_is_not_needed_does_not_run),
    ("a_chain_of_stages", a_chain_of_stages),
];

const COUNT: &str =
    "RUN --mount=type=cache,target=/c echo once >> /c/count && usleep 100000 && echo made > /made";

fn equal_stages_run_a_step_once() {
    let w = World::new();
    let text = format!(
        "FROM base AS a\n{COUNT}\nFROM base AS b\n{COUNT}\nFROM base AS c\n{COUNT}\nFROM scratch\nCOPY --from=a /made /a\nCOPY --from=b /made /b\nCOPY --from=c /made /c"
    );
    let b = w.build(&text);
    assert_eq!((b.text("a"), b.text("b"), b.text("c")), ("made\n".into(), "made\n".into(), "made\n".into()));
    assert_eq!(w.cached_file("count"), "once\n");
    let mut runs = b.steps()[..3].to_vec();
    runs.sort();
    assert_eq!(runs, ["cached", "cached", "ran"]);
}

fn two_builds_run_a_step_once() {
    let w = World::new();
    let text = format!("FROM base\n{COUNT}");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..3).map(|_| scope.spawn(|| w.build(&text).id())).collect();
        builds.into_iter().map(|b| b.join().expect("no panic")).collect()
    });
    assert_eq!(w.cached_file("count"), "once\n");
    assert!(ids.iter().all(|id| *id == ids[0]), "one image: {ids:?}");
}

/// Waits for a file for at most ten seconds.
fn wait_for(name: &str) -> String {
    format!("n=0; while [ ! -e {name} ]; do n=$((n+1)); [ $n -lt 1000 ] || exit 9; usleep 10000; done")
}

fn independent_stages_run_at_the_same_time() {
    let w = World::new();
    let side = |me: &str, other: &str| {
        format!(
            "FROM base AS {me}\nRUN --mount=type=cache,target=/c touch /c/{me}; {}; echo met > /met\n",
            wait_for(&format!("/c/{other}"))
        )
    };
    let text = format!(
        "{}{}FROM scratch\nCOPY --from=a /met /a\nCOPY --from=b /met /b",
        side("a", "b"),
        side("b", "a")
    );
    let b = w.build(&text);
    assert_eq!(b.text("a") + &b.text("b"), "met\nmet\n");
}

fn the_first_failure_stops_the_others() {
    let w = World::new();
    let text = format!(
        "FROM base AS slow\nRUN --mount=type=cache,target=/c touch /c/here; sleep 1000\nRUN echo never\n\
         FROM base AS bad\nRUN --mount=type=cache,target=/c {}; echo going wrong; exit 3\nRUN echo never\n\
         FROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /",
        wait_for("/c/here")
    );
    let b = w.build(&text);
    assert_eq!(b.steps(), ["canceled", "waits", "failed", "waits", "canceled", "waits"]);
    let e = b.result.as_ref().expect_err("it fails");
    let BuildError::Step { lines, source, .. } = e else { panic!("{e}") };
    assert_eq!(*lines, Some((5, 5)));
    let BuildError::Command { code, tail, .. } = &**source else { panic!("{source}") };
    assert_eq!((*code, tail.as_str()), (3, "going wrong"));
    // What failed is not remembered.
    assert!(w.build(&text).steps().contains(&"failed".to_owned()));
}

/// Interrupts the build when a step writes something.
struct Interrupt {
    recorder: Recorder,
    flag: Arc<AtomicBool>,
}

impl Listener for Interrupt {
    fn event(&self, event: Event) {
        if matches!(event, Event::Log { .. }) {
            self.flag.store(true, Ordering::Relaxed);
        }
        self.recorder.event(event);
    }
}

fn an_interrupted_build_stops() {
    let w = World::new();
    let flag = Arc::new(AtomicBool::new(false));
    let listener = Interrupt { recorder: Recorder::default(), flag: flag.clone() };
    let result =
        w.build_until("FROM base\nRUN echo here; sleep 1000\nRUN echo never", |_| {}, flag, &listener);
    assert!(matches!(result, Err(BuildError::Interrupted)), "{result:?}");
    let ends: Vec<_> = listener.recorder.events();
    assert!(ends.iter().any(|e| matches!(e, Event::Canceled { .. })));
    assert!(!ends.iter().any(|e| matches!(e, Event::Failed { .. })));
}

fn what_is_not_needed_does_not_run() {
    let w = World::new();
    let text =
        "FROM base AS bad\nRUN exit 1\nFROM base AS good\nRUN echo 1 > /x\nFROM base\nCOPY --from=bad / /\n";
    let b = w.build_with(text, |o| o.choices.target = Some("good".into()));
    assert_eq!(b.steps(), ["ran"]);
    assert_eq!(b.text("x"), "1\n");
}

fn a_chain_of_stages() {
    let w = World::new();
    let text = "FROM base AS a\nRUN echo 1 > /x\nFROM a AS b\nRUN echo 2 >> /x\nFROM b\nRUN echo 3 >> /x\nCOPY --from=a /x /first";
    let b = w.build(text);
    assert_eq!((b.text("x"), b.text("first")), ("1\n2\n3\n".into(), "1\n".into()));
    // History and layers agree, and the times are those of the layers.
    let config = &b.outcome().image.config;
    let own: Vec<_> = config.history.iter().filter(|h| !h.empty_layer).collect();
    assert_eq!(own.len(), config.rootfs.diff_ids.len());
    assert_eq!(config.created, config.history.last().expect("there are steps").created);
}
