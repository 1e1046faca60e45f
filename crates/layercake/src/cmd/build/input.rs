//! From the command line to what a build is asked for by: a context and a Dockerfile.

use std::io::Read;
use std::path::PathBuf;

use build::input::{OpenOptions, Place, Wanted, is_url};

use crate::cli::BuildArgs;
use crate::error::CommandError;

/// Standard input; a terminal would be waited for without a word.
fn stdin(what: &str) -> Result<Box<dyn Read + Send>, CommandError> {
    let stdin = std::io::stdin();
    if rustix::termios::isatty(&stdin) {
        return Err(CommandError::usage(format!(
            "{what} is to come from standard input, which is a terminal"
        ))
        .hint("send it with a pipe, as in: tar c . | layercake build -"));
    }
    Ok(Box::new(stdin))
}

/// The context and the Dockerfile that the flags name.
pub(crate) fn asked(args: &BuildArgs) -> Result<(Place, Wanted), CommandError> {
    let place = match args.context.as_str() {
        "-" => Place::Stream(stdin("the build context")?),
        text => Place::of(text).map_err(|e| CommandError::usage(crate::error::chain(&e)))?,
    };
    let wanted = match args.file.as_deref() {
        None => Wanted::Default,
        Some("-") => Wanted::Stream(stdin("the Dockerfile")?),
        Some(url) if is_url(url) => Wanted::Url(url.to_owned()),
        Some(path) => Wanted::Path(PathBuf::from(path)),
    };
    Ok((place, wanted))
}

/// How a context is fetched, as build arguments say.
pub(crate) fn options(options: &build::Options) -> OpenOptions {
    let given = |name: &str| options.choices.build_args.get(name).map(String::as_str);
    OpenOptions {
        keep_git_dir: matches!(
            given("BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        ),
        commit_times: given("SOURCE_DATE_EPOCH").is_some_and(|v| !v.is_empty()),
    }
}
