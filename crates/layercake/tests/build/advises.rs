//! `advise`: one Dockerfile with a known fault for each kind of advice, built before and after.

use serde_json::Value;

use crate::kit::{Lab, sh};

const BUILD: &[&str] = &["--", "--build-context", "base=base", "--quiet"];

/// A place with package managers that do what matters of the real ones.
fn lab() -> Option<Lab> {
    let lab = Lab::rooted()?;
    std::os::unix::fs::symlink("busybox", lab.path("base/bin/chown")).unwrap();
    tool(
        &lab,
        "npm",
        "test -e $HOME/.npm/p || { mkdir -p $HOME/.npm; head -c 300000 /dev/zero > $HOME/.npm/p; }\n\
                       mkdir -p /mods && cat $HOME/.npm/p > /mods/p",
    );
    tool(
        &lab,
        "apk",
        "test \"$2\" = --no-cache || { mkdir -p /var/cache/apk && head -c 300000 /dev/zero > /var/cache/apk/i; }\n\
                       echo tool > /tool",
    );
    tool(
        &lab,
        "apt-get",
        "L=/var/lib/apt/lists\ncase $1 in update) mkdir -p $L; head -c 300000 /dev/zero > $L/i;; *) cat $L/i > /dev/null; echo t > /t;; esac",
    );
    Some(lab)
}

fn tool(lab: &Lab, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    lab.file(&format!("base/bin/{name}"), format!("#!/bin/sh\nset -e\n{script}\n"));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(lab.path(format!("base/bin/{name}")), mode).unwrap();
}

/// What `advise` says of `ctx`, as JSON.
fn advise(lab: &Lab, flags: &[&str]) -> Value {
    let ran =
        lab.run(&[&["advise", "ctx", "--min-seconds", "0", "--format", "json"], flags, BUILD].concat()).ok();
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Verifies that a Dockerfile gets this kind of advice, that it holds, and what the Dockerfile is afterwards.
#[track_caller]
fn holds(lab: &Lab, kind: &str, dockerfile: &str, after: &str) -> Value {
    lab.file("ctx/Dockerfile", dockerfile);
    let all = advise(lab, &["--verify", "--only", kind, "--apply"]);
    let found = all["advice"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{all:#}");
    assert_eq!(
        (&found[0]["kind"], &found[0]["in_patch"]),
        (&Value::from(kind), &Value::from(true)),
        "{all:#}"
    );
    assert!(found[0]["verified"].is_object(), "{all:#}");
    assert_eq!(lab.read("ctx/Dockerfile"), after);
    let left = advise(lab, &["--only", kind]);
    assert_eq!(left["advice"], Value::Array(Vec::new()), "the same advice a second time: {left:#}");
    found[0].clone()
}

/// Bytes of the image before and after.
fn bytes(advice: &Value) -> (u64, u64) {
    let of = |side: &str| advice["verified"][side]["image_bytes"].as_u64().unwrap();
    (of("before"), of("after"))
}

#[test]
fn a_later_removal_goes_where_the_bytes_are_made() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/x", "x");
    let advice = holds(
        &lab,
        "merge-runs",
        "FROM base\n# fetch\nRUN head -c 300000 /dev/zero > /big && \\\n    echo keep > /keep\nCOPY x /x\n\n# tidy up\nRUN rm /big\n",
        "FROM base\n# fetch\nRUN head -c 300000 /dev/zero > /big && \\\n    echo keep > /keep && \\\n    # tidy up\n    rm /big\nCOPY x /x\n\n",
    );
    assert_eq!(bytes(&advice), (300_006, 6));
}

#[test]
fn a_chown_is_a_flag_of_the_copy() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/app/data", vec![7; 300_000]).file("ctx/app/more", "more");
    let advice = holds(
        &lab,
        "copy-chmod",
        "FROM base\nCOPY app /app\nRUN chown -R 1000:1000 /app\nUSER 1000\n",
        "FROM base\nCOPY --chown=1000:1000 app /app\nUSER 1000\n",
    );
    assert_eq!(bytes(&advice), (600_008, 300_004));
}

#[test]
fn what_a_run_reads_is_copied_first() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/list", "a b c");
    for n in 0..5 {
        lab.file(&format!("ctx/src/f{n}"), "source");
    }
    let advice = holds(
        &lab,
        "narrow-copy",
        "FROM base\nWORKDIR /app\nCOPY . .\nRUN cat list > /installed\nRUN ls src > /listed\n",
        "FROM base\nWORKDIR /app\nCOPY list ./\nRUN cat list > /installed\nCOPY . .\nRUN ls src > /listed\n",
    );
    let again = |side: &str| advice["verified"][side]["again_ran"].as_u64().unwrap();
    assert!(again("after") < again("before"), "{advice:#}");
}

#[test]
fn what_nothing_uses_is_ignored() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/main.c", "main")
        .file("ctx/docs/a", vec![7; 300_000])
        .file("ctx/docs/b", "b")
        .file("ctx/.dockerignore", "*.tmp");
    let dockerfile = "FROM base AS build\nCOPY . /src\nRUN cat /src/main.c > /out\nFROM base\nCOPY --from=build /out /out\n";
    let advice = holds(&lab, "ignore", dockerfile, dockerfile);
    assert_eq!(lab.read("ctx/.dockerignore"), "*.tmp\ndocs\nDockerfile\n.dockerignore\n");
    let of = |side: &str| advice["verified"][side]["build_bytes"].as_u64().unwrap();
    assert!(of("before") > of("after") + 300_000, "{advice:#}");
}

#[test]
fn downloads_are_kept_in_a_cache_mount() {
    let Some(lab) = lab() else { return };
    let advice = holds(
        &lab,
        "cache-mount",
        "FROM base\nRUN npm ci && \\\n    echo done > /done\n",
        "FROM base\nRUN --mount=type=cache,target=/root/.npm npm ci && \\\n    echo done > /done\n",
    );
    assert_eq!(bytes(&advice), (600_005, 300_005));
    assert!(advice["verified"]["after"]["again_seconds"].is_number(), "{advice:#}");
}

#[test]
fn flags_that_leave_less() {
    let Some(lab) = lab() else { return };
    let advice =
        holds(&lab, "flags", "FROM base\nRUN apk add tool\n", "FROM base\nRUN apk add --no-cache tool\n");
    assert_eq!(bytes(&advice), (300_005, 5));
}

#[test]
fn package_lists_are_removed_where_they_are_fetched() {
    let Some(lab) = lab() else { return };
    let advice = holds(
        &lab,
        "lists",
        "FROM base\nRUN apt-get update && apt-get install t\n",
        "FROM base\nRUN apt-get update && apt-get install t && \\\n    rm -rf /var/lib/apt/lists/*\n",
    );
    assert_eq!(bytes(&advice), (300_002, 2));
}

#[test]
fn a_second_stage_takes_what_the_command_needs() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/main.c", "main").file("ctx/page.html", "<html>");
    let advice = holds(
        &lab,
        "split",
        "FROM base\nRUN mkdir -p /opt/gcc && head -c 300000 /dev/zero > /opt/gcc/cc\nCOPY main.c page.html /src/\n\
         RUN cat /opt/gcc/cc /src/main.c > /src/main.o && cp /bin/busybox /src/app\nENV A=1\nCMD [\"/src/app\"]\n",
        "FROM base AS build\nRUN mkdir -p /opt/gcc && head -c 300000 /dev/zero > /opt/gcc/cc\nCOPY main.c page.html /src/\n\
         RUN cat /opt/gcc/cc /src/main.c > /src/main.o && cp /bin/busybox /src/app\nENV A=1\n\nFROM base\nENV A=1\n\
         COPY --from=build /src/app /src/app\nCOPY --from=build /src/page.html /src/page.html\nCMD [\"/src/app\"]\n",
    );
    let (before, after) = bytes(&advice);
    assert_eq!(before - after, 300_000 + 300_004 + 4);
}

#[test]
fn advice_that_does_not_hold_is_not_shown() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/docs", vec![7; 300_000]);
    lab.file(
        "ctx/Dockerfile",
        "FROM base AS build\nCOPY . /src\nRUN echo /src/* > /out\nFROM base\nCOPY --from=build /out /out\n",
    );
    let plain = advise(&lab, &["--only", "ignore"]);
    assert_eq!(plain["advice"][0]["kind"], "ignore", "{plain:#}");
    let verified = advise(&lab, &["--verify", "--only", "ignore"]);
    assert_eq!(verified["advice"], Value::Array(Vec::new()), "{verified:#}");
    assert!(verified["dropped"][0]["why"].as_str().unwrap().contains("/out (content)"), "{verified:#}");
    let text = lab.run(&[&["advise", "ctx", "--verify"], BUILD].concat()).ok().stdout;
    assert!(text.contains("1 more did not hold when they were tried") && !text.contains("@@"), "{text}");
    let image = lab.run(&[&["advise", "ctx", "--verify", "-v"], BUILD].concat()).ok().stdout;
    assert!(image.contains("ignore on line 2: the image differs in /out (content)"), "{image}");
}

/// npm writes a log with the time in its name: no two builds of it have the same files.
#[test]
fn names_with_the_time_in_them_do_not_count() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/list", "a b c").file("ctx/other", "d");
    let log = |name: &str| {
        format!(
            "FROM base\nWORKDIR /app\nCOPY . .\nRUN cat list && mkdir /log && \\\n    \
             echo done > /log/{name}$(od -An -N8 -tu4 /dev/urandom | sed 's/ //g').log\n"
        )
    };
    lab.file("ctx/Dockerfile", log("at"));
    let all = advise(&lab, &["--verify", "--only", "narrow-copy"]);
    let verified = &all["advice"][0]["verified"];
    assert!(verified["unstable"].as_u64().is_some_and(|n| n > 0) && verified["changed"] == 0, "{all:#}");
}

#[test]
fn the_patch_is_one_for_git_and_images_are_read_from_their_history() {
    let Some(lab) = lab() else { return };
    lab.file("ctx/x", "x");
    lab.file(
        "ctx/Dockerfile",
        "FROM base\nRUN apk add tool\nRUN head -c 300000 /dev/zero > /big\nCOPY x /x\nRUN rm /big\n",
    );
    let patch = lab.run(&[&["advise", "ctx", "--format", "patch"], BUILD].concat()).ok().stdout;
    lab.file("fix.patch", &patch);
    sh(&lab.path("ctx"), "git", &["init", "-q", "."]);
    sh(&lab.path("ctx"), "git", &["apply", "../fix.patch"]);
    assert_eq!(
        lab.read("ctx/Dockerfile"),
        "FROM base\nRUN apk add --no-cache tool\nRUN head -c 300000 /dev/zero > /big && \\\n    rm /big\nCOPY x /x\n"
    );
    lab.file(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY --from=base . /\nRUN head -c 300000 /dev/zero > /big\nCOPY x /x\nRUN rm /big\n",
    );
    lab.build(&["--build-context", "base=base", "-t", "made", "ctx"]).ok();
    let text = lab.run(&["advise", "made"]).ok().stdout;
    assert!(text.contains("merge-runs: 300kB") && text.contains("+++ b/history"), "{text}");
    lab.run(&["advise", "made", "--verify"]).fails(2, &["need a Dockerfile"]);
    lab.run(&["advise", "ctx", "--only", "x"]).fails(2, &["is no kind of advice"]);
}

/// `advise IMAGE` took the layers of the base for the user's own.
#[test]
fn what_the_base_wastes_is_not_yours_to_change() {
    let Some(lab) = lab() else { return };
    lab.file(
        "under/Dockerfile",
        "FROM scratch\nCOPY --from=base . /\nRUN head -c 300000 /dev/zero > /theirs\nRUN rm /theirs\n",
    );
    lab.build(&["--build-context", "base=base", "-t", "basis", "under"]).ok();
    lab.file("over/Dockerfile", "FROM basis\nENV A=1\nRUN head -c 200000 /dev/zero > /ours\nRUN rm /ours\n");
    lab.build(&["-t", "made", "over"]).ok();
    lab.run(&["save", "-o", "made.tar", "made"]).ok();
    lab.run(&["save", "-o", "basis.tar", "basis"]).ok();
    let other = lab.at("other-store");
    let of = |flags: &[&str]| -> Value {
        let ran = lab.run(&[&["advise", "--format", "json"], flags].concat()).ok();
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let base = |layers: u64, name: &str, source: &str| serde_json::json!({"layers": layers, "name": name, "source": source});
    let bytes = |all: &Value| -> Vec<u64> {
        all["advice"].as_array().unwrap().iter().map(|a| a["worth"]["bytes"].as_u64().unwrap()).collect()
    };

    // By the record of the build, also of the archive of what was built.
    for what in ["made", "made.tar", "archive:made.tar"] {
        let all = of(&[what]);
        assert_eq!(all["base"], base(3, "basis", "record"), "{all:#}");
        assert_eq!(bytes(&all), [200_000], "{all:#}");
        assert!(all["patch"].as_str().unwrap().contains(" FROM basis\n-RUN head"), "{all:#}");
    }
    // In a store that knows nothing of either, all layers are yours.
    let all = of(&["--root", &other, "made.tar"]);
    assert_eq!((&all["base"], bytes(&all)), (&Value::Null, vec![300_000, 200_000]), "{all:#}");
    // By a base that is named, wherever it is; by its number of layers; by an image that is there.
    let all = of(&["--root", &other, "made.tar", "--base", "basis.tar"]);
    assert_eq!((&all["base"], bytes(&all)), (&base(3, "basis.tar", "given"), vec![200_000]), "{all:#}");
    let all = of(&["--root", &other, "made.tar", "--base-layers", "3"]);
    assert_eq!((&all["base"]["source"], bytes(&all)), (&Value::from("given"), vec![200_000]), "{all:#}");
    lab.run(&["--root", &other, "load", "-i", "basis.tar"]).ok();
    let all = of(&["--root", &other, "made.tar"]);
    assert_eq!((&all["base"], bytes(&all)), (&base(3, "basis:latest", "prefix"), vec![200_000]), "{all:#}");
    // By what the image says of itself, where another one has as many of its layers.
    lab.run(&["--root", &other, "tag", "basis", "aaa"]).ok();
    lab.file("said/Dockerfile", "FROM basis\nLABEL org.opencontainers.image.base.name=docker.io/library/basis:latest\nRUN head -c 200000 /dev/zero > /ours\nRUN rm /ours\n");
    lab.build(&["-t", "said", "said"]).ok();
    lab.run(&["save", "-o", "said.tar", "said"]).ok();
    let all = of(&["--root", &other, "said.tar"]);
    assert_eq!(
        (&all["base"], bytes(&all)),
        (&base(3, "basis:latest", "annotation"), vec![200_000]),
        "{all:#}"
    );

    let text = lab.run(&["advise", "made"]).ok();
    assert!(text.stdout.starts_with("base basis (3 of the layers, by the record of its build)"), "{text:?}");
    assert!(text.stderr.contains("the image was built with Dockerfile from"), "{text:?}");
    lab.run(&["advise", "basis.tar", "--base", "made.tar"]).fails(2, &["its layers are not the first of"]);
    lab.run(&["advise", "made.tar", "--apply"]).fails(2, &["need a Dockerfile"]);
    lab.run(&["advise", "nowhere.tar"]).fails(1, &["there is no file nowhere.tar"]);
    // A Dockerfile's name that was mistyped is not asked of a registry.
    lab.run(&["advise", "Dockerfil"]).fails(1, &["\"Dockerfil\" here", "registry:Dockerfil"]);
}
