//! Plans of small Dockerfiles, with base images that are made up.

mod args;
mod config;
mod kit;
mod onbuild;
mod sources;
mod stages;
