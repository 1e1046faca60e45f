use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use oci::content::MemoryContent;
use oci::index::Attrs;
use oci::tar::write_layer;
use oci::types::{Descriptor, media};
use oci::{Content, Digest, Entry, Kind, LayerIndex, Time, Tree};
use registry::{Client, Options, Retry};
use serde_json::Value;
use store::Store;

use self::fake::{Answer, Fake, Seen};
use self::make::{CHUNKED, ESTARGZ, Edit, Form, Made};
use super::*;

#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../../registry/tests/registry/fake.rs"]
mod fake;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../../oci/tests/toc/make.rs"]
mod make;

const FORMS: [Form; 4] = [
    Form { chunk: 100_000, ..ESTARGZ },
    Form { chunk: 100_000, together: 4, ..ESTARGZ },
    Form { chunk: 100_000, ..CHUNKED },
    Form { chunk: 100_000, footer_only: true, ..CHUNKED },
];

/// Bytes that do not compress.
fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

/// The tar of a layer.
fn tar(entries: &[(&str, Kind)], content: &MemoryContent) -> Vec<u8> {
    let entry = |(n, (path, kind)): (usize, &(&str, Kind))| {
        let xattrs = match path.ends_with("xattr") {
            true => vec![(b"user.note".to_vec(), vec![n as u8, 0, 255])],
            false => Vec::new(),
        };
        let attrs = Attrs {
            mode: 0o751 | (n as u32 % 8) << 9,
            uid: 1000 + n as u32,
            gid: 5,
            mtime: Time::from_secs(1_600_000_000 + n as i64),
            xattrs: xattrs.into(),
        };
        Entry { path: path.as_bytes().to_vec(), kind: kind.clone(), attrs }
    };
    let index = LayerIndex::from_entries(entries.iter().enumerate().map(entry).collect()).unwrap();
    let mut tar = Vec::new();
    write_layer(&index, content, &mut tar).unwrap();
    tar
}

/// Two layers that have everything.
fn sample() -> (MemoryContent, [Vec<u8>; 2]) {
    let mut content = MemoryContent::default();
    let mut file = |bytes: &[u8]| Kind::File { size: bytes.len() as u64, digest: content.add(bytes) };
    let dir = |opaque| Kind::Directory { opaque };
    let holes = [noise(1, 150_000), vec![0; 1_400_000], noise(2, 50_000)].concat();
    let lower = [
        ("", dir(false)),
        ("a", dir(false)),
        ("a/empty", file(b"")),
        ("a/gone", file(b"gone")),
        ("a/hard", Kind::HardLink { target: b"a/small".into() }),
        ("a/holes", file(&holes)),
        ("a/large", file(&noise(3, 1_500_000))),
        ("a/small", file(b"small")),
        ("a/some-zeros", file(&[noise(4, 100_000), vec![0; 250_000]].concat())),
        ("a/xattr", file(&noise(5, 300_000))),
        ("a/zeros", file(&[0; 500_000])),
        ("opaque", dir(false)),
        ("opaque/hidden", file(b"hidden")),
        ("dev-null", Kind::CharDevice { major: 1, minor: 3 }),
        ("disk", Kind::BlockDevice { major: 8, minor: 260 }),
        ("pipe", Kind::Fifo),
        ("link", Kind::Symlink { target: b"a".into() }),
        ("link-xattr", Kind::Symlink { target: b"/nowhere".into() }),
    ];
    let upper = [
        ("a/gone", Kind::Whiteout),
        ("a/again", Kind::HardLink { target: b"a/large".into() }),
        ("a/small", file(b"another")),
        ("link/through", file(&noise(6, 2000))),
        ("opaque", dir(true)),
        ("opaque/new", file(b"small")),
    ];
    let tars = [tar(&lower, &content), tar(&upper, &content)];
    (content, tars)
}

/// A registry with one image, `HOST/image:latest`.
struct Served {
    fake: Fake,
}

/// How blobs are answered: what was asked, the blob, and what is right.
type Twist = dyn Fn(&Seen, &Made, Answer) -> Answer + Send + Sync;

impl Served {
    fn new(layers: Vec<Made>) -> Served {
        Served::twisted(layers, Box::new(|_, _, answer| answer))
    }

    fn twisted(layers: Vec<Made>, twist: Box<Twist>) -> Served {
        let (config, manifest) = make::documents(&layers);
        let blobs: HashMap<String, Made> =
            layers.iter().map(|l| (l.descriptor.digest.to_string(), l.clone())).collect();
        let fake = Fake::start(move |seen| {
            let name = seen.path().rsplit('/').next().unwrap();
            if seen.path().contains("/manifests/") {
                return Answer::new(200, manifest.clone()).header("Content-Type", media::MANIFEST);
            }
            match blobs.get(name) {
                Some(made) => twist(seen, made, part(seen, &made.blob)),
                None if name == Digest::of(&config).to_string() => Answer::new(200, config.clone()),
                None => Answer::new(if seen.path() == "/v2/" { 200 } else { 404 }, ""),
            }
        });
        Served { fake }
    }

    fn reference(&self) -> Reference {
        format!("{}/image:latest", self.fake.host).parse().unwrap()
    }

    /// Requests for blobs so far, with the parts.
    fn asked(&self) -> Vec<(String, Option<String>)> {
        let blobs = self.fake.seen().into_iter().filter(|s| s.path().contains("/blobs/"));
        blobs.map(|s| (s.path().to_owned(), s.header("range").map(str::to_owned))).collect()
    }

    /// Opens the image, and says what was told meanwhile.
    fn open(&self, store: &Store) -> (Option<LazyImage>, Vec<String>) {
        let told = Mutex::new(Vec::new());
        let hear = |text| told.lock().unwrap().push(text);
        let host = Platform::host();
        let image = open(store, &client(), &self.reference(), &host, &|_, _, _| {}, &hear).unwrap();
        (image, told.into_inner().unwrap())
    }

    fn pull(&self, store: &Store) -> Tree {
        let name = self.reference();
        let image = crate::bases::pull(store, &client(), "i", &name, &Platform::host(), &|_, _, _| {});
        crate::export::tree(store, &image.unwrap().layers).unwrap()
    }
}

/// A blob, or the part of it that was asked for.
fn part(seen: &Seen, blob: &[u8]) -> Answer {
    let Some(range) = seen.header("range").and_then(|r| r.strip_prefix("bytes=")) else {
        return Answer::new(200, blob);
    };
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse::<usize>().map_or(blob.len(), |l| l + 1);
    let said = format!("bytes {first}-{}/{}", end - 1, blob.len());
    Answer::new(206, &blob[first..end]).header("Content-Range", said)
}

fn client() -> Client {
    let ms = std::time::Duration::from_millis;
    let retry = Retry { attempts: 2, first_wait: ms(1), longest_wait: ms(2) };
    Client::new(Options { retry, cancel: Arc::new(AtomicBool::new(false)), ..Options::default() }).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn read(content: &dyn Content, entry: &Entry) -> std::io::Result<Vec<u8>> {
    let Kind::File { digest, .. } = &entry.kind else { panic!("{entry:?}") };
    content.read_all(digest, 1 << 30)
}

fn find(tree: &Tree, path: &str) -> Entry {
    tree.flatten().into_iter().find(|e| e.path == path.as_bytes()).unwrap()
}

#[test]
fn an_image_that_is_not_here_is_the_image_that_was_pulled() {
    let (_, tars) = sample();
    for form in FORMS {
        let served = Served::new(tars.iter().map(|t| make::layer(t, form)).collect());
        let (_whole_dir, whole) = store();
        let expected = served.pull(&whole);
        let (dir, lazy) = store();
        let (image, told) = served.open(&lazy);
        let LazyImage { tree, files, config, .. } = image.unwrap();
        assert_eq!((config.config.cmd, told.len()), (Some(vec!["sh".to_owned()]), 0));
        assert_eq!(tree.flatten(), expected.flatten(), "{form:?}");
        let content = files.content();
        // From the end, so that nothing follows what was fetched last.
        for entry in expected.flatten().iter().rev().filter(|e| matches!(e.kind, Kind::File { .. })) {
            assert_eq!(read(&*content, entry).unwrap(), read(&whole, entry).unwrap(), "{entry:?}");
        }
        files.keep().unwrap();
        assert!(content.open(&Digest::of(b"small")).is_err(), "it has ended");
        drop(lazy);
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "the store was let go");
        // The next time nothing comes but the tables.
        let lazy = Store::open(dir.path()).unwrap();
        assert!(lazy.verify(false, &|_, _| true).unwrap().findings.is_empty());
        let (image, _) = served.open(&lazy);
        let before = served.asked().len();
        let content = image.as_ref().unwrap().files.content();
        for entry in expected.flatten().iter().filter(|e| matches!(e.kind, Kind::File { .. })) {
            assert_eq!(read(&*content, entry).unwrap(), read(&whole, entry).unwrap(), "{entry:?}");
        }
        assert_eq!(served.asked().len(), before);
    }
}

#[test]
fn what_cannot_be_left_there_is_pulled_and_the_rest_is_not() {
    let (_, tars) = sample();
    let plain = |tar: &[u8]| {
        let mut made = make::layer(tar, ESTARGZ);
        made.descriptor.annotations.clear();
        made
    };
    let (_whole_dir, whole) = store();
    let expected = Served::new(vec![make::layer(&tars[0], CHUNKED), plain(&tars[1])]).pull(&whole).flatten();

    // The upper layer has no table.
    let served = Served::new(vec![make::layer(&tars[0], CHUNKED), plain(&tars[1])]);
    let (_dir, mixed) = store();
    let (image, told) = served.open(&mixed);
    assert_eq!(image.as_ref().unwrap().tree.flatten(), expected);
    assert!(told.is_empty(), "nobody promised a table: {told:?}");
    let content = image.as_ref().unwrap().files.content();
    for path in ["a/small", "a/again"] {
        let entry = find(&image.as_ref().unwrap().tree, path);
        assert_eq!(read(&*content, &entry).unwrap(), read(&whole, &entry).unwrap());
    }
    // That layer is in the store now. The other one is taken from there, too, when it was pulled.
    let before = served.asked().len();
    let (again, _) = served.open(&mixed);
    let asked: Vec<_> = served.asked().split_off(before);
    assert!(
        again.is_some() && asked.iter().all(|(_, range)| range.is_some() || asked.len() == 2),
        "{asked:?}"
    );
    drop((image, again, content));
    served.pull(&mixed);
    assert!(served.open(&mixed).0.is_none(), "all of it is there");

    // No layer has one: a pull like any other.
    let served = Served::new(vec![plain(&tars[0]), plain(&tars[1])]);
    let (_dir, none) = store();
    assert!(served.open(&none).0.is_none());
    assert_eq!(served.asked().len(), 1, "the config");
}

#[test]
fn a_table_that_cannot_be_used_is_told_and_the_layer_pulled() {
    let (_, [tar, _]) = sample();
    let liar = |edit: Edit<'_>| Served::new(vec![make::edited(&tar, CHUNKED, edit)]);
    let mut wrong = make::layer(&tar, CHUNKED);
    let key = "io.github.containers.zstd-chunked.manifest-checksum";
    wrong.descriptor.annotations.insert(key.into(), Digest::of(b"another").to_string());
    let whole_only = |_: &Seen, made: &Made, _: Answer| Answer::new(200, made.blob.clone());
    let cases = [
        ("has digest", Served::new(vec![wrong])),
        (
            "its chunks are not the file",
            liar(&|t: &mut Value| {
                let entries = t["entries"].as_array_mut().unwrap();
                let large = entries.iter_mut().find(|e| e["name"] == "a/large").unwrap();
                large["size"] = 77.into();
            }),
        ),
        (
            "outside of the blob",
            liar(&|t: &mut Value| {
                let entries = t["entries"].as_array_mut().unwrap();
                entries
                    .iter_mut()
                    .filter(|e| e["name"] == "a/large")
                    .for_each(|e| e["offset"] = (1u64 << 40).into());
            }),
        ),
        ("does not send parts", Served::twisted(vec![make::layer(&tar, CHUNKED)], Box::new(whole_only))),
    ];
    let (_whole_dir, whole) = store();
    let expected = Served::new(vec![make::layer(&tar, CHUNKED)]).pull(&whole).flatten();
    for (why, served) in cases {
        let (_dir, store) = store();
        let (image, told) = served.open(&store);
        assert!(image.is_none(), "nothing of it is left there: {why}");
        assert!(told.len() == 1 && told[0].contains(why) && told[0].contains("as a whole"), "{told:?}");
        assert_eq!(served.pull(&store).flatten(), expected);
        assert_eq!(
            served.asked().iter().filter(|(_, range)| range.is_none()).count(),
            3,
            "the config twice, the layer"
        );
    }
}

/// What was asked for, and how often.
type Log = Arc<Mutex<Vec<Range<u64>>>>;
/// Gives a part of a blob.
type Serve = dyn Fn(&[u8], Range<u64>) -> io::Result<Box<dyn Read>> + Send + Sync;

fn right(blob: &[u8], part: Range<u64>) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(Cursor::new(blob[part.start as usize..part.end as usize].to_vec())))
}

/// The contents of one layer, and its files.
fn lazy(store: &Store, made: &Made, serve: Box<Serve>) -> (Lazy, Tree, Log) {
    let announced = Announced::of(&made.descriptor).unwrap();
    let get =
        &mut |part: Range<u64>| Ok::<_, TocError>(made.blob[part.start as usize..part.end as usize].to_vec());
    let toc = announced.read(get).unwrap();
    let tree = Tree::from_layers([&toc.index]).unwrap();
    let (log, blob) = (Log::default(), made.blob.clone());
    let noted = log.clone();
    let parts = Box::new(move |_: &Descriptor, part: Range<u64>| {
        noted.lock().unwrap().push(part.clone());
        serve(&blob, part)
    });
    (Lazy::new(store, vec![(made.descriptor.clone(), toc)], parts).unwrap(), tree, log)
}

#[test]
fn neighbours_come_together_and_nothing_comes_twice() {
    let mut content = MemoryContent::default();
    let names: Vec<String> = (0..600).map(|n| format!("f{n:03}")).collect();
    let files: Vec<(&str, Kind)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (&**name, Kind::File { size: 9000, digest: content.add(&noise(n as u32, 9000)) }))
        .collect();
    for form in FORMS {
        let made = make::layer(&tar(&files, &content), form);
        let (_dir, store) = store();
        let (files, tree, log) = lazy(&store, &made, Box::new(right));
        let lent = files.content();
        let all: Vec<Entry> = tree.flatten().into_iter().filter(|e| e.path.starts_with(b"f")).collect();
        // One in the middle, some behind it, then all.
        for entry in all[300..340].iter().chain(&all) {
            assert_eq!(read(&*lent, entry).unwrap(), read(&content, entry).unwrap());
        }
        let asked = log.lock().unwrap().clone();
        let bytes: u64 = asked.iter().map(|r| r.end - r.start).sum();
        assert!(asked.len() <= 12, "{form:?}: {asked:?}");
        assert!(asked.iter().all(|r| r.end - r.start <= 4 << 20), "{form:?}: {asked:?}");
        assert!(asked[0].end - asked[0].start <= 512 << 10, "{form:?}: {asked:?}");
        let most = made.blob.len() as u64 * if form.together > 1 { 110 } else { 100 } / 100;
        assert!(bytes <= most && bytes > 5_000_000, "{form:?}: {bytes} of {}", made.blob.len());
        assert_eq!(files.fetched(), bytes);
    }
}

#[test]
fn of_a_large_file_comes_what_is_read() {
    let mut content = MemoryContent::default();
    let bytes = noise(9, 20_000_000);
    let file = Kind::File { size: bytes.len() as u64, digest: content.add(&bytes) };
    for form in FORMS {
        let made = make::layer(&tar(&[("file", file.clone()), ("other", file.clone())], &content), form);
        let (dir, store) = store();
        let (files, tree, log) = lazy(&store, &made, Box::new(right));
        let Kind::File { digest, .. } = find(&tree, "other").kind else { panic!() };
        let open = files.content().open(&digest).unwrap();
        let mut buf = vec![0; 70_000];
        let at = |offset: u64, buf: &mut [u8]| {
            let n = open.read_at(buf, offset).unwrap();
            assert!(n > 0 && buf[..n] == bytes[offset as usize..offset as usize + n]);
        };
        for offset in [15_000_000, 15_070_000, 3, 19_999_999] {
            at(offset, &mut buf);
        }
        assert_eq!(open.read_at(&mut buf, 20_000_000).unwrap(), 0);
        let asked: u64 = log.lock().unwrap().iter().map(|r| r.end - r.start).sum();
        assert!(asked < 4_000_000, "{form:?}: {asked}");
        assert!(!store.has_object(&digest).unwrap());
        // From the front to the end: what follows comes in ever larger parts, and then it is an object.
        let before = log.lock().unwrap().len();
        let mut offset = 0;
        while offset < bytes.len() as u64 {
            at(offset, &mut buf);
            offset += 50_000;
        }
        let requests = log.lock().unwrap().len() - before;
        assert!((4..20).contains(&requests), "{form:?}: {requests}");
        assert!(store.has_object(&digest).unwrap());
        assert_eq!(files.content().read_all(&digest, 1 << 30).unwrap(), bytes);
        at(7, &mut buf);
        files.keep().unwrap();
        drop((open, store));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.read_all(&digest, 1 << 30).unwrap(), bytes);
    }
}

#[test]
fn bytes_that_are_not_those_of_the_table_are_given_to_nobody() {
    let (content, [tar, _]) = sample();
    let digest = |path: &str, tree: &Tree| match find(tree, path).kind {
        Kind::File { digest, .. } => digest,
        other => panic!("{other:?}"),
    };
    for form in FORMS {
        let made = make::layer(&tar, form);
        let toc = Announced::of(&made.descriptor).unwrap();
        let blob = made.blob.clone();
        let toc = toc
            .read(&mut |p: Range<u64>| Ok::<_, TocError>(blob[p.start as usize..p.end as usize].to_vec()))
            .unwrap();
        for path in ["a/hard", "a/large", "a/some-zeros"] {
            let listed = toc.contents.iter().find(|c| c.path == path.as_bytes()).unwrap();
            let last = listed.chunks.iter().rev().find_map(|c| c.piece).unwrap();
            let frame = toc.frames[toc.pieces[last].frame].clone();
            // Other bytes that are compressed rightly, damaged ones, and none.
            let piece = toc.pieces[last];
            let size = toc.contents[piece.content].chunks[piece.chunk].size as usize;
            let replaced: Vec<u8> = make::pack(&noise(77, size), form.zstd);
            let cut = frame.start + 5;
            let serves: [Box<Serve>; 4] = [
                Box::new({
                    let frame = frame.clone();
                    move |blob, part| {
                        let mut blob = blob.to_vec();
                        let n = replaced.len().min(blob.len() - frame.start as usize);
                        blob[frame.start as usize..][..n].copy_from_slice(&replaced[..n]);
                        right(&blob, part)
                    }
                }),
                Box::new({
                    let frame = frame.clone();
                    move |blob, part| {
                        let mut blob = blob.to_vec();
                        blob[(frame.start + (frame.end - frame.start) / 2) as usize] ^= 0x40;
                        right(&blob, part)
                    }
                }),
                Box::new({
                    let frame = frame.clone();
                    move |blob, part| {
                        let mut blob = blob.to_vec();
                        blob[frame.start as usize..frame.end as usize].fill(0);
                        right(&blob, part)
                    }
                }),
                // The server dies in the middle.
                Box::new(move |blob, part| {
                    let good = part.end.min(cut).max(part.start);
                    let begin = right(blob, part.start..good)?;
                    match good < part.end {
                        true => Ok(Box::new(begin.chain(Broken))),
                        false => Ok(begin),
                    }
                }),
            ];
            for (n, serve) in serves.into_iter().enumerate() {
                let (_dir, store) = store();
                let (files, tree, _) = lazy(&store, &made, serve);
                let lent = files.content();
                let wanted = digest(path, &tree);
                // In the middle of a frame a flipped bit may lie behind what is needed of it.
                let got = lent.read_all(&wanted, 1 << 30);
                let told = match got {
                    Ok(bytes) if n == 1 => {
                        assert_eq!(Digest::of(&bytes), wanted);
                        continue;
                    }
                    got => got.unwrap_err().to_string(),
                };
                assert!(told.starts_with(&format!("/{path} of layer ")), "{form:?} {n}: {told}");
                let exact = n == 0 && path != "a/some-zeros" && form.together == 1;
                assert!(!exact || told.contains("have digest"), "{form:?}: {told}");
                assert!(!store.has_object(&wanted).unwrap(), "{form:?} {n}");
                assert!(
                    lent.read_all(&wanted, 1 << 30).is_err(),
                    "{form:?} {n}: not at the second time either"
                );
                // Those before it are fine, and are kept, unless they are in the same frame.
                let fine = digest("a/gone", &tree);
                let apart = form.together == 1;
                if apart {
                    let right = content.read_all(&fine, 1 << 30).unwrap();
                    assert_eq!(lent.read_all(&fine, 1 << 30).unwrap(), right);
                }
                files.keep().unwrap();
                store.flush().unwrap();
                assert!(store.has_object(&fine).unwrap() || !apart);
                assert!(store.verify(false, &|_, _| true).unwrap().findings.is_empty());
            }
        }
    }
}

/// A connection that breaks.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn chunks_that_are_right_do_not_make_a_wrong_file_right() {
    let mut content = MemoryContent::default();
    for size in [300_000, 3_000_000] {
        let bytes = noise(3, size);
        let file = Kind::File { size: bytes.len() as u64, digest: content.add(&bytes) };
        let lie = Digest::of(b"a lie");
        let edit = |t: &mut Value| {
            let entries = t["entries"].as_array_mut().unwrap();
            entries.iter_mut().find(|e| e["name"] == "file").unwrap()["digest"] = lie.to_string().into();
        };
        for form in [FORMS[0], FORMS[2]] {
            let made = make::edited(&tar(&[("file", file.clone())], &content), form, &edit);
            let (_dir, store) = store();
            let (files, _, _) = lazy(&store, &made, Box::new(right));
            for _ in 0..2 {
                let told = files.content().read_all(&lie, 1 << 30).unwrap_err().to_string();
                assert!(told.starts_with("/file of layer ") && told.contains(&lie.to_string()), "{told}");
            }
            assert!(!store.has_object(&lie).unwrap());
        }
    }
}

#[test]
fn what_was_wrong_once_may_come_right_later() {
    let (content, [tar, _]) = sample();
    let made = make::layer(&tar, FORMS[2]);
    let (_dir, store) = store();
    let broken = AtomicUsize::new(0);
    let serve = move |blob: &[u8], part: Range<u64>| match broken.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(Box::new(Broken) as Box<dyn Read>),
        1 => Err(io::ErrorKind::TimedOut.into()),
        _ => right(blob, part),
    };
    let (files, tree, log) = lazy(&store, &made, Box::new(serve));
    let entry = find(&tree, "a/large");
    let lent = files.content();
    assert!(read(&*lent, &entry).is_err() && read(&*lent, &entry).is_err());
    assert_eq!(read(&*lent, &entry).unwrap(), read(&content, &entry).unwrap());
    assert!(log.lock().unwrap().len() > 2);
}
