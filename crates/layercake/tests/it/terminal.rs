//! What is drawn on a terminal, and containers that have one.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::lab::{BASE, Build, mark};

/// A terminal of 80 columns: our end and the program's.
fn terminal() -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (ours, theirs)
}

/// Everything that comes until nobody holds the other end.
fn read_all(ours: OwnedFd) -> String {
    let (mut file, mut all, mut buf) = (File::from(ours), Vec::new(), [0; 4096]);
    // The end of a terminal is an error.
    while let Ok(n @ 1..) = file.read(&mut buf) {
        all.extend_from_slice(&buf[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn progress_is_drawn_on_a_terminal_and_the_log_of_a_failed_step_is_kept() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(&format!("{BASE}RUN echo what-it-said; sleep 0.3; exit 7\n"));
    let (ours, theirs) = terminal();
    let context = b.path("context").display().to_string();
    let mut command = b.command(&["build", &context]);
    command.env("TERM", "xterm").stderr(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    drop(command);
    let text = read_all(ours);
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    // Drawn over and over, in frames that leave the cursor visible.
    assert!(text.matches("\x1b[J\x1b[?25h").count() >= 3, "{text:?}");
    assert!(text.contains("building 2/3"), "{text:?}");
    let end = text.rsplit("\x1b[?25l").take(3).collect::<Vec<_>>().concat();
    assert!(
        end.contains("------ [base 2/2] RUN echo what-it-said") && end.contains("\r\nwhat-it-said"),
        "{text:?}"
    );
    assert!(text.trim_end().ends_with("exit code: 7"), "{text:?}");
}

#[test]
fn a_terminal_that_cannot_be_drawn_on_gets_the_plain_log() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE);
    let (ours, theirs) = terminal();
    let context = b.path("context").display().to_string();
    let mut command = b.command(&["build", "--progress=tty", &context]);
    command.env("TERM", "dumb").stderr(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    drop(command);
    let text = read_all(ours);
    assert!(child.wait().unwrap().success(), "{text}");
    assert!(text.contains("#2 [base 1/1] COPY bin /bin\r\n") && !text.contains("\x1b["), "{text:?}");
}

#[test]
fn a_container_can_have_a_terminal() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    let out = b.layercake(&["run", "-t", "t", "sh", "-c", "test -t 0 && test -t 1 && echo $TERM; exit 3"]);
    assert_eq!((out.code, out.stdout.as_str()), (3, "xterm\r\n"), "{out}");
    let out = b.layercake(&["run", "-it", "t", "true"]);
    assert_eq!(out.code, 125, "our input is none: {out}");

    // With input: what is typed arrives, and the terminal is as it was afterwards.
    let (ours, theirs) = terminal();
    let before = rustix::termios::tcgetattr(&theirs).unwrap();
    let keep = theirs.try_clone().unwrap();
    let mut command = b.command(&["run", "-it", "t", "sh", "-c", "stty size; read line; echo got $line"]);
    command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    rustix::io::write(&ours, b"typed\r").unwrap();
    assert!(child.wait().unwrap().success());
    let after = rustix::termios::tcgetattr(&keep).unwrap();
    assert_eq!((before.local_modes, before.input_modes), (after.local_modes, after.input_modes));
    drop(keep);
    let text = read_all(ours);
    assert!(text.contains("24 80\r\n") && text.contains("got typed\r\n"), "{text:?}");
}

#[test]
fn a_container_whose_terminal_nobody_looks_at_any_more_ends() {
    let Some(mut b) = Build::new() else { return };
    b.dockerfile(BASE).run().ok();
    let mark = mark();
    let mut run = b.start(&["run", "-t", "t", "sh", "-c", &format!("while :; do echo {mark}; done")]);
    run.stdout_until(&mark);
    run.close_stdout();
    assert_eq!(run.finish().code, 128 + 9);
    b.assert_clean(&mark);
}

#[test]
fn a_shell_where_a_step_failed() {
    let Some(mut b) = Build::new() else { return };
    b.file("pw", "the-secret");
    b.dockerfile(&format!(
        "{BASE}FROM base\nENV SHOWN=yes\nWORKDIR /work\nRUN mkdir /kept && echo below > /kept/f\n\
         RUN --mount=type=secret,id=pw --mount=type=cache,target=/cache --mount=type=bind,from=base,source=/bin,target=/bound \
         echo half > done; exit 7\n"
    ));
    let (ours, theirs) = terminal();
    let context = b.path("context").display().to_string();
    let secret = format!("id=pw,src={}", b.path("context/pw").display());
    let mut command =
        b.command(&["build", "--on-error=shell", "--progress=plain", "--secret", &secret, &context]);
    command.env("TERM", "xterm").stderr(Stdio::from(theirs.try_clone().unwrap()));
    command.stdin(Stdio::from(theirs.try_clone().unwrap())).stdout(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut keys = File::from(ours.try_clone().unwrap());
    // Typed ahead; the shell reads it when it is there. The pieces keep the echo of the keys from looking like answers.
    let script = "echo A:$(cat done)$(cat /kept/f):$SHOWN:$PWD; echo B:$(cat /run/secrets/pw):$(ls /bound | head -n 1 | wc -l)\n\
        test -t 0 && echo on-a-$(echo terminal); touch /cache/seen; touch /kept/more; exit 9\n";
    std::io::Write::write_all(&mut keys, script.as_bytes()).unwrap();
    drop(keys);
    let text = read_all(ours);
    // The exit code is the build's, not the shell's.
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    for said in [
        "exit code: 7",
        "This shell is where the step failed",
        "A:halfbelow:yes:/work",
        "B:the-secret:1",
        "on-a-terminal",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    // Nothing of it is kept: the step below is as it was, and the step itself runs again.
    b.dockerfile(&format!(
        "{BASE}FROM base\nENV SHOWN=yes\nWORKDIR /work\nRUN mkdir /kept && echo below > /kept/f\n\
         RUN --mount=type=cache,target=/cache test -e /cache/seen && test ! -e /kept/more && test ! -e done\n"
    ));
    b.run().ok();
}
