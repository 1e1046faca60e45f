//! A mount whose kernel is played by a program: the fuzz target.

use std::sync::Arc;

use oci::tree::ROOT;
use oci::{Content, Tree};

use super::server::Server;
use super::wire::OUT_HEADER;
use crate::seen::Seen;
use crate::view::{Stub, View};

/// A server of a tree and one stub, without a device.
#[derive(Debug)]
pub struct Played(Server);

impl Played {
    /// Serves a tree; its root shows a file `stub`, too.
    pub fn new(tree: Arc<Tree>, content: Arc<dyn Content>) -> Played {
        let mut view = View::new(tree, content, ROOT);
        view.add_stub(ROOT, b"stub", Stub::File);
        Played(Server::new(view, 1))
    }

    /// Bytes that a reply may need, beside those that were asked for.
    pub const HEADER: usize = OUT_HEADER;

    /// The reply to one message of the kernel, in a buffer as long as the server's own (1 MiB and [`Played::HEADER`]).
    pub fn answer<'b>(&self, message: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        self.0.answer_bytes(message, buffer)
    }

    /// What was asked so far.
    pub fn seen(&self) -> Seen {
        self.0.seen()
    }
}
