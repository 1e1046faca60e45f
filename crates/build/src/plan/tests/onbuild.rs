//! Triggers of base images and stages.

use super::kit::*;

#[test]
fn triggers_of_an_image_run_right_after_from() {
    let bases = Fake::new().with_triggers("t", &["ENV a=1", "RUN first", "COPY x y"]);
    let plan = try_plan("FROM t / RUN own", &given(""), &bases).unwrap();
    assert_eq!(shape(&plan), ["*0  <- image t: ONBUILD RUN first, ONBUILD COPY x y, RUN own"]);
    let stage = target_of(&plan);
    assert_eq!(env(runs(stage)[1]), "LANG=C a=1");
    assert_eq!(stage.config.config.on_build, None, "they are for one generation");
    assert_eq!(stage.steps.iter().map(|s| s.lines).collect::<Vec<_>>(), [None, None, Some((2, 2))]);
    // They write history as if they stood there.
    assert_eq!(
        history(&plan)[1..],
        [
            "ENV a=1",
            "RUN /bin/sh -c first # buildkit +",
            "COPY x y # buildkit +",
            "RUN /bin/sh -c own # buildkit +"
        ]
    );
}

#[test]
fn triggers_of_a_stage_are_kept_there_and_run_in_its_child() {
    let plan =
        planned("FROM scratch AS a / ONBUILD RUN t $X / RUN own / FROM a AS b / RUN own / FROM b / RUN last");
    assert_eq!(
        shape(&plan),
        [
            "0 a <- scratch: RUN own",
            "1 b <- stage 0: ONBUILD RUN t $X, RUN own",
            "*2 stage-2 <- stage 1: RUN last"
        ]
    );
    let plan = planned("FROM scratch / ONBUILD RUN t $X / ONBUILD COPY a b");
    assert_eq!(
        target_of(&plan).config.config.on_build.as_deref(),
        Some(&["RUN t $X".to_owned(), "COPY a b".to_owned()][..])
    );
    assert!(history(&plan).is_empty());
}

#[test]
fn a_trigger_may_need_stages_and_images_that_nothing_else_does() {
    let bases =
        Fake::new().with_triggers("t", &["COPY --from=b x y", "RUN --mount=from=busybox,target=/m z"]);
    let plan =
        try_plan("FROM alpine AS a / RUN a / FROM a AS b / RUN b / FROM t / RUN own", &given(""), &bases);
    assert_eq!(
        shape(&plan.unwrap()),
        [
            "0 a <- image alpine: RUN a",
            "1 b <- stage 0: RUN b",
            "*2 stage-2 <- image t: ONBUILD COPY --from=b x y, ONBUILD RUN z, RUN own",
            "3 busybox <- image busybox",
        ]
    );
    // A new dependency may have triggers, too.
    let bases = bases.with_triggers("u", &["COPY --from=a x y"]);
    let plan = try_plan("FROM alpine AS a / FROM u AS b / FROM t", &given(""), &bases);
    assert_eq!(
        shape(&plan.unwrap()),
        [
            "0 a <- image alpine",
            "1 b <- image u: ONBUILD COPY --from=a x y",
            "*2 stage-2 <- image t: ONBUILD COPY --from=b x y, ONBUILD RUN z",
            "3 busybox <- image busybox",
        ]
    );
}

#[test]
fn triggers_that_cannot_be() {
    let of = |trigger: &str, text: &str| {
        let bases = Fake::new().with_triggers("t", &[trigger]);
        try_plan(text, &given(""), &bases).map(|p| shape(&p)).unwrap_err()
    };
    assert_eq!(
        of("NONSENSE x", "FROM alpine AS a / FROM t"),
        "2: ONBUILD trigger \"NONSENSE x\" of the base image: unknown instruction NONSENSE"
    );
    assert_eq!(of("COPY --from=no/such a b", "FROM t"), "1: no/such: no such image");
    assert_eq!(of("COPY --from=9 a b", "FROM t"), "1: invalid stage index 9: there are 1 stages");
    assert_eq!(of("COPY --from=x a b", "FROM t AS x"), "1: circular dependency detected on stage: x -> x");
    assert_eq!(
        of("COPY --from=late a b", "FROM t AS x / FROM x AS late"),
        "1: circular dependency detected on stage: x -> late -> x"
    );
}
