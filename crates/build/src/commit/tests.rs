//! Layers of real overlay mounts: what a step did to a file system, and what its layer says.

mod changes;
mod kit;
mod random;
