//! The cases in which analysers commonly go wrong, each with its true figures.

use analyse::{Cause, Image};

use crate::kit::{Layer, MB, image, layer};

/// Reclaimable bytes, and efficiency in thousandths.
fn truth(image: &Image) -> (u64, u64) {
    let a = image.accounts();
    assert_eq!(a.total.shipped.bytes - a.live.bytes, a.reclaimable().bytes, "the formula");
    (a.reclaimable().bytes, (a.efficiency() * 1000.0).round() as u64)
}

fn only_cause(image: &Image, cause: Cause, bytes: u64) {
    for c in Cause::ALL {
        let want = if c == cause { bytes } else { 0 };
        assert_eq!(image.accounts().total.cause(c).bytes, want, "{c:?}");
    }
}

fn big(dir: &str) -> Layer {
    (0..10).fold(layer().file("keep", 10 * MB, "keep").dir(dir), |l, n| {
        l.file(&format!("{dir}/f{n}"), 10 * MB, &format!("{n}"))
    })
}

#[test]
fn a_directory_removed_later() {
    let i = image(vec![big("d"), layer().gone("d")]);
    assert_eq!(truth(&i), (100 * MB, 91));
    only_cause(&i, Cause::Deleted, 100 * MB);
}

#[test]
fn b_file_removed_later() {
    let i = image(vec![layer().file("keep", 10 * MB, "keep").file("f", 100 * MB, "f"), layer().gone("f")]);
    assert_eq!(truth(&i), (100 * MB, 91));
    only_cause(&i, Cause::Deleted, 100 * MB);
}

#[test]
fn c_attributes_changed() {
    let i = image(vec![layer().file("f", 100 * MB, "f"), layer().mode("f", 100 * MB, "f", 0o755)]);
    assert_eq!(truth(&i), (100 * MB, 500));
    only_cause(&i, Cause::Metadata, 100 * MB);
    assert_eq!(i.accounts().layers[1].cause(Cause::Metadata).bytes, 100 * MB, "in the layer that did it");
}

#[test]
fn d_opaque_directory() {
    let i = image(vec![
        layer().dir("d").file("d/f", 100 * MB, "f"),
        layer().opaque("d").file("d/new", 11 * MB, "new"),
    ]);
    assert_eq!(truth(&i), (100 * MB, 99));
    only_cause(&i, Cause::Deleted, 100 * MB);
}

#[test]
fn e_dangling_whiteout_first() {
    let i = image(vec![
        layer().file("f", 50 * MB, "old"),
        layer().gone("a/nothing").gone("aaa").file("f", 50 * MB, "new"),
    ]);
    assert_eq!(truth(&i), (50 * MB, 500));
    only_cause(&i, Cause::Overwritten, 50 * MB);
}

#[test]
fn f_file_grows() {
    let i = image(vec![layer().file("f", MB, "a"), layer().file("f", 100 * MB, "b")]);
    assert_eq!(truth(&i), (MB, 990));
    only_cause(&i, Cause::Overwritten, MB);
}

#[test]
fn g_file_shrinks() {
    let i = image(vec![layer().file("f", 100 * MB, "a"), layer().file("f", MB, "b")]);
    assert_eq!(truth(&i), (100 * MB, 10));
    only_cause(&i, Cause::Overwritten, 100 * MB);
}

#[test]
fn h_deleted_and_made_again() {
    let i =
        image(vec![layer().file("f", 100 * MB, "a"), layer().gone("f"), layer().file("f", 100 * MB, "b")]);
    assert_eq!(truth(&i), (100 * MB, 500));
    only_cause(&i, Cause::Deleted, 100 * MB);
}

#[test]
fn i_copied_to_another_path() {
    let i = image(vec![layer().file("f", 100 * MB, "a"), layer().file("g", 100 * MB, "a")]);
    assert_eq!(truth(&i), (0, 1000));
    only_cause(&i, Cause::Duplicate, 100 * MB);
    assert_eq!(i.accounts().layers[1].cause(Cause::Duplicate).bytes, 100 * MB);
}

#[test]
fn j_directory_moved() {
    let moved =
        (0..10).fold(layer().gone("d").dir("e"), |l, n| l.file(&format!("e/f{n}"), 10 * MB, &format!("{n}")));
    let without_keep = Layer(big("d").0.into_iter().filter(|e| e.path != b"keep").collect());
    let i = image(vec![without_keep, moved]);
    assert_eq!(truth(&i), (100 * MB, 500));
    only_cause(&i, Cause::Moved, 100 * MB);
    assert_eq!(i.accounts().layers[1].cause(Cause::Moved).bytes, 100 * MB);
}

#[test]
fn k_one_layer() {
    let i = image(vec![big("d")]);
    assert_eq!(truth(&i), (0, 1000));
}

#[test]
fn l_base_file_changed_once() {
    let mut i = image(vec![layer().file("f", 100 * MB, "a"), layer().file("f", 100 * MB, "b")]);
    i.set_base(Some(analyse::Base { name: None, layers: 1, source: analyse::BaseSource::Given }));
    assert_eq!(truth(&i), (100 * MB, 500));
    only_cause(&i, Cause::Overwritten, 100 * MB);
    let f = &analyse::findings(&i)[0];
    assert_eq!((f.owner, f.layer, f.by), (analyse::Owner::Base, 0, 1), "the base's, which you cannot mend");
}

#[test]
fn m_directory_removed_that_has_no_entry() {
    let i = image(vec![
        layer().file("d/a", 60 * MB, "a").file("d/e/b", 40 * MB, "b").file("x", 100 * MB, "x"),
        layer().gone("d"),
    ]);
    assert_eq!(truth(&i), (100 * MB, 500));
    only_cause(&i, Cause::Deleted, 100 * MB);
}

#[test]
fn nothing_at_all() {
    assert_eq!(truth(&image(vec![])), (0, 1000));
    assert_eq!(truth(&image(vec![layer()])), (0, 1000));
}

#[test]
fn hard_links_are_one_file_until_the_last_name_goes() {
    let first = || layer().file("a", 10 * MB, "a").link("b", "a").link("c", "a");
    assert_eq!(truth(&image(vec![first()])), (0, 1000));
    assert_eq!(truth(&image(vec![first(), layer().gone("a")])), (0, 1000), "b and c are left");
    let i = image(vec![first(), layer().gone("a"), layer().gone("b"), layer().gone("c")]);
    assert_eq!(truth(&i), (10 * MB, 0));
    assert_eq!(i.accounts().layers[0].cause(Cause::Deleted).files, 1);
    // A link to a file of the layer below keeps it, whatever happens to the first name.
    let i =
        image(vec![layer().file("a", 10 * MB, "a"), layer().link("z", "a"), layer().file("a", MB, "new")]);
    assert_eq!(truth(&i), (0, 1000));
}

#[test]
fn type_changes_end_what_was_there() {
    let dir = || layer().dir("d").file("d/a", 10 * MB, "a").file("d/b", 20 * MB, "b");
    let i = image(vec![dir(), layer().file("d", MB, "d")]);
    assert_eq!(truth(&i).0, 30 * MB);
    let i = image(vec![layer().file("d", MB, "d"), dir()]);
    assert_eq!(truth(&i).0, MB);
    only_cause(&i, Cause::Overwritten, MB);
    let i = image(vec![dir(), layer().symlink("d", "e")]);
    assert_eq!(truth(&i).0, 30 * MB);
}

#[test]
fn entries_below_a_symbolic_link_land_where_it_leads() {
    let i = image(vec![
        layer().dir("usr").dir("usr/bin").file("usr/bin/x", 10 * MB, "x").symlink("bin", "usr/bin"),
        layer().file("bin/x", MB, "new"),
        layer().gone("bin/x"),
    ]);
    assert_eq!(truth(&i).0, 11 * MB);
    let x = i.find(b"usr/bin/x").unwrap();
    assert_eq!(i.history(x).len(), 3);
    assert!(!i.exists(x));
}

#[test]
fn a_chain_of_changes_is_charged_once_each() {
    let i = image(vec![
        layer().file("f", 10 * MB, "a"),
        layer().mode("f", 10 * MB, "a", 0o755),
        layer().gone("f").file("g", 10 * MB, "a"),
        layer().gone("g"),
    ]);
    assert_eq!(truth(&i).0, 30 * MB);
    let l = &i.accounts().layers;
    assert_eq!(l[0].cause(Cause::Deleted).bytes, 10 * MB, "the first is charged for the end of the run");
    assert_eq!(l[1].cause(Cause::Metadata).bytes, 10 * MB);
    assert_eq!(l[2].cause(Cause::Moved).bytes, 10 * MB);
}

#[test]
fn cruft_is_live_and_needless_and_counts_once() {
    let lists = "var/lib/apt/lists/x";
    let i = image(vec![
        layer().file(lists, 20 * MB, "x").file("var/lib/apt/lists/y", MB, "x").file("keep", MB, "k"),
        layer().mode(lists, 20 * MB, "x", 0o600),
    ]);
    assert_eq!(truth(&i).0, 20 * MB, "the copy that the second layer made");
    let t = &i.accounts().total;
    assert_eq!(t.cause(Cause::Metadata).bytes, 20 * MB);
    assert_eq!(t.cause(Cause::Cruft).bytes, 21 * MB);
    assert_eq!(t.cause(Cause::Duplicate).bytes, 0);
    let f = analyse::findings(&i).into_iter().find(|f| f.cause == Cause::Cruft).unwrap();
    assert_eq!(f.id, "cruft-0-apt-lists");
    assert!(f.advice.contains("rm -rf /var/lib/apt/lists/*"), "{}", f.advice);
    // A link from elsewhere keeps it: taking the name away would free nothing.
    let i = image(vec![layer().file("opt/f", MB, "x").link("tmp/f", "opt/f").file("tmp/g", MB, "g")]);
    assert_eq!(i.accounts().total.cause(Cause::Cruft).bytes, MB);
}
