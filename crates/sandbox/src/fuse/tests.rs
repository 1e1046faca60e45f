use std::sync::Arc;

use oci::content::MemoryContent;
use oci::index::Attrs;
use oci::tree::ROOT;
use oci::{Digest, Entry, Kind, Tree};

use super::server::Server;
use super::wire::op;
use crate::seen::Bits;
use crate::view::{Stub, View};

/// A server of `/dir` with `f` (5 bytes), `l` -> `f`, and the stub `stub`.
fn server() -> Server {
    let mut content = MemoryContent::default();
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        kind,
        attrs: Attrs { mode: 0o755, ..Attrs::default() },
    };
    // No layer may hold the last one; a tree may.
    let tree = Tree::from_sorted(vec![
        entry("dir", Kind::Directory { opaque: false }),
        entry("dir/f", Kind::File { size: 5, digest: content.add(b"12345") }),
        entry("dir/gone", Kind::File { size: 5, digest: Digest::of(b"nowhere") }),
        entry("dir/l", Kind::Symlink { target: b"f".to_vec() }),
        entry("dir/long", Kind::Symlink { target: vec![b'x'; 5000] }),
    ])
    .unwrap();
    let mut view = View::new(Arc::new(tree), Arc::new(content), ROOT);
    view.add_stub(1, b"stub", Stub::File);
    Server::new(view, 1)
}

/// A request as the kernel writes it.
fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend((40 + body.len() as u32).to_ne_bytes());
    message.extend(opcode.to_ne_bytes());
    message.extend(77u64.to_ne_bytes());
    message.extend(node.to_ne_bytes());
    message.extend([0; 16]);
    message.extend(body);
    message
}

/// The error number and the body of the reply.
fn ask(server: &Server, opcode: u32, node: u64, body: &[u8]) -> (i32, Vec<u8>) {
    let mut out = vec![0; 1 << 17];
    let reply = server.answer_bytes(&request(opcode, node, body), &mut out).expect("a reply");
    assert_eq!(u32::from_ne_bytes(reply[..4].try_into().unwrap()) as usize, reply.len());
    assert_eq!(u64::from_ne_bytes(reply[8..16].try_into().unwrap()), 77);
    (-i32::from_ne_bytes(reply[4..8].try_into().unwrap()), reply[16..].to_vec())
}

fn u64_at(body: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(body[at..at + 8].try_into().unwrap())
}

/// fuse_read_in.
fn read_in(offset: u64, size: u32) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(offset.to_ne_bytes());
    body.extend(size.to_ne_bytes());
    body.resize(40, 0);
    body
}

#[test]
fn the_kernel_is_told_to_keep_everything() {
    let s = server();
    let mut init = Vec::new();
    for n in [7u32, 45, 1 << 17, u32::MAX, u32::MAX] {
        init.extend(n.to_ne_bytes());
    }
    init.resize(64, 0);
    let (errno, body) = ask(&s, op::INIT, 0, &init);
    assert_eq!((errno, body.len()), (0, 64));
    assert_eq!(body[..8], [7, 0, 0, 0, 41, 0, 0, 0]);
    let flags = u32::from_ne_bytes(body[12..16].try_into().unwrap());
    // No READDIRPLUS (13), no writeback (16), no passthrough.
    assert_eq!(flags, 1 | 1 << 5 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 24);
    let (_, entry) = ask(&s, op::LOOKUP, 1, b"dir\0");
    assert_eq!(entry.len(), 128);
    assert_eq!((u64_at(&entry, 0), u64_at(&entry, 16), u64_at(&entry, 24)), (2, 1 << 30, 1 << 30));
    let (errno, absent) = ask(&s, op::LOOKUP, 1, b"none\0");
    assert_eq!((errno, absent.len(), u64_at(&absent, 0), u64_at(&absent, 16)), (0, 128, 0, 1 << 30));
    for opcode in [op::OPEN, op::OPENDIR, op::STATX, op::IOCTL, op::GETXATTR] {
        assert_eq!(ask(&s, opcode, 1, &[0; 64]).0, libc::ENOSYS);
    }
    assert!(s.answer_bytes(&request(op::FORGET, 2, &[0; 8]), &mut [0; 64]).is_none());
    assert_eq!(s.seen().incomplete, None);
}

#[test]
fn reads_stay_inside_the_file() {
    let s = server();
    let (_, f) = ask(&s, op::LOOKUP, 2, b"f\0");
    let f = u64_at(&f, 0);
    assert_eq!(ask(&s, op::READ, f, &read_in(0, 4096)), (0, b"12345".to_vec()));
    assert_eq!(ask(&s, op::READ, f, &read_in(3, 1)), (0, b"4".to_vec()));
    assert_eq!(ask(&s, op::READ, f, &read_in(5, 4096)), (0, Vec::new()));
    assert_eq!(ask(&s, op::READ, f, &read_in(u64::MAX, u32::MAX)), (0, Vec::new()));
    assert!(s.failure().is_ok());
    let (_, gone) = ask(&s, op::LOOKUP, 2, b"gone\0");
    assert_eq!(ask(&s, op::READ, u64_at(&gone, 0), &read_in(0, 10)).0, libc::EIO);
    assert_eq!(s.failure().unwrap_err().path, b"dir/gone");
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let s = server();
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let (errno, body) = ask(&s, op::READDIR, 2, &read_in(offset, 70));
        assert_eq!(errno, 0);
        assert!(body.len() <= 70);
        if body.is_empty() {
            break;
        }
        let mut at = 0;
        while at < body.len() {
            let len = u32::from_ne_bytes(body[at + 16..at + 20].try_into().unwrap()) as usize;
            offset = u64_at(&body, at + 8);
            names.push(String::from_utf8(body[at + 24..at + 24 + len].to_vec()).unwrap());
            at += (24 + len).next_multiple_of(8);
        }
    }
    assert_eq!(names, [".", "..", "f", "gone", "l", "long", "stub"]);
    assert_eq!(ask(&s, op::READDIR, 2, &read_in(u64::MAX, 4096)).1, b"");
    assert_eq!(ask(&s, op::READDIR, 3, &read_in(0, 4096)).0, libc::ENOTDIR);
    let seen = s.seen();
    assert_eq!(
        seen.inodes,
        [(ROOT, Bits::ATTR), (1, Bits::ATTR | Bits::LIST)],
        "none of those that are listed"
    );
}

#[test]
fn a_stub_is_the_absence_of_a_name() {
    let s = server();
    let (_, stub) = ask(&s, op::LOOKUP, 2, b"stub\0");
    let node = u64_at(&stub, 0);
    assert_ne!(node, 0);
    assert_eq!(ask(&s, op::GETATTR, node, &[0; 16]).0, 0);
    assert_eq!(ask(&s, op::READ, node, &read_in(0, 10)), (0, Vec::new()));
    let seen = s.seen();
    assert_eq!((seen.inodes, seen.absent), (vec![(ROOT, Bits::ATTR)], vec![(1, b"stub".to_vec())]));
}

#[test]
fn what_is_not_understood_spoils_the_record_and_nothing_else() {
    let broken: [(u32, u64, &[u8], i32); 8] = [
        (op::LOOKUP, 1, b"no end", libc::EIO),
        (op::LOOKUP, 99, b"x\0", libc::EIO),
        (op::GETATTR, 0, b"", libc::EIO),
        (op::GETATTR, u64::MAX, b"", libc::EIO),
        (op::READ, 3, b"short", libc::EIO),
        (op::READDIR, 2, b"", libc::EIO),
        (op::LISTXATTR, 2, b"", libc::EIO),
        (4242, 2, b"", libc::ENOSYS),
    ];
    for (opcode, node, body, errno) in broken {
        let s = server();
        assert_eq!(ask(&s, opcode, node, body).0, errno, "{opcode} {node}");
        assert!(s.seen().incomplete.is_some(), "{opcode} {node}");
    }
    let s = server();
    assert!(s.answer_bytes(b"cut off", &mut [0; 64]).is_none());
    assert!(s.seen().incomplete.is_some());
    let s = server();
    assert_eq!(ask(&s, op::LOOKUP, 2, b"long\0").0, 0);
    assert_eq!(ask(&s, op::READLINK, 6, b"").0, libc::ENAMETOOLONG);
    assert_eq!(ask(&s, op::READLINK, 3, b"").0, libc::EINVAL);
    assert_eq!(ask(&s, 16, 2, &[0; 40]).0, libc::EROFS);
    assert_eq!(s.seen().incomplete, None);
}
