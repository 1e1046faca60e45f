//! Histories that do not have one entry for each layer.

use oci::types::{History, ImageConfig};

use super::pad_history;

/// Pads a history (`x` has a layer, `-x` has none) for these titles; the result in the same form.
fn padded(history: &[&str], titles: &[&str]) -> Vec<String> {
    let entries = history.iter().map(|h| History {
        created_by: Some(h.trim_start_matches('-').into()),
        empty_layer: h.starts_with('-'),
        ..History::default()
    });
    let mut config = ImageConfig { history: entries.collect(), ..ImageConfig::default() };
    let titles: Vec<String> = titles.iter().map(|t| (*t).to_owned()).collect();
    pad_history(&mut config, &titles, "now");
    let layers = config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layers, titles.len(), "one entry for each layer");
    let text = |h: &History| {
        format!("{}{}", if h.empty_layer { "-" } else { "" }, h.created_by.as_deref().unwrap_or("?"))
    };
    config.history.iter().map(text).collect()
}

#[test]
fn every_layer_has_one_entry() {
    assert_eq!(padded(&["a", "-e", "b"], &["", "RUN b"]), ["a", "-e", "b"]);
    // A base without a history: what is known of the last layers is added at the end.
    assert_eq!(padded(&["b"], &["", "RUN b"]), ["b", "RUN b"]);
    assert_eq!(padded(&[], &["", ""]), ["?", "?"]);
    // More entries than layers: the last ones have none.
    assert_eq!(padded(&["a", "b", "-e", "c"], &["x"]), ["a", "-b", "-e", "-c"]);
}
