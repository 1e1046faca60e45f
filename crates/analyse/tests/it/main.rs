//! Tests of the analyser as its users see it.

mod archives;
mod cases;
mod compat;
mod kit;
mod overlay;
mod paths;
mod reports;
mod sparse;
