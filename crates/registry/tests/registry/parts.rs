//! Parts of blobs.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use registry::{Client, RegistryError};

use crate::fake::{Answer, Fake, Seen};
use crate::{Image, client, listening, options, ranged, reference};

fn part(client: &Client, host: &str, image: &Image, part: Range<u64>) -> Result<Vec<u8>, RegistryError> {
    let mut reader = client.blob_part(&reference(host, "a"), &image.layer_descriptor(), part)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out).map_err(|e| RegistryError::from_io(e).unwrap())?;
    Ok(out)
}

#[test]
fn a_part_is_what_was_asked_for() {
    let image = Image::new("amd64", 100_000);
    let served = image.clone();
    let fake = Fake::start(move |seen| served.answer(seen));
    for range in [0..1, 0..100_000, 5..6, 99_999..100_000, 1000..50_000] {
        let expected = &image.layer[range.start as usize..range.end as usize];
        assert_eq!(part(&client(), &fake.host, &image, range.clone()).unwrap(), expected, "{range:?}");
        let asked = fake.seen().pop().unwrap();
        let whole = range == (0..100_000);
        let header = (!whole).then(|| format!("bytes={}-{}", range.start, range.end - 1));
        assert_eq!(asked.header("range").map(str::to_owned), header);
    }
    // What is in no blob is not asked for.
    let before = fake.seen().len();
    for (start, end) in [(5, 5), (6, 5), (0, 100_001), (u64::MAX - 1, u64::MAX)] {
        assert!(part(&client(), &fake.host, &image, Range { start, end }).is_err(), "{start}..{end}");
    }
    assert_eq!(fake.seen().len(), before);
}

#[test]
fn a_part_goes_on_where_it_broke_off() {
    let image = Image::new("amd64", 100_000);
    let (served, count) = (image.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |seen| match seen.path().contains("/blobs/") {
        true if count.fetch_add(1, Ordering::SeqCst) == 0 => ranged(seen, &served.layer).cut(300),
        _ => served.answer(seen),
    });
    let (options, heard) = listening();
    let got = part(&Client::new(options).unwrap(), &fake.host, &image, 1000..2000).unwrap();
    assert_eq!(got, image.layer[1000..2000]);
    assert!(heard.lock().unwrap().contains(&"resume 1300".to_owned()));
    assert_eq!(fake.seen().pop().unwrap().header("range"), Some("bytes=1300-1999"));
}

#[test]
fn whoever_sends_something_else_is_told_from_whoever_sends_a_part() {
    let image = Image::new("amd64", 100_000);
    type Reply = fn(&Seen, &[u8]) -> Answer;
    let replies: [(&str, Reply); 7] = [
        ("does not send parts", |_, blob| Answer::new(200, blob)),
        ("another part", |_, blob| {
            Answer::new(206, &blob[10..20]).header("Content-Range", "bytes 11-20/100000")
        }),
        ("another part", |_, blob| {
            Answer::new(206, &blob[10..20]).header("Content-Range", "bytes 10-20/100000")
        }),
        ("another part", |_, blob| {
            Answer::new(206, &blob[10..20]).header("Content-Range", "bytes 10-19/99999")
        }),
        ("another part", |_, blob| Answer::new(206, &blob[10..20])),
        ("another part", |_, blob| {
            Answer::new(206, &blob[10..20]).header("Content-Range", "bytes 10-18446744073709551615/*")
        }),
        ("has 21 bytes", |_, blob| {
            Answer::new(206, &blob[10..21]).header("Content-Range", "bytes 10-19/100000")
        }),
    ];
    for (expected, reply) in replies {
        let served = image.clone();
        let fake = Fake::start(move |seen| match seen.path().contains("/blobs/") {
            true => reply(seen, &served.layer),
            false => served.answer(seen),
        });
        let told = part(&Client::new(options()).unwrap(), &fake.host, &image, 10..20).unwrap_err();
        assert!(told.to_string().contains(expected), "{told}");
    }
    // Without a length the end tells.
    let served = image.clone();
    let fake = Fake::start(move |seen| match seen.path().contains("/blobs/") {
        true => Answer::new(206, format!("b\r\n{}\r\n0\r\n\r\n", "x".repeat(11)))
            .header("Transfer-Encoding", "chunked")
            .header("Content-Range", "bytes 10-19/*"),
        false => served.answer(seen),
    });
    let told = part(&client(), &fake.host, &image, 10..20).unwrap_err();
    assert!(matches!(told, RegistryError::Size { expected: 20, got: 21, .. }), "{told:?}");
}
