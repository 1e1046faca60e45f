//! The tables of the fixed set: see its runner.

/// An edit of the context. In paths, %ff is the byte 255.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    Write(&'static str, &'static str),
    Mode(&'static str, u32),
    /// Who `/own` belongs to: COPY says it.
    Owner(u32),
    Remove(&'static str),
    Link(&'static str, &'static str),
    /// A file with the same text becomes another name of the first.
    Join(&'static str, &'static str),
    /// Another program of the same size.
    Program(&'static str),
    Capability(&'static str, u8),
}

use Edit::{Capability, Join, Link, Mode, Owner, Program, Remove};

/// A way to a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// Lines of the Dockerfile between the files and the step.
    pub(crate) above: &'static str,
    /// Operations of the program.
    pub(crate) run: &'static str,
    /// What it says at first.
    pub(crate) says: &'static str,
    /// The edit of what it reaches, and what the program says after it.
    pub(crate) touch: Edit,
    pub(crate) then: &'static str,
    /// The edit of something else.
    pub(crate) other: Edit,
}

/// A case without lines of its own.
const fn way(
    name: &'static str,
    run: &'static str,
    says: &'static str,
    touch: Edit,
    then: &'static str,
    other: Edit,
) -> Way {
    Way { name, above: "", run, says, touch, then, other }
}

const fn over(above: &'static str, way: Way) -> Way {
    Way { above, ..way }
}

/// The file that most cases reach, another text of the same size for it, and the file beside it that they do not.
pub(crate) const F: Edit = Edit::Write("in/f", "two");
pub(crate) const G: Edit = Edit::Write("in/g", "other");

pub(crate) const READS: &[Way] = &[
    way("read", "cat /in/f", "one;", F, "two;", G),
    way("read twice", "cat /in/f , cat /in/d/a", "one;\na;", Edit::Write("in/d/a", "A"), "one;\nA;", G),
    way("by a link", "cat /in/link", "one;", F, "two;", G),
    way("mmap", "map /in/f", "one;", F, "two;", G),
    way("shared mmap", "map-shared /in/f", "one;", F, "two;", G),
    way("sendfile", "sendfile /in/f", "one;", F, "two;", G),
    way("splice", "splice /in/f", "one;", F, "two;", G),
    way("copy_file_range", "copy-range /in/f /copy", "ok", F, "ok", G),
    way("execve", "exec /in/reach", "@mark-one@", Program("in/reach"), "@mark-two@", G),
    way("execve, not permitted", "exec /in/f", "!13", Mode("in/f", 0o755), "!8", G),
    way("chroot", "chroot /in /d/a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
    way("chroot, a name beyond", "chroot /in/d /g", "!2", Edit::Write("in/d/g", "new"), "new;", G),
    way("the file capability", "getcap /in/f", "!", Capability("in/f", 1), "20 1", Capability("in/g", 1)),
    way("the file capability, changed", "getcap /in/cap", "20 2", Capability("in/cap", 4), "20 4", F),
];

pub(crate) const NAMES: &[Way] = &[
    way("the mode", "stat /in/f", "100644 0:0 3", Mode("in/f", 0o600), "100600 0:0", G),
    way("the owner", "stat /own", "100644 7:7 3", Owner(8), "100644 8:8", F),
    way("the mode, not the text", "stat /in/f", "100644", Mode("in/f", 0o640), "100640", F),
    way("the size", "stat /in/f", " 3 ", Edit::Write("in/f", "longer"), " 6 ", G),
    way("the mode of a directory", "stat /in/d", "40755", Mode("in/d", 0o700), "40700", G),
    way("a link's target", "readlink /in/link", "f;", Link("in/link", "g"), "g;", F),
    way("a file that becomes a link", "stat /in/f", "100644", Link("in/f", "g"), "120777", G),
    way("a name that is not there", "there /in/no", "!2", Edit::Write("in/no", ""), "ok", G),
    way("a name that is there", "there /in/d/a", "ok", Remove("in/d/a"), "!2", Remove("in/d/b")),
    way(
        "names, one more",
        "ls /in/d",
        "a;\nb;",
        Edit::Write("in/d/c", ""),
        "a;\nb;\nc;",
        Edit::Write("in/d/a", "A"),
    ),
    way("names, one less", "ls /in/d", "a;\nb;", Remove("in/d/a"), "b;", Edit::Write("in/new", "")),
    way(
        "two names of a file",
        "same /in/twins/p /in/twins/q",
        "other",
        Join("in/twins/p", "in/twins/q"),
        "same",
        G,
    ),
    way(
        "not UTF-8: read",
        "cat /in/odd/%ff%fe",
        "odd;",
        Edit::Write("in/odd/%ff%fe", "ODD"),
        "ODD;",
        Edit::Write("in/odd/%fe", "?"),
    ),
    way(
        "not UTF-8: absent",
        "there /in/odd/%80",
        "!2",
        Edit::Write("in/odd/%80", ""),
        "ok",
        Edit::Write("in/odd/%81", ""),
    ),
    way(
        "not UTF-8: listed",
        "cat-all /in/odd",
        "%fe;\nodd;\n%ff%fe;\nodd;",
        Edit::Write("in/odd/%c3", "x"),
        "%c3;\nx;\n%fe;",
        G,
    ),
    way("not UTF-8: gone", "cat-all /in/odd", "%fe;\nodd;", Remove("in/odd/%fe"), "%ff%fe;\nodd;", G),
    way(
        "not UTF-8: a link's target",
        "readlink /in/odd-link , cat /in/odd-link",
        "odd/%fe;\nodd;",
        Link("in/odd-link", "odd/%ff%fe"),
        "odd/%ff%fe;\nodd;",
        G,
    ),
];

pub(crate) const CHANGES: &[Way] = &[
    way("O_TMPFILE, linked", "unnamed /in/d /in/d/new", "ok", Edit::Write("in/d/new", "x"), "!17", G),
    way("O_TMPFILE, its directory", "unnamed /in/d /in/d/new", "ok", Mode("in/d", 0o711), "ok", F),
    way("chmod", "chmod /in/f 751", "ok", F, "ok", G),
    way("chmod to what it was", "chmod /in/f 644", "ok", Mode("in/f", 0o600), "ok", G),
    way("chown", "chown /in/f 5", "ok", F, "ok", G),
    way("chown of another's", "chown /own 5 , stat /own", "5:5", Owner(5), "5:5", F),
    way("utimes", "utimes /in/f", "ok", F, "ok", G),
    way("utimes, the mode", "utimes /in/f", "ok", Mode("in/f", 0o600), "ok", G),
    way("setxattr", "setcap /in/f 8", "ok", F, "ok", G),
    way(
        "setxattr over another",
        "setcap /in/cap 8 , getcap /in/cap",
        "20 8",
        Edit::Write("in/cap", "CAP"),
        "20 8",
        G,
    ),
    way("append", "append /in/f +", "ok", F, "ok", G),
    way("truncate upwards", "grow /in/f 5 , cat /in/f", "one%00%00;", F, "two%00%00;", G),
    way(
        "chmod of a directory",
        "chmod /in/d 751",
        "ok",
        Mode("in/d", 0o1777),
        "ok",
        Edit::Write("in/d/a", "A"),
    ),
    way(
        "a new name in a directory",
        "mkdir /in/d/sub",
        "ok",
        Mode("in/d", 0o700),
        "ok",
        Edit::Write("in/d/c", "c"),
    ),
    way("removal", "rm /in/f , there /in/f", "ok\n!2", Remove("in/f"), "!2\n!2", G),
    way("removal of what is only named", "rm /in/f", "ok", Mode("in/f", 0o600), "ok", F),
];

pub(crate) const LAYERS: &[Way] = &[
    over(
        "RUN [\"/bin/reach\", \"/o1\", \"ln\", \"/in/f\", \"/linked\"]",
        way(
            "a hard link of the layer below",
            "cat /linked , same /linked /in/f , stat /in/f",
            "one;\nsame\n100644 0:0 3 x2",
            F,
            "two;\nsame\n",
            G,
        ),
    ),
    over(
        "RUN [\"/bin/reach\", \"/o1\", \"ln\", \"/in/f\", \"/linked\"]",
        way("a hard link, written through", "append /linked + , cat /in/f", "ok", F, "ok", G),
    ),
    way(
        "a hard link over layers",
        "ln /in/f /linked , append /linked + , cat /in/f , stat /linked",
        "ok\nok\none+;\n100644 0:0 4 x2",
        F,
        "ok\nok\ntwo+;",
        G,
    ),
    way(
        "a hard link of one of two names",
        "ln /in/pair/x /linked , stat /linked , stat /in/pair/y",
        "ok\n100644 0:0 4 x",
        Edit::Write("in/pair/x", "PAIR"),
        "ok\n",
        G,
    ),
    over(
        "COPY in/pair /in/other\nRUN [\"/bin/reach\", \"/o1\", \"rm\", \"/in/other/x\"]",
        way(
            "a name whose other name is removed above",
            "stat /in/other/y , cat /in/other/y",
            "100644 0:0 4 x1\npair;",
            Edit::Write("in/pair/y", "PAIR"),
            "100644 0:0 4 x1\nPAIR;",
            G,
        ),
    ),
    way(
        "an opaque directory is made",
        "empty /in/d , mkdir /in/d , append /in/d/fresh x , ls /in/d",
        "ok\nok\nok\nfresh;",
        Edit::Write("in/d/c", "c"),
        "ok\nok\nok\nfresh;",
        G,
    ),
    way(
        "an opaque directory, names below",
        "empty /in/d , mkdir /in/d",
        "ok\nok",
        Remove("in/d/a"),
        "ok\nok",
        F,
    ),
    over(
        "RUN [\"/bin/reach\", \"/o1\", \"empty\", \"/in/d\", \",\", \"mkdir\", \"/in/d\", \",\", \"append\", \"/in/d/fresh\", \"x\"]\nCOPY late /in/d/",
        way(
            "an opaque directory is listed",
            "cat-all /in/d",
            "fresh;\nx;\nlate;\n",
            Edit::Write("late/late", "LATE"),
            "fresh;\nx;\nlate;\nLATE;",
            Edit::Write("in/d/c", "c"),
        ),
    ),
    over(
        "RUN [\"/bin/reach\", \"/o1\", \"rm\", \"/in/f\"]",
        way(
            "a name that a layer removed",
            "there /in/f , ls /in/d",
            "!2\na;",
            Edit::Write("in/d/c", "c"),
            "!2\na;",
            F,
        ),
    ),
];

pub(crate) const BITS_32: &[Way] = &[
    way("read", "cat /in/f", "one;", F, "two;", G),
    way("mmap", "map /in/f", "one;", F, "two;", G),
    way("the mode", "stat /in/f", "100644", Mode("in/f", 0o600), "100600", F),
    way("names", "ls /in/d", "a;\nb;", Edit::Write("in/d/c", ""), "c;", G),
    way("a name that is not there", "there /in/no", "!2", Edit::Write("in/no", ""), "ok", G),
    way("execve", "exec /in/reach", "@mark-one@", Program("in/reach"), "@mark-two@", G),
    way("chroot", "chroot /in /d/a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
    way("chown", "chown /in/f 5", "ok", F, "ok", G),
    way("O_TMPFILE", "unnamed /in/d /in/d/new", "ok", Edit::Write("in/d/new", "x"), "!17", G),
    way("io_uring", "ring /in/f", "refused !1, one;", F, "refused !1, two;", G),
];

/// What is refused. `says` and `then` are what comes where it is not.
pub(crate) const FORBIDDEN: &[Way] = &[
    way("io_uring", "ring /in/f", "one;", F, "two;", G),
    way("a new mount namespace", "mounts /in/d a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
    way("one in a new user namespace", "user-mounts /in/d a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
    way("open_tree", "tree /in/d a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
    way("open_by_handle_at", "handle /bound/d a", "a;", Edit::Write("in/d/a", "A"), "A;", G),
];
