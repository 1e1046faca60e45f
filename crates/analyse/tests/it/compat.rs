//! dive's figures, where they are known from dive itself, and the rules that use them.

use analyse::{Image, Rules, dive};

use crate::kit::{Layer, MB, image, layer};

fn score(layers: Vec<Layer>) -> (f64, u64) {
    let s = dive::score(&image(layers));
    ((s.efficiency * 10_000.0).round() / 10_000.0, s.wasted / MB)
}

/// Ten files of ten megabytes in a directory with an entry of its own.
fn big(dir: &str) -> Layer {
    (0..10).fold(layer().file("keep", 10 * MB, "keep").dir(dir), |l, n| {
        l.file(&format!("{dir}/f{n}"), 10 * MB, &format!("{n}"))
    })
}

#[test]
fn dives_own_figures_for_the_cases() {
    let f = |n: u64, c: &str| layer().file("f", n * MB, c);
    // A, B, C
    assert_eq!(score(vec![big("d"), layer().gone("d")]), (1.0, 0));
    let with_keep = || layer().file("keep", 10 * MB, "k").file("f", 100 * MB, "f");
    assert_eq!(score(vec![with_keep(), layer().gone("f")]), (0.0909, 100));
    assert_eq!(score(vec![f(100, "a"), layer().mode("f", 100 * MB, "a", 0o755)]), (0.5, 200));
    // D: an opaque directory hides nothing.
    let dir = layer().dir("d").file("d/f", 100 * MB, "f");
    assert_eq!(score(vec![dir, layer().opaque("d").file("d/new", 11 * MB, "n")]), (1.0, 0));
    // E: a dangling whiteout ends its layer's count; without it the file counts.
    assert_eq!(score(vec![f(50, "a"), f(50, "b").gone("aaa")]), (1.0, 0));
    assert_eq!(score(vec![f(50, "a"), f(50, "b")]), (0.5, 100));
    // F, G, H
    assert_eq!(score(vec![f(1, "a"), f(100, "b")]), (0.0099, 101));
    assert_eq!(score(vec![f(100, "a"), f(1, "b")]), (0.0099, 101));
    assert_eq!(score(vec![f(100, "a"), layer().gone("f"), f(100, "b")]), (0.0, 200));
    // I, J, L, M
    assert_eq!(score(vec![f(100, "a"), layer().file("g", 100 * MB, "a")]), (1.0, 0));
    let moved =
        (0..10).fold(layer().gone("d").dir("e"), |l, n| l.file(&format!("e/f{n}"), 10 * MB, &format!("{n}")));
    assert_eq!(score(vec![big("d"), moved]), (1.0, 0));
    assert_eq!(score(vec![f(100, "a"), f(101, "b")]).1, 201);
    assert_eq!(score(vec![layer().file("d/a", 60 * MB, "a"), layer().gone("d")]), (1.0, 0));
    // A directory that a layer has no entry for is none any more: with a second sighting of the path it would be seen.
    let twice = |middle: Layer| {
        vec![big("d"), middle, layer().gone("d"), layer().file("d", MB, "d"), layer().gone("d")]
    };
    let with_entry = score(twice(layer().dir("d").file("d/new", MB, "n")));
    let without = score(twice(layer().file("d/new", MB, "n")));
    assert_eq!((with_entry.1, without.1), (102, 1));
}

#[test]
fn user_wasted_percent_as_dive_has_it() {
    let of = |layers| dive::score(&image(layers)).user_wasted;
    // G: ten thousand and a hundred percent; K: 0/0; L: 198 % with a little more in the layer.
    assert_eq!(of(vec![layer().file("f", 100 * MB, "a"), layer().file("f", MB, "b")]), 101.0);
    assert!(of(vec![big("d")]).is_nan());
    let l = of(vec![layer().file("f", 100 * MB, "a"), layer().file("f", 100 * MB, "b").file("g", MB, "g")]);
    assert_eq!((l * 100.0).round(), 198.0);
}

fn verdicts(image: &Image, rules: &Rules) -> Vec<(&'static str, bool)> {
    let gate = rules.check(image, &dive::score(image), None);
    let failed = gate.outcomes.iter().filter(|o| o.verdict != analyse::Verdict::Skip);
    failed.map(|o| (o.rule, o.verdict == analyse::Verdict::Pass)).collect()
}

#[test]
fn dives_rules_decide_as_dive_does() {
    let half = image(vec![layer().file("f", 100, "a"), layer().file("f", 100, "b")]);
    assert_eq!(
        verdicts(&half, &Rules::default()),
        [("highestUserWastedPercent", false), ("lowestEfficiency", false)]
    );
    let set = |pairs: &[(&str, &str)]| {
        let mut rules = Rules::default();
        pairs.iter().for_each(|(k, v)| rules.set(k, v).unwrap());
        rules
    };
    let lax = set(&[
        ("lowestEfficiency", "0.5"),
        ("highestWastedBytes", "200"),
        ("highestUserWastedPercent", "off"),
    ]);
    assert_eq!(
        verdicts(&half, &lax),
        [("highestWastedBytes", true), ("lowestEfficiency", true)],
        "equal passes"
    );
    let strict = set(&[
        ("lowestEfficiency", "off"),
        ("highestWastedBytes", "199"),
        ("highestUserWastedPercent", "off"),
    ]);
    assert_eq!(verdicts(&half, &strict), [("highestWastedBytes", false)]);
    // One layer: NaN passes.
    let one = image(vec![layer().file("f", 100, "a")]);
    assert!(verdicts(&one, &Rules::default()).iter().all(|(_, pass)| *pass));
}

#[test]
fn our_rules_count_what_they_say() {
    let mut i = image(vec![
        layer().file("base", 50, "b").file("etc/key.pem", 5, "k"),
        layer().file("f", 100, "a").gone("base"),
        layer().mode("f", 100, "a", 0o755).gone("etc/key.pem"),
    ]);
    i.set_base(Some(analyse::Base { name: None, layers: 1, source: analyse::BaseSource::Given }));
    let check = |pairs: &[(&str, &str)]| {
        let off = [("lowestEfficiency", "off"), ("highestUserWastedPercent", "off")];
        let mut rules = Rules::default();
        off.iter().chain(pairs).for_each(|(k, v)| rules.set(k, v).unwrap());
        verdicts(&i, &rules).into_iter().map(|(_, pass)| pass).collect::<Vec<_>>()
    };
    assert_eq!(check(&[("max-size", "255")]), [true]);
    assert_eq!(check(&[("max-size", "254")]), [false]);
    assert_eq!(check(&[("max-layer-size", "100")]), [true]);
    assert_eq!(check(&[("max-layer-size", "99")]), [false]);
    assert_eq!(check(&[("max-layers", "2")]), [false]);
    assert_eq!(check(&[("max-dead", "100")]), [true], "the base's 55 bytes are not yours");
    assert_eq!(check(&[("max-dead", "99")]), [false]);
    assert_eq!(check(&[("max-dead", "99"), ("allow", "/f")]), [true]);
    assert_eq!(check(&[("forbid", "*.pem")]), [false], "deleted later, and shipped all the same");
    assert_eq!(check(&[("forbid", "*.pem"), ("allow", "/etc")]), [true]);
    assert_eq!(check(&[("min-efficiency", "0.5")]), [false]);
    let rules = {
        let mut r = Rules::default();
        r.set("max-growth", "10").unwrap();
        r
    };
    let grown = |size| {
        let base = analyse::gate::Baseline { name: "before".into(), size };
        let gate = rules.check(&i, &dive::score(&i), Some(&base));
        gate.outcomes.iter().find(|o| o.rule == "max-growth").map(|o| o.verdict)
    };
    assert_eq!(grown(245), Some(analyse::Verdict::Pass));
    assert_eq!(grown(244), Some(analyse::Verdict::Fail));
}

#[test]
fn the_export_has_dives_fields() {
    let i = image(vec![
        layer().dir("d").mode("d/f", 7, "f", 0o4755).symlink("l", "d/f"),
        layer().gone("d/f").file("d/g", 5, "g"),
    ]);
    let json = serde_json::to_value(dive::export(&i, &dive::score(&i))).unwrap();
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["image", "layer"]);
    assert_eq!(keys(&json["image"]), ["efficiencyScore", "fileReference", "inefficientBytes", "sizeBytes"]);
    let first = &json["layer"][0];
    assert_eq!(keys(first), ["command", "digestId", "fileList", "id", "index", "sizeBytes"]);
    let files = first["fileList"].as_array().unwrap();
    let paths = |l: usize| -> Vec<&str> {
        json["layer"][l]["fileList"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect()
    };
    assert_eq!(paths(0), ["d/f", "d", "l"], "children first");
    assert_eq!(paths(1)[..2], ["d/.wh.f", "d/g"]);
    assert_eq!(keys(&files[0]), ["fileMode", "gid", "isDir", "linkName", "path", "size", "typeFlag", "uid"]);
    assert_eq!(files[0]["fileMode"], (1u32 << 23) | 0o755);
    assert_eq!(files[1]["fileMode"], (1u32 << 31) | 0o755);
    assert_eq!((files[0]["typeFlag"].as_u64(), files[2]["linkName"].as_str()), (Some(48), Some("d/f")));
    assert_eq!(
        json["image"]["fileReference"][0],
        serde_json::json!({"count": 2, "sizeBytes": 7, "file": "/d/f"})
    );
}
