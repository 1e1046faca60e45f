//! The socket between the parent and the step's first processes: one packet is one message, in JSON, with at most one file.
//!
//! Parent to child: the plan (its length, then as many packets as it needs; standard input may come with the length), then
//! [`Order`]s. Child to parent: [`Report`]s. The end of the parent's side is the order to kill the step, so that nothing runs on
//! when the parent is gone.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::error::Stage;

/// Longest packet: well below the default limit of a socket's buffer (208 KiB).
const PACKET: usize = 64 << 10;
/// Longest report.
pub(crate) const REPORT: usize = 16 << 10;

/// From the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The FUSE device of the next view comes with this.
    View,
    /// Our end of the terminal comes with this.
    Pty,
    /// A control group could not be joined.
    NoGroup { path: String, errno: i32 },
    /// The command is executed now.
    Execute,
    /// The step cannot go on.
    Failed(Failure),
    /// The command cannot be executed; the step ends.
    NoCommand { why: String, code: i32 },
    /// The step's first process has ended, so all have. Times are in microseconds.
    Ended { status: i32, user: u64, system: u64, max_rss: u64 },
}

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) what: String,
    pub(crate) errno: i32,
}

/// To the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// A signal for the step's first process.
    Signal(i32),
}

/// Two connected sockets, both closed on exec.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn send_packet(socket: impl AsFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files: &[BorrowedFd<'_>] = file.as_slice();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    // A peer that is gone is an error, not a signal.
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// One packet; of length 0 at the end of the stream.
fn receive_packet(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            file = files.next();
        }
    }
    Ok((got.bytes, file))
}

/// Sends one message.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    file: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    send_packet(socket, &bytes, file)
}

/// The next message; `None` at the end of the stream.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
    socket: impl AsFd,
) -> Result<Option<(T, Option<OwnedFd>)>, Errno> {
    let mut buffer = [0u8; REPORT];
    let (n, file) = receive_packet(socket, &mut buffer)?;
    if n == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..n]).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, file)))
}

/// Sends something of any length.
pub(crate) fn send_long(
    socket: impl AsFd,
    message: &impl Serialize,
    file: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    send_packet(&socket, &(bytes.len() as u64).to_ne_bytes(), file)?;
    for packet in bytes.chunks(PACKET) {
        send_packet(&socket, packet, None)?;
    }
    Ok(())
}

/// Receives what [`send_long`] sent.
pub(crate) fn receive_long<T: for<'de> Deserialize<'de>>(
    socket: impl AsFd,
) -> Result<(T, Option<OwnedFd>), Errno> {
    let mut head = [0u8; 8];
    let (n, file) = receive_packet(&socket, &mut head)?;
    if n != head.len() {
        return Err(Errno::BADMSG);
    }
    let len = usize::try_from(u64::from_ne_bytes(head)).map_err(|_| Errno::BADMSG)?;
    let mut bytes = Vec::new();
    let mut packet = vec![0u8; PACKET];
    while bytes.len() < len {
        match receive_packet(&socket, &mut packet)? {
            (0, _) => return Err(Errno::PIPE),
            (n, _) => bytes.extend_from_slice(&packet[..n]),
        }
    }
    Ok((serde_json::from_slice(&bytes).map_err(|_| Errno::BADMSG)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_arrive_with_their_file() {
        let (a, b) = pair().unwrap();
        let long: Vec<String> = (0..40_000).map(|n| format!("value {n}")).collect();
        let sent = long.clone();
        let sender = std::thread::spawn(move || {
            let null = std::fs::File::open("/dev/null").unwrap();
            send_long(&a, &sent, Some(null.as_fd())).unwrap();
            send(&a, &Report::Execute, None).unwrap();
        });
        let (got, file): (Vec<String>, _) = receive_long(&b).unwrap();
        assert_eq!(got, long);
        assert!(file.is_some());
        assert!(matches!(receive::<Report>(&b), Ok(Some((Report::Execute, None)))));
        sender.join().unwrap();
        assert!(matches!(receive::<Report>(&b), Ok(None)), "the other side is closed");
    }
}
