//! File systems without FUSE: real directories, made from indexes and objects.
//!
//! A layer becomes a directory that overlayfs takes as one of several lower ones ([`write_layer`]); a whole tree becomes a plain
//! directory ([`write_tree`]). What cannot be made without the right to do so has a stand-in:
//!
//! | in the index | in a user namespace |
//! |---|---|
//! | device node | an empty file without any permission |
//! | owner that is not mapped | root |
//! | extended attribute that is refused (`trusted.*`, lists with users that are not mapped) | left out |
//!
//! Where overlayfs is refused, too, a step runs on a copy of its whole tree, and [`condense`] makes of it what overlayfs would have
//! left in an upper directory.

mod condense;
mod write;

pub(crate) use condense::{Baseline, condense};
pub use write::{FilesError, is_plain, write_layer, write_tree};
pub(crate) use write::{write_stubs, write_view};
