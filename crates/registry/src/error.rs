//! What can go wrong between this program and a registry, and how a registry's own words are read.
//!
//! A registry explains itself in a JSON error list (OCI distribution specification, "Error Codes"):
//! `{"errors":[{"code":"NAME_UNKNOWN","message":"...","detail":...}]}`. Token servers use `details` or `error_description`.
//! All of it is foreign text that ends up on a terminal: control characters are taken out and the length is bounded.
//!
//! No message carries a URL (those of redirects are signed, and so are secrets), a header or a credential.

use std::io;
use std::time::Duration;

use oci::Digest;
use oci::platform::Platform;
use serde_json::Value;

use crate::credentials::CredentialError;

/// Why a registry operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry does not have it (404).
    #[error("{what} was not found at {host}{}", said(.message))]
    NotFound {
        /// Host that was asked.
        host: String,
        /// Reference, blob or repository.
        what: String,
        /// The registry's words, possibly empty.
        message: String,
    },
    /// The registry wants (other) credentials (401). Some registries answer so for what does not exist, too.
    #[error("{host} refuses access to {what}: {}{}", refusal(.anonymous), said(.message))]
    Unauthorized {
        /// The registry as in references, also where its token server refused.
        host: String,
        /// What was asked for.
        what: String,
        /// No credentials were sent: `layercake login` may help. Otherwise those sent are wrong or lack the right.
        anonymous: bool,
        /// The registry's words, possibly empty.
        message: String,
    },
    /// The registry knows who asks, and says no (403).
    #[error("{host} denies access to {what}{}", said(.message))]
    Denied {
        /// The registry as in references.
        host: String,
        /// What was asked for.
        what: String,
        /// The registry's words, possibly empty.
        message: String,
    },
    /// The registry's rate limit is used up, and waiting did not help or would take too long (429).
    #[error("{host} limits the number of requests{}", said(.message))]
    TooManyRequests {
        /// Host that refused.
        host: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// The registry's words, possibly empty.
        message: String,
    },
    /// Any other status that is no success.
    #[error("{host} answered with status {status}{}", said(.message))]
    Server {
        /// Host that answered.
        host: String,
        /// HTTP status.
        status: u16,
        /// The registry's words, possibly empty.
        message: String,
    },
    /// No connection, or it broke.
    #[error("cannot talk to {host}")]
    Unreachable {
        /// Host.
        host: String,
        /// What the system or the HTTP client said.
        source: io::Error,
    },
    /// The secure connection was refused by us or by the other side.
    #[error("no secure connection to {host}")]
    Tls {
        /// Host.
        host: String,
        /// What is wrong with the handshake or the certificate.
        source: io::Error,
    },
    /// The proxy's address is unusable. It is not shown: it may hold a password.
    #[error("the proxy address is not a valid URL")]
    Proxy,
    /// Content that is not what its digest says.
    #[error("{what} from {host} has digest {got}, expected {expected}")]
    Digest {
        /// Host that sent it.
        host: String,
        /// Manifest or blob.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// Content that is longer or shorter than its descriptor says.
    #[error("{what} from {host} has {got} bytes, expected {expected}")]
    Size {
        /// Host that sent it.
        host: String,
        /// Manifest or blob.
        what: String,
        /// Bytes according to the descriptor.
        expected: u64,
        /// Bytes that came or were announced; for a body that goes on, the number at which reading stopped.
        got: u64,
    },
    /// The server sends whole blobs only.
    #[error("{host} does not send parts of blobs")]
    NoParts {
        /// Host that was asked.
        host: String,
    },
    /// A manifest, index or config that cannot be used.
    #[error("{reference}: {problem}")]
    Manifest {
        /// Which image.
        reference: String,
        /// What is wrong.
        problem: String,
    },
    /// The index has no image for the platform.
    #[error("{reference} has no image for {wanted}; it has: {}", list(.available))]
    NoPlatform {
        /// Which image.
        reference: String,
        /// Platform that was asked for.
        wanted: Box<Platform>,
        /// Platforms that the index lists, in its order, attestations left out.
        available: Vec<Platform>,
    },
    /// A credential helper or file failed.
    #[error("cannot get the credentials for {host}")]
    Credentials {
        /// Registry that they are for.
        host: String,
        /// Why.
        source: CredentialError,
    },
    /// The registry breaks the protocol.
    #[error("{host} does not follow the registry protocol: {problem}")]
    Protocol {
        /// Host that answered.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// What was to be pushed cannot be read.
    #[error("cannot read {what} for the upload")]
    Source {
        /// Which blob.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The caller's cancel flag was raised.
    #[error("cancelled")]
    Cancelled,
}

impl RegistryError {
    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            RegistryError::TooManyRequests { .. } => true,
            RegistryError::Server { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            // Nobody listens or there is no way: waiting a second does not change that.
            RegistryError::Unreachable { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
            ),
            _ => false,
        }
    }

    /// How long the registry asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::TooManyRequests { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The registry error inside an [`io::Error`] that a [`crate::BlobReader`] gave; any other error comes back as it is.
    pub fn from_io(error: io::Error) -> Result<RegistryError, io::Error> {
        error.downcast::<RegistryError>()
    }

    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            RegistryError::Digest { .. } | RegistryError::Size { .. } => io::ErrorKind::InvalidData,
            RegistryError::NotFound { .. } => io::ErrorKind::NotFound,
            // Not `Interrupted`: helpers such as `io::copy` would try for ever.
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    pub(crate) fn protocol(host: &str, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { host: host.to_owned(), problem: problem.into() }
    }
}

fn refusal(anonymous: &bool) -> &'static str {
    match anonymous {
        true => "it is private or does not exist, and no credentials were sent",
        false => "the credentials were not accepted",
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "nothing".to_owned();
    }
    // A hostile index may list thousands.
    let mut out: Vec<String> = platforms.iter().take(30).map(|p| clean(&p.to_string(), 60)).collect();
    if platforms.len() > out.len() {
        out.push(format!("and {} more", platforms.len() - out.len()));
    }
    out.join(", ")
}

/// The words of an error response, from its media type and the first bytes of its body. Empty when there are none.
pub(crate) fn message_of(content_type: &str, body: &[u8]) -> String {
    const MAX: usize = 300;
    if let Ok(Value::Object(doc)) = serde_json::from_slice::<Value>(body) {
        if let Some(Value::Array(errors)) = doc.get("errors") {
            let one = |e: &Value| {
                let text = |k: &str| e.get(k).and_then(Value::as_str).unwrap_or_default().trim();
                match (text("code"), text("message")) {
                    ("" | "UNKNOWN", message) => message.to_owned(),
                    (code, "") => code.to_owned(),
                    (code, message) => format!("{message} ({code})"),
                }
            };
            let texts: Vec<String> = errors.iter().take(3).map(one).filter(|t| !t.is_empty()).collect();
            return clean(&texts.join("; "), MAX);
        }
        for key in ["details", "error_description", "message", "error"] {
            if let Some(Value::String(text)) = doc.get(key) {
                return clean(text.trim(), MAX);
            }
        }
        return String::new();
    }
    if content_type.starts_with("text/plain") {
        let text = String::from_utf8_lossy(body);
        return clean(text.lines().next().unwrap_or_default().trim(), MAX);
    }
    String::new()
}

/// `text` without control characters, cut after `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
    if text.chars().count() > max {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_words() {
        let json = br#"{"errors":[{"code":"DENIED","message":"requested access\u001b[31m is denied"},{"code":"X"}]}"#;
        assert_eq!(message_of("application/json", json), "requested access[31m is denied (DENIED); X");
        assert_eq!(message_of("", br#"{"details":"incorrect username"}"#), "incorrect username");
        assert_eq!(message_of("text/plain; charset=utf-8", b"slow down\nplease"), "slow down");
        assert_eq!(message_of("text/html", b"<html>"), "");
        assert_eq!(message_of("", br#"{"errors":"no list"}"#), "");
        assert_eq!(message_of("", br#"{"errors":[1,null,{"code":7}]}"#), "");
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(5000));
        assert_eq!(message_of("", long.as_bytes()).len(), 303);
    }

    #[test]
    fn what_is_worth_another_try() {
        let io = |kind| RegistryError::Unreachable { host: "h".into(), source: io::Error::from(kind) };
        assert!(io(io::ErrorKind::ConnectionReset).is_transient());
        assert!(io(io::ErrorKind::TimedOut).is_transient());
        assert!(!io(io::ErrorKind::ConnectionRefused).is_transient());
        let status = |status| RegistryError::Server { host: "h".into(), status, message: String::new() };
        assert!(status(503).is_transient());
        assert!(!status(501).is_transient() && !status(400).is_transient());
        assert!(!RegistryError::Cancelled.is_transient());
    }

    #[test]
    fn through_io_and_back() {
        let e = RegistryError::Cancelled.into_io();
        assert_ne!(e.kind(), io::ErrorKind::Interrupted);
        assert!(matches!(RegistryError::from_io(e), Ok(RegistryError::Cancelled)));
        assert!(RegistryError::from_io(io::Error::other("else")).is_err());
    }
}
