//! Step keys: what a step would do, without the file system that it starts from.
//!
//! A key is the sha256 of `layercake-step-2\n` (a number that grows when equal inputs come to mean something else) and a JSON
//! object with sorted keys and no blanks. The object is kept with the record, so that two runs can be compared input by input. Nothing secret is in it: not the values of secrets, not proxy settings. Those of a stage that
//! declares them (`ARG http_proxy`) are variables like others, and in the key; but what is kept does not have their passwords.
//!
//! | step | input | in the key | why |
//! |---|---|---|---|
//! | all | `step` | `run`, `copy`, `workdir` | |
//! | RUN | `args` | command with its shell | |
//! | | `env` | all variables, the last of equal names, by name | an ARG may change what any command does (also when it is not used) |
//! | | `cwd`, `user`, `network`, `security`, `platform`, `hostname`, `hosts`, `shm`, `ulimits` | as given | |
//! | | `mounts` | definition | of a bind mount also where in its tree it begins; its files are observed, like those of the root |
//! | | `script` | name and digest of a heredoc script | |
//! | | `cache` | `chain` with `RUN --cache=chain` | so that what was taken by another rule is none of its results |
//! | | `salt` | as given by the caller of a build | keeps builds apart that are made to try something out |
//! | | `barrier` | digest of what the stage's ADDs downloaded so far, of git sources also the commit | a common way to make a step run again |
//! | COPY, ADD | `sources` | digest of what is selected, in order | not times, not where the context lies |
//! | | `dest`, `chown`, `chmod`, `parents`, `link`, `unpack`, `exclude` | as given, expanded | |
//! | | `epoch` | SOURCE_DATE_EPOCH: the time of new directories and heredocs | |
//! | | `times` | `epoch` with `--reproducible`; `commit`, if a git source says `mtime=commit` | else times are in no key |
//! | WORKDIR | `path`, `owner`, `epoch` | as given; the time of new directories | |
//!
//! A result is kept under its key and its *place*: the chain of its parent; for a RUN with bind mounts the sha256 of `layercake-chain-1\n`,
//! that chain, and the digest of all files of the mounts (names, types, modes, owners, contents; no times).
//!
//! The chain of a state is the sha256 of `layercake-chain-1\n`, the chain below and the layer id; the empty state's is all zero.

use oci::Digest;
use serde_json::{Map, Value};

use crate::masking::{STARS, password_of};
use crate::plan::is_proxy;

/// The plain inputs of a step, and their digest.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The key.
    pub digest: Digest,
    /// The inputs as JSON text.
    pub inputs: String,
}

/// Digests the inputs of a step. `serde_json`'s map is sorted, which makes the text canonical.
pub(crate) fn key(inputs: Map<String, Value>) -> Key {
    let text = Value::Object(inputs.clone()).to_string();
    let mut h = oci::Hasher::new();
    h.update(b"layercake-step-2\n");
    h.update(text.as_bytes());
    Key { digest: h.finish(), inputs: without_passwords(inputs).unwrap_or(text) }
}

/// The inputs without passwords of proxies, if there are any.
fn without_passwords(mut inputs: Map<String, Value>) -> Option<String> {
    let mut some = false;
    for (name, value) in inputs.get_mut("env")?.as_object_mut()? {
        if is_proxy(name)
            && let Some(text) = value.as_str()
            && let Some(password) = password_of(text)
        {
            *value = text.replace(password, STARS).into();
            some = true;
        }
    }
    some.then(|| Value::Object(inputs).to_string())
}

/// The chain of nothing.
pub(crate) const EMPTY_CHAIN: Digest = Digest::from_bytes([0; 32]);

/// The chain after one more layer.
pub(crate) fn chain(below: &Digest, layer: &Digest) -> Digest {
    let mut h = oci::Hasher::new();
    h.update(b"layercake-chain-1\n");
    h.update(below.as_bytes());
    h.update(layer.as_bytes());
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(v: Value) -> Key {
        match v {
            Value::Object(m) => key(m),
            _ => unreachable!("tests give objects"),
        }
    }

    #[test]
    fn passwords_of_proxies_count_and_are_not_kept() {
        let proxy = |p: &str| of(json!({"env": {"HTTP_PROXY": format!("http://me:{p}@h:1"), "A": "1"}}));
        assert_ne!(proxy("canary-1").digest, proxy("canary-2").digest);
        assert_eq!(proxy("canary-1").inputs, r#"{"env":{"A":"1","HTTP_PROXY":"http://me:***@h:1"}}"#);
    }

    #[test]
    fn order_of_fields_does_not_matter_but_every_value_does() {
        let a = of(json!({"b": 1, "a": {"y": 1, "x": 2}}));
        let b = of(json!({"a": {"x": 2, "y": 1}, "b": 1}));
        assert_eq!(a.digest, b.digest);
        let c = of(json!({"a": {"x": 3, "y": 1}, "b": 1}));
        assert_ne!(a.digest, c.digest);
    }

    #[test]
    fn chains_depend_on_order() {
        let (x, y) = (Digest::of(b"x"), Digest::of(b"y"));
        let xy = chain(&chain(&EMPTY_CHAIN, &x), &y);
        let yx = chain(&chain(&EMPTY_CHAIN, &y), &x);
        assert_ne!(xy, yx);
    }
}
