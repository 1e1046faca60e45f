//! Everything as an ordinary user: one with a range of users, and one without.

use crate::lab::{BASE, Build, Cached, Ran};

/// Build, use, hand on, look at and clean up.
fn everything(b: &mut Build, one_id: bool) {
    b.dockerfile(&format!(
        "{BASE}COPY passwd group /etc/\nCOPY --chown=7:8 file /file\nRUN id -u > /who && echo made > /made && ln /made /again\n\
         USER web\nWORKDIR /srv\nRUN --mount=type=cache,target=/c,mode=777 id -u > /srv/who; echo $? > /c/ended\n"
    ));
    b.file("passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
        .file("group", "web:x:34:\n")
        .file("file", "x\n");
    let out = b.run();
    assert_eq!(out.steps(), [Ran; 6], "{out}");
    assert_eq!(out.stderr.contains("only one user exists in images here"), one_id, "{out}");
    assert_eq!(b.run().steps(), [Cached; 6]);
    let run = |words: &[&str]| b.layercake(&[&["run", "t"], words].concat()).ok().to_owned();
    let web = if one_id { "0" } else { "33" };
    assert_eq!(run(&["cat", "/who", "/made", "/again", "/srv/who"]), format!("0\nmade\nmade\n{web}"));
    assert_eq!(run(&["sh", "-c", "id -u; pwd"]), format!("{web}\n/srv"));
    assert_eq!(run(&["sh", "-c", "echo new > /srv/new; cat /srv/new"]), "new");
    // What the image says of owners is kept, whoever exists here.
    b.layercake(&["export", "-o", "files.tar", "t"]).ok();
    let out =
        std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(b.path("files.tar")).output();
    let list = String::from_utf8(out.unwrap().stdout).unwrap();
    let file = list.lines().find(|l| l.ends_with(" file")).unwrap_or_else(|| panic!("{list}"));
    assert!(file.contains(" 7/8 "), "{file}");
    b.layercake(&["save", "-o", "saved.tar", "t"]).ok();
    let images = || b.layercake(&["images", "--format", "json"]).json();
    let before = images()[0]["id"].clone();
    b.layercake(&["rmi", "t"]).ok();
    b.layercake(&["prune", "--all"]).ok();
    b.layercake(&["load", "-i", "saved.tar"]).ok();
    assert_eq!(images()[0]["id"], before);
    assert_eq!(run(&["cat", "/made"]), "made");
    let report = b.layercake(&["analyse", "--format", "json", "t"]).json();
    assert!(report.is_object());
    b.layercake(&["verify"]).ok();
    b.assert_clean("no process");
    // As a user they are another store's: root is refused nothing, but the user owns what is there.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(b.store()).unwrap());
    assert_eq!(owner, crate::lab::USER);
}

#[test]
fn a_user_with_a_range_does_everything() {
    let Some(mut b) = Build::as_user(true) else { return };
    everything(&mut b, false);
}

#[test]
fn a_user_with_one_id_does_everything() {
    let Some(mut b) = Build::as_user(false) else { return };
    everything(&mut b, true);
}

#[test]
fn without_fuse_a_user_is_shown_directories() {
    let Some(mut b) = Build::as_user(true) else { return };
    b.without_fuse();
    b.dockerfile(&format!("{BASE}RUN echo made > /made\nRUN rm /made && echo again > /again\n"));
    let out = b.run();
    assert_eq!(out.steps(), [Ran; 3], "{out}");
    assert_eq!(out.stderr.matches("nobody sees what it reads").count(), 1, "{out}");
    let out = b.layercake(&["run", "t", "sh", "-c", "cat /again; test -e /made || echo gone"]);
    assert_eq!(out.ok(), "again\ngone");
    b.layercake(&["verify"]).ok();
}

#[test]
fn limits_without_control_groups_are_a_warning() {
    let Some(mut b) = Build::as_user(false) else { return };
    b.dockerfile(&format!("{BASE}RUN echo made > /made\nRUN cat /made\n"));
    b.flag("--memory=64m").flag("--pids-limit=50");
    let out = b.run();
    assert_eq!(out.steps(), [Ran; 3], "{out}");
    assert_eq!(out.stderr.matches("going on without a limit of").count(), 1, "{out}");
}
