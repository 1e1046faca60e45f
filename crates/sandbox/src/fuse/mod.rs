//! The FUSE server: shows a [`crate::view::View`] and writes down what was asked.
//!
//! The kernel keeps everything that it is told (entries, absences, attributes, listings, links, pages: nothing ever expires), so
//! each fact costs one message a mount, and the messages are the observations:
//!
//! | request | observation |
//! |---|---|
//! | LOOKUP, found | attributes of the inode |
//! | LOOKUP, not found, or found a stub | absence of the name |
//! | GETATTR, READLINK, GETXATTR, LISTXATTR | attributes |
//! | READDIR | listing and attributes of the directory |
//! | READ | content and attributes |
//! | OPEN, OPENDIR, ACCESS, FLUSH, STATX, LSEEK, IOCTL ... | none: answered "not implemented", the same for every tree |
//! | anything unknown | answered likewise, and the record is marked incomplete |

#[cfg(feature = "fuzz")]
pub(crate) mod played;
mod server;
mod wire;

pub(crate) use server::Server;

#[cfg(test)]
mod tests;
