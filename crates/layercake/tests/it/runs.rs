//! `run`.

use std::path::Path;

use rustix::process::Signal;

use crate::lab::{BASE, Build, mark};

/// A store with the image `t`.
fn image(more: &str) -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(&format!("{BASE}{more}")).run().ok();
    Some(b)
}

#[test]
fn the_exit_code_is_the_commands() {
    let Some(b) = image("") else { return };
    let code = |words: &[&str]| b.layercake(&[&["run", "--rm", "t"], words].concat()).code;
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["no-such-program"]), 127);
    assert_eq!(code(&["/bin"]), 126);
    assert_eq!(code(&[]), 125, "there is no command");
    let out = b.layercake(&["run", "--pull", "never", "no/such:image", "true"]);
    assert_eq!(out.code, 125, "{out}");
    let out = b.layercake(&["run", "-v", "relative:x", "t", "true"]);
    assert_eq!(out.code, 125, "{out}");
}

#[test]
fn signals_go_to_the_command() {
    let Some(b) = image("") else { return };
    let mark = mark();
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::USR1, "USR1"), (Signal::HUP, "HUP")]
    {
        let script =
            format!("trap 'echo got; exit 5' {name}; echo ready; : {mark}; while :; do sleep 0.01; done");
        let mut run = b.start(&["run", "t", "sh", "-c", &script]);
        run.stdout_until("ready");
        run.signal(signal);
        let out = run.finish();
        assert_eq!((out.code, out.stdout.as_str()), (5, "got\n"), "{name}: {out}");
    }
    b.assert_clean(&mark);
}

#[test]
fn a_command_that_minds_no_signal_is_killed_by_the_third() {
    let Some(b) = image("") else { return };
    let seconds = mark();
    let script = format!("trap '' INT; echo ready; exec sleep {seconds}");
    let mut run = b.start(&["run", "t", "sh", "-c", &script]);
    run.stdout_until("ready");
    for n in 0..3 {
        // Signals that come at the same time are one.
        if n > 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        run.signal(Signal::INT);
    }
    let out = run.finish();
    assert_eq!(out.code, 128 + 9, "{out}");
    b.assert_clean(&seconds);
}

#[test]
fn flags_and_the_images_config_make_the_container() {
    let Some(b) = image(
        "RUN echo 'web:x:33:34:w:/var/www:/bin/sh' > /etc/passwd && echo 'web:x:34:' > /etc/group && mkdir -p /srv/sub /var/www\n\
         ENV A=image B=image\nUSER web\nWORKDIR /srv\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"echo default $A\"]\n",
    ) else {
        return;
    };
    let run = |words: &[&str]| b.layercake(&[&["run"], words].concat()).ok().to_owned();
    assert_eq!(run(&["t"]), "default image");
    assert_eq!(
        run(&["-e", "A=flag", "t", "echo $A $B; id -u; id -g; pwd; echo $HOME"]),
        "flag image\n33\n34\n/srv\n/var/www"
    );
    assert_eq!(run(&["-w", "/srv/sub", "-u", "12:13", "t", "pwd; id -u; id -g"]), "/srv/sub\n12\n13");
    assert_eq!(run(&["--entrypoint", "echo", "t", "a", "-e"]), "a -e");
    assert_eq!(run(&["--entrypoint", "", "t", "echo", "plain"]), "plain");
    assert_eq!(
        run(&["--hostname", "box", "--add-host", "peer:10.1.2.3", "t", "hostname; cat /etc/hosts"])
            .lines()
            .filter(|l| *l == "box" || *l == "10.1.2.3\tpeer")
            .count(),
        2
    );
    assert_eq!(run(&["--network", "none", "t", "ls /sys/class/net"]), "lo");
    assert_eq!(
        run(&["-u", "0", "--tmpfs", "/scratch:size=1m", "t", "df -k /scratch | tail -1 | awk '{print $2}'"]),
        "1024"
    );
    std::fs::write(b.path("vars"), "# none\nA=file\nC=c d\n").unwrap();
    let vars = b.path("vars").display().to_string();
    assert_eq!(run(&["--env-file", &vars, "-e", "B=flag", "t", "echo $A $B $C"]), "file flag c d");
}

#[test]
fn directories_of_the_host_are_shown_and_written_to() {
    let Some(b) = image("RUN echo image > /there\n") else { return };
    let dir = b.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("in"), "from the host").unwrap();
    let flag = |tail: &str| format!("{}:{tail}", dir.display());
    let out =
        b.layercake(&["run", "-v", &flag("/mnt/x"), "t", "sh", "-c", "cat /mnt/x/in; echo out > /mnt/x/out"]);
    assert_eq!(out.ok(), "from the host");
    assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "out\n");
    let out = b.layercake(&["run", "-v", &flag("/mnt/x:ro"), "t", "sh", "-c", "echo no > /mnt/x/no"]);
    assert_ne!(out.code, 0, "{out}");
    assert!(!dir.join("no").exists());
    // Beside the context's directory: a relative source.
    assert_eq!(b.layercake(&["run", "-v", "./shared:/y", "t", "cat", "/y/in"]).ok(), "from the host");
    // Files, over one of the image and where there is none.
    for target in ["/there", "/new/deep/file"] {
        let script = format!("cat {target}; echo more >> {target}");
        let (rw, ro) = (format!("./shared/in:{target}"), format!("./shared/in:{target}:ro"));
        std::fs::write(dir.join("in"), "line\n").unwrap();
        assert_eq!(b.layercake(&["run", "-v", &rw, "t", "sh", "-c", &script]).ok(), "line");
        assert_eq!(std::fs::read_to_string(dir.join("in")).unwrap(), "line\nmore\n");
        let out = b.layercake(&["run", "-v", &ro, "t", "sh", "-c", &script]);
        assert!(out.code != 0 && out.stderr.contains("Read-only file system"), "{out}");
    }
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    assert_eq!(
        b.layercake(&["run", "-v", "./shared/socket:/s", "t", "sh", "-c", "test -S /s && echo yes"]).ok(),
        "yes"
    );
}

#[test]
fn input_is_given_only_if_asked_for() {
    let Some(b) = image("") else { return };
    assert_eq!(b.layercake_with(&["run", "-i", "t", "cat"], b"typed").ok(), "typed");
    assert_eq!(b.layercake_with(&["run", "t", "cat"], b"typed").ok(), "");
}

#[test]
fn the_two_outputs_stay_apart() {
    let Some(b) = image("") else { return };
    let out = b.layercake(&["run", "t", "sh", "-c", "echo one; echo two >&2"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("one\n", "two\n"));
}

#[test]
fn nothing_is_kept() {
    let Some(b) = image("RUN echo old > /file\n") else { return };
    assert_eq!(b.layercake(&["run", "t", "sh", "-c", "echo new > /file; rm /bin/ls; cat /file"]).ok(), "new");
    b.assert_clean("no process");
    assert_eq!(b.layercake(&["run", "t", "sh", "-c", "cat /file; ls /file"]).ok(), "old\n/file");
    assert!(!Path::new(&b.store()).join("tmp").read_dir().unwrap().any(|_| true));
}
