//! Findings in words: what happened, and the change that would mend it.

use crate::account::{Cause, Owner};
use crate::cruft;
use crate::findings::Finding;
use crate::image::Image;

/// An instruction, short enough to stand in a sentence.
pub(crate) fn quoted(image: &Image, layer: usize) -> String {
    const MOST: usize = 60;
    let text = image.instruction(layer);
    if text.is_empty() {
        return format!("layer {layer}");
    }
    let mut short: String = text.chars().take(MOST).collect();
    if text.chars().count() > MOST {
        short.push('…');
    }
    format!("layer {layer} ({short})")
}

fn is_copy(image: &Image, layer: usize) -> bool {
    let text = image.instruction(layer);
    text.starts_with("COPY") || text.starts_with("ADD")
}

/// Gives a finding its title and advice.
pub(crate) fn word(image: &Image, f: &mut Finding) {
    let files = match f.sums.files {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    let dir = oci::index::show(&f.directory);
    let by = quoted(image, f.by);
    let own = quoted(image, f.layer);
    let base = f.owner == Owner::Base;
    let (title, advice) = match f.cause {
        Cause::Deleted => (
            format!("{files} in {dir}: shipped by {own}, deleted by {by}"),
            if base {
                "the base image ships them whether they are deleted or not: take a smaller base, or leave them".to_owned()
            } else if is_copy(image, f.layer) {
                "do not copy them: name them in .dockerignore, copy less, or use RUN --mount=type=bind for what one step needs".to_owned()
            } else {
                format!("delete them at the end of the RUN that makes them ({own}): a later step cannot make the image smaller")
            },
        ),
        Cause::Overwritten if f.layer == f.by => (
            format!("{files} in {dir}: stands several times in the archive of {own}"),
            "make the layer's archive with each path once".to_owned(),
        ),
        Cause::Overwritten => (
            format!("{files} in {dir}: shipped by {own}, overwritten by {by}"),
            if base {
                "the base image ships them: take a base that has them as you need them, or leave them".to_owned()
            } else if is_copy(image, f.layer) {
                format!("copy only what stays: leave them out of {own}")
            } else {
                format!("write them once: join the steps of layers {} and {}", f.layer, f.by)
            },
        ),
        Cause::Metadata => (
            format!("{files} in {dir}: {own} changes only owner, mode or times, and ships the content again"),
            "set owner and mode where the files are made: COPY --chown=… --chmod=…, or chown in the same RUN".to_owned(),
        ),
        Cause::Moved => (
            format!("{files} moved to {dir} by {own}, and shipped again"),
            "put them at their place at once: in the COPY's destination, or by moving them in the RUN that makes them".to_owned(),
        ),
        Cause::Duplicate => (
            format!("{files} in {dir} of {own}: the same content is in the image at another path"),
            "keep one and link to it (ln, or ln -s), or do not copy it a second time".to_owned(),
        ),
        Cause::Cruft => {
            let rule = f.rule.and_then(cruft::rule);
            let what = rule.map_or("something", |r| r.manager);
            let mut advice = rule.map_or(String::new(), |r| r.advice.to_owned());
            if let Some(mount) = rule.and_then(|r| r.mount).filter(|m| !advice.contains(m) || advice.starts_with("end")) {
                advice.push_str(&format!("; or keep it on a mount: RUN --mount=type=cache,target={mount}"));
            }
            if base {
                advice = "it comes with the base image: take another base, or tell who makes it".to_owned();
            }
            (format!("{files} in {dir} that {what} left behind in {own}"), advice)
        }
    };
    f.title = title;
    f.advice = advice;
}
