//! The FUSE server: the input is what a kernel would say, message after message. Every reply fits into the server's buffer, has the
//! length and the number that it says, and an answer is given to everything that is no withdrawal.
//!
//! A message is a length byte, the request's number (one byte), the inode (one byte), and a body of that length.

#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use oci::content::MemoryContent;
use oci::index::{Attrs, Xattrs};
use oci::{Digest, Entry, Kind, LayerIndex, Tree};
use sandbox::Played;

const BUFFER: usize = Played::HEADER + (1 << 20);
/// FORGET, INTERRUPT, BATCH_FORGET: the kernel wants no answer.
const MUTE: [u8; 3] = [2, 36, 42];

fn tree() -> (Arc<Tree>, Arc<MemoryContent>) {
    let mut content = MemoryContent::default();
    let xattrs = vec![(b"user.a".to_vec(), vec![7; 300]), (b"user.empty".to_vec(), Vec::new())];
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        kind,
        attrs: Attrs {
            mode: 0o755,
            xattrs: if path.len() == 1 { xattrs.clone().into() } else { Xattrs::new() },
            ..Attrs::default()
        },
    };
    let file = |digest, size| Kind::File { size, digest };
    let mut entries = vec![
        entry("d", Kind::Directory { opaque: false }),
        entry("d/gone", file(Digest::of(b"nowhere"), 5)),
        entry("d/l", Kind::Symlink { target: b"f".to_vec() }),
        entry("d/long", Kind::Symlink { target: vec![b'x'; 4095] }),
        entry("d/p", Kind::Fifo),
        entry("d/n", Kind::CharDevice { major: 1, minor: 3 }),
        entry("f", file(content.add(b"12345"), 5)),
        // Shorter than its layer says.
        entry("short", file(content.add(b"123"), 1 << 40)),
        entry("big", file(content.add(&[9; 5000]), 5000)),
        entry("h", Kind::HardLink { target: b"big".to_vec() }),
    ];
    entries.extend((0..200).map(|n| entry(&format!("d/{n:0200}"), Kind::Directory { opaque: false })));
    let layer = LayerIndex::from_entries(entries).expect("a valid layer");
    (Arc::new(Tree::from_layers([&layer]).expect("a valid tree")), Arc::new(content))
}

struct Mount {
    played: Played,
    buffer: Vec<u8>,
    /// Inputs that it has had: what it writes down of them would fill the memory.
    inputs: usize,
}

thread_local! {
    static MOUNT: RefCell<Option<Mount>> = const { RefCell::new(None) };
}

fn ask(played: &Played, buffer: &mut [u8], message: &[u8]) {
    let Some(reply) = played.answer(message, buffer) else {
        assert!(message.len() < 40 || MUTE.iter().any(|m| u32::from(*m).to_ne_bytes() == message[4..8]));
        return;
    };
    let number = |at: usize| u32::from_ne_bytes(reply[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(number(0) as usize, reply.len());
    assert_eq!(reply[8..16], message[8..16]);
    let errno = -(number(4) as i32);
    assert!((0..=133).contains(&errno), "{errno}");
    assert!(errno == 0 || reply.len() == Played::HEADER);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    MOUNT.with_borrow_mut(|mount| {
        if mount.as_ref().is_none_or(|m| m.inputs > 1000) {
            let (tree, content) = tree();
            *mount = Some(Mount { played: Played::new(tree, content), buffer: vec![0; BUFFER], inputs: 0 });
        }
        let Some(Mount { played, buffer, inputs }) = mount else { return };
        *inputs += 1;
        // As it is: headers that are cut off, and all 2^32 numbers.
        ask(played, buffer, input);
        let mut rest = input;
        while let [length, opcode, node, more @ ..] = rest {
            let (body, next) = more.split_at((*length as usize).min(more.len()));
            rest = next;
            let mut message = Vec::with_capacity(40 + body.len());
            message.extend((40 + body.len() as u32).to_ne_bytes());
            message.extend(u32::from(*opcode).to_ne_bytes());
            message.extend(77u64.to_ne_bytes());
            message.extend(u64::from(*node).to_ne_bytes());
            message.extend([0; 16]);
            message.extend(body);
            ask(played, buffer, &message);
        }
    });
});
