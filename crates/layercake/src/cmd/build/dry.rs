//! What a build would do: for `explain --dry-run`.

use build::fetch::Fetcher;
use build::{Forecast, Ids, Request, Tasks};
use store::Store;

use super::{failed, flags, input};
use crate::cli::BuildArgs;
use crate::context;
use crate::error::CommandError;
use crate::progress::{self, Mode};

/// Looks ahead for every platform that is asked for.
pub(crate) fn forecast(store: &Store, args: &BuildArgs) -> Result<Vec<Forecast>, CommandError> {
    let mut options = flags::options(args)?;
    let (place, wanted) = input::asked(args)?;
    if args.reproducible {
        flags::date_of_checkout(&mut options, &place);
    }
    options.choices.target = match &args.target[..] {
        [] => None,
        [one] => Some(one.clone()).filter(|t| !t.is_empty()),
        _ => return Err(CommandError::usage("a dry run is of one --target")),
    };
    let cancel = context::interrupt_flag()?;
    let listener = progress::listener(Mode::Quiet);
    let ids = Ids::default();
    let fetcher =
        Fetcher { store, client: None, secrets: &options.secrets, ssh: &options.ssh, cancel: &cancel };
    let tasks = Tasks { listener: &*listener, ids: &ids };
    let opened = build::input::open(&fetcher, &tasks, place, wanted, input::options(&options))?;
    let mut request = Request { input: opened.input, files: opened.files, ids, options };
    let mut out = Vec::new();
    for platform in flags::platforms(args)? {
        request.options.choices.platform = platform;
        let forecast = build::forecast(store, &request, &*listener, cancel.clone());
        out.push(forecast.map_err(|e| {
            let missing = matches!(e.root(), build::BuildError::BaseNotFound { .. });
            let error = failed::told(e, &request.input);
            if missing {
                error.hint("a dry run asks no registry; get the image with layercake pull")
            } else {
                error
            }
        })?);
    }
    Ok(out)
}
