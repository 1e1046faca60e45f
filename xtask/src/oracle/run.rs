//! Cases about RUN and everything around it: steps that change, move and remove files, COPY onto what they left and from other stages,
//! users, directories, shells, and what a config keeps.
//!
//! What steps print of themselves is free of times, host names and numbers of processes: those differ between any two builds.

use super::case::{Case, Item};
use super::copy::{self, Owners, Paths};
use crate::random::Random;

#[rustfmt::skip]
const PLACES: &[&str] = &[
    "/", "/d", "/d/", "d", "d/", "./", ".", "/d/e/f", "/d/e/f/", "/etc", "/etc/", "/lnk", "/lnk/", "/dang",
    "/dang/x", "../up", "/d/../q", "/a", "/a/", "$D/x", "/filel", "/d/lnk2/", "/usr/local/bin/", "/tmp/",
    "/run/x", "/var/lib/../x/",
];

/// What can be named of an earlier stage: mostly as patterns, since what they do not find is no error.
#[rustfmt::skip]
const OF_STAGES: &[&str] = &[
    "?", "?/e", "d/?", "?/e/1", "etc/passwd", "etc/ap*", "ln?", "dang*", "?", "srv", "opt", "h[2-3]", "n[1-3]", "?/y",
    "sp*", "etc/alpine-release", "usr/local", "?/", "lnk", "d", "/d/./e",
];

/// What steps do. Whatever they may fail at, they may: a failure is an answer, too.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "mkdir -p /d/e && echo x > /d/e/x", "ln -sf /d /lnk || true", "ln -sfn nowhere /dang", "rm -rf /d",
    "mkdir -p /real && rm -rf /d && ln -s /real /d", "touch /a", "rm -rf /a; ln -s /etc/passwd /filel",
    "chmod 700 /etc", "mkdir -p /w && echo $A-$B > /w/env", "id -u > /tmp/id; pwd > /tmp/pwd",
    "rm -rf /etc/apk", "mv /d /d2 || true", "chown 5:7 /tmp || true", "mkfifo /ff || true",
    "mkdir -p /d/lnk2t /d; ln -sfn lnk2t /d/lnk2",
    "rm -rf /usr/local && mkdir /usr/local && touch /usr/local/n", "cat /etc/os-release > /rel || true",
    "umask > /um; env | sort | grep -v -e HOSTNAME -e OTEL -e TRACEPARENT > /envs || true",
    "true; find / -xdev -newer /etc/passwd -name nope; true",
    "rm /etc/passwd; adduser -D -H bob || echo 'bob:x:77:78::/home/bob:/bin/sh' > /etc/passwd",
    "touch -t 202001010000 /etc/hostx", "mkdir /d; touch /d/a && chmod 4755 /d/a",
    "echo 'multi' \\\n  line  > /ml", "[ -e /d ] && cp -a /d /dcopy || :",
    "echo a > /h1; ln /h1 /h2; ln /h1 /h3; rm /h1", "rm -rf /media; echo f > /media",
    "rm -rf /srv; ln -s /opt /srv", "rm -rf /opt; mkdir /opt; echo n > /opt/n; chown 9:9 /opt",
    "mknod /dev1 c 1 3; mknod /blk b 7 0; true",
    "chmod 2775 /srv; mkdir /srv/in; touch /srv/in/f; stat -c '%A %u %g %n' /srv/in /srv/in/f > /lssrv",
    "mkdir -p /x/y/z; rm -rf /x/y; touch /x/y", "for i in 1 2 3; do echo $i > /n$i; done; rm /n2",
    "mv /etc/hostname /etc/hn2; mv /etc/passwd /etc/p2; mv /etc/p2 /etc/passwd",
    "mv /bin /bin2 && /bin2/busybox mv /bin2 /bin", "truncate -s 100000 /sparse; echo x >> /sparse",
    "chmod u+s /bin/busybox", "touch /etc/passwd", "cp /etc/passwd /tmp/x && cat /tmp/x > /etc/passwd",
    "ln /etc/passwd /etc/passwd2", "echo hi > '/sp ace'; echo hi > \"/nü\"",
    "chgrp -R 7 /var/spool; chmod -R o-r /var/spool", "rm -rf /home; mkdir -m 700 /home; mkdir /home/u",
    "echo '#!/bin/sh' > /script; chmod 755 /script; /script; true",
    "cd /tmp && tar cf t.tar -C /etc passwd && tar xf t.tar && rm t.tar",
    "ls /proc/self/fd | wc -l > /fds; cat /proc/1/cmdline | tr '\\0' ' ' > /cmdl; true",
    "id > /ids; grep -E 'Cap|NoNew|Seccomp|Groups' /proc/self/status > /caps; umask >> /caps",
    "cat /proc/self/limits > /lims; true",
    "cat /etc/resolv.conf > /dev/null; stat -c '%A %u %g' /etc/hosts /etc/resolv.conf > /rc",
    "ls /sys > /sysls; touch /sys/x 2> /syserr; touch /proc/x 2>/procerr; true",
];

/// Values of variables and labels.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "x", "\"q r\"", "'s $A'", "$A", "${B}", "${A:-def}", "${A:+alt}", "${U-un}", "${A#x}", "${A##*x}",
    "${B%t}", "${B%%t*}", "${B/t/T}", "${B//t/T}", "\\$A", "a\\ b", "$A$B", "${A:?err}", "\"\\\"\"", "''",
    "é", "${NOPE}", "'$B'", "\"$B\"", "x\\\\y", "${A+set}",
];

/// Instructions that change the config; `@` stands for one of [`VALUES`].
#[rustfmt::skip]
const CONFIG: &[&[&str]] = &[
    &["ENV A=@", "ENV B @", "ENV FOO=@ B=@", "ENV PATH=$PATH:/x", "ENV D=/d", "ENV U="],
    &["ENV A=@", "ENV D=@", "ENV M @", "ENV B=@ U=@"],
    &["ARG A", "ARG FOO=@", "ARG A B=@", "ARG TARGETARCH", "ARG BUILDPLATFORM", "ARG U=1000 M=0711"],
    &["LABEL a=@", "LABEL \"a b\"=@ c.d=@", "LABEL x @", "LABEL e="],
    &[
        "WORKDIR /w", "WORKDIR w", "WORKDIR /w/x/", "WORKDIR ../y", "WORKDIR /", "WORKDIR $D",
        "WORKDIR /lnk/in", "WORKDIR a b", "WORKDIR \"q w\"", "WORKDIR /d", "WORKDIR /etc/passwdx",
        "WORKDIR //s", "WORKDIR ./z/..", "WORKDIR ${NOPE}",
    ],
    &[
        "USER nobody", "USER 1000", "USER 0:0", "USER root", "USER 5:7", "USER daemon:mail", "USER nosuch",
        "USER $U", "USER root",
    ],
    &[
        "CMD echo $A", "CMD [\"a\", \"b $A\"]", "ENTRYPOINT [\"x\"]", "ENTRYPOINT exec  two   spaces",
        "CMD echo \\\n hi",
    ],
    &["EXPOSE 80/tcp 53/udp", "EXPOSE $NOPE 8080", "EXPOSE 80/sctp"],
    &["VOLUME /v", "VOLUME [\"/v\", \"/d\"]", "VOLUME $D", "VOLUME v"],
    &[
        "HEALTHCHECK NONE", "HEALTHCHECK --interval=5s --timeout=3s CMD [\"x\"]",
        "HEALTHCHECK --retries=3 CMD a b",
    ],
    &["STOPSIGNAL SIGTERM", "STOPSIGNAL $A", "STOPSIGNAL 9"],
    &["SHELL [\"/bin/sh\", \"-ec\"]", "SHELL [\"/bin/sh\", \"-uc\"]", "SHELL [\"/bin/sh\", \"-xc\"]", "SHELL [\"/bin/sh\", \"-c\"]", "SHELL []"],
    &["MAINTAINER me", "MAINTAINER $A"],
    &[
        "ONBUILD RUN touch /onb", "ONBUILD COPY a /", "ONBUILD ENV O=1", "ONBUILD WORKDIR /onb",
    ],
];

/// Makes a case.
pub(super) fn case(r: &mut Random) -> Case {
    let mut context = copy::tree(r);
    let paths = Paths::of(&context);
    if r.percent(30) {
        let text = r.of(&["*.txt\n", "**/b\n!a/b\n", "*\n!a\n!c\n", "a\n!a/b\n", "**/.a\n"]);
        context.push(Item::text(".dockerignore", text));
    }
    let mut lines = Vec::new();
    if r.percent(15) {
        lines.push("ARG G=base".to_owned());
    }
    let mut stages: Vec<&str> = Vec::new();
    for &name in &["s0", "s1", "s2"][..r.of(&[1, 1, 1, 2, 2, 3])] {
        let mut froms = vec!["base", "base", "base", "scratch"];
        froms.extend(&stages);
        let mut from = r.of(&froms);
        let shell = from != "scratch";
        if from == "base" && r.percent(30) {
            from = "${G:-base}";
        }
        lines.push(format!("FROM {}{from} AS {name}", r.of(&["", "", "", "--platform=linux/amd64 "])));
        if shell && r.percent(50) {
            lines.push("RUN mkdir -p /d/e /w && echo 1 > /d/e/1 && ln -s /d /lnk && ln -s no /dang".into());
        }
        for _ in 0..1 + r.below(6) {
            lines.push(match r.below(10) {
                0..4 => copied(r, &paths, &stages),
                4..7 if shell => step(r),
                _ => config(r),
            });
        }
        stages.push(name);
    }
    Case {
        dockerfile: lines.join("\n") + "\n",
        context,
        build_arg: r.percent(20).then(|| r.of(&["A=fromarg", "B=tt", "U=5", "NOPE=z", "D=/d"])),
        target: r.percent(10).then(|| r.of(&["s0", "S0", "s1"])),
        label: r.percent(10).then_some("cli=x"),
        ..Case::default()
    }
}

fn copied(r: &mut Random, paths: &Paths, stages: &[&str]) -> String {
    let theirs = || Paths(OF_STAGES.iter().map(|p| (*p).to_owned()).collect());
    let from: Vec<(&str, Paths)> = stages.iter().map(|s| (*s, theirs())).collect();
    copy::line(r, paths, &from, PLACES, Owners::Names)
}

fn step(r: &mut Random) -> String {
    let command = r.of(COMMANDS);
    let network = if r.percent(8) { "--network=none " } else { "" };
    let in_one_line = command.replace("\\\n", "");
    match r.below(8) {
        0 => format!("RUN {network}{}", serde_json::json!(["/bin/sh", "-c", in_one_line])),
        1 => {
            let quoted = r.of(&["EOF", "'EOF'", "-EOF", "\"EOF\""]);
            format!("RUN {network}<<{quoted}\n{in_one_line}\n\techo $A > /hd\nEOF")
        }
        _ => format!("RUN {network}{command}"),
    }
}

fn config(r: &mut Random) -> String {
    let kind = r.of(CONFIG);
    let pattern = r.of(kind);
    let mut parts = pattern.split('@');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(r.of(VALUES));
        out.push_str(part);
    }
    out
}
