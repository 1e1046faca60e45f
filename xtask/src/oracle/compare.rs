//! What two builders made of a case, side by side.

use super::builders::Ended;
use super::case::Case;
use super::facts::{self, Facts};
use super::known::{self, Odd};

/// How a case came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both built the same.
    Same,
    /// Both refused it, for whatever reason.
    BothRefused,
    /// They differ, and this is why.
    Known(&'static str),
    /// They differ in this.
    Differ(Vec<String>),
}

/// Compares how two builds of a case ended.
pub(super) fn judge(case: &Case, layercake: &Ended, buildkit: &Ended) -> Verdict {
    let refusal = |who: &str, odd: Odd<'_>, said: &str| match known::why(case, odd) {
        Some(why) => Verdict::Known(why),
        None => Verdict::Differ(vec![format!("only {who} refuses it:\n{said}")]),
    };
    match (layercake, buildkit) {
        (Ended::Broken(said), _) => Verdict::Differ(vec![format!("layercake broke: {said}")]),
        (_, Ended::Broken(said)) => Verdict::Differ(vec![format!("BuildKit broke: {said}")]),
        (Ended::Refused(_), Ended::Refused(_)) => Verdict::BothRefused,
        (Ended::Built(_), Ended::Refused(said)) => {
            refusal("BuildKit", Odd::BuildKit(reason(said)), reason(said))
        }
        (Ended::Refused(said), Ended::Built(_)) => refusal("layercake", Odd::Layercake(said), said),
        (Ended::Built(ours), Ended::Built(theirs)) => match (facts::read(ours), facts::read(theirs)) {
            (Ok(ours), Ok(theirs)) => results(case, &differences(&ours, &theirs)),
            (ours, theirs) => Verdict::Differ([ours, theirs].into_iter().filter_map(Result::err).collect()),
        },
    }
}

/// The line that says why BuildKit refused: above it stands the log of steps, in which any word may be.
fn reason(said: &str) -> &str {
    said.rfind("failed to solve").map_or(said, |at| &said[at..])
}

fn results(case: &Case, differ: &[String]) -> Verdict {
    let unknown: Vec<String> =
        differ.iter().filter(|d| known::why(case, Odd::Result(d)).is_none()).cloned().collect();
    match differ.first().and_then(|d| known::why(case, Odd::Result(d))) {
        _ if !unknown.is_empty() => Verdict::Differ(unknown),
        Some(why) => Verdict::Known(why),
        None => Verdict::Same,
    }
}

/// A line for each fact that is not the same.
fn differences(layercake: &Facts, buildkit: &Facts) -> Vec<String> {
    let names = layercake.keys().chain(buildkit.keys().filter(|k| !layercake.contains_key(*k)));
    let mut out: Vec<String> = names
        .filter(|name| layercake.get(*name) != buildkit.get(*name))
        .map(|name| {
            let has = |facts: &Facts| facts.get(name).map_or("nothing", String::as_str).to_owned();
            format!("{name}: layercake has {}, BuildKit has {}", has(layercake), has(buildkit))
        })
        .collect();
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use oci::index::{Attrs, Entry, Kind, LayerIndex};
    use oci::tree::Tree;
    use oci::types::{History, ImageConfig};

    use super::super::case::{Item, What};
    use super::*;

    fn image(mode: u32, command: &str, step: &str) -> Facts {
        let entry =
            |path: &str, kind| Entry { path: path.into(), kind, attrs: Attrs { mode, ..Attrs::default() } };
        let link = Kind::Symlink { target: b"x".to_vec() };
        let layer = LayerIndex::from_entries(vec![entry("a", link), entry("dev", Kind::Fifo)]).unwrap();
        let mut config = ImageConfig::default();
        config.config.cmd = Some(vec![command.into()]);
        config.history = vec![History { created_by: Some(step.into()), ..History::default() }];
        let mut facts = Facts::new();
        facts::files(&Tree::from_layers([&layer]).unwrap(), &mut facts);
        facts::config(&config, &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_changed_mode_command_or_history_is_noticed() {
        let one = image(0o777, "a", "RUN a");
        assert_eq!(differences(&one, &image(0o777, "a", "RUN a")), Vec::<String>::new());
        let lines = [
            (
                image(0o755, "a", "RUN a"),
                "file /a: layercake has link to \"x\", mode 0777, owner 0:0, BuildKit has link to \"x\", mode 0755, owner 0:0",
            ),
            (image(0o777, "b", "RUN a"), "config Cmd: layercake has [\"a\"], BuildKit has [\"b\"]"),
            (
                image(0o777, "a", "RUN b"),
                "history 00: layercake has a layer: \"RUN a\", BuildKit has a layer: \"RUN b\"",
            ),
        ];
        for (other, line) in lines {
            assert_eq!(differences(&one, &other), [line]);
        }
        assert_eq!(differences(&one, &Facts::new()).len(), one.len());
        assert!(!one.contains_key("file /dev"), "what builders mount is not compared");
    }

    #[test]
    fn refusals_are_compared_and_known_ones_have_a_reason() {
        let case = |text: &str| Case { dockerfile: text.into(), ..Case::default() };
        let refused = |said: &str| Ended::Refused(said.into());
        let built = || Ended::Built("image.tar".into());
        let plain = case("FROM scratch\nCOPY . /\n");
        let not_found = "#3 not found\nerror: failed to solve: failed to compute cache key: \"/\": not found";
        assert_eq!(judge(&plain, &refused("a"), &refused("b")), Verdict::BothRefused);
        assert!(matches!(judge(&plain, &built(), &refused(not_found)), Verdict::Differ(_)));
        assert!(matches!(judge(&plain, &refused("a"), &built()), Verdict::Differ(_)));
        assert!(matches!(
            judge(&plain, &Ended::Broken("signal 11".into()), &refused("b")),
            Verdict::Differ(_)
        ));
        let parents = case("FROM scratch\nCOPY --parents . /\n");
        assert!(matches!(judge(&parents, &built(), &refused(not_found)), Verdict::Known(_)));
        assert!(matches!(judge(&parents, &built(), &refused("failed to solve: other")), Verdict::Differ(_)));
        // Only what is a link may be missing.
        let mut dangling = case("FROM scratch\nCOPY --parents d/l /\n");
        let missing = refused("failed to solve: \"/d/l\": not found");
        assert!(matches!(judge(&dangling, &built(), &missing), Verdict::Differ(_)));
        dangling.context = vec![Item { what: What::Symlink("x".into()), ..Item::text("d/l", "") }];
        assert!(matches!(judge(&dangling, &built(), &missing), Verdict::Known(_)));
    }

    #[test]
    fn a_known_difference_hides_no_other() {
        let case = Case { dockerfile: "RUN ln /etc/passwd /p".into(), ..Case::default() };
        let known = "file /p: layercake has hard link to /etc/passwd, BuildKit has file".to_owned();
        let other = "config Cmd: layercake has a, BuildKit has b".to_owned();
        assert!(matches!(results(&case, std::slice::from_ref(&known)), Verdict::Known(_)));
        assert_eq!(results(&case, &[other.clone(), known]), Verdict::Differ(vec![other]));
    }
}
