//! The main job on real input, through the command line: each case builds what people build, and looks at the result the way they
//! would. All need root; what else a case needs is said where it skips itself. With `LAYERCAKE_TEST_ALL` (`cargo xtask accept`)
//! nothing may be skipped.
//!
//! | case | what | needs |
//! |---|---|---|
//! | 1 | which steps a change of one file runs again | busybox-static |
//! | 2 | one RUN or three: what a layer keeps that no path shows | busybox-static; an Alpine root file system for apk |
//! | 3 | compile in one stage, ship one file | mmdebstrap, Debian's or Ubuntu's mirror |
//! | 4 | a Python application | the same, PyPI; only with `LAYERCAKE_TEST_ALL` |
//! | 5 | skopeo, podman, umoci and a registry read what the others built | their packages; only with `LAYERCAKE_TEST_ALL` |

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "what a test measured or why it skipped itself is printed, and what it may use is in the environment"
)]

mod agree;
mod apk;
mod cache;
mod debian;
mod lab;
mod multistage;
mod python;
mod serve;
mod small;
