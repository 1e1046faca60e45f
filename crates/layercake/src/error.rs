//! Where errors become what the user sees: what went wrong, where, what to do, and an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 1 | the user's build or gate failed |
//! | 2 | the command line is wrong |
//! | 3 | the environment: permission, network, disk, a missing tool |
//! | 70 | our bug |

use std::process::ExitCode;

use build::BuildError;
use build::fetch::FetchError;
use registry::RegistryError;

use crate::output;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The build or gate failed.
    User,
    /// The command line is wrong.
    Usage,
    /// Something around us.
    Environment,
    /// Our bug.
    Internal,
    /// The user stopped it.
    Interrupted,
}

/// An error at the border.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) kind: Kind,
    /// What went wrong, with causes.
    pub(crate) message: String,
    /// Source excerpt, already drawn.
    pub(crate) excerpt: Option<String>,
    /// What to do.
    pub(crate) hints: Vec<String>,
    /// Exit code, where it is not that of the kind (`run` passes on the container's).
    pub(crate) code: Option<u8>,
}

impl CommandError {
    /// An error of the command line.
    pub(crate) fn usage(message: impl Into<String>) -> CommandError {
        CommandError::new(Kind::Usage, message)
    }

    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> CommandError {
        CommandError { kind, message: message.into(), excerpt: None, hints: Vec::new(), code: None }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code.unwrap_or(match self.kind {
            Kind::User => 1,
            Kind::Usage => 2,
            Kind::Environment => 3,
            Kind::Internal => 70,
            Kind::Interrupted => 130,
        })
    }

    /// Prints the error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        use anstyle::{AnsiColor, Style};
        let red = AnsiColor::Red.on_default().bold();
        let cyan = AnsiColor::Cyan.on_default();
        let none = Style::new();
        if let Some(excerpt) = &self.excerpt {
            output::note(excerpt);
        }
        output::note(&format!("{red}error:{red:#} {none}{}{none:#}", self.message));
        for h in &self.hints {
            output::note(&format!("{cyan}hint:{cyan:#} {h}"));
        }
        ExitCode::from(self.exit_code())
    }
}

/// An error and everything that caused it, in one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        let text = s.to_string();
        if !out.ends_with(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        at = s.source();
    }
    out
}

/// Whether the store is what failed somewhere below an error, as on a full disk; with the store's hint.
fn cause_in_store(e: &(dyn std::error::Error + 'static)) -> Option<Option<String>> {
    let below = std::iter::successors(Some(e), |e| e.source());
    let store = below.filter_map(|e| e.downcast_ref::<store::StoreError>()).last()?;
    // A file that changed while it was read is the user's.
    (!matches!(store, store::StoreError::Changed { .. })).then(|| store.hint().map(|h| h.to_string()))
}

impl From<store::StoreError> for CommandError {
    fn from(e: store::StoreError) -> CommandError {
        let hint = e.hint();
        let kind =
            if matches!(e, store::StoreError::Cancelled) { Kind::Interrupted } else { Kind::Environment };
        let out = CommandError::new(kind, chain(&e));
        match hint {
            Some(h) => out.hint(h),
            None => out,
        }
    }
}

impl From<RegistryError> for CommandError {
    fn from(e: RegistryError) -> CommandError {
        let text = chain(&e);
        match &e {
            RegistryError::NotFound { .. } | RegistryError::NoPlatform { .. } => {
                CommandError::new(Kind::User, text)
            }
            RegistryError::Unauthorized { host, anonymous, .. } => CommandError::new(Kind::Environment, text)
                .hint(if *anonymous {
                    format!("log in with: layercake login {host}")
                } else {
                    format!("check the name of the image, or log in again with: layercake login {host}")
                }),
            RegistryError::TooManyRequests { .. } => CommandError::new(Kind::Environment, text)
                .hint("wait, or log in: registries limit anonymous requests more strictly"),
            RegistryError::Unreachable { .. } => CommandError::new(Kind::Environment, text)
                .hint("check the network, the registry's name and the proxy settings"),
            RegistryError::Cancelled => CommandError::new(Kind::Interrupted, "interrupted"),
            _ => CommandError::new(Kind::Environment, text),
        }
    }
}

impl From<sandbox::SandboxError> for CommandError {
    fn from(e: sandbox::SandboxError) -> CommandError {
        let text = chain(&e);
        let hint = e.hint().map(str::to_owned);
        match e {
            sandbox::SandboxError::Command { code, .. } => {
                let mut out = CommandError::new(Kind::User, text);
                out.code = u8::try_from(code).ok();
                out
            }
            sandbox::SandboxError::Setup { .. } => {
                let mut out = CommandError::new(Kind::Environment, text);
                out.hints.extend(hint);
                out
            }
            sandbox::SandboxError::Invalid(_) => CommandError::new(Kind::User, text),
            _ => CommandError::new(Kind::Environment, text),
        }
    }
}

impl From<BuildError> for CommandError {
    fn from(e: BuildError) -> CommandError {
        let text = chain(&e);
        match e {
            BuildError::Step { title, source, .. } => {
                let mut inner = CommandError::from(*source);
                inner.message = format!("{title}: {}", inner.message);
                // The code of a failed command is not the program's.
                inner.code = None;
                inner
            }
            BuildError::Store(e) => e.into(),
            BuildError::Sandbox(e) => {
                let mut out = CommandError::from(e);
                out.code = None;
                out
            }
            BuildError::Registry { name, source } => {
                let mut out = CommandError::from(*source);
                out.message = format!("cannot get {name}: {}", out.message);
                out
            }
            BuildError::Line { help, .. } => {
                let out = CommandError::new(Kind::User, text);
                match help {
                    Some(h) => out.hint(h),
                    None => out,
                }
            }
            BuildError::Usage { help, .. } => {
                let out = CommandError::new(Kind::Usage, text);
                match help {
                    Some(h) => out.hint(h),
                    None => out,
                }
            }
            BuildError::BaseNotFound { tried, .. } => CommandError::new(Kind::User, text)
                .hint(format!("it was looked for in {tried}; is the name right?")),
            BuildError::Fetch(e) => {
                let kind = match &*e {
                    FetchError::Offline { .. } | FetchError::Request { .. } | FetchError::NoGit(_) => {
                        Kind::Environment
                    }
                    _ => Kind::User,
                };
                let out = CommandError::new(kind, text);
                match e.hint() {
                    Some(h) => out.hint(h),
                    None => out,
                }
            }
            BuildError::Io { .. } => CommandError::new(Kind::Environment, text),
            BuildError::Interrupted => CommandError::new(Kind::Interrupted, "interrupted"),
            _ => match cause_in_store(&e) {
                Some(hint) => {
                    let mut out = CommandError::new(Kind::Environment, text);
                    out.hints.extend(hint);
                    out
                }
                None => CommandError::new(Kind::User, text),
            },
        }
    }
}
