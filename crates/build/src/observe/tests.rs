use super::*;
use oci::index::Attrs;
use oci::{Digest, Entry, Kind, LayerIndex, Time};

fn first_difference(tree: &Tree, view: &Observed) -> Option<Difference> {
    super::first_difference(tree, view, &|_, _| None)
}

fn file(path: &str, text: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
        attrs: Attrs { mode: 0o644, ..Attrs::default() },
    }
}

fn tree(entries: Vec<Entry>) -> Tree {
    Tree::from_layers([&LayerIndex::from_entries(entries).unwrap()]).unwrap()
}

fn seen(t: &Tree) -> Seen {
    let id = |p: &str| t.lookup(p.as_bytes()).unwrap();
    Seen {
        inodes: vec![
            (id(""), Bits::ATTR),
            (id("d"), Bits::ATTR | Bits::LIST),
            (id("d/read"), Bits::ATTR | Bits::CONTENT),
            (id("stat"), Bits::ATTR),
        ],
        absent: vec![(id("d"), b"none".to_vec())],
        ..Seen::default()
    }
}

fn parent() -> Vec<Entry> {
    vec![file("d/read", "text"), file("d/other", "1"), file("stat", "xx"), file("unread", "1")]
}

#[test]
fn round_trip() {
    let t = tree(parent());
    let mut views = vec![observations(&t, &seen(&t)).unwrap(), Observed { acls: true, facts: vec![] }];
    views[0].facts.push(Observation { path: b"z".to_vec(), fact: Fact::SameFile(b"stat".to_vec()) });
    let fact = Fact::Meaning { exact: [1; 16], meaning: [2; 16] };
    views[1].facts.push(Observation { path: b"m".to_vec(), fact });
    let recorded = Recorded {
        identity: "1:2:3:/home".into(),
        partial: "why".into(),
        outside: vec!["network".into(), "cache /c".into()],
        views,
    };
    let bytes = encode(&recorded);
    assert_eq!(decode(&bytes), Some(recorded));
    assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
}

#[test]
fn only_what_was_learned_counts() {
    let t = tree(parent());
    let obs = observations(&t, &seen(&t)).unwrap();
    let differs = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = parent();
        change(&mut entries);
        first_difference(&tree(entries), &obs).map(|d| d.path)
    };
    assert_eq!(differs(&|_| {}), None);
    assert_eq!(differs(&|e| e[3] = file("unread", "2")), None);
    assert_eq!(differs(&|e| e[1] = file("d/other", "2")), None);
    assert_eq!(differs(&|e| e[2] = file("stat", "yy")), None, "the bytes of a file that was only looked at");
    assert_eq!(differs(&|e| e.iter_mut().for_each(|e| e.attrs.mtime = Time::from_secs(9))), None);
    assert_eq!(differs(&|e| e[2] = file("stat", "xyz")).as_deref(), Some("/stat"));
    assert_eq!(differs(&|e| e[0] = file("d/read", "TEXT")).as_deref(), Some("/d/read"));
    assert_eq!(differs(&|e| e[0].attrs.mode = 0o600).as_deref(), Some("/d/read"));
    assert_eq!(differs(&|e| e.push(file("d/new", ""))).as_deref(), Some("/d"));
    assert_eq!(differs(&|e| e.push(file("d/none", ""))).as_deref(), Some("/d"));
    assert_eq!(differs(&|e| drop(e.remove(2))).as_deref(), Some("/stat"));
}

#[test]
fn any_name_of_a_hard_link_may_have_been_used() {
    let link = |path: &str, to: &str| Entry { kind: Kind::HardLink { target: to.into() }, ..file(path, "") };
    let t = tree(vec![file("a", "x"), link("b", "a"), file("c", "y")]);
    let one = Seen { inodes: vec![(t.lookup(b"b").unwrap(), Bits::ATTR)], ..Seen::default() };
    let obs = observations(&t, &one).unwrap();
    assert_eq!(first_difference(&t, &obs), None);
    // The inode has two names still, but another second one.
    let moved = tree(vec![file("a", "x"), link("d", "a"), file("c", "y")]);
    assert_eq!(
        first_difference(&moved, &obs).map(|d| (d.path, d.how)),
        Some(("/b".into(), "is gone".into()))
    );
}

#[test]
fn which_names_are_one_file_counts() {
    let link = |path: &str, to: &str| Entry { kind: Kind::HardLink { target: to.into() }, ..file(path, "") };
    let t = tree(vec![file("a", "x"), link("b", "a"), file("c", "x"), link("d", "c")]);
    let saw = |t: &Tree, p: &str| (t.lookup(p.as_bytes()).unwrap(), Bits::ATTR | Bits::CONTENT);
    let both = Seen { inodes: vec![saw(&t, "a"), saw(&t, "d")], ..Seen::default() };
    let obs = observations(&t, &both).unwrap();
    assert_eq!(first_difference(&t, &obs), None);
    // Same contents and numbers of links everywhere, but `a` and `d` are one file now.
    let crossed = tree(vec![file("a", "x"), link("d", "a"), file("b", "x"), link("c", "b")]);
    assert_eq!(
        first_difference(&crossed, &obs).map(|d| (d.path, d.how)),
        Some(("/b".into(), "is another file than its hard link".into()))
    );
}

#[test]
fn obeying_access_control_lists_is_a_fact_about_the_view() {
    let with = |xattrs: Vec<_>| {
        let mut e = file("a", "x");
        e.attrs.xattrs = xattrs.into();
        tree(vec![file("b", ""), e])
    };
    let plain = with(vec![(b"user.x".to_vec(), vec![])]);
    let listed = with(vec![(b"system.posix_acl_access".to_vec(), vec![2])]);
    let obs = Observed { acls: false, facts: vec![] };
    assert_eq!(first_difference(&plain, &obs), None);
    assert!(first_difference(&listed, &obs).is_some());
}

#[test]
fn absence_needs_the_directory() {
    let t = tree(vec![file("d/e/f", "")]);
    let gone = Seen { absent: vec![(t.lookup(b"d/e").unwrap(), b"n".to_vec())], ..Seen::default() };
    let obs = observations(&t, &gone).unwrap();
    assert_eq!(first_difference(&t, &obs), None);
    assert!(first_difference(&tree(vec![file("d/e", "")]), &obs).is_some());
    assert!(first_difference(&tree(vec![file("d/x", "")]), &obs).is_some());
    assert!(first_difference(&tree(vec![file("d/e/f", ""), file("d/e/n", "")]), &obs).is_some());
}
