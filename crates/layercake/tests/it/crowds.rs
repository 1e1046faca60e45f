//! Many programs at once on one store.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::lab::{BASE, Build, Outcome, finish};

const BUILDS: usize = 16;

/// What goes on beside them, each list over and over.
const OTHERS: [&[&[&str]]; 3] = [
    &[&["load", "-i", "saved.tar"], &["rmi", "t"]],
    &[&["prune", "--all", "--force"], &["du"]],
    &[&["images"], &["verify"]],
];

#[test]
fn builds_that_share_steps_run_each_once_whatever_else_happens_to_the_store() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!(
        "{BASE}FROM base AS tools\nRUN sleep 0.2 && echo tools > /tools\nFROM base\nRUN sleep 0.3 && echo shared > /shared\n\
         COPY --from=tools /tools /tools\nARG N\nRUN echo $N > /own && cat /shared >> /own && cat /tools >> /own\n"
    ));
    // Something for the others to work on.
    b.run().ok();
    b.layercake(&["save", "-o", "saved.tar", "t"]).ok();
    b.layercake(&["rmi", "t"]).ok();
    b.layercake(&["prune", "--all", "--force"]);
    let context = b.path("context").display().to_string();
    let ended = AtomicBool::new(false);
    let (builds, others) = std::thread::scope(|scope| {
        let others: Vec<_> = OTHERS
            .into_iter()
            .map(|commands| {
                let (b, ended) = (&b, &ended);
                scope.spawn(move || {
                    let mut out: Vec<(&str, Outcome)> = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        for words in commands {
                            out.push((words[0], b.layercake(words)));
                        }
                    }
                    out
                })
            })
            .collect();
        let builds: Vec<_> = (0..BUILDS)
            .map(|n| {
                let (tag, arg) = (format!("own:{n}"), format!("N={n}"));
                let words = ["build", "--progress=plain", "-t", &tag, "--build-arg", &arg, &context];
                b.command(&words).spawn().unwrap()
            })
            .collect();
        let builds: Vec<Outcome> = builds.into_iter().map(finish).collect();
        ended.store(true, Ordering::Relaxed);
        let others: Vec<_> = others.into_iter().flat_map(|o| o.join().unwrap()).collect();
        (builds, others)
    });
    let mut ran = [0; 2];
    for (n, out) in builds.iter().enumerate() {
        assert_eq!(out.code, 0, "build {n}: {out}");
        for (count, command) in ran.iter_mut().zip(["echo tools", "echo shared"]) {
            let line = out.stderr.lines().find(|l| l.contains(command)).unwrap_or_else(|| panic!("{out}"));
            let id = line.split(' ').next().unwrap();
            *count += usize::from(out.stderr.lines().any(|l| l.starts_with(&format!("{id} DONE"))));
        }
    }
    // Nothing is removed while a build has the store open, and at least one of them always had.
    assert_eq!(ran, [1, 1], "the shared steps ran once each");
    for (command, out) in &others {
        assert!(!out.stderr.contains("locked"), "{command}: {out}");
        let busy = *command == "prune" && out.code == 3 && out.stderr.contains("in use");
        // Another one may have removed the image first.
        let gone = *command == "rmi" && out.code == 1;
        assert!(out.code == 0 || busy || gone, "{command}: {out}");
    }
    for n in 0..BUILDS {
        let out = b.layercake(&["run", "--rm", &format!("own:{n}"), "cat", "/own"]);
        assert_eq!(out.ok(), format!("{n}\nshared\ntools"));
    }
    assert_eq!(b.layercake(&["verify"]).code, 0);
    b.assert_clean("no process");
}
