//! The ways in which files are shown to steps: each gives the same image.

use build::View;
use oci::Entry;

use crate::Case;
use crate::kit::{Built, World};

pub(crate) const CASES: &[Case] = &[
    ("every_view_gives_the_same_layers", every_view_gives_the_same_layers),
    ("layers_lie_over_each_other_as_the_tree_says", layers_lie_over_each_other_as_the_tree_says),
    ("without_observations_the_chain_decides", without_observations_the_chain_decides),
    ("directories_are_shared", directories_are_shared),
];

const ALL: [View; 3] = [View::Fuse, View::Overlay, View::Copy];

/// What a stack of layers holds, without times: the paths, and what is there.
fn layers(b: &Built) -> Vec<Vec<Entry>> {
    let own = b.outcome().image.layers.iter().skip(1);
    let layer = |id| {
        let mut entries = b.store().layer(id).expect("the layer").entries().to_vec();
        entries.iter_mut().for_each(|e| e.attrs.mtime = oci::Time::default());
        entries
    };
    own.map(|(id, _)| layer(id)).collect()
}

fn build(w: &World, view: View, text: &str) -> Built {
    w.build_with(text, |o| {
        o.view = view;
        o.choices.no_cache = true;
    })
}

fn every_view_gives_the_same_layers() {
    let w = World::new();
    w.write("src/a", "one");
    w.write("src/b", "two");
    let text = "FROM base\n\
        COPY src /d\n\
        RUN echo 3 >> /d/a; rm /d/b; mkdir -p /new/deep; echo x > /new/deep/f; touch /new/deep/g; cat /proc/mounts > /dev/null\n\
        RUN rm -r /d; mkdir /d; echo other > /d/c; rm /bin/usleep; mkdir -p /bin/usleep/is/a/directory\n\
        RUN --mount=source=src,target=/src,rw echo more >> /src/a; cat /src/a > /seen; ls /d >> /seen\n\
        RUN rm -r /bin/usleep /new\n\
        RUN true\nRUN true && true\nRUN echo again\n\
        USER 5\nRUN id -u > /tmp/x || id -u";
    let built: Vec<Built> = ALL.iter().map(|&view| build(&w, view, text)).collect();
    let expected = layers(&built[0]);
    assert!(expected.len() == 9 && expected[5].is_empty() && expected[6].is_empty(), "{expected:?}");
    for (b, view) in built.iter().zip(ALL).skip(1) {
        // A directory that was made anew is opaque for overlayfs; for a copy its names were removed one by one.
        let found = layers(b);
        if view == View::Overlay {
            assert_eq!(found, expected);
        }
        assert_eq!(files(b), files(&built[0]), "{view:?}");
        assert_eq!(b.text("seen"), "onemore\nc\n", "{view:?}");
        assert_eq!(b.warnings(), Vec::<String>::new(), "what was asked for is no surprise");
    }
}

/// All that an image holds, without times.
fn files(b: &Built) -> Vec<Entry> {
    let mut all = b.tree().flatten();
    all.iter_mut().for_each(|e| e.attrs.mtime = oci::Time::default());
    all
}

fn layers_lie_over_each_other_as_the_tree_says() {
    let w = World::new();
    w.write("f", "file");
    // A directory that hides a file, a file that hides a directory, a name that comes and goes, and a layer that writes through a
    // link of the one below: that cannot be a directory of its own.
    let text = "FROM base\n\
        RUN mkdir -p /a/b /real /gone; echo 1 > /a/b/c; echo 1 > /x; touch /gone/y\n\
        RUN rm -r /a /x /gone; echo 2 > /a; mkdir /x; echo 2 > /x/in\n\
        RUN rm /a; mkdir -p /a/b; echo 3 > /a/b/d; mkdir /gone; touch /link; rm /link\n\
        COPY f /real/f\n\
        RUN ls / /a /a/b /x /gone /real > /list; cat /x/in /a/b/d /real/f >> /list";
    let lists: Vec<String> = ALL.iter().map(|&v| sorted(&build(&w, v, text).text("list"))).collect();
    assert!(lists[0].contains("d\n") && !lists[0].contains("y\n"), "{}", lists[0]);
    assert_eq!(lists[1], lists[0]);
    assert_eq!(lists[2], lists[0]);
}

/// Only what is served is listed in order.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

// What ran again and gave the same is adopted.
fn without_observations_the_chain_decides() {
    let w = World::new();
    w.write("read", "1");
    w.write("unread", "1");
    let text = "FROM base\nCOPY . /d\nRUN cat /d/read > /out";
    for (view, after) in [(View::Fuse, "observed"), (View::Overlay, "adopted"), (View::Copy, "adopted")] {
        let with = |o: &mut build::Options| {
            o.view = view;
            o.choices.build_args.insert("VIEW".into(), view.name().into());
        };
        let text = format!("{text}-{}", view.name());
        w.build_with(&text, with).outcome();
        w.store.flush().expect("the records are there");
        w.write("unread", view.name());
        let again = w.build_with(&text, with);
        assert_eq!(again.steps().last().map(String::as_str), Some(after), "{view:?}");
        w.store.flush().expect("the records are there");
        assert_eq!(w.build_with(&text, with).steps().last().map(String::as_str), Some("cached"), "{view:?}");
    }
}

fn directories_are_shared() {
    let w = World::new();
    let text = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two";
    let dirs = || -> Vec<String> {
        let names = std::fs::read_dir(w.store.root().join("dirs")).expect("there are some").flatten();
        names.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    let b = build(&w, View::Overlay, text);
    let made = dirs();
    let below: Vec<String> = b.outcome().image.layers.iter().take(2).map(|(id, _)| id.hex()).collect();
    assert!(made.len() == 2 && below.iter().all(|id| made.contains(id)), "{made:?} {below:?}");
    assert!(w.store.usage().expect("the usage").dirs.files > 2);
    let inode = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(w.store.root().join("dirs").join(&below[0]).join("files/bin/busybox"))
            .map(|m| m.ino())
            .ok()
    };
    let first = inode();
    build(&w, View::Overlay, "FROM base\nRUN echo another");
    assert!(first.is_some() && inode() == first, "the base's directory is used again");
}
