//! Runs what stands after COPY.

use oci::tree::Id;
use oci::{Entry, LayerIndex, Tree};

use crate::chmod::Chmod;
use crate::copy::{CopyError, Source, Spec, Work, select};
use crate::images::chain_text;
use crate::testkit::{SOME_TIME, layer_lines};

/// Flags as the Dockerfile has them; then the sources, then the destination.
pub(super) fn parse(args: &str) -> (Spec, Vec<&str>, bool) {
    let mut spec = Spec { wildcards: true, now: SOME_TIME, ..Spec::default() };
    let (mut words, mut link) = (Vec::new(), false);
    for word in args.split(' ') {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--chown", o) => {
                let (u, g) = o.split_once(':').unwrap();
                spec.chown = Some((u.parse().unwrap(), g.parse().unwrap()));
            }
            ("--chmod", m) => spec.chmod = Some(Chmod::parse(m).unwrap()),
            ("--exclude", p) => spec.exclude.push(p.to_owned()),
            ("--parents", _) => spec.parents = true,
            ("--link", _) => link = true,
            ("--unpack", _) => spec.unpack = true,
            _ => words.push(word),
        }
    }
    spec.dest = words.pop().unwrap().to_owned();
    (spec, words, link)
}

/// An archive to unpack: the file that is one, and what is in it.
pub(super) type Archive<'a> = (&'a str, Vec<Entry>);

pub(super) fn copy_with(
    src: &Tree,
    dest: &Tree,
    args: &str,
    archive: Option<Archive<'_>>,
) -> Result<LayerIndex, CopyError> {
    let (spec, sources, link) = parse(args);
    let mut work = Work::new(if link { Tree::new() } else { dest.clone() }, &spec);
    let mut at_once = None;
    for (n, path) in sources.iter().enumerate() {
        let source = Source { tree: src, path };
        let selection = select(&source, &spec)?;
        let mut unpack = |tree: &Tree, id: Id, _: &[u8]| {
            let found = archive.as_ref().filter(|(name, _)| tree.path(id) == name.as_bytes());
            Ok(found.map(|(_, entries)| entries.clone()))
        };
        if n + 1 == sources.len() {
            at_once =
                Some(work.clone().finish_with(&source, &selection, &mut unpack).map_err(|e| e.to_string()));
        }
        let copied = work.copy(&source, &selection, &mut unpack);
        if let (Err(e), Some(at_once)) = (&copied, &at_once) {
            assert_eq!(at_once.as_ref().err(), Some(&e.to_string()));
        }
        copied?;
    }
    let layer = work.finish()?;
    // Whether the last source passes through the tree or not.
    if let Some(at_once) = at_once {
        assert_eq!(at_once.map(|l| l.id()), Ok(layer.id()));
    }
    let layer = layer.decode();
    // Whatever the copy does, its layer must say it: on the old tree it gives what the copy saw.
    dest.clone().apply(&layer).map_err(CopyError::Destination)?;
    Ok(layer)
}

/// The layer of a COPY, or its error.
pub(super) fn copy(src: &Tree, dest: &Tree, args: &str) -> Vec<String> {
    match copy_with(src, dest, args, None) {
        Ok(layer) => layer_lines(&layer),
        Err(e) => vec![format!("error: {}", chain_text(&e))],
    }
}

/// Compares what the rows make with what they should; all failures at once.
pub(super) fn table(src: &Tree, dest: &Tree, rows: &[(&str, &[&str])]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(args, want)| {
            let got = copy(src, dest, args);
            (got != *want).then(|| format!("COPY {args}\n   is {got:?}\n  not {want:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
