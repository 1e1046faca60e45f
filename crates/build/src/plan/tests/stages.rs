//! Which stages there are, what they start from, and which of them are needed.

use super::kit::*;
use crate::plan::{Choices, Start};
use oci::platform::Platform;

#[test]
fn names_in_any_case_and_numbers_find_stages() {
    let both = |from: &str| {
        let plan = planned(&format!("FROM scratch AS Build / FROM alpine / COPY --from={from} a b"));
        copies(&plan.stages[1])[0].from
    };
    assert_eq!(["build", "BUILD", "Build", "0"].map(both), [Some(0); 4]);
    assert_eq!(
        shape(&planned("FROM alpine AS a / RUN x / FROM a AS b / RUN y / FROM b / RUN z")),
        ["0 a <- image alpine: RUN x", "1 b <- stage 0: RUN y", "*2 stage-2 <- stage 1: RUN z"]
    );
    // A stage's name is kept in lower case, and FROM is taken as it is written.
    assert_eq!(error_of("FROM scratch AS Build / FROM Build"), "2: Build: no such image");
    assert_eq!(shape(&planned("FROM alpine / RUN x")), ["*0  <- image alpine: RUN x"]);
}

#[test]
fn of_equal_names_from_takes_the_latest_before_and_copy_the_last_of_the_file() {
    let text = "FROM scratch AS a / RUN 1 / FROM scratch AS a / RUN 2 / FROM a AS b / COPY --from=a x y";
    assert_eq!(shape(&planned(text)), ["1 a <- scratch: RUN 2", "*2 b <- stage 1: COPY --from=a x y"]);
    let plan = planned("FROM scratch AS a / FROM a / FROM scratch AS a");
    assert!(matches!(plan.stages[1].start, Start::Unknown), "not needed");
    let late = error_of("FROM scratch AS a / FROM scratch AS b / COPY --from=a x y / FROM b AS a");
    assert!(late.contains("circular dependency detected on stage: b -> a -> b"), "{late}");
}

#[test]
fn the_target_is_a_name_a_number_or_the_last() {
    let text = "FROM scratch AS one / FROM scratch AS Two / FROM scratch";
    let of = |t: &str| try_plan(text, &target(t), &Fake::new()).map(|p| p.target);
    assert_eq!(["one", "ONE", "two", "1", "2"].map(|t| of(t).unwrap()), [0, 0, 1, 1, 2]);
    assert_eq!(planned(text).target, 2);
    for unknown in ["three", "3", "-1", ""] {
        let want = format!("target stage {unknown:?} could not be found (the stages are one, two)");
        assert_eq!(of(unknown).unwrap_err(), want);
    }
    let nameless = try_plan("FROM scratch", &target("x"), &Fake::new());
    assert_eq!(nameless.unwrap_err(), "target stage \"x\" could not be found");
}

#[test]
fn sources_must_come_first() {
    for (text, want) in [
        (
            "FROM scratch AS a / COPY --from=b x y / FROM scratch AS b",
            "2: cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
        ("FROM scratch AS a / COPY --from=a x y", "1: circular dependency detected on stage: a -> a"),
        ("FROM scratch / COPY --from=0 x y", "1: circular dependency detected on stage: stage-0 -> stage-0"),
        ("FROM scratch / COPY --from=7 x y", "2: invalid stage index 7: there are 1 stages"),
        (
            "FROM scratch AS a / COPY --from=b x y / FROM a AS b",
            "1: circular dependency detected on stage: a -> b -> a",
        ),
        (
            "FROM scratch AS a / RUN --mount=from=b,target=/m x / FROM scratch AS b",
            "2: cannot mount from stage \"b\" to \"/m\", stage needs to be defined before current command",
        ),
        (
            "FROM scratch / COPY --from=$x a b",
            "2: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround (use --expand-from, or write FROM $x AS source above, and COPY --from=source here)",
        ),
        (
            "FROM scratch / RUN --device=a/b=c x / RUN --device=a/b=c,required x",
            "3: device a/b=c is required, but steps get no devices",
        ),
    ] {
        let choices = if text.contains("AS a") { target("a") } else { given("") };
        assert_eq!(try_plan(text, &choices, &Fake::new()).map(|p| shape(&p)).unwrap_err(), want, "{text}");
    }
    // FROM sees only what stands above; a later name is an image.
    assert_eq!(error_of("FROM b AS a / FROM a AS b"), "1: b: no such image");
}

#[test]
fn what_nothing_needs_is_not_even_resolved() {
    let bases = Fake::new();
    let text = "FROM no/such AS a / RUN x / FROM alpine AS b / COPY --from=busybox x y / FROM scratch / COPY --from=b x y";
    let plan = try_plan(text, &given(""), &bases).unwrap();
    assert_eq!(
        shape(&plan),
        [
            "1 b <- image alpine: COPY --from=busybox x y",
            "*2 stage-2 <- scratch: COPY --from=b x y",
            "3 busybox <- image busybox"
        ]
    );
    assert_eq!(*bases.asked.borrow(), ["busybox linux/amd64", "alpine linux/amd64"]);
    // What an unneeded stage copies from is not needed either.
    assert_eq!(shape(&try_plan(text, &target("b"), &bases).unwrap()).len(), 2);
    assert_eq!(
        shape(&planned("FROM scratch AS a / COPY --from=no/such x y / FROM scratch")),
        ["*1 stage-1 <- scratch"]
    );
}

#[test]
fn an_image_that_only_from_names_is_one_stage() {
    let plan = planned(
        "FROM scratch / COPY --from=alpine a b / COPY --from=alpine c d / RUN --mount=from=alpine,target=/m x / RUN --mount=from=busybox,target=/m x",
    );
    assert_eq!(shape(&plan)[1..], ["1 alpine <- image alpine", "2 busybox <- image busybox"]);
    let froms: Vec<_> = copies(&plan.stages[0]).iter().map(|c| c.from).collect();
    assert_eq!(froms, [Some(1), Some(1)]);
    // A mount's `from` is never a number.
    assert_eq!(
        error_of("FROM scratch AS a / FROM alpine / RUN --mount=from=0,target=/m x"),
        "3: 0: no such image"
    );
    assert_eq!(error_of("FROM scratch / COPY --from=no/such a b"), "2: no/such: no such image");
}

#[test]
fn named_contexts_replace_images_and_stages() {
    let bases = Fake { contexts: vec!["dir", "alpine", "stage"], ..Fake::new() };
    let text =
        "FROM no/such AS stage / RUN x / FROM alpine AS b / COPY --from=dir x y / COPY --from=stage x y";
    assert_eq!(
        shape(&try_plan(text, &given(""), &bases).unwrap()),
        [
            "0 stage <- context stage",
            "*1 b <- context alpine: COPY --from=dir x y, COPY --from=stage x y",
            "2 dir <- context dir"
        ]
    );
    let scratch = Fake { contexts: vec!["scratch"], ..Fake::new() };
    assert_eq!(shape(&try_plan("FROM scratch", &given(""), &scratch).unwrap()), ["*0  <- scratch"]);
}

#[test]
fn from_takes_variables_of_the_files_head() {
    let of =
        |text: &str, args: &str| try_plan(text, &given(args), &Fake::new()).map(|p| shape(&p).join("; "));
    let head = "ARG BASE=alpine / FROM $BASE";
    assert_eq!(of(head, "").unwrap(), "*0  <- image alpine");
    assert_eq!(of(head, "BASE=busybox").unwrap(), "*0  <- image busybox");
    assert_eq!(of("FROM ${BASE:-busybox}", "").unwrap(), "*0  <- image busybox");
    // Not declared, so not seen.
    assert_eq!(of("FROM ${BASE:-busybox}", "BASE=alpine").unwrap(), "*0  <- image busybox");
    assert_eq!(
        of("FROM alpine / ARG BASE=busybox / FROM ${BASE:-scratch}", "").unwrap(),
        "*1 stage-1 <- scratch"
    );
    assert_eq!(
        of("FROM $BASE", "").unwrap_err(),
        "1: base name ($BASE) should not be blank (the variable BASE has no value: give it a default with ARG above the first FROM, or --build-arg)"
    );
}

#[test]
fn platforms() {
    let bases = Fake::new();
    let arm = Choices { platform: Some(Platform::new("linux", "arm64", None)), ..given("") };
    let text = "FROM --platform=$BUILDPLATFORM alpine AS b / FROM alpine AS t / COPY --from=b x y / FROM --platform=linux/s390x busybox / COPY --from=t x y / COPY --from=b x y";
    let plan = try_plan(text, &arm, &bases).unwrap();
    let host = Platform::host().to_string();
    assert_eq!(
        *bases.asked.borrow(),
        [format!("alpine {host}"), "alpine linux/arm64".into(), "busybox linux/s390x".into()]
    );
    assert_eq!(plan.stages[1].platform.to_string(), "linux/arm64");
    assert_eq!(target_of(&plan).config.architecture, "arm64");
    assert_eq!(error_of("FROM --platform=$NONE alpine"), "1: empty platform value from expression $NONE");
    assert!(error_of("FROM --platform=a/b/c/d alpine").starts_with("1: failed to parse platform a/b/c/d"));
}

#[test]
fn a_file_without_a_stage_is_an_error() {
    assert_eq!(
        error_of("ARG x"),
        "the Dockerfile has no stage to build (begin with FROM, for example FROM scratch)"
    );
}

#[test]
fn many_stages_that_name_the_next_one_are_refused_not_a_crash() {
    let mut text = String::new();
    for i in 0..20_000 {
        text.push_str(&format!("FROM scratch AS s{i}\nCOPY --from=s{} a b\n", i + 1));
    }
    text.push_str("FROM scratch AS s20000\n");
    let parsed = dockerfile::parse(&text);
    let result = crate::plan::plan(&parsed.file, &target("s0"), &Fake::new());
    assert!(matches!(result, Err(crate::plan::PlanError::At { line: Some(_), .. })));
}

#[test]
fn no_cache_is_for_all_or_for_stages_by_name() {
    let text = "FROM scratch AS Build / WORKDIR /w / RUN x / COPY a b / FROM scratch / COPY --from=build a b";
    let flags = |choices: &Choices| {
        let plan = try_plan(text, choices, &Fake::new()).unwrap();
        let flags: Vec<bool> = plan.stages.iter().flat_map(|s| &s.steps).map(|s| s.no_cache).collect();
        flags
    };
    assert_eq!(flags(&given("")), [false; 4]);
    // WORKDIR is looked up all the same.
    assert_eq!(flags(&Choices { no_cache: true, ..given("") }), [false, true, true, true]);
    let filter = |n: &str| Choices { no_cache_filter: vec![n.into()], ..given("") };
    assert_eq!(flags(&filter("build")), [false, true, true, false]);
    assert_eq!(flags(&filter("")), [false; 4]);
}
