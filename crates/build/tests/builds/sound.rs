//! Reuse by observations where it once went wrong, or would with a little less care: each case changes one thing that a step can tell,
//! in a way that is easily overlooked.

use std::time::{Duration, SystemTime};

use build::observe::{Recorded, decode};
use build::options::Secret;

use crate::Case;
use crate::kit::World;
use crate::ldcache;

pub(crate) const CASES: &[Case] = &[
    ("which_names_are_one_file_is_observed", which_names_are_one_file_is_observed),
    ("a_file_left_as_it_was_counts_as_read", a_file_left_as_it_was_counts_as_read),
    ("a_link_on_the_way_to_a_mount_counts", a_link_on_the_way_to_a_mount_counts),
    ("the_attributes_of_the_root_directory_count", the_attributes_of_the_root_directory_count),
    ("bind_mounts_are_observed_file_by_file", bind_mounts_are_observed_file_by_file),
    ("where_a_bind_mount_begins_counts", where_a_bind_mount_begins_counts),
    ("a_record_says_what_lies_outside", a_record_says_what_lies_outside),
    ("the_linker_cache_counts_by_what_was_asked_of_it", the_linker_cache_counts_by_what_was_asked_of_it),
];

/// What the newest record with observations says.
fn newest(w: &World) -> Recorded {
    w.store.flush().expect("the store takes all");
    let mut all = (1..200).filter_map(|id| w.store.record_observations(id).expect("a record"));
    decode(&all.next_back().expect("a record with observations")).expect("it can be read")
}

fn which_names_are_one_file_is_observed() {
    let w = World::new();
    let text = "FROM base\nCOPY in /in\nRUN [ /in/a -ef /in/d ] && echo one > /out || echo two > /out";
    let link = |pairs: [(&str, &str); 2]| {
        let _ = std::fs::remove_dir_all(w.at("in"));
        for (a, b) in pairs {
            w.write(&format!("in/{a}"), "the same text in all");
            std::fs::hard_link(w.at("in").join(a), w.at("in").join(b)).expect("a hard link");
        }
    };
    link([("a", "b"), ("c", "d")]);
    assert_eq!(w.build(text).text("out"), "two\n");
    // Every name has the attributes and the content that it had, and as many links.
    link([("a", "d"), ("b", "c")]);
    assert_eq!(w.build(text).text("out"), "one\n");
}

fn a_file_left_as_it_was_counts_as_read() {
    let w = World::new();
    let write = |name: &str, text: &str| {
        w.write(name, text);
        let file = std::fs::OpenOptions::new().append(true).open(w.at(name)).expect("the file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).expect("its time");
    };
    let text = "FROM base\nCOPY in /in\nRUN /bin/busybox cp -p /in/new /in/f";
    write("in/new", "1");
    write("in/f", "1");
    let first = w.build(text);
    assert_eq!(first.steps(), ["ran", "ran"]);
    assert_eq!(first.text("in/f"), "1");
    // The copy changes it now, which it did not before: the layer of the first run has nothing to offer.
    write("in/f", "2");
    assert_eq!(w.build(text).text("in/f"), "1");
}

fn a_link_on_the_way_to_a_mount_counts() {
    let w = World::new();
    let text = "FROM base\nRUN mkdir /one /two\nCOPY in/ /\nRUN --mount=source=src,target=/link/m [ -e /one/m/f ] && echo one > /out || echo two > /out";
    w.write("src/f", "x");
    std::fs::create_dir(w.at("in")).expect("a directory");
    let lead = |to: &str| {
        let _ = std::fs::remove_file(w.at("in/link"));
        std::os::unix::fs::symlink(to, w.at("in/link")).expect("a link");
    };
    lead("one");
    assert_eq!(w.build(text).text("out"), "one\n");
    // The step does not ask for the link; that it was followed to make the mount is enough.
    lead("two");
    assert_eq!(w.build(text).text("out"), "two\n");
}

fn the_attributes_of_the_root_directory_count() {
    let w = World::new();
    let text =
        "FROM base\nCOPY mode /\nRUN /bin/busybox chmod $(cat /mode) /\nRUN /bin/busybox stat -c %a / > /out";
    w.write("mode", "755");
    assert_eq!(w.build(text).text("out"), "755\n");
    w.write("mode", "711");
    assert_eq!(w.build(text).text("out"), "711\n");
}

fn bind_mounts_are_observed_file_by_file() {
    let w = World::new();
    let text = "FROM base AS other\nCOPY in /in\nFROM base\nRUN --mount=source=in,target=/m cat /m/read > /a\nRUN --mount=from=other,source=/in,target=/m cat /m/read > /b\nRUN --mount=source=in,target=/m ls /m > /c";
    w.write("in/read", "1");
    w.write("in/unread", "1");
    assert_eq!(w.build(text).steps(), ["ran"; 4]);
    w.write("in/unread", "2");
    assert_eq!(w.build(text).steps(), ["ran", "observed", "observed", "observed"]);
    assert_eq!(w.build(text).steps(), ["cached"; 4]);
    w.write("in/new", "1");
    let more = w.build(text);
    assert_eq!(more.steps(), ["ran", "observed", "observed", "ran"]);
    assert_eq!(more.text("c"), "new\nread\nunread\n");
    w.write("in/read", "2");
    let read = w.build(text);
    assert_eq!(read.steps()[..3], ["ran", "ran", "ran"]);
    assert_eq!((read.text("a"), read.text("b")), ("2".into(), "2".into()));
}

fn where_a_bind_mount_begins_counts() {
    let w = World::new();
    let text = "FROM base\nCOPY one two /both/\nRUN --mount=source=link,target=/m cat /m/f > /out";
    w.write("one/f", "1");
    w.write("two/f", "2");
    std::os::unix::fs::symlink("one", w.at("link")).expect("a link");
    assert_eq!(w.build(text).text("out"), "1");
    std::fs::remove_file(w.at("link")).expect("the link");
    std::os::unix::fs::symlink("two", w.at("link")).expect("a link");
    assert_eq!(w.build(text).text("out"), "2");
}

fn a_record_says_what_lies_outside() {
    let w = World::new();
    w.build("FROM base\nRUN --network=none true").outcome();
    assert_eq!(newest(&w).outside, [""; 0]);
    let mounts = "--mount=type=cache,target=/c --mount=type=secret,id=given --mount=type=secret,id=not --mount=type=tmpfs,target=/t";
    w.build_with(&format!("FROM base\nRUN {mounts} true"), |o| {
        o.secrets.insert("given".into(), Secret::Bytes(b"x".to_vec()));
    })
    .outcome();
    let recorded = newest(&w);
    assert_eq!(recorded.outside, ["network", "cache /c", "secret given"]);
    assert_eq!(recorded.partial, "");
    w.build_with("FROM base\nRUN --security=insecure true", |o| o.allow_insecure = true).outcome();
    assert!(newest(&w).partial.contains("view"), "{:?}", newest(&w));
}

fn the_linker_cache_counts_by_what_was_asked_of_it() {
    let w = World::new();
    w.write("in/lib/libx.so.1", "x");
    w.write("in/lib/liby.so.1", "y");
    // Stands for the loader: reads the cache, and looks for a library.
    w.write("in/load", "cat /etc/ld.so.cache > /dev/null; cat /lib/libx.so.1");
    let x = ("libx.so.1".to_owned(), "/lib/libx.so.1".to_owned());
    let y = ("liby.so.1".to_owned(), "/lib/liby.so.1".to_owned());
    let cache = |entries: &[(String, String)]| {
        std::fs::create_dir_all(w.at("in/etc")).expect("a directory");
        std::fs::write(w.at("in/etc/ld.so.cache"), ldcache::new_format(entries)).expect("the cache");
    };
    let last = |run: &str, semantics: bool| {
        let text = format!("FROM base\nCOPY in /\nRUN {run}");
        w.build_with(&text, |o| o.semantics = semantics).steps().pop().expect("a step")
    };
    let runs = [
        "sh /load",
        "sh /load; ls /etc > /dev/null",
        "sh /load; cp /etc/ld.so.cache /copy",
        "cp -r /etc /copy",
    ];
    cache(std::slice::from_ref(&x));
    for run in runs {
        assert_eq!(last(run, true), "ran", "{run}");
    }
    cache(&[x.clone(), y.clone()]);
    assert_eq!(last(runs[0], false), "adopted", "without the rule the bytes count");
    cache(&[x.clone(), y.clone(), ("libz.so.1".into(), "/lib/liby.so.1".into())]);
    assert_eq!(last(runs[0], true), "adopted", "an entry that leads to a file of another name");
    cache(&[("libx.so.1".into(), "/lib/other/libx.so.1".into()), y.clone()]);
    assert_eq!(last(runs[0], true), "adopted", "the library that was asked for lies elsewhere");
    w.write("in/lib/libw.so.1", "w");
    cache(&[x.clone(), y, ("libw.so.1".into(), "/lib/libw.so.1".into())]);
    assert_eq!(last(runs[0], true), "observed", "libraries that nobody asked for");
    assert_eq!(last(runs[1], true), "adopted", "a listing of its directory");
    assert_eq!(last(runs[2], true), "ran", "a command that names the file");
    assert_eq!(last(runs[3], true), "ran", "a copy");
}
