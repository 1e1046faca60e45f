//! `build`: what is made, what is not made again, and what a failure says.

use crate::lab::{BASE, Build, Cached, Ran};

#[test]
fn an_image_is_built_and_runs() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}COPY greeting /etc/\nCMD [\"cat\", \"/etc/greeting\"]\n"))
        .file("greeting", "hello\n");
    let out = b.run();
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(out.steps(), [Ran; 2]);
    assert_eq!(b.layercake(&["run", "t"]).ok(), "hello");
}

#[test]
fn a_build_that_changes_nothing_runs_nothing_and_gives_the_same_image() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}COPY a /a\nRUN cat /a > /b\n")).file("a", "1");
    b.run().ok();
    let first = b.layercake(&["images", "-q", "--no-trunc"]).ok().to_owned();
    let out = b.run();
    assert_eq!(out.steps(), [Cached; 3], "{out}");
    assert_eq!(b.layercake(&["images", "-q", "--no-trunc"]).ok(), first);
}

#[test]
fn a_changed_file_runs_again_what_reads_it_and_nothing_else() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}COPY a /a\nRUN cat /a > /b\nRUN echo of no file > /c\n")).file("a", "1");
    b.run().ok();
    let out = b.file("a", "2").run();
    assert_eq!(out.steps(), [Cached, Ran, Ran, Cached], "{out}");
    assert_eq!(b.layercake(&["run", "t", "cat", "/b", "/c"]).ok(), "2of no file");
}

#[test]
fn a_new_time_of_a_file_runs_nothing() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}COPY a /a\nRUN cat /a\n")).file("a", "1");
    b.run().ok();
    let file = std::fs::File::open(b.path("context/a")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let out = b.run();
    assert_eq!(out.steps(), [Cached; 3], "{out}");
}

#[test]
fn no_cache_runs_everything_again() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}RUN true\n")).run().ok();
    let out = b.flag("--no-cache").run();
    assert_eq!(out.steps(), [Ran; 2], "{out}");
}

#[test]
fn stages_copy_from_each_other_and_unneeded_ones_are_left_out() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!(
        "{BASE}FROM base AS unneeded\nRUN echo unneeded-ran && false\n\
         FROM base AS made\nRUN mkdir /out && echo made > /out/file && ln -s file /out/link\n\
         FROM base\nCOPY --from=made /out /in\n"
    ));
    let out = b.run();
    assert_eq!(out.code, 0, "{out}");
    assert!(!out.stderr.contains("unneeded-ran"), "{out}");
    assert_eq!(
        b.layercake(&["run", "t", "sh", "-c", "cat /in/link; readlink /in/link; ls /out 2>&1"]).stdout,
        "made\nfile\nls: /out: No such file or directory\n"
    );
}

#[test]
fn a_failing_command_gives_its_place_its_output_and_code_1() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}RUN echo what-it-said; exit 7\nRUN echo never\n"));
    let out = b.run();
    assert_eq!(out.code, 1, "{out}");
    for part in ["what-it-said", ">>> RUN echo what-it-said; exit 7", "Dockerfile:3", "exit code: 7"] {
        assert!(out.stderr.contains(part), "{part:?} is missing: {out}");
    }
    assert!(!out.stderr.contains("0 never"), "{out}");
    assert_eq!(b.layercake(&["images", "-q"]).ok(), "");
}

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let Some(mut b) = Build::new() else { return };
    let out = b.dockerfile("FROM scratch\nRUNN x\nCOPY\nEXPOSE\n").run();
    assert_eq!(out.code, 1, "{out}");
    for part in ["Dockerfile:2:1", "Dockerfile:3:1", "Dockerfile:4:1", "did you mean RUN?", "3 errors"] {
        assert!(out.stderr.contains(part), "{part:?} is missing: {out}");
    }
}

#[test]
fn a_base_that_cannot_be_had_is_named_with_its_line() {
    let Some(mut b) = Build::new() else { return };
    // Nobody listens on port 1.
    let out = b.dockerfile("# a comment\nFROM localhost:1/none:1\n").run();
    assert_eq!(out.code, 3, "{out}");
    for part in ["FROM localhost:1/none:1", ">>> FROM", "Dockerfile:2", "hint: check the network"] {
        assert!(out.stderr.contains(part), "{part:?} is missing: {out}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_code_2() {
    let Some(b) = Build::new() else { return };
    for words in [
        &["build", "--nonsense"][..],
        &["build", "--output", "type=odd", "."],
        &["build", "no/such/dir"],
        &["odd"],
    ] {
        let out = b.layercake(words);
        assert_eq!(out.code, 2, "{words:?}: {out}");
    }
}
