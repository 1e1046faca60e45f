//! Instructions that make no layer: the config and the history.

use super::kit::*;
use crate::plan::{Choices, DEFAULT_PATH, StepKind};

use oci::types::RunConfig;

fn config(text: &str) -> RunConfig {
    target_of(&planned(text)).config.config.clone()
}

fn words(list: &Option<Vec<String>>) -> String {
    list.as_ref().map_or("none".into(), |l| l.join("|"))
}

#[test]
fn an_empty_image_and_an_inherited_one() {
    let plan = planned("FROM scratch");
    let c = &target_of(&plan).config;
    assert_eq!(
        (c.os.as_str(), c.architecture.as_str(), c.config.working_dir.as_str()),
        ("linux", "amd64", "/")
    );
    assert_eq!(c.config.env, [format!("PATH={DEFAULT_PATH}")]);
    let plan = planned("FROM alpine");
    let c = &target_of(&plan).config;
    assert_eq!((c.created.as_deref(), c.author.as_deref()), (None, Some("somebody")));
    assert_eq!(words(&c.config.cmd), "/bin/sh");
    assert_eq!(history(&plan), ["base +"]);
    // An image without PATH gets one.
    let mut bases = Fake::new();
    bases.images.get_mut("alpine").unwrap().config.env.clear();
    let plan = try_plan("FROM alpine", &given(""), &bases).unwrap();
    assert_eq!(target_of(&plan).config.config.env, [format!("PATH={DEFAULT_PATH}")]);
}

#[test]
fn working_directories_chain() {
    let of = |text: &str| {
        let plan = planned(text);
        let stage = target_of(&plan);
        let steps: Vec<String> = stage
            .steps
            .iter()
            .map(|s| match &s.kind {
                StepKind::Workdir(w) => format!("{} {}", w.path, w.user).trim_end().to_owned(),
                StepKind::Run(r) => format!("in {}", r.cwd),
                StepKind::Copy(c) => format!("to {}", c.dest),
            })
            .collect();
        format!("{}: {}", stage.config.config.working_dir, steps.join(", "))
    };
    for (text, want) in [
        ("RUN r", "/: in /"),
        ("WORKDIR /a / WORKDIR b / WORKDIR ../c / RUN r", "/a/c: /a, /a/b, /a/c, in /a/c"),
        ("WORKDIR a / RUN r", "/a: /a, in /a"),
        ("WORKDIR /\nRUN r", "/: in /"),
        ("WORKDIR //a / WORKDIR $NONE / RUN r", "//a: //a, //a, in //a"),
        ("ENV D=/x / WORKDIR $D/y / COPY a .", "/x/y: /x/y, to /x/y/"),
        ("WORKDIR /a / USER u / WORKDIR /b / USER root / WORKDIR c", "/b/c: /a, /b u, /b/c root"),
        ("WORKDIR /a b", "/a b: /a b"),
    ] {
        assert_eq!(of(&format!("FROM scratch / {text}")), want, "{text}");
    }
    let mut bases = Fake::new();
    bases.images.get_mut("alpine").unwrap().config.working_dir = "rel/dir".into();
    let plan = try_plan("FROM alpine / RUN r", &given(""), &bases).unwrap();
    assert_eq!(runs(target_of(&plan))[0].cwd, "/rel/dir");
}

#[test]
fn users() {
    let plan = planned("FROM scratch / RUN a / ARG U=me / USER $U:staff / RUN b / USER 0 / RUN c");
    let users: Vec<_> = runs(target_of(&plan)).iter().map(|r| r.user.as_str()).collect();
    assert_eq!(users, ["", "me:staff", "0"]);
    assert_eq!(config("FROM scratch AS a / USER x / FROM a").user, "x");
}

#[test]
fn shells_are_for_what_follows() {
    let text =
        "FROM scratch / RUN a / SHELL [\"bash\", \"-ec\"] / RUN b / RUN [\"c\"] / CMD d / ENTRYPOINT e";
    let plan = planned(text);
    let args: Vec<_> = runs(target_of(&plan)).iter().map(|r| r.args.join("|")).collect();
    assert_eq!(args, ["/bin/sh|-c|a", "bash|-ec|b", "c"]);
    let c = &target_of(&plan).config.config;
    assert_eq!([&c.cmd, &c.entrypoint, &c.shell].map(words), ["bash|-ec|d", "bash|-ec|e", "bash|-ec"]);
    let plan = planned("FROM scratch AS a / SHELL [\"zsh\"] / FROM a / RUN x");
    assert_eq!(runs(target_of(&plan))[0].args, ["zsh", "x"]);
}

#[test]
fn heredocs_are_shell_text_or_scripts() {
    let run = |text: &str| {
        let plan = planned(&format!("FROM scratch\nARG A=1\n{text}"));
        let r = runs(target_of(&plan))[0].clone();
        (r.args.join("|"), r.script)
    };
    assert_eq!(run("RUN <<EOF\necho $A\nEOF"), ("/bin/sh|-c|echo $A\n".into(), None));
    let (args, script) = run("RUN <<EOF\n#!/bin/awk\n$A\nEOF");
    assert_eq!(args, "/bin/sh|-c|/dev/pipes/EOF");
    assert_eq!(script, Some(("EOF".into(), "#!/bin/awk\n$A\n".into())));
    assert_eq!(run("RUN cat <<EOF\nx\nEOF").0, "/bin/sh|-c|cat <<EOF\nx\nEOF");
}

#[test]
fn an_entrypoint_takes_the_command_of_the_base_away() {
    let of = |text: &str| {
        let c = config(text);
        format!("{} {}", words(&c.entrypoint), words(&c.cmd))
    };
    for (text, want) in [
        ("FROM alpine", "none /bin/sh"),
        ("FROM alpine / ENTRYPOINT [\"e\"]", "e none"),
        ("FROM alpine / CMD [\"c\"] / ENTRYPOINT [\"e\"]", "e c"),
        ("FROM alpine / ENTRYPOINT [\"e\"] / CMD [\"c\"]", "e c"),
        ("FROM alpine AS a / CMD [\"c\"] / FROM a / ENTRYPOINT [\"e\"]", "e none"),
        ("FROM alpine / CMD [\"c\"] / CMD d", "none /bin/sh|-c|d"),
        ("FROM alpine / ENTRYPOINT [\"e\"] / ENTRYPOINT []", " none"),
    ] {
        assert_eq!(of(text), want, "{text}");
    }
    assert!(config("FROM scratch / CMD [\"c\"]").args_escaped);
    assert!(!config("FROM scratch / ENTRYPOINT [\"c\"]").args_escaped);
}

#[test]
fn health_checks() {
    let test =
        |text: &str| words(&config(&format!("FROM scratch / HEALTHCHECK {text}")).healthcheck.unwrap().test);
    assert_eq!(test("NONE"), "NONE");
    assert_eq!(test("CMD a b"), "CMD-SHELL|a b");
    assert_eq!(test("CMD [\"a\", \"b\"]"), "CMD|a|b");
    let text = "FROM scratch / HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=1500ms --retries=4 CMD a";
    let h = config(text).healthcheck.unwrap();
    let s = 1_000_000_000;
    assert_eq!(
        (h.interval, h.timeout, h.start_period, h.start_interval, h.retries),
        (300 * s, 3 * s, s, 3 * s / 2, 4)
    );
}

#[test]
fn ports_volumes_labels_and_signals() {
    let c = config(
        "FROM scratch / ENV P=90/udp / EXPOSE 80 8000-8002/tcp $P / VOLUME /a b / VOLUME [\"/c d\"] / STOPSIGNAL SIGTERM / LABEL a=1 b=$P / LABEL a=2",
    );
    let keys =
        |m: &std::collections::BTreeMap<String, serde_json::Value>| m.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&c.exposed_ports), ["80/tcp", "8000/tcp", "8001/tcp", "8002/tcp", "90/udp"]);
    assert_eq!(keys(&c.volumes), ["/a", "/c d", "b"]);
    assert_eq!(c.stop_signal.as_deref(), Some("SIGTERM"));
    assert_eq!(format!("{:?}", c.labels), r#"{"a": "2", "b": "90/udp"}"#);
    for (text, want) in [
        ("VOLUME $NONE", "2: VOLUME specified can not be an empty string"),
        ("STOPSIGNAL SIGNOT", "2: invalid signal: SIGNOT"),
        ("STOPSIGNAL 0", "2: invalid signal: 0"),
        ("STOPSIGNAL SIGRTMIN+16", "2: invalid signal: SIGRTMIN+16"),
        ("STOPSIGNAL RTMAX-15", "2: invalid signal: RTMAX-15"),
        ("STOPSIGNAL RTMIN+01", "2: invalid signal: RTMIN+01"),
        ("EXPOSE 70000", "2: invalid containerPort: 70000"),
        ("ENV A=${B:?wanted}", "2: B: wanted"),
    ] {
        assert_eq!(error_of(&format!("FROM scratch / {text}")), want);
    }
    for good in ["9", "sigkill", "KILL", "SIGRTMIN+15", "RTMAX-14", "99"] {
        let c = config(&format!("FROM scratch / STOPSIGNAL {good}"));
        assert_eq!(c.stop_signal.as_deref(), Some(good));
    }
}

#[test]
fn labels_of_the_command_line_win_and_leave_no_history() {
    let choices = Choices { labels: vec![("a".into(), "cli".into()), ("c".into(), "3".into())], ..given("") };
    let plan = try_plan("FROM scratch AS x / FROM x / LABEL a=1 b=2", &choices, &Fake::new()).unwrap();
    assert_eq!(format!("{:?}", target_of(&plan).config.config.labels), r#"{"a": "cli", "b": "2", "c": "3"}"#);
    assert!(plan.stages[0].config.config.labels.is_empty());
    assert_eq!(history(&plan), ["LABEL a=1 b=2"]);
}

#[test]
fn history_says_what_docker_says() {
    let rows = [
        ("MAINTAINER me", "MAINTAINER me"),
        ("ENV a=1 b='x y'", "ENV a=1 b=x y"),
        ("LABEL k=\"v w\"", "LABEL k=v w"),
        ("ARG a=1 b", "ARG a=1 b"),
        ("CMD [\"a\", \"b c\"]", "CMD [\"a\" \"b c\"]"),
        ("CMD a b", "CMD [\"/bin/sh\" \"-c\" \"a b\"]"),
        ("ENTRYPOINT [\"e\"]", "ENTRYPOINT [\"e\"]"),
        ("EXPOSE 80 53/udp", "EXPOSE [53/udp 80/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ("USER me", "USER me"),
        ("STOPSIGNAL 9", "STOPSIGNAL 9"),
        ("SHELL [\"a\", \"-c\"]", "SHELL [a -c]"),
        (
            "HEALTHCHECK --interval=90s CMD a",
            "HEALTHCHECK {Test:[CMD-SHELL a] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        ("WORKDIR /x", "WORKDIR /x +"),
        ("WORKDIR /", "WORKDIR /"),
        ("RUN a", "RUN /bin/sh -c a # buildkit +"),
        ("COPY --chown=1:2 --chmod=755 --link a b /d/", "COPY --chown=1:2 --chmod=755 a b /d/ # buildkit +"),
        ("COPY --parents --exclude=x a ./", "COPY --parents a ./ # buildkit +"),
        ("COPY --from=alpine a b", "COPY a b # buildkit +"),
        ("ADD --checksum= http://h/x /", "ADD http://h/x / # buildkit +"),
    ];
    for (text, want) in rows {
        let plan = planned(&format!("FROM scratch / {text}"));
        assert_eq!(history(&plan), [want], "{text}");
        let entry = &target_of(&plan).config.history[0];
        assert_eq!((entry.comment.as_deref(), &entry.created), (Some("buildkit.dockerfile.v0"), &None));
    }
    assert_eq!(target_of(&planned("FROM scratch / MAINTAINER me")).config.author.as_deref(), Some("me"));
    // Each step knows its line of the history, the base's counted.
    let plan = planned("FROM alpine / ENV a=1 / RUN x / ENV b=1 / WORKDIR /w");
    let at: Vec<_> = target_of(&plan).steps.iter().map(|s| s.history).collect();
    assert_eq!(at, [2, 4]);
}
