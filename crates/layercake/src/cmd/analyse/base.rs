//! What is known of an image beside the image: its base, and where its layers come from.

use std::path::Path;

use analyse::base::{BASE_DIGEST, BASE_NAME};
use analyse::origin::{Origins, Source};
use analyse::{Base, BaseSource, Image};
use build::account::{self, BuildRecord};
use build::observe::{self, Fact};
use oci::Digest;
use store::Store;

use super::source::Loader;
use crate::error::{CommandError, Kind};
use crate::image;

/// The base of an image.
pub(crate) fn find(
    from: &Loader<'_>,
    image: &Image,
    given: Option<&str>,
) -> Result<Option<Base>, CommandError> {
    let own: Vec<Digest> = image.config.rootfs.diff_ids.clone();
    if let Some(name) = given {
        let base = from.load(name, None)?;
        let ids = &base.config.rootfs.diff_ids;
        if !own.starts_with(ids) {
            return Err(CommandError::usage(format!(
                "--base {name}: its layers are not the first of {}",
                image.name
            )));
        }
        return Ok(Some(Base { name: Some(name.to_owned()), layers: ids.len(), source: BaseSource::Given }));
    }
    let Some(store) = from.store()? else { return Ok(None) };
    if let Some(base) = built_on(&store, image)? {
        return Ok(Some(base));
    }
    let names = image::names(&store)?;
    let mut best: Option<(usize, bool, Base)> = None;
    let said = |key: &str| -> Option<String> {
        let annotation = image.manifest.as_ref().and_then(|(_, m)| m.annotations.get(key));
        annotation.or_else(|| image.config.config.labels.get(key)).cloned()
    };
    let (digest, name) = (said(BASE_DIGEST), said(BASE_NAME));
    for record in store.images()? {
        if record.id == image.id {
            continue;
        }
        let Ok(other) = image::load(&store, record) else { continue };
        let ids = &other.config.rootfs.diff_ids;
        if ids.is_empty() || ids.len() >= own.len() || !own.starts_with(ids) {
            continue;
        }
        let tags = names.get(&other.record.id).map(Vec::as_slice).unwrap_or_default();
        let by_digest = digest.as_ref().is_some_and(|d| {
            let is = |o: Option<Digest>| o.is_some_and(|o| o.to_string() == *d);
            is(other.record.manifest) || tags.iter().any(|t| is(t.manifest))
        });
        let wanted = name.as_ref().and_then(|n| n.parse::<oci::Reference>().ok()).map(|n| n.to_string());
        let by_name = tags.iter().find(|t| wanted.as_ref() == Some(&t.name));
        let named = by_digest || by_name.is_some();
        // An image without a name is mostly a step of a build that was tagged once: only named ones are bases.
        if tags.is_empty() && !named {
            continue;
        }
        if best.as_ref().is_none_or(|(n, was, _)| (named, ids.len()) > (*was, *n)) {
            let source = if named { BaseSource::Annotation } else { BaseSource::Prefix };
            // The name that the image says comes before others that its base has.
            let tag = by_name.or(tags.first());
            let name = tag.map(|t| image::familiar(&t.name)).or_else(|| name.clone());
            best = Some((ids.len(), named, Base { name, layers: ids.len(), source }));
        }
    }
    Ok(best.map(|(_, _, base)| base))
}

/// The builds of this store that made the image, newest first, and the ids of its layers.
fn builds(store: &Store, image: &Image) -> Result<(Vec<BuildRecord>, Vec<Digest>), CommandError> {
    let Some(record) = store.image(&image.id)? else { return Ok((Vec::new(), Vec::new())) };
    let past = account::past(store, account::PAST)?.into_iter().map(|(_, b)| b);
    Ok((past.filter(|b| b.image == Some(image.id)).collect(), record.layers))
}

/// The newest build of this store that made the image.
pub(crate) fn built_by(store: &Store, image: &Digest) -> Result<Option<BuildRecord>, CommandError> {
    let past = account::past(store, account::PAST)?;
    Ok(past.into_iter().map(|(_, b)| b).find(|b| b.image == Some(*image)))
}

/// The base by our own records: the layers below the first that a step of the build made.
fn built_on(store: &Store, image: &Image) -> Result<Option<Base>, CommandError> {
    let (builds, layers) = builds(store, image)?;
    let Some(build) = builds.first() else { return Ok(None) };
    let Some(first) = layers.iter().position(|l| build.maker_of(l).is_some()) else { return Ok(None) };
    if first == 0 {
        return Ok(None);
    }
    let name = build.stages.iter().filter_map(|s| s.base.as_ref()).find(|b| b.layers == first);
    Ok(Some(Base { name: name.map(|b| b.name.clone()), layers: first, source: BaseSource::Record }))
}

/// What is known of where the layers come from: lines of the Dockerfile, and what the steps read. Records of our builds come before a Dockerfile
/// that the user names.
pub(crate) fn origins(
    from: &Loader<'_>,
    image: &Image,
    dockerfile: Option<&Path>,
) -> Result<Origins, CommandError> {
    let mut out = Origins::new();
    if let Some(path) = dockerfile {
        let text = std::fs::read_to_string(path).map_err(|e| {
            CommandError::new(Kind::Environment, format!("cannot read {}: {e}", path.display()))
        })?;
        lines_of(&text, &path.display().to_string(), image, &mut out);
    }
    let Some(store) = from.store()? else { return Ok(out) };
    let (builds, layers) = builds(&store, image)?;
    for (n, layer) in layers.iter().enumerate() {
        let Some((build, step)) = builds.iter().find_map(|b| Some((b, b.maker_of(layer)?.1))) else {
            continue;
        };
        let mut source = Source {
            file: Some(build.dockerfile.clone()),
            line: step.lines.map(|l| l.0),
            last_line: step.lines.map(|l| l.1),
            instruction: Some(step.title.clone()),
            duration_ms: Some(step.ran_ms),
            ..Source::default()
        };
        if let Some(key) = &step.key {
            reads(&store, key, layer, &mut source)?;
        }
        out.insert(n, source);
    }
    Ok(out)
}

/// Names the layers by the instructions that made them, where the history speaks of others. It does where the base has layers without a line, a
/// directory for instance: then the lines stand beside the layers below theirs.
pub(crate) fn name_layers(image: &mut Image, origins: &Origins) {
    let said: Vec<String> = (0..image.layers.len()).map(|n| image.instruction(n)).collect();
    let known = || origins.iter().filter_map(|(n, s)| Some((*n, s.instruction.as_deref()?)));
    let elsewhere = |n: usize, text: &str| {
        said.get(n).is_some_and(|s| s != text) && said.iter().enumerate().any(|(m, s)| m != n && s == text)
    };
    if !known().any(|(n, text)| elsewhere(n, text)) {
        return;
    }
    let first = known().map(|(n, _)| n).min().unwrap_or(0);
    (0..first).for_each(|n| image.set_instruction(n, None));
    known().for_each(|(n, text)| image.set_instruction(n, Some(text)));
}

/// What the run that made the layer read of the image below it.
fn reads(store: &Store, key: &Digest, layer: &Digest, source: &mut Source) -> Result<(), CommandError> {
    let runs = store.records(key, 16)?;
    let Some(run) = runs.into_iter().find(|r| r.layer == *layer && r.has_observations) else { return Ok(()) };
    let Some(bytes) = store.record_observations(run.id)? else { return Ok(()) };
    let Some(recorded) = observe::decode(&bytes) else { return Ok(()) };
    let root = recorded.views.first().map(|v| &v.facts[..]).unwrap_or_default();
    let read = || root.iter().filter(|o| matches!(o.fact, Fact::Content(_) | Fact::Meaning { .. }));
    source.read_count = Some(read().count() as u64);
    source.read = read().take(Source::MOST).map(|o| oci::index::show(&o.path)).collect();
    Ok(())
}

/// Gives layers the lines of a Dockerfile's last stage: from the last instruction upwards, as long as the instructions are of the same kind.
fn lines_of(text: &str, file: &str, image: &Image, out: &mut Origins) {
    let parsed = dockerfile::parse(text);
    let statements = parsed.file.statements.iter().rev();
    let last_stage = statements.take_while(|s| s.instruction.name() != "FROM");
    let makers: Vec<_> =
        last_stage.filter(|s| matches!(s.instruction.name(), "RUN" | "COPY" | "ADD" | "WORKDIR")).collect();
    for (layer, statement) in image.layers.iter().rev().zip(makers) {
        let made = image.instruction(layer.index);
        if made.split(' ').next() != Some(statement.instruction.name()) {
            break;
        }
        let (line, last_line) = (Some(statement.first_line), Some(statement.last_line));
        out.insert(layer.index, Source { file: Some(file.to_owned()), line, last_line, ..Source::default() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci::LayerIndex;
    use oci::types::{History, ImageConfig};

    use super::*;

    /// The lines of an image on a directory were those of the layers above.
    #[test]
    fn layers_are_named_by_what_made_them() {
        let line = |by: &str| History { created_by: Some(by.to_owned()), ..History::default() };
        let shifted = ["COPY a /a # buildkit", "RUN /bin/sh -c b # buildkit", "[2/2] RUN b"];
        let config =
            ImageConfig { history: shifted.iter().map(|l| line(l)).collect(), ..ImageConfig::default() };
        let layers: Vec<Arc<LayerIndex>> = (0..3).map(|_| Arc::default()).collect();
        let load = || analyse::load::indexes::load("x", config.clone(), &layers).unwrap();
        let made = |text: &str| Source { instruction: Some(text.to_owned()), ..Source::default() };
        let names = |i: &Image| (0..3).map(|n| i.instruction(n)).collect::<Vec<_>>();
        let mut image = load();
        name_layers(&mut image, &Origins::from([(1, made("COPY a /a")), (2, made("RUN b"))]));
        assert_eq!(names(&image), ["", "COPY a /a", "RUN b"]);
        // A history that is right stays, whatever else it says.
        let mut image = load();
        name_layers(&mut image, &Origins::from([(0, made("COPY a /a")), (1, made("RUN --mount=x b"))]));
        assert_eq!(names(&image), names(&load()));
    }

    #[test]
    fn a_dockerfile_gives_its_lines_from_below() {
        let made = |by: &str, empty_layer| History {
            created_by: Some(by.to_owned()),
            empty_layer,
            ..History::default()
        };
        let config = ImageConfig {
            history: vec![
                made("base", false),
                made("COPY . /a # buildkit", false),
                made("ENV A=1", true),
                made("/bin/sh -c make", false),
            ],
            ..ImageConfig::default()
        };
        let layers: Vec<Arc<LayerIndex>> = (0..3).map(|_| Arc::default()).collect();
        let image = analyse::load::indexes::load("x", config, &layers).unwrap();
        let mut out = Origins::new();
        let text = "FROM x AS y\nRUN z\nFROM b\nCOPY . /a\nENV A=1\nRUN make \\\n  all\n";
        lines_of(text, "Dockerfile", &image, &mut out);
        let lines: Vec<_> = out.iter().map(|(n, s)| (*n, s.line, s.last_line)).collect();
        assert_eq!(lines, [(1, Some(4), Some(4)), (2, Some(6), Some(7))]);
    }
}
