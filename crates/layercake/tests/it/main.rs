//! The program from outside: what a user types, and what comes of it. Each test has a store of its own in a temporary directory.
//!
//! Steps and containers need root and `/bin/busybox` (static); tests of registries need `docker-registry`. Where something is
//! missing a test says so and ends. With `LAYERCAKE_TEST_ALL` nothing may be skipped.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "why a test skipped itself is printed, and what it may use is in the environment"
)]

mod analyse;
mod builds;
mod crowds;
mod escapes;
mod faults;
mod images;
mod interrupts;
mod lab;
mod lazy;
mod limits;
mod mount;
mod registries;
mod rootless;
mod runs;
mod screens;
mod terminal;
mod upkeep;
