//! "Did you mean": the nearest of some known names.

/// Names farther away than this many edits are not similar (as in BuildKit, which has it from HCL).
const MAX_EDITS: usize = 2;

/// Words longer than this are not compared: no known name is near them, and the table would be large.
const MAX_LEN: usize = 64;

/// The name of `known` nearest to `word`; none when all are too far or one is equal.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(MAX_LEN + 1).collect();
    let mut best: Option<(usize, &str)> = None;
    if word.len() > MAX_LEN {
        return None;
    }
    for name in known {
        // Each character is one byte at least and four at most.
        if name.len() + MAX_EDITS < word.len() || name.len() > 4 * (word.len() + MAX_EDITS) {
            continue;
        }
        let distance = distance(&word, name);
        if distance == 0 {
            return None;
        }
        if distance <= MAX_EDITS && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Like [`nearest`], with no regard to case; the answer takes the case of `word` where that is uniform.
pub(crate) fn nearest_keyword<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let found = nearest(&word.to_uppercase(), known)?;
    let lower = word == word.to_lowercase();
    Some(if lower { found.to_lowercase() } else { found.to_owned() })
}

/// The words of help that name a suggestion.
pub(crate) fn did_you_mean(name: Option<impl AsRef<str>>) -> Option<String> {
    name.map(|name| format!("did you mean {}?", name.as_ref()))
}

/// Levenshtein's distance in characters.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(2 * MAX_LEN).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_takes_the_closest_within_two_edits() {
        assert_eq!(nearest("mont", ["network", "mount", "security"]), Some("mount"));
        assert_eq!(nearest("abcdef", ["mount", "network"]), None);
        assert_eq!(nearest("mount", ["mount", "count"]), None, "an equal name means the error is elsewhere");
        assert_eq!(nearest(&"x".repeat(100_000), ["mount"]), None);
    }

    #[test]
    fn keywords_keep_their_case() {
        assert_eq!(nearest_keyword("FFOM", ["FROM", "RUN"]).as_deref(), Some("FROM"));
        assert_eq!(nearest_keyword("ffom", ["FROM", "RUN"]).as_deref(), Some("from"));
    }
}
