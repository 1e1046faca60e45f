//! Our own rules, on cache and size: one file for each, as in `rules`.
//!
//! They know the text and which stage builds on which, nothing else: no context, no base image. So they say only what is nearly always
//! right, and leave measuring to builds. Rules on size look at shipped stages only (the target and what it builds on): what a stage holds
//! from which files are merely copied costs nobody anything.

mod add_instead_of_copy;
mod broad_copy_before_install;
mod build_tools_kept;
mod cd_without_effect;
mod download_cache_kept;
mod managers;
mod package_lists_kept;
mod permissions_in_later_layer;
mod pipe_without_pipefail;
mod removed_in_later_layer;
mod unpinned_base;
mod volatile_before_expensive;

use super::Entry;

/// All rules, in the order of their names.
pub(super) static ALL: [Entry; 11] = super::entries![
    add_instead_of_copy,
    broad_copy_before_install,
    build_tools_kept,
    cd_without_effect,
    download_cache_kept,
    package_lists_kept,
    permissions_in_later_layer,
    pipe_without_pipefail,
    removed_in_later_layer,
    unpinned_base,
    volatile_before_expensive,
];
