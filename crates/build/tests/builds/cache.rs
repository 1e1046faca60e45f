//! What is reused, and what is not.

use std::time::{Duration, SystemTime};

use build::options::{CacheMode, Secret};

use crate::Case;
use crate::kit::{World, prune_layer};

pub(crate) const CASES: &[Case] = &[
    ("a_build_that_changes_nothing_gives_the_same_image", a_build_that_changes_nothing_gives_the_same_image),
    ("equal_results_are_taken_as_the_earlier_ones", equal_results_are_taken_as_the_earlier_ones),
    ("what_counts_for_a_run", what_counts_for_a_run),
    ("what_counts_for_a_copy", what_counts_for_a_copy),
    ("a_pruned_layer_is_made_again", a_pruned_layer_is_made_again),
    ("records_of_a_step_are_bounded_and_the_oldest_go", records_of_a_step_are_bounded_and_the_oldest_go),
    ("of_several_results_that_fit_the_newest_is_taken", of_several_results_that_fit_the_newest_is_taken),
    ("no_cache_runs_all", no_cache_runs_all),
    ("an_epoch_makes_images_equal_in_all_stores", an_epoch_makes_images_equal_in_all_stores),
];

fn touch(path: &std::path::Path) {
    let file = std::fs::OpenOptions::new().append(true).open(path).expect("the file");
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).expect("its time");
}

fn a_build_that_changes_nothing_gives_the_same_image() {
    let mut w = World::new();
    w.write("in/f", "1");
    let text =
        "FROM base AS a\nWORKDIR /w\nCOPY in .\nRUN cat f > g\nFROM scratch\nENV X=1\nCOPY --from=a /w /";
    let first = w.build(text);
    assert_eq!(first.steps(), ["ran"; 4]);
    assert_eq!(first.counts(), (4, 0));
    w.reopen();
    let again = w.build(text);
    assert_eq!(again.steps(), ["cached"; 4]);
    assert_eq!(again.id(), first.id());
    assert_eq!(again.counts(), (0, 4));
    // Times and owners of the context say nothing.
    touch(&w.at("in/f"));
    std::os::unix::fs::chown(w.at("in/f"), Some(5), Some(5)).expect("root may");
    assert_eq!(w.build(text).id(), first.id());
    // Another file that nothing takes neither.
    w.write("other", "x");
    assert_eq!(w.build(text).id(), first.id());
}

fn equal_results_are_taken_as_the_earlier_ones() {
    let w = World::new();
    let text = "FROM base\nCOPY in /in\nRUN cat /in > /dev/null; echo same > /out\nRUN cat /out > /out2\nCOPY late /late";
    w.write("in", "1");
    w.write("late", "l");
    let first = w.build(text);
    assert_eq!(first.steps(), ["ran"; 4]);
    w.write("in", "2");
    let second = w.build(text);
    // The step runs, since what it read changed; it writes the same again; so nobody after it notices.
    assert_eq!(second.steps(), ["ran", "adopted", "observed", "observed"]);
    let layers = |b: &crate::kit::Built| b.outcome().image.layers.clone();
    assert_eq!(layers(&second)[2..], layers(&first)[2..], "the same layers, down to their times");
    // Back again, all is there.
    w.write("in", "1");
    let third = w.build(text);
    assert_eq!((third.steps(), third.id()), (vec!["cached".to_owned(); 4], first.id()));
    // Docker's rule runs everything below a change.
    w.write("in", "3");
    let chain = w.build_with(text, |o| o.cache = CacheMode::Chain);
    assert_eq!(chain.steps(), ["ran", "adopted", "adopted", "observed"]);
    assert_eq!(layers(&chain)[2..], layers(&first)[2..]);
}

fn what_counts_for_a_run() {
    let w = World::new();
    w.write("bound/f", "1");
    w.write("bound/g", "1");
    let text = |head: &str, tail: &str| {
        format!(
            "FROM base\n{head}\nRUN --mount=type=cache,target=/c --mount=type=secret,id=s --mount=source=bound,target=/b cat /b/f > /x; echo $RANDOM >> /c/n\n{tail}"
        )
    };
    let build = |head: &str, tail: &str, change: &dyn Fn(&mut build::Options)| {
        w.build_with(&text(head, tail), change).steps().last().cloned().expect("a step")
    };
    let run = |head: &str| build(head, "", &|_| {});
    assert_eq!(run(""), "ran");
    assert_eq!(run(""), "cached");
    for head in ["LABEL a=1", "CMD x", "EXPOSE 80", "ENTRYPOINT [\"e\"]", "VOLUME /v", "# comment"] {
        assert_eq!(run(head), "cached", "{head}");
    }
    assert_eq!(build("", "ARG LATE=1", &|_| {}), "cached");
    for head in ["ENV A=1", "ARG A=2", "USER 0:0", "WORKDIR /", "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]"] {
        assert_eq!(run(head), if head == "WORKDIR /" { "cached" } else { "ran" }, "{head}");
        assert_eq!(run(head), "cached", "{head} again");
    }
    // The last of equal names counts, and their order does not.
    assert_eq!(run("ENV A=1 B=2"), "ran");
    assert_eq!(run("ENV B=0 A=1\nENV B=2"), "cached");
    type Change = (&'static str, fn(&mut build::Options), &'static str);
    let changes: &[Change] = &[
        ("secret", |o| drop(o.secrets.insert("s".into(), Secret::Bytes(b"pw".to_vec()))), "cached"),
        ("proxy", |o| drop(o.choices.build_args.insert("HTTP_PROXY".into(), "p".into())), "cached"),
        ("jobs", |o| o.jobs = 1, "cached"),
        ("memory", |o| o.limits.memory = Some(1 << 30), "cached"),
        ("pids", |o| o.limits.pids = Some(1000), "cached"),
        ("label", |o| o.choices.labels.push(("a".into(), "b".into())), "cached"),
        ("hostname", |o| o.hostname = "other".into(), "ran"),
        ("hosts", |o| o.hosts.push(("h".into(), "192.0.2.1".into())), "ran"),
        ("shm", |o| o.shm_size = 1 << 20, "ran"),
    ];
    for (name, change, want) in changes {
        assert_eq!(build("", "", change), *want, "{name}");
    }
    w.write("bound/f", "2");
    assert_eq!(run(""), "ran", "a file of the mount that the step reads");
}

fn what_counts_for_a_copy() {
    let w = World::new();
    w.write("a/f", "1");
    w.write("a/ignored.log", "1");
    let copy = |line: &str| w.build(&format!("FROM scratch\n{line}")).steps().join(",");
    assert_eq!(copy("COPY --exclude=*.log a /d"), "ran");
    w.write("a/ignored.log", "2");
    assert_eq!(copy("COPY --exclude=*.log a /d"), "cached");
    touch(&w.at("a/f"));
    assert_eq!(copy("COPY --exclude=*.log a /d"), "cached");
    std::fs::rename(w.at("a"), w.at("b")).expect("the context is ours");
    assert_eq!(copy("COPY --exclude=*.log b /d"), "cached", "where the files lie does not count");
    for line in ["COPY --exclude=*.log b /e", "COPY --exclude=*.log --chown=1:1 b /d", "COPY b /d"] {
        assert_eq!(copy(line), "ran", "{line}");
    }
    std::fs::set_permissions(w.at("b/f"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    assert_eq!(copy("COPY --exclude=*.log b /d"), "ran", "a mode");
    // From a stage that runs again and makes the same.
    let text = |salt: &str| {
        format!("FROM base AS s\nRUN : {salt}; echo 1 > /out\nFROM scratch\nCOPY --from=s /out /")
    };
    w.build(&text("one"));
    assert_eq!(w.build(&text("two")).steps(), ["ran", "cached"]);
}

fn a_pruned_layer_is_made_again() {
    let mut w = World::new();
    let text = "FROM base\nRUN echo 1 > /x\nRUN cat /x > /y";
    let first = w.build(text);
    let layer = first.outcome().image.layers[1].0;
    w.reopen();
    prune_layer(w.store.root(), &layer);
    let again = w.build(text);
    assert_eq!(again.steps()[0], "ran");
    assert_eq!(again.text("y"), "1\n");
}

fn records_of_a_step_are_bounded_and_the_oldest_go() {
    let w = World::new();
    let text = "FROM base\nCOPY in /in\nRUN cat /in/read > /out";
    let build = |read: usize, unread: &str| {
        w.write("in/read", &format!("{read}"));
        w.write("in/unread", unread);
        let b = w.build(text);
        let key = b
            .outcome()
            .account
            .steps()
            .find_map(|(_, s)| s.key.filter(|_| s.kind == "run"))
            .expect("a step has a key");
        assert_eq!(b.text("out"), format!("{read}"));
        (b.steps().pop().expect("a step"), w.store.records(&key, 1000).expect("records").len())
    };
    for n in 0..20 {
        assert_eq!(build(n, "same"), ("ran".into(), 16.min(n + 1)), "{n}");
    }
    assert_eq!(build(19, "other"), ("observed".into(), 16), "the newest is there");
    assert_eq!(build(6, "other"), ("observed".into(), 16), "and the fourteenth");
    assert_eq!(build(2, "other"), ("ran".into(), 16), "the oldest are gone");
}

fn of_several_results_that_fit_the_newest_is_taken() {
    let w = World::new();
    w.write("in/read", "1");
    // What it makes does not follow from what it sees.
    let text = "FROM base\nCOPY in /in\nRUN cat /in/read /proc/sys/kernel/random/uuid > /out";
    let build = |unread: &str, afresh: bool| {
        w.write("in/unread", unread);
        let b = w.build_with(text, |o| o.choices.no_cache = afresh);
        (b.steps().pop().expect("a step"), b.text("out"))
    };
    let (first, second) = (build("1", true), build("2", true));
    assert!(first.1 != second.1 && second.0 == "ran");
    assert_eq!(build("3", false), ("observed".into(), second.1));
    // On the parent that it ran on it is the earlier one all the same.
    assert_eq!(build("1", false), ("cached".into(), first.1));
}

fn no_cache_runs_all() {
    let w = World::new();
    w.write("f", "1");
    let text =
        "FROM base AS a\nCOPY f /f\nRUN cat /f > /x\nFROM base\nWORKDIR /w\nRUN echo 1\nCOPY --from=a /x .";
    w.build(text);
    let all = w.build_with(text, |o| o.choices.no_cache = true);
    assert_eq!(all.steps(), ["ran", "ran", "cached", "ran", "ran"]);
    let some = w.build_with(text, |o| o.choices.no_cache_filter = vec!["a".into()]);
    assert_eq!(some.steps()[..2], ["ran", "ran"]);
    assert_eq!(some.steps()[2..4], ["cached", "cached"]);
}

fn an_epoch_makes_images_equal_in_all_stores() {
    let text =
        "FROM base\nWORKDIR /w\nCOPY f /d/\nCOPY <<EOF /e/h\ntext\nEOF\nRUN echo 1 > /x; touch -d @5 /x /";
    let image = |built_before: bool| {
        let w = World::new();
        w.write("f", "1");
        let file = std::fs::OpenOptions::new().append(true).open(w.at("f")).expect("the file");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("its time");
        if built_before {
            w.build(text);
        }
        let b = w.build(&format!("ARG SOURCE_DATE_EPOCH=1000\n{text}"));
        b.outcome().image.config.clone()
    };
    let config = image(false);
    assert_eq!(config.created.as_deref(), Some("1970-01-01T00:16:40Z"));
    assert!(config.history.iter().all(|h| h.created == config.created), "{:?}", config.history);
    // All but the base, whose times are those of the test's files; and the step's own.
    let ours = |c: &oci::types::ImageConfig| c.rootfs.diff_ids[1..4].to_vec();
    assert_eq!(ours(&image(false)), ours(&config));
    assert_eq!(ours(&image(true)), ours(&config), "whatever was built there before");
}
