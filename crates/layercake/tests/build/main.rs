//! `layercake build`, as users run it: the program, files, and servers on the loopback interface.
//!
//! What runs commands needs root; without it, those tests say so and pass.

mod advises;
mod canary;
mod contexts;
mod dates;
mod diffs;
mod explain;
mod hostile;
mod kit;
mod platforms;
mod runs;
mod semantics;
mod sources;
mod web;
mod wishes;
