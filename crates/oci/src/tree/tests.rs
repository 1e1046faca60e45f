use super::*;

fn e(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), kind, attrs: Attrs { mode: 0o644, ..Attrs::default() } }
}
fn file(path: &str, text: &str) -> Entry {
    e(path, Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) })
}
fn dir(path: &str) -> Entry {
    e(path, Kind::Directory { opaque: false })
}
fn sym(path: &str, to: &str) -> Entry {
    e(path, Kind::Symlink { target: to.into() })
}
fn layer(entries: Vec<Entry>) -> LayerIndex {
    LayerIndex::from_entries(entries).unwrap()
}
fn paths(t: &Tree) -> Vec<String> {
    t.flatten().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
}

fn base() -> LayerIndex {
    layer(vec![dir("a"), file("a/x", "x"), file("a/y", "y"), file("b", "b"), sym("ln", "a")])
}

#[test]
fn directories_that_nobody_names_are_bounded() {
    // Forty paths, and a hundred thousand directories.
    let deep = |n: usize| e(&format!("{n}{}/f", "/d".repeat(1900)), Kind::Fifo);
    let apply = |count| Tree::from_layers([&layer((0..count).map(deep).collect())]).map(|t| t.len());
    assert!(apply(20).unwrap() > 38_000);
    assert_eq!(apply(40), Err(TreeError::TooManyUnnamed));
    let named = |count: usize| {
        Tree::from_layers([&layer((0..count).map(|n| dir(&n.to_string())).collect())]).map(|t| t.len())
    };
    assert_eq!(named(59_999), Ok(60_000));
    assert_eq!(named(60_000), Err(TreeError::TooMany));
    // Links that lead from one depth to the next.
    let path = ["d"; 1900].join("/");
    let first = layer(vec![dir(&path), sym("l", &path)]);
    let mut tree = Tree::from_layers([&first]).unwrap();
    assert_eq!(tree.apply(&layer(vec![file("l/x", "x")])), Ok(()));
    let next = layer(vec![file(&format!("l/{path}/x"), "x")]);
    assert!(matches!(tree.apply(&next), Err(TreeError::TooLong(_))));
}

#[test]
fn many_files_lose_their_first_names() {
    // Each look for another name would walk the whole tree.
    let pair = |n: usize| {
        let link = e(&format!("z/{n:05}"), Kind::HardLink { target: format!("a/{n:05}").into() });
        [file(&format!("a/{n:05}"), &n.to_string()), link]
    };
    let many = layer((0..10_000).flat_map(pair).collect());
    let mut tree = Tree::from_layers([&many]).unwrap();
    let gone = (0..10_000).filter(|n| n % 3 > 0).map(|n| Entry::whiteout(format!("a/{n:05}").into()));
    tree.apply(&layer(gone.collect())).unwrap();
    for n in [1, 2, 3, 9_998] {
        let id = tree.lookup(format!("z/{n:05}").as_bytes()).unwrap();
        let (dir, links) = if n % 3 > 0 { ("z", 1) } else { ("a", 2) };
        assert_eq!((tree.path(id), tree.inode(id).nlink), (format!("{dir}/{n:05}").into_bytes(), links));
    }
    assert_eq!(tree.children(tree.lookup(b"a").unwrap()).len(), 3334);
}

#[test]
fn an_opaque_directory_loses_all_at_once() {
    let many = layer((0..20_000).map(|n| file(&format!("a/{n:05}"), "x")).collect());
    let mut tree = Tree::from_layers([&many, &base()]).unwrap();
    tree.apply(&layer(vec![e("a", Kind::Directory { opaque: true }), file("a/new", "n")])).unwrap();
    assert_eq!(paths(&tree), ["", "a", "a/new", "b", "ln"]);
}

#[test]
fn whiteouts_hide_only_what_lies_below() {
    let up = layer(vec![
        Entry::whiteout(b"a/x".to_vec()),
        e("a", Kind::Directory { opaque: false }),
        Entry::whiteout(b"b".to_vec()),
    ]);
    let t = Tree::from_layers([&base(), &up]).unwrap();
    assert_eq!(paths(&t), ["", "a", "a/y", "ln"]);
    let opaque = layer(vec![e("a", Kind::Directory { opaque: true }), file("a/n", "n")]);
    let t = Tree::from_layers([&base(), &opaque]).unwrap();
    assert_eq!(paths(&t), ["", "a", "a/n", "b", "ln"]);
}

#[test]
fn types_replace_each_other() {
    let t = Tree::from_layers([&base(), &layer(vec![sym("a", "b")])]).unwrap();
    assert_eq!(paths(&t), ["", "a", "b", "ln"]);
    let t = Tree::from_layers([&base(), &layer(vec![dir("ln"), file("ln/n", "n")])]).unwrap();
    assert_eq!(paths(&t), ["", "a", "a/x", "a/y", "b", "ln", "ln/n"]);
}

#[test]
fn an_entry_below_a_link_lands_inside_the_image() {
    let t = Tree::from_layers([&base(), &layer(vec![file("ln/z", "z")])]).unwrap();
    assert!(t.lookup(b"a/z").is_some());
    let out = layer(vec![sym("l", "../../../tmp"), file("l/f", "1")]);
    let t = Tree::from_layers([&out]).unwrap();
    assert_eq!(paths(&t), ["", "l", "tmp", "tmp/f"]);
}

#[test]
fn a_hard_link_to_a_lower_file_keeps_its_old_content() {
    let up = layer(vec![e("h", Kind::HardLink { target: b"b".to_vec() })]);
    let mut t = Tree::from_layers([&base(), &up]).unwrap();
    assert_eq!(t.lookup(b"h"), t.lookup(b"b"));
    assert_eq!(t.inode(t.lookup(b"h").unwrap()).nlink, 2);
    t.apply(&layer(vec![file("b", "new")])).unwrap();
    let h = t.inode(t.lookup(b"h").unwrap());
    assert_eq!((h.nlink, &h.node), (1, &Node::File { size: 1, digest: Digest::of(b"b") }));
    assert_eq!(t.path(t.lookup(b"h").unwrap()), b"h");
    let lost = layer(vec![e("h", Kind::HardLink { target: b"none".to_vec() })]);
    assert!(matches!(Tree::from_layers([&lost]), Err(TreeError::MissingTarget { .. })));
}

#[test]
fn resolution_stays_inside_and_gives_what_is_missing() {
    let t = Tree::from_layers([
        &base(),
        &layer(vec![sym("up", "../../b"), sym("loop", "loop"), sym("dang", "a/new/deep")]),
    ])
    .unwrap();
    assert_eq!(t.resolve(b"/up", true).unwrap().path, b"b");
    assert_eq!(t.resolve(b"ln/../b", true).unwrap().path, b"b");
    let p = t.resolve(b"dang/f", true).unwrap();
    assert_eq!((p.path.as_slice(), p.full_path().as_slice()), (&b"a"[..], &b"a/new/deep/f"[..]));
    assert!(matches!(t.resolve(b"loop", true), Err(TreeError::Loop(_))));
    assert!(matches!(t.resolve(b"b/c", true), Err(TreeError::NotADirectory(_))));
    assert_eq!(t.resolve(b"loop", false).unwrap().path, b"loop");
}

#[test]
fn a_tree_made_from_another_leaves_it_alone() {
    let t = Tree::from_layers([&base()]).unwrap();
    let before = paths(&t);
    let mut u = t.clone();
    u.apply(&layer(vec![Entry::whiteout(b"a".to_vec())])).unwrap();
    assert_eq!(paths(&t), before);
    assert_eq!(paths(&u), ["", "b", "ln"]);
}

#[test]
fn a_tree_of_sorted_entries_is_that_of_their_layer() {
    let link = |path: &str, to: &str| e(path, Kind::HardLink { target: to.into() });
    let all = [
        dir("a"),
        file("a/x", "1"),
        file("a-b", "2"),
        link("b", "a/x"),
        dir("c"),
        dir("c/d"),
        link("c/d/y", "a/x"),
        sym("c/l", "../a"),
        file("z", "3"),
    ];
    let want = Tree::from_layers([&layer(all.to_vec())]).unwrap();
    let got = Tree::from_sorted(all.clone()).unwrap();
    assert_eq!((got.flatten(), got.layers()), (want.flatten(), 1));
    assert_eq!(got.inode(got.lookup(b"b").unwrap()).nlink, 3);

    let refused = |entries: Vec<Entry>| Tree::from_sorted(entries).unwrap_err();
    let twice = refused(vec![file("f", "1"), file("f", "2")]);
    assert_eq!(twice, IndexError::Duplicate("/f".into()).into());
    let name = refused(vec![file("a/../f", "1")]);
    assert_eq!(name, IndexError::Name("a/../f".into()).into());
    assert!(matches!(refused(vec![link("l", "t"), file("t", "1")]), TreeError::MissingTarget { .. }));
    assert!(matches!(refused(vec![dir("d"), link("l", "d")]), TreeError::MissingTarget { .. }));
    assert!(matches!(refused(vec![Entry::whiteout(b"w".to_vec())]), TreeError::Entry(IndexError::Name(_))));
}

#[test]
fn names_among_others_lie_where_they_belong() {
    let first = layer(vec![
        dir("d"),
        file("d/b", "1"),
        file("d/d", "1"),
        dir("d/f"),
        file("d/f/x", "1"),
        sym("l", "d"),
    ]);
    // Names before, between and behind, by two ways, and some of them replaced again by what comes later in the layer.
    let second = layer(vec![
        file("d/a", "2"),
        dir("d/c"),
        file("d/c/z", "2"),
        file("d/d", "2"),
        file("d/f", "2"),
        file("l/a", "3"),
        file("l/c", "3"),
        dir("l/e"),
        file("l/e/y", "3"),
        file("l/g", "3"),
        e("d/h", Kind::HardLink { target: b"d/a".to_vec() }),
    ]);
    let mut t = Tree::from_layers([&first, &second]).unwrap();
    assert_eq!(paths(&t), ["", "d", "d/a", "d/b", "d/c", "d/d", "d/e", "d/e/y", "d/f", "d/g", "d/h", "l"]);
    let content = |t: &Tree, path: &[u8]| t.inode(t.lookup(path).unwrap()).node.clone();
    for (path, text) in [("d/a", "3"), ("d/b", "1"), ("d/c", "3"), ("d/d", "2"), ("d/f", "2"), ("d/h", "2")] {
        assert_eq!(
            content(&t, path.as_bytes()),
            Node::File { size: 1, digest: Digest::of(text.as_bytes()) },
            "{path}"
        );
    }
    let h = t.lookup(b"d/h").unwrap();
    assert_eq!((t.inode(h).nlink, t.path(h)), (1, b"d/h".to_vec()));
    t.apply(&layer(vec![Entry::whiteout(b"d/c".to_vec()), file("d/aa", "4")])).unwrap();
    assert_eq!(paths(&t)[2..6], ["d/a", "d/aa", "d/b", "d/d"]);
}

#[test]
fn an_encoding_makes_what_its_layer_makes() {
    let link = |path: &str, to: &str| e(path, Kind::HardLink { target: to.into() });
    let opaque = |path: &str| e(path, Kind::Directory { opaque: true });
    let mut with_xattr = file("a/new", "n");
    with_xattr.attrs.xattrs.push((b"user.a".to_vec(), b"1".to_vec()));
    let stack = [
        layer(vec![
            dir("a"),
            file("a/x", "x"),
            file("a/y", "y"),
            file("b", "b"),
            sym("ln", "a"),
            link("c", "b"),
        ]),
        // Of what lies below: gone, hidden, linked to although it is replaced; and a link of its own.
        layer(vec![
            Entry::whiteout(b"a/y".to_vec()),
            with_xattr,
            link("a/old", "a/x"),
            file("a/z", "z"),
            link("ln/also", "a/z"),
            file("b", "other"),
            link("d", "b"),
            dir("e/f"),
        ]),
        layer(vec![opaque("e"), file("e/g", "g"), Entry::bare_marker(b"a".to_vec()), link("a/c", "c")]),
    ];
    let want = Tree::from_layers(&stack).unwrap();
    let mut got = Tree::new();
    for layer in &stack {
        let bytes = layer.encode().1;
        let (_, mut entries) = Entries::new(&bytes[..]).unwrap();
        // Whatever was taken already.
        drop(Iterator::next(&mut entries));
        got.apply_encoded(&mut entries).unwrap();
    }
    assert_eq!((got.flatten(), got.layers(), got.has_xattrs()), (want.flatten(), 3, true));
    assert!(paths(&want).contains(&"a/c".to_owned()) && !paths(&want).contains(&"a/x".to_owned()));

    for bad in [link("l", "none"), link("l", "e")] {
        let bytes = layer(vec![bad]).encode().1;
        let refused = got.clone().apply_encoded(&mut Entries::new(&bytes[..]).unwrap().1);
        assert!(matches!(refused, Err(TreeError::MissingTarget { .. } | TreeError::DirectoryTarget { .. })));
    }
}

#[test]
fn further_names_stay_what_they_are_when_the_first_one_goes() {
    let link = |path: &str, to: &str| e(path, Kind::HardLink { target: to.into() });
    let names = vec![file("a", "1"), link("b", "a"), link("d/c", "a"), link("d/d", "a")];
    let mut t = Tree::from_layers([&layer(names)]).unwrap();
    let before = t.clone();
    t.apply(&layer(vec![file("a", "2"), Entry::whiteout(b"b".to_vec()), link("d/e", "d/d")])).unwrap();
    let c = t.lookup(b"d/c").unwrap();
    assert_eq!((t.path(c), t.inode(c).nlink), (b"d/c".to_vec(), 3));
    assert_eq!(["d/d", "d/e"].map(|p| t.lookup(p.as_bytes())), [Some(c), Some(c)]);
    t.apply(&layer(vec![Entry::whiteout(b"d/c".to_vec())])).unwrap();
    assert_eq!((t.path(c), t.inode(c).nlink), (b"d/d".to_vec(), 2));
    assert_eq!(paths(&t), ["", "a", "d", "d/d", "d/e"]);
    assert_eq!(paths(&before), ["", "a", "b", "d", "d/c", "d/d"]);
    assert_eq!(before.inode(before.lookup(b"b").unwrap()).nlink, 4);
}
