//! Keeps the values of secrets out of what a step prints: a command that shows one (`set -x`, an error message) must not leave it in
//! the step's record, in the terminal or in a CI log. A value is replaced by `***` wherever it appears whole.
//!
//! Values shorter than [`SHORTEST`] are left alone: they would be everywhere.

/// Bytes of the shortest value that is looked for.
const SHORTEST: usize = 4;

/// What stands in place of a value.
const STARS: &[u8] = b"***";

/// The values to look for.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Looks for a value, too; blanks and line feeds around it do not count.
    pub(crate) fn add(&mut self, value: &[u8]) {
        let value = value.trim_ascii();
        if value.len() >= SHORTEST && !self.0.iter().any(|v| v == value) {
            self.0.push(value.to_vec());
            // The longest first, where one begins with another.
            self.0.sort_by_key(|v| std::cmp::Reverse(v.len()));
        }
    }

    /// A filter for one stream of output.
    pub(crate) fn stream(&self) -> Stream<'_> {
        Stream { secrets: self, held: Vec::new() }
    }
}

/// One stream: what may be the beginning of a value is held back until more comes.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    secrets: &'a Secrets,
    held: Vec<u8>,
}

impl Stream<'_> {
    /// Takes what came; gives what may be shown.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<u8> {
        if self.secrets.0.is_empty() {
            return data.to_vec();
        }
        self.held.extend_from_slice(data);
        self.scan(false)
    }

    /// What was held back, at the end of the stream.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.scan(true)
    }

    fn scan(&mut self, last: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        'bytes: while at < self.held.len() {
            let rest = &self.held[at..];
            for value in &self.secrets.0 {
                if rest.starts_with(value) {
                    out.extend_from_slice(STARS);
                    at += value.len();
                    continue 'bytes;
                }
                if !last && value.starts_with(rest) {
                    break 'bytes;
                }
            }
            out.push(rest[0]);
            at += 1;
        }
        self.held.drain(..at);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], chunks: &[&str]) -> (String, String) {
        let mut secrets = Secrets::default();
        values.iter().for_each(|v| secrets.add(v.as_bytes()));
        let mut stream = secrets.stream();
        let shown: Vec<u8> = chunks.iter().flat_map(|c| stream.push(c.as_bytes())).collect();
        let rest = stream.finish();
        (String::from_utf8(shown).unwrap(), String::from_utf8(rest).unwrap())
    }

    #[test]
    fn values_are_replaced_also_across_pieces() {
        let of = |chunks: &[&str]| {
            let (a, b) = masked(&["hunter2\n", "hunter22", "multi\nline", "ab"], chunks);
            a + &b
        };
        assert_eq!(of(&["pw=hunter2!"]), "pw=***!");
        assert_eq!(of(&["pw=hun", "ter", "2!"]), "pw=***!");
        assert_eq!(of(&["hunhunter2hunter2"]), "hun******");
        assert_eq!(of(&["hunter", "22 x"]), "*** x");
        assert_eq!(of(&["a mul", "ti\nline b"]), "a *** b");
        assert_eq!(of(&["hunter", "3"]), "hunter3");
        assert_eq!(of(&["ab"]), "ab", "too short to be one");
        assert_eq!(of(&["it is hunter"]), "it is hunter");
    }

    #[test]
    fn only_a_possible_beginning_waits() {
        assert_eq!(masked(&["hunter2"], &["name: ", "h"]), ("name: ".into(), "h".into()));
        assert_eq!(masked(&["hunter2"], &["name: ", "h", "i"]), ("name: hi".into(), String::new()));
        assert_eq!(masked(&[], &["any", "thing"]), ("anything".into(), String::new()));
    }
}
