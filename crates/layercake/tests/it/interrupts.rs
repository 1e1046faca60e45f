//! What is left when somebody stops or kills the program: nothing that runs, nothing that is mounted, and a store that works.

use rustix::process::Signal;

use crate::lab::{BASE, Build, Cached, Ran, mark};

/// A context whose last step sleeps for a time that names it, once `busy` was said.
fn sleeper(seconds: &str) -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(&format!("{BASE}RUN echo before > /file\nRUN echo busy; sleep {seconds}\n"));
    Some(b)
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_and_keeps_what_was_done() {
    for signal in [Signal::INT, Signal::TERM] {
        let seconds = mark();
        let Some(mut b) = sleeper(&seconds) else { return };
        let mut build = b.start_build();
        build.stderr_until(" busy");
        build.signal(signal);
        let out = build.finish();
        assert_eq!(out.code, 130, "{out}");
        b.assert_nothing_runs(&seconds);
        let out = b.dockerfile(&format!("{BASE}RUN echo before > /file\nRUN echo quick\n")).run();
        assert_eq!(out.steps(), [Cached, Cached, Ran], "{out}");
    }
}

#[test]
fn a_build_that_is_killed_leaves_nothing_that_runs_and_the_next_one_works() {
    let seconds = mark();
    let Some(mut b) = sleeper(&seconds) else { return };
    let mut build = b.start_build();
    build.stderr_until(" busy");
    build.signal(Signal::KILL);
    assert_eq!(build.finish().code, -1);
    b.assert_nothing_runs(&seconds);
    b.dockerfile(&format!("{BASE}RUN echo before > /file\nRUN echo quick\n")).run().ok();
    b.assert_clean(&seconds);
    let out = b.layercake(&["verify"]);
    assert_eq!(out.code, 0, "{out}");
}

#[test]
fn a_container_of_a_killed_program_is_gone() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    let seconds = mark();
    let mut run = b.start(&["run", "t", "sh", "-c", &format!("echo busy; sleep {seconds}")]);
    run.stdout_until("busy");
    run.signal(Signal::KILL);
    run.finish();
    b.assert_nothing_runs(&seconds);
    assert_eq!(b.layercake(&["run", "t", "echo", "works"]).ok(), "works");
    b.layercake(&["prune"]).ok();
    b.assert_clean(&seconds);
}

#[test]
fn children_that_a_container_leaves_behind_die_with_it() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    let seconds = mark();
    let script = format!("sleep {seconds} & sleep {seconds} & echo gone");
    assert_eq!(b.layercake(&["run", "t", "sh", "-c", &script]).ok(), "gone");
    b.assert_clean(&seconds);
}
