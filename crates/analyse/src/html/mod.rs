//! An image as one page: a zoomable map of its bytes by directory and by layer, with waste in colour, its layers, findings and search.
//!
//! The page is one file that loads nothing: its content security policy forbids all requests and every script but its own, which it
//! names by digest. What it shows is data in a `<script type="application/json">` element, which browsers do not run. In it every `<`
//! is written as `\u003c`, so no name can end the element, and names are those of [`crate::names`], so none can end up as a control
//! character.
//!
//! # Data
//!
//! ```text
//! name, platform
//! total       {shipped, packed (null where there are no compressed forms), dead, efficiency, files, causes: bytes by cause}
//! causes      words for the causes, in the order of Cause::ALL; elsewhere a cause is its number from 1, and 0 is live and needed
//! layers      [{instruction, size, packed or null, dead, base}]
//! findings    [{title, advice, layer, base, bytes, files, cause, node}]  node: the path with most of it
//! names       the last component of every path, in the order of a walk (a directory, then its content); the first is the root
//! depths      how many directories each of them lies in
//! files       every file of every layer, sorted by path and layer, as four lists:
//!             nodes: numbers of paths, each as the difference to the one before; layers; sizes; causes
//! ```

use std::fmt::Write as _;

use oci::Digest;
use serde::Serialize;

use crate::account::{Cause, Class, Owner};
use crate::findings::Finding;
use crate::image::{EntryId, Image, NodeId, Packing};
use crate::names;
use crate::paths::ROOT;

const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[derive(Serialize)]
struct Data {
    name: String,
    platform: String,
    total: Total,
    causes: [&'static str; 6],
    layers: Vec<LayerData>,
    findings: Vec<FindingData>,
    names: Vec<String>,
    depths: Vec<u32>,
    files: Files,
}

#[derive(Serialize)]
struct Total {
    shipped: u64,
    packed: Option<u64>,
    dead: u64,
    efficiency: f64,
    files: u64,
    causes: Vec<u64>,
}

#[derive(Serialize)]
struct LayerData {
    instruction: String,
    size: u64,
    packed: Option<u64>,
    dead: u64,
    base: bool,
}

#[derive(Serialize)]
struct FindingData {
    title: String,
    advice: String,
    layer: usize,
    base: bool,
    bytes: u64,
    files: u64,
    cause: usize,
    node: u32,
}

#[derive(Serialize, Default)]
struct Files {
    nodes: Vec<u32>,
    layers: Vec<u32>,
    sizes: Vec<u64>,
    causes: Vec<u8>,
}

/// A cause in a word or two.
fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Overwritten => "overwritten later",
        Cause::Metadata => "only metadata changed",
        Cause::Deleted => "deleted later",
        Cause::Moved => "moved",
        Cause::Duplicate => "duplicate",
        Cause::Cruft => "not needed",
    }
}

fn number(cause: Cause) -> usize {
    Cause::ALL.iter().position(|c| *c == cause).unwrap_or(0) + 1
}

/// The page of an image with its findings.
pub fn page(image: &Image, findings: &[Finding]) -> String {
    let data = data(image, findings);
    // Numbers, texts and lists: nothing of it can fail to become JSON.
    let json = serde_json::to_string(&data).unwrap_or_else(|_| "null".to_owned()).replace('<', "\\u003c");
    let title = escaped(&data.name);
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        base64(Digest::of(SCRIPT.as_bytes()).as_bytes())
    );
    let mut out = String::with_capacity(json.len() + 64 * 1024);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title} - layercake</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{BODY}\
         <script type=\"application/json\" id=\"data\">"
    );
    out.push_str(&json);
    let _ = write!(out, "</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

fn data(image: &Image, findings: &[Finding]) -> Data {
    let accounts = image.accounts();
    let measured = image.layers.iter().any(|l| l.packing != Packing::Unpacked);
    let packed = |bytes: u64| measured.then_some(bytes);
    // All paths that something happened to, in the order of a walk.
    let mut numbers: Vec<u32> = vec![0; image.node_count()];
    let (mut all_names, mut depths) = (Vec::new(), Vec::new());
    let mut todo: Vec<(NodeId, u32)> = vec![(ROOT, 0)];
    while let Some((node, depth)) = todo.pop() {
        numbers[node.index()] = all_names.len() as u32;
        all_names.push(names::name(image.file_name(node)));
        depths.push(depth);
        todo.extend(image.children(node).iter().rev().map(|&c| (c, depth + 1)));
    }
    let mut entries: Vec<(u32, u32, u64, u8)> = Vec::new();
    for layer in 0..image.layers.len() {
        for (id, entry) in image.layer_entries(layer) {
            if entry.is_file() {
                let cause = accounts.charge(id).map_or(0, |c| number(c.cause) as u8);
                entries.push((numbers[entry.place.index()], layer as u32, entry.size, cause));
            }
        }
    }
    entries.sort_unstable();
    let mut files = Files::default();
    let mut before = 0;
    for (node, layer, size, cause) in entries {
        files.nodes.push(node - before);
        before = node;
        files.layers.push(layer);
        files.sizes.push(size);
        files.causes.push(cause);
    }
    let layers = image.layers.iter().map(|l| LayerData {
        instruction: names::line(&image.instruction(l.index)),
        size: l.size,
        packed: packed(l.packed),
        dead: accounts.layers.get(l.index).map_or(0, |a| a.class(Class::Dead).bytes),
        base: image.owner(l.index) == Owner::Base,
    });
    let place = |id: &EntryId| numbers[image.entry(*id).place.index()];
    let findings = findings.iter().map(|f| FindingData {
        title: names::line(&f.title),
        advice: names::line(&f.advice),
        layer: f.layer,
        base: f.owner == Owner::Base,
        bytes: f.sums.bytes,
        files: f.sums.files,
        cause: number(f.cause),
        node: f.files.first().map_or(0, place),
    });
    Data {
        name: names::line(&image.name),
        platform: names::line(&image.platform.to_string()),
        total: Total {
            shipped: accounts.total.shipped.bytes,
            packed: packed(image.layers.iter().map(|l| l.packed).sum()),
            dead: accounts.reclaimable().bytes,
            efficiency: accounts.efficiency(),
            files: accounts.total.shipped.files,
            causes: Cause::ALL.iter().map(|&c| accounts.total.cause(c).bytes).collect(),
        },
        causes: Cause::ALL.map(word),
        layers: layers.collect(),
        findings: findings.collect(),
        names: all_names,
        depths,
        files,
    }
}

/// Text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Base64 with padding, as content security policies have digests.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::index::{Attrs, Entry, Kind, LayerIndex};
    use std::sync::Arc;

    fn file(path: &[u8], size: u64) -> Entry {
        let kind = Kind::File { size, digest: Digest::of(&[path, &size.to_le_bytes()].concat()) };
        Entry { path: path.to_vec(), kind, attrs: Attrs::default() }
    }

    fn image(layers: Vec<Vec<Entry>>, name: &str) -> Image {
        let layers: Vec<Arc<LayerIndex>> =
            layers.into_iter().map(|l| Arc::new(LayerIndex::from_entries(l).unwrap())).collect();
        let config = serde_json::from_str(
            r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
                "history":[{"created_by":"RUN </script><b>\u001b[1m"}]}"#,
        )
        .unwrap();
        crate::load::indexes::load(name, config, &layers).unwrap()
    }

    fn json(page: &str) -> serde_json::Value {
        let start = page.find("id=\"data\">").unwrap() + 10;
        let end = start + page[start..].find("</script>").unwrap();
        serde_json::from_str(&page[start..end]).unwrap()
    }

    #[test]
    fn the_data_says_what_the_accounts_say() {
        let image = image(
            vec![
                vec![file(b"a/x", 100), file(b"a/y", 50), file(b"b", 7)],
                vec![file(b"a/x", 30), Entry::whiteout(b"b".to_vec())],
            ],
            "test",
        );
        let d = json(&page(&image, &crate::findings(&image)));
        assert_eq!(d["names"], serde_json::json!(["", "a", "x", "y", "b"]));
        assert_eq!(d["depths"], serde_json::json!([0, 1, 2, 2, 1]));
        assert_eq!(d["files"]["nodes"], serde_json::json!([2, 0, 1, 1]));
        assert_eq!(d["files"]["layers"], serde_json::json!([0, 1, 0, 0]));
        assert_eq!(
            d["files"]["sizes"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).sum::<u64>(),
            187
        );
        assert_eq!(d["total"]["shipped"], 187);
        assert_eq!(d["total"]["dead"], 107, "what the two findings say");
        let by_finding: u64 =
            d["findings"].as_array().unwrap().iter().map(|f| f["bytes"].as_u64().unwrap()).sum();
        assert_eq!(by_finding, 107);
        assert_eq!(d["layers"][0]["dead"], 107);
        assert_eq!(d["total"]["packed"], serde_json::Value::Null);
    }

    #[test]
    fn no_name_breaks_out() {
        let names: [&[u8]; 4] =
            [b"</script><script>alert(1)</script>", b"<!--", b"\x1b[2J\n\xff", "\u{2028}\u{202e}".as_bytes()];
        let image = image(
            vec![names.iter().map(|n| file(&n.replace_slash(), 1)).collect()],
            "</title><script>x</script>&\"",
        );
        let page = page(&image, &crate::findings(&image));
        assert_eq!(page.matches("<script").count(), 2, "the data and the script");
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<!--") && !page.contains('\u{1b}') && !page.contains('\u{2028}'));
        assert!(
            page.contains(
                "<title>&lt;/title&gt;&lt;script&gt;x&lt;/script&gt;&amp;&quot; - layercake</title>"
            )
        );
        let d = json(&page);
        let all: Vec<&str> = d["names"].as_array().unwrap().iter().filter_map(|n| n.as_str()).collect();
        assert!(all.contains(&"\\x1b[2J\\n\\xff") && all.contains(&"\\u{2028}\\u{202e}"), "{all:?}");
    }

    trait ReplaceSlash {
        fn replace_slash(&self) -> Vec<u8>;
    }
    impl ReplaceSlash for &[u8] {
        /// A name, not a path.
        fn replace_slash(&self) -> Vec<u8> {
            self.iter().map(|&b| if b == b'/' { b'\\' } else { b }).collect()
        }
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page(&image(vec![vec![]], "empty"), &[]);
        for word in ["http://", "https://", "src=", "@import", "url(", "fetch(", "innerHTML", "eval("] {
            assert!(!page.contains(word), "{word}");
        }
        let digest = base64(Digest::of(SCRIPT.as_bytes()).as_bytes());
        assert!(
            page.contains(&format!("script-src 'sha256-{digest}'"))
                && page.contains(&format!("<script>{SCRIPT}</script>"))
        );
        assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foo")], ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
