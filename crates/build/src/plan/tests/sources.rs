//! Sources and destinations of COPY and ADD, and mounts.

use super::kit::*;
use crate::plan::CopySource;

fn copy_of(text: &str) -> crate::plan::Copy {
    let plan = planned(&format!("FROM scratch\nWORKDIR /w\nENV V=val\n{text}"));
    copies(target_of(&plan))[0].clone()
}

#[test]
fn destinations_are_absolute_and_keep_their_slash() {
    for (dest, want) in [
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("a", "/w/a"),
        ("a/", "/w/a/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("..", "/"),
        ("../..", "/"),
        ("/", "/"),
        ("/a/.", "/a/."),
        ("/a/../b//c", "/b/c"),
        ("$V/x", "/w/val/x"),
        ("${NONE}", "/w/"),
    ] {
        assert_eq!(copy_of(&format!("COPY x {dest}")).dest, want, "{dest}");
    }
}

#[test]
fn flags_and_sources_are_expanded() {
    let c = copy_of("COPY --chown=$V:$V --chmod=${MODE:-750} --exclude=$V a$V '$V' /d");
    assert_eq!(c.chown.as_deref(), Some("val:val"));
    assert_eq!(c.chmod.unwrap().apply(0, false), 0o750);
    assert_eq!(c.sources, [CopySource::Path("aval".into()), CopySource::Path("$V".into())]);
    assert_eq!(c.exclude, ["$V"], "patterns are not");
    let c = copy_of("COPY --chown=$NONE --chmod=$NONE a /d");
    assert!(c.chown.is_none() && c.chmod.is_none());
}

#[test]
fn heredocs_are_files() {
    let c = copy_of("COPY <<A <<'B' x /d/\n$V \\$V\nA\n$V\nB");
    let inline =
        |name: &str, content: &str| CopySource::Inline { name: name.into(), content: content.into() };
    assert_eq!(c.sources, [CopySource::Path("x".into()), inline("A", "val $V\n"), inline("B", "$V\n")]);
}

#[test]
fn only_add_fetches() {
    let kinds = |source: &str| match &copy_of(&format!("ADD {source} /d/")).sources[0] {
        CopySource::Path(_) => "path",
        CopySource::Http { .. } => "http",
        CopySource::Git(_) => "git",
        CopySource::Inline { .. } => "inline",
    };
    for (source, want) in [
        ("x", "path"),
        ("http://h/x", "http"),
        ("https://h/x.tar?y#z", "http"),
        ("https://h/r.git", "git"),
        ("https://h/r.git#main:sub", "git"),
        ("https://h/r.git?branch=x", "git"),
        ("git@h:r", "git"),
        ("git://h/r", "git"),
        ("ssh://git@h/r", "git"),
        ("git@h", "path"),
        ("ftp://h/x", "path"),
    ] {
        assert_eq!(kinds(source), want, "{source}");
    }
    for (text, want) in [
        ("COPY http://h/x /d", "2: source can't be a URL for COPY"),
        ("COPY https://h/r.git /d", "2: source can't be a git ref for COPY"),
        ("ADD --checksum=x a /d", "2: checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=x http://h/a http://h/b /d", "2: checksum can't be specified for multiple sources"),
        (
            "COPY --chmod=9 a /d",
            "2: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
    ] {
        assert_eq!(error_of(&format!("FROM scratch / {text}")), want);
    }
}

#[test]
fn mounts() {
    let targets = |text: &str| {
        let plan = planned(&format!("FROM scratch\nWORKDIR /w\nENV V=val\nRUN {text} x"));
        runs(target_of(&plan))[0].mounts.iter().map(|m| m.target.clone()).collect::<Vec<_>>()
    };
    assert_eq!(targets("--mount=type=cache,target=c --mount=type=tmpfs,target=/$V"), ["/w/c", "/val"]);
    assert_eq!(targets("--mount=type=secret,id=s --mount=type=ssh"), ["", ""]);
    assert_eq!(
        targets("--mount=type=tmpfs --mount=target=$NONE/f --mount=type=cache,target=$NONE"),
        ["/w", "/f"]
    );
    assert_eq!(targets("--mount=target=/a --mount=target=/b --mount=type=tmpfs,target=/a"), ["/a", "/b"]);
    assert_eq!(
        targets("--mount=type=secret,id=s,target=/a --mount=type=secret,id=t,target=/a"),
        ["/a", "/a"]
    );
    for text in ["type=bind,target=/", "type=bind,target=$NONE", "type=tmpfs"] {
        let error = error_of(&format!("FROM scratch / RUN --mount={text} x"));
        assert_eq!(error, "2: invalid mount target \"/\"", "{text}");
    }
}

#[test]
fn variables_name_sources_where_that_is_asked_for() {
    let text = "ARG V=2 / FROM alpine AS one / ARG OWN=one / FROM one AS v2 / COPY --from=$OWN /x /x / FROM scratch / ARG V / \
                ARG KIND=busy / COPY --from=v$V /a /a / COPY --from=${KIND}box /b /b";
    let refused = try_plan(text, &given(""), &Fake::new()).map(|p| shape(&p)).unwrap_err();
    assert!(refused.contains("variable expansion is not supported for --from"), "{refused}");
    assert!(refused.contains("--expand-from"), "{refused}");
    let with = |text: &str, args: &str| {
        let choices = crate::plan::Choices { expand_from: true, ..given(args) };
        try_plan(text, &choices, &Fake::new())
    };
    let plan = with(text, "").unwrap();
    let names: Vec<_> = plan.stages.iter().filter(|s| s.needed).map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["one", "v2", "stage-2", "busybox"]);
    let froms: Vec<_> = copies(target_of(&plan)).iter().map(|c| c.from).collect();
    assert_eq!(froms, [Some(1), Some(3)]);
    // --build-arg counts, and a child stage has its parent's ARGs.
    let plan =
        with("FROM alpine AS a / FROM busybox AS b / ARG X=a / FROM b / COPY --from=$X /x /", "X=alpine")
            .unwrap();
    assert_eq!(shape(&plan).last().unwrap(), "3 alpine <- image alpine");
    // ENV does not, and another stage's ARG does not.
    for text in [
        "FROM alpine AS a / FROM scratch / ENV X=a / COPY --from=$X /x /",
        "FROM alpine AS a / ARG X=a / FROM scratch / COPY --from=$X /x /",
    ] {
        let e = with(text, "").map(|p| shape(&p)).unwrap_err();
        assert!(e.contains("from=$X names nothing (no ARG gives X a value"), "{e}");
    }
    // Numbers are stages here, too.
    let plan = with("FROM alpine / FROM scratch / ARG N=0 / COPY --from=$N /x /", "").unwrap();
    assert_eq!(copies(target_of(&plan))[0].from, Some(0));
}
