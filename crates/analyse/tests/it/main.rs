//! Tests of the analyser as its users see it.

mod cases;
mod kit;
mod paths;
