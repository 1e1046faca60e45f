//! ARG, ENV, and what of them a RUN gets.

use super::kit::*;
use crate::plan::Choices;
use oci::platform::Platform;

/// The environment of the target's last RUN.
fn env_of(text: &str, args: &str) -> String {
    let plan = try_plan(text, &given(args), &Fake::new()).unwrap_or_else(|e| panic!("{text}: {e}"));
    env(runs(target_of(&plan)).last().expect("there is a RUN"))
}

#[test]
fn scopes() {
    let rows: &[(&str, &str, &str)] = &[
        // Text, --build-arg, environment of the last RUN.
        ("ARG X=1 / FROM scratch / RUN r", "", ""),
        ("ARG X=1 / FROM scratch / RUN r", "X=2", ""),
        ("ARG X=1 / FROM scratch / ARG X / RUN r", "", "X=1"),
        ("ARG X=1 / FROM scratch / ARG X / RUN r", "X=2", "X=2"),
        ("ARG X=1 / FROM scratch / ARG X=3 / RUN r", "", "X=3"),
        ("ARG X=1 / FROM scratch / ARG X=3 / RUN r", "X=2", "X=2"),
        ("FROM scratch / ARG X / RUN r", "", ""),
        ("FROM scratch / ARG X / RUN r", "X=2", "X=2"),
        ("FROM scratch / ARG X= / RUN r", "", "X="),
        ("FROM scratch / RUN r", "X=2", ""),
        // An argument counts from its declaration on.
        ("FROM scratch / RUN r / ARG X=1", "", ""),
        // The head sees what stands above, and --build-arg.
        ("ARG A=1 / ARG B=b$A / FROM scratch / ARG B / RUN r", "", "B=b1"),
        ("ARG A=1 / ARG B=b$A / FROM scratch / ARG B / RUN r", "A=2", "B=b2"),
        ("ARG A=1 B=b$A / FROM scratch / ARG B / RUN r", "", "B=b1"),
        // Another stage begins anew, a child stage goes on.
        ("FROM scratch AS a / ARG X=1 / FROM scratch / RUN r", "", ""),
        ("FROM scratch AS a / ARG X=1 / FROM a / RUN r", "", "X=1"),
        ("FROM scratch AS a / ARG X=1 / FROM a / ARG X / RUN r", "", "X=1"),
        ("FROM scratch AS a / ENV X=1 / FROM a / RUN r", "", "X=1"),
        // The last writer wins; what a child inherits is the image's environment.
        ("FROM scratch / ENV X=e / ARG X=a / RUN r", "", "X=a"),
        ("FROM scratch / ENV X=e / ARG X / RUN r", "", "X=e"),
        ("FROM scratch / ENV X=e / ARG X / RUN r", "X=b", "X=b"),
        ("FROM scratch / ARG X=a / ENV X=e / RUN r", "X=b", "X=e"),
        ("FROM alpine / ARG LANG=a / RUN r", "", "LANG=a"),
        ("FROM scratch AS a / ENV X=e / ARG X=a / FROM a / RUN r", "", "X=e"),
        // Order is that of the last setting.
        ("FROM alpine / ENV B=1 / ENV A=2 / ENV B=3 / RUN r", "", "LANG=C A=2 B=3"),
        // ENV and ARG see each other. The pairs of an ENV see only what was there before it, the definitions of an ARG also those
        // before them.
        ("FROM scratch / ARG V=1 / ENV W=v$V / RUN r", "", "V=1 W=v1"),
        ("FROM scratch / ENV V=1 / ARG W=v$V / RUN r", "", "V=1 W=v1"),
        ("FROM scratch / ENV a=hi / ENV a=bye b=$a / RUN r", "", "a=bye b=hi"),
        ("FROM scratch / ARG a=hi / ARG a=bye b=$a / RUN r", "", "a=bye b=bye"),
        ("FROM scratch / ARG a b=$a / RUN r", "a=1", "a=1 b=1"),
    ];
    for (text, args, want) in rows {
        assert_eq!(env_of(text, args), *want, "{text} with {args:?}");
    }
}

#[test]
fn an_argument_is_not_in_the_image() {
    let plan = planned("FROM scratch / ENV X=e / ARG X=a / ARG Y=b / ENV Z=$X$Y / RUN r");
    let env = &target_of(&plan).config.config.env;
    assert_eq!(env[1..], ["X=e", "Z=ab"]);
    assert!(env[0].starts_with("PATH=/usr/local/sbin:"), "{env:?}");
}

#[test]
fn the_image_keeps_the_place_of_a_variable_that_is_set_again() {
    let plan = planned("FROM alpine / ENV A=1 / ENV LANG=de B=2 / ENV A=3");
    assert_eq!(target_of(&plan).config.config.env, ["PATH=/bin", "LANG=de", "A=3", "B=2"]);
}

#[test]
fn platform_arguments_are_known_and_must_be_declared() {
    let of = |text: &str, args: &str| {
        let arm = Choices { platform: Some(Platform::new("linux", "arm", Some("v7"))), ..given(args) };
        let plan = try_plan(text, &arm, &Fake::new()).unwrap();
        env(runs(target_of(&plan)).last().unwrap())
    };
    assert_eq!(of("FROM scratch / RUN r", ""), "");
    assert_eq!(
        of("FROM scratch / ARG TARGETPLATFORM / ARG TARGETOS TARGETARCH TARGETVARIANT / RUN r", ""),
        "TARGETPLATFORM=linux/arm/v7 TARGETOS=linux TARGETARCH=arm TARGETVARIANT=v7"
    );
    assert_eq!(
        of("FROM scratch / ARG BUILDPLATFORM / RUN r", ""),
        format!("BUILDPLATFORM={}", Platform::host())
    );
    assert_eq!(of("FROM scratch / ARG TARGETARCH=mine / RUN r", ""), "TARGETARCH=mine");
    assert_eq!(of("FROM scratch / ARG TARGETARCH / RUN r", "TARGETARCH=given"), "TARGETARCH=given");
    assert_eq!(of("FROM scratch / ARG TARGETSTAGE / RUN r", ""), "TARGETSTAGE=default");
    assert_eq!(of("FROM scratch AS x / ARG TARGETSTAGE / RUN r", ""), "TARGETSTAGE=x");
    assert_eq!(of("ARG TARGETARCH / FROM scratch / ARG TARGETARCH / RUN r", ""), "TARGETARCH=arm");
}

#[test]
fn proxies_are_given_without_being_part_of_the_step() {
    let plan = |text: &str| try_plan(text, &given("HTTP_PROXY=http://p no_proxy=x"), &Fake::new()).unwrap();
    let hidden = plan("FROM scratch / RUN r");
    let run = runs(target_of(&hidden))[0];
    assert_eq!(env(run), "");
    let proxy: Vec<_> = run.proxy.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(proxy, ["HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=x", "no_proxy=x"]);
    assert_eq!(history(&hidden), ["RUN r # buildkit +"].map(|h| h.replace("RUN r", "RUN /bin/sh -c r")));
    assert!(hidden.warnings.is_empty(), "{:?}", hidden.warnings);
    assert_eq!(
        env(runs(target_of(&plan("FROM scratch / ARG HTTP_PROXY / RUN r")))[0]),
        "HTTP_PROXY=http://p"
    );
}

#[test]
fn an_argument_that_nothing_declares_is_told() {
    let warnings = |text: &str| {
        let args = "X=1 Y=2 BUILDKIT_INLINE_CACHE=1 SOURCE_DATE_EPOCH=1 TARGETARCH=x https_proxy=p";
        let plan = try_plan(text, &given(args), &Fake::new()).unwrap();
        plan.warnings.into_iter().map(|w| w.text).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        warnings("FROM scratch / ARG Y"),
        ["one or more build-args [\"X\"] were not consumed: no ARG declares them"]
    );
    assert_eq!(warnings("ARG X / FROM scratch AS unneeded / ARG Y / FROM scratch"), none);
    let bases = Fake::new().with_triggers("trigger", &["ARG X"]);
    let plan = try_plan("FROM trigger", &given("X=1"), &bases).unwrap();
    assert_eq!(plan.warnings, []);
}

#[test]
fn the_history_of_a_run_lists_the_arguments() {
    let rows = [
        ("FROM scratch / RUN r", "RUN /bin/sh -c r # buildkit +"),
        ("FROM scratch / ARG A=1 / ARG B / RUN r", "RUN |2 A=1 B= /bin/sh -c r # buildkit +"),
        ("FROM scratch / ARG A=1 / ARG A=2 / RUN r", "RUN |1 A=2 /bin/sh -c r # buildkit +"),
        // Its value there and then, not that of the ARG.
        ("FROM scratch / ARG A=1 / ENV A=e / RUN [\"r\", \"x\"]", "RUN |1 A=e r x # buildkit +"),
        ("FROM scratch AS a / ARG A=1 / FROM a / RUN r", "RUN |1 A=1 /bin/sh -c r # buildkit +"),
    ];
    for (text, want) in rows {
        assert_eq!(history(&planned(text)).last().unwrap(), want, "{text}");
    }
}

#[test]
fn the_epoch_is_a_number() {
    let of = |text: &str, args: &str| try_plan(text, &given(args), &Fake::new()).map(|p| p.epoch);
    assert_eq!(of("FROM scratch", ""), Ok(None));
    assert_eq!(of("FROM scratch", "SOURCE_DATE_EPOCH=12"), Ok(Some(12)));
    assert_eq!(of("FROM scratch", "SOURCE_DATE_EPOCH="), Ok(None));
    assert_eq!(of("ARG SOURCE_DATE_EPOCH=7 / FROM scratch", ""), Ok(Some(7)));
    assert_eq!(of("FROM scratch / ARG SOURCE_DATE_EPOCH=7", ""), Ok(None));
    let bad = of("FROM scratch", "SOURCE_DATE_EPOCH=now").unwrap_err();
    assert_eq!(bad, "invalid SOURCE_DATE_EPOCH: now (it is a number of seconds since 1970)");
}

/// What no machine could hold ends in an error that says where.
#[test]
fn growth_is_bounded() {
    let fails = |text: String, line: u32, what: &str| {
        let file = dockerfile::parse(&text).file;
        match crate::plan::plan(&file, &Choices::default(), &Fake::new()) {
            Err(crate::plan::PlanError::At { line: at, message, .. }) => {
                assert!(message.contains(what) && at.is_some_and(|at| at <= line), "{at:?} {message}");
            }
            other => panic!("{what}: {:?}", other.map(|plan| plan.stages.len())),
        }
    };
    let doubled = "ENV A=$A$A\n".repeat(200);
    fails(format!("FROM scratch\nENV A=x\n{doubled}"), 30, "bytes longer");
    let kilobytes = "x".repeat(60_000);
    let many: String = (0..200).map(|i| format!("ENV A{i}={kilobytes}\n")).collect();
    fails(format!("FROM scratch\n{many}"), 200, "environment of the stage is larger");
    let large: String = (0..100).map(|i| format!("ENV A{i}={kilobytes}\n")).collect();
    let runs = "RUN x\n".repeat(200);
    fails(format!("FROM scratch\n{large}{runs}"), 250, "hold more than");
    let chain: String = (0..2_000).map(|i| format!("FROM s{i} AS s{}\nUSER a\nUSER b\n", i + 1)).collect();
    let first = (0..2_000).map(|_| "LABEL a=b\n").collect::<String>();
    fails(format!("FROM scratch AS s0\n{first}{chain}"), 8_001, "hold more than");
}
