//! What a build says of its steps: why they ran, why they did not, what Docker's rule would have cost; and the ways to force a run.

use build::account::{BuildEnd, StepEnd, past};
use build::options::{CacheMode, Cutoff, Secret};

use crate::Case;
use crate::kit::{World, prune_layer};

pub(crate) const CASES: &[Case] = &[
    ("inputs_are_traced_to_where_they_come_from", inputs_are_traced_to_where_they_come_from),
    ("a_step_that_is_another_one_says_what_of_it", a_step_that_is_another_one_says_what_of_it),
    ("noise_is_no_difference_if_that_is_asked_for", noise_is_no_difference_if_that_is_asked_for),
    ("a_run_with_the_chain_rule", a_run_with_the_chain_rule),
    ("an_argument_makes_later_runs_run", an_argument_makes_later_runs_run),
    ("equal_output_of_a_stage_is_copied_from_the_cache", equal_output_of_a_stage_is_copied_from_the_cache),
    ("a_new_base_keeps_what_did_not_read_it", a_new_base_keeps_what_did_not_read_it),
    ("chain_figures_are_sums_of_what_was_recorded", chain_figures_are_sums_of_what_was_recorded),
    ("accounts_hold_no_secrets", accounts_hold_no_secrets),
];

const APP: &str =
    "FROM base\nWORKDIR /app\nCOPY . .\nRUN cat a/one > /one\nRUN echo a/* > /names\nRUN cat two > /two\n";

fn app() -> World {
    let w = World::new();
    for (path, text) in [("a/one", "1\n"), ("two", "2\n"), ("three", "3\n")] {
        w.write(path, text);
    }
    assert_eq!(w.build(APP).reasons(), [""; 5], "nothing is known before the first build");
    w
}

fn inputs_are_traced_to_where_they_come_from() {
    let w = app();
    w.write("three", "other\n");
    let b = w.build(APP);
    let read = |n| format!("inputs unchanged: read {n} of 3 copied files");
    assert_eq!(b.reasons(), [String::new(), "three changed".into(), read(1), read(0), read(1)]);
    assert_eq!(b.steps(), ["cached", "ran", "observed", "observed", "observed"]);

    w.write("a/one", "one\n");
    let reasons = w.build(APP).reasons();
    assert_eq!(reasons[1], "a/one changed");
    assert_eq!(reasons[2], "/app/a/one changed (COPY . . line 3 <- a/one)");
    assert_eq!(reasons[3..], [read(0), read(1)]);

    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(w.at("a/one"), mode).expect("ours");
    let reasons = w.build(APP).reasons();
    assert_eq!(reasons[1], "a/one has mode 0755 now, had 0644");
    assert_eq!(reasons[2], "/app/a/one has mode 0755 now, had 0644 (COPY . . line 3 <- a/one)");

    w.write("a/new", "n\n");
    let reasons = w.build(APP).reasons();
    assert_eq!(reasons[1], "a/new is new");
    assert_eq!(reasons[3], "/app/a names in it changed: +new (COPY . . line 3 <- a/new)");

    std::fs::remove_file(w.at("two")).expect("ours");
    let failed = w.build(APP);
    assert_eq!(failed.steps()[4], "failed");
    w.write("two", "2\n");
    assert_eq!(w.build(APP).steps(), ["cached"; 5], "all as before");

    // What an earlier step wrote.
    let text = "FROM base\nCOPY two /two\nRUN cat /two > /mid; echo > /other\nRUN cat /mid > /end\n";
    w.build(text);
    w.write("two", "22\n");
    let reasons = w.build(text).reasons();
    assert_eq!(reasons[2], "/mid changed (RUN cat /two > /mid; echo > /other line 3)");

    // The old layers are gone: less is known.
    let b = w.build(text);
    let layer = b.outcome().image.layers[2].0;
    w.store.flush().expect("the store takes all");
    prune_layer(w.store.root(), &layer);
    let mut w = w;
    w.reopen();
    let b = w.build(text);
    assert_eq!(b.reasons()[1], "its earlier result was pruned", "{:?}", b.steps());
}

fn a_step_that_is_another_one_says_what_of_it() {
    let w = World::new();
    w.write("f", "1\n");
    let build = |text: &str| w.build(&format!("FROM base\n{text}")).reasons().pop().expect("a step");
    assert_eq!(build("RUN echo 1"), "");
    assert_eq!(build("RUN echo 2"), "its instruction changed");
    assert_eq!(build("ENV V=1\nRUN echo 2"), "variable V is new");
    assert_eq!(build("ENV V=2\nRUN echo 2"), "variable V is \"2\" now, was \"1\"");
    assert_eq!(build("ARG GREAT_TOKEN=canary-1\nENV V=2\nRUN echo 2"), "variable GREAT_TOKEN is new");
    let masked = "variable GREAT_TOKEN is \"***\" now, was \"***\"";
    assert_eq!(build("ARG GREAT_TOKEN=canary-2\nENV V=2\nRUN echo 2"), masked);
    assert_eq!(
        build("ARG GREAT_TOKEN=canary-2\nENV V=2\nRUN --network=none echo 2"),
        "its flag --network changed"
    );
    let mount = "ARG GREAT_TOKEN=canary-2\nENV V=2\nRUN --mount=source=f,target=/m echo 2";
    assert_eq!(build(mount), "its flag --mount changed");
    w.write("f", "2\n");
    assert_eq!(build(mount), "inputs unchanged", "the step does not read it");
    let reads = "ARG GREAT_TOKEN=canary-2\nENV V=2\nRUN --mount=source=f,target=/m cat /m";
    assert_eq!(build(reads), "its instruction changed");
    w.write("f", "3\n");
    assert_eq!(build(reads), "/m changed");
    assert_eq!(build("COPY f /f"), "", "a step of another kind is none of its past");
    assert_eq!(build("COPY f /g"), "its instruction changed");
    assert_eq!(build("COPY --chown=1:1 f /g"), "its flag --chown changed");
}

fn noise_is_no_difference_if_that_is_asked_for() {
    let w = World::new();
    w.write("in", "1\n");
    let text = "FROM base\nCOPY in /in\nRUN cat /in > /dev/null; mkdir -p /var/log; cat /in > /var/log/dpkg.log; echo > /out\nRUN cat /out /var/log/dpkg.log > /end";
    let noise = |w: &World| w.build_with(text, |o| o.cutoff = Cutoff::Noise);
    let first = noise(&w);
    w.write("in", "2\n");
    let second = noise(&w);
    assert_eq!(second.steps(), ["ran", "adopted", "observed"]);
    assert_eq!(second.text("end"), "\n1\n", "later steps see the layer that was taken");
    assert_eq!(second.text("var/log/dpkg.log"), "1\n");
    let layers = |b: &crate::kit::Built| b.outcome().image.layers[2..].to_vec();
    assert_eq!(layers(&second), layers(&first));
    assert_eq!(noise(&w).steps(), ["cached"; 3]);
    // Who asks for exact results does not get this one.
    let exact = w.build(text);
    assert_eq!(exact.steps(), ["cached", "ran", "ran"]);
    assert_eq!(exact.reasons()[1], "its flag --cutoff changed");
    assert_eq!(exact.text("end"), "\n2\n");
    assert_eq!(w.build(text).steps(), ["cached"; 3]);
    // What is not on the list counts.
    w.write("in", "3\n");
    let other = text.replace("dpkg.log", "other.log");
    w.build_with(&other, |o| o.cutoff = Cutoff::Noise);
    w.write("in", "4\n");
    let b = w.build_with(&other, |o| o.cutoff = Cutoff::Noise);
    assert_eq!(b.steps(), ["ran"; 3]);
}

fn a_run_with_the_chain_rule() {
    let w = World::new();
    w.write("f", "1\n");
    w.write("g", "1\n");
    let text =
        "FROM base\nCOPY f /f\nRUN --cache=chain echo 1 > /a\nRUN echo 2 > /b\nRUN --cache=traced cat /a\n";
    w.build(text);
    assert_eq!(w.build(text).steps(), ["cached"; 4]);
    w.write("f", "2\n");
    let b = w.build(text);
    assert_eq!(
        b.steps(),
        ["ran", "adopted", "observed", "observed"],
        "it runs again although it reads nothing"
    );
    assert_eq!(b.reasons()[1], "what lies below it changed (COPY f /f line 2)");
    assert_eq!(w.build(text).steps(), ["cached"; 4]);
    let bad = w.build("FROM base\nRUN --cache=never true").error();
    assert!(bad.contains("errors"), "{bad}");

    // A result that was taken by what the step reads is none for the chain rule.
    let text = "FROM base\nCOPY f /f\nRUN echo 1 > /a\n";
    w.build(text);
    w.write("f", "3\n");
    assert_eq!(w.build(text).steps(), ["ran", "observed"]);
    let chain = |w: &World| w.build_with(text, |o| o.cache = CacheMode::Chain).steps();
    assert_eq!(chain(&w), ["cached", "adopted"]);
    assert_eq!(chain(&w), ["cached", "cached"]);
}

fn an_argument_makes_later_runs_run() {
    let w = World::new();
    let text = "FROM base\nRUN echo 0\nARG CACHEBUST\nRUN echo 1\nCOPY <<EOF /f\nx\nEOF\nRUN echo 2\n";
    let with = |value: &str| {
        let b = w.build_with(text, |o| drop(o.choices.build_args.insert("CACHEBUST".into(), value.into())));
        (b.steps(), b.reasons().pop().expect("a step"))
    };
    with("1");
    assert_eq!(with("1").0, ["cached"; 4]);
    let (steps, why) = with("2");
    assert_eq!(steps, ["cached", "ran", "cached", "ran"], "used or not");
    assert_eq!(why, "variable CACHEBUST is \"2\" now, was \"1\"");
}

fn equal_output_of_a_stage_is_copied_from_the_cache() {
    let w = World::new();
    w.write("src", "1\n");
    w.write("other", "1\n");
    let text = |first: &str| {
        format!(
            "FROM base AS s\n{first}\nCOPY src /src\nRUN cat /src > /dev/null; echo made > /out\nFROM base\nRUN echo 1\nCOPY --from=s /out /out\nRUN cat /out\n"
        )
    };
    let tail = |b: &crate::kit::Built| b.steps()[b.steps().len() - 3..].to_vec();
    w.build(&text("RUN echo a > /x"));
    w.write("src", "2\n");
    assert_eq!(tail(&w.build(&text("RUN echo a > /x"))), ["cached"; 3], "its step ran again");
    assert_eq!(
        tail(&w.build(&text("RUN echo b > /y\nCOPY other /z"))),
        ["cached"; 3],
        "another stage altogether"
    );
    let none = w.build_with(&text("RUN echo a > /x"), |o| o.choices.no_cache_filter = vec!["s".into()]);
    assert_eq!(none.steps()[..3], ["ran"; 3]);
    assert_eq!(tail(&none), ["cached"; 3], "without its cache");
    // Other output is another copy.
    let b = w.build(&text("RUN echo a > /x").replace("echo made", "echo MADE"));
    assert_eq!(tail(&b), ["cached", "ran", "adopted"]);
    assert_eq!(b.reasons()[4], "/out changed (s)");
}

fn a_new_base_keeps_what_did_not_read_it() {
    let w = World::new();
    w.write("f", "1\n");
    let text = "FROM base AS one\nCOPY f /f\nRUN cat /f > /one\nRUN cat /etc/version > /two\nFROM one\nRUN cat /one\n";
    w.write_base("etc/version", "1\n");
    w.build(text);
    w.write_base("etc/version", "2\n");
    let b = w.build(text);
    // The directory that the base is has a layer of its own time.
    assert_eq!(b.steps(), ["observed", "observed", "ran", "observed"]);
    assert_eq!(b.reasons()[2], "/etc/version changed (FROM base)");
    let kept = "inputs unchanged: read 1 of 1 copied file";
    assert_eq!(b.reasons()[1], kept);
    assert_eq!(b.text("two"), "2\n");
}

fn chain_figures_are_sums_of_what_was_recorded() {
    let w = World::new();
    w.write("f", "1\n");
    w.write("g", "1\n");
    let text = "FROM base AS s\nCOPY f /f\nRUN usleep 30000; echo a > /a\nFROM base\nCOPY g /g\nRUN usleep 20000; echo b > /b\nCOPY --from=s /a /a\nRUN cat /g > /dev/null\n";
    let first = w.build(text);
    let all = first.outcome().account.totals();
    assert_eq!((all.ran, all.cached, all.chain_ran), (6, 0, 6));
    assert_eq!(all.chain_ms, all.ran_ms, "what ran is what it took");
    let took =
        |b: &crate::kit::Built| b.outcome().account.steps().map(|(_, s)| s.ran_ms).collect::<Vec<u64>>();
    assert!(took(&first)[1] >= 30 && took(&first)[3] >= 20, "{:?}", took(&first));

    let again = w.build(text).outcome().account.totals();
    assert_eq!((again.ran, again.chain_ran, again.chain_ms), (0, 0, 0));
    assert_eq!(again.saved_ms, all.ran_ms);

    // One stage changed: a chain runs all below the change in it, and the copy of equal files into the other is a hit for both.
    w.write("f", "2\n");
    let b = w.build(text);
    assert_eq!(b.steps(), ["ran", "observed", "cached", "cached", "cached", "cached"]);
    let t = b.outcome().account.totals();
    assert_eq!((t.ran, t.chain_ran), (1, 2));
    assert_eq!(t.chain_ms, took(&b)[0] + took(&first)[1], "the duration of the run whose result was used");

    // A build that fails: what failed or was not reached is in no sum.
    w.write("g", "2\n");
    let broken = format!("{text}RUN false\nRUN echo never\n");
    assert!(w.build(&broken).result.is_err());
    w.store.flush().expect("the store takes all");
    let (_, account) = past(&w.store, 1).expect("the log").remove(0);
    assert_eq!(account.end, BuildEnd::Failed);
    let ends: Vec<StepEnd> = account.steps().map(|(_, s)| s.end).collect();
    use StepEnd::{Cached, Failed, NotReached, Ran};
    assert_eq!(ends, [Cached, Cached, Ran, Cached, Cached, Ran, Failed, NotReached]);
    let t = account.totals();
    assert_eq!((t.ran, t.cached, t.chain_ran), (2, 4, 4));
    let recorded: Vec<u64> = account.steps().map(|(_, s)| s.ran_ms).collect();
    assert_eq!(recorded[3], took(&first)[3]);
    assert_eq!(t.chain_ms, recorded[2..6].iter().sum::<u64>());
    assert_eq!(recorded[6..], [0, 0]);

    // The next build counts from where the store is.
    let mended = w.build(text).outcome().account.totals();
    assert_eq!((mended.ran, mended.chain_ran), (0, 0));
}

fn accounts_hold_no_secrets() {
    let w = World::new();
    w.write(".env", "DB_PASSWORD=canary-file-1\n");
    w.write("f", "1\n");
    let text = "FROM base\nARG MY_TOKEN\nARG PLAIN=1\nENV API_KEY=canary-env\nCOPY f /$MY_TOKEN/f\nCOPY .env /\nRUN --mount=type=secret,id=s cat /run/secrets/s; echo $MY_TOKEN; cat /.env\nRUN --mount=type=secret,id=s false canary-env\n";
    let build = |token: &str| {
        let secret = Secret::Bytes(b"canary-secret".to_vec());
        let b = w.build_with(text, |o| {
            o.choices.build_args.insert("MY_TOKEN".into(), token.into());
            o.secrets.insert("s".into(), secret);
        });
        assert_eq!(b.steps()[3], "failed");
    };
    build("canary-one");
    w.write(".env", "DB_PASSWORD=canary-file-2\n");
    build("canary-two");
    w.store.flush().expect("the store takes all");
    let all = past(&w.store, 9).expect("the log");
    assert_eq!(all.len(), 2);
    let json = serde_json::to_string(&all.iter().map(|(_, b)| b).collect::<Vec<_>>()).expect("JSON");
    assert!(json.contains("***") && json.contains("MY_TOKEN"), "{json}");
    assert!(!json.contains("canary"), "{json}");
}
