//! Credentials: what they are, who knows them, and why they could not be had.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A proof of who asks. `Debug` shows only its kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or a personal access token in its place).
    Password {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token: exchanged at the token server, never sent to the registry.
    IdentityToken(String),
    /// A bearer token that goes to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password { .. } => "Password(..)",
            Credential::IdentityToken(_) => "IdentityToken(..)",
            Credential::RegistryToken(_) => "RegistryToken(..)",
        })
    }
}

/// Who knows credentials.
pub trait Credentials: Send + Sync {
    /// The credential for a repository of a registry (`docker.io`, `localhost:5000`), or `None` for anonymous access.
    fn get(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError>;
}

/// No credentials at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn get(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

impl<F> Credentials for F
where
    F: Fn(&str, &str) -> Option<Credential> + Send + Sync,
{
    fn get(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(self(registry, repository))
    }
}

/// Why credentials could not be had or kept. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A helper name that could lead anywhere.
    #[error("{0:?} is not the name of a credential helper")]
    HelperName(String),
    /// The helper cannot be started.
    #[error("cannot run docker-credential-{name}")]
    HelperStart {
        /// Name without `docker-credential-`.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The helper failed, or its answer makes no sense.
    #[error("docker-credential-{name} {action}: {problem}")]
    Helper {
        /// Name without `docker-credential-`.
        name: String,
        /// `get`, `store` or `erase`.
        action: &'static str,
        /// What it said, or what is wrong.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let secret = Credential::Password { username: "u".into(), password: "hunter2".into() };
        assert_eq!(format!("{secret:?}"), "Password(..)");
        assert_eq!(format!("{:?}", Credential::IdentityToken("hunter2".into())), "IdentityToken(..)");
        assert_eq!(format!("{:?}", Credential::RegistryToken("hunter2".into())), "RegistryToken(..)");
    }
}
