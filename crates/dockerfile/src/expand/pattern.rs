//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: literal characters, `?` and `*`.
//!
//! `*` and `?` match no line feed, because BuildKit turns patterns into regular expressions without the `s`
//! flag. Where a match may end is decided as a leftmost-first regular expression would: shortest or longest.
//! In a replacement of all matches, `$0` and `${0}` stand for the match, `$$` for a dollar sign, and other
//! `$name` for nothing, again because a regular expression is at work there (but not where only the first
//! match is replaced).
//!
//! Matching splits the pattern at its stars into segments of fixed length. Because a star cannot pass a line
//! feed, the earliest place of a segment always leaves the most room for the next ones, so no backtracking is
//! needed; only the last segment is looked for from the end when the longest match is wanted.

/// Character comparisons that one expansion may use, and characters that it may make, in all.
const MAX_STEPS: u64 = 5_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Is(char),
    Any,
    Star,
}

/// What stopped an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Steps,
    Length,
}

#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Budget(u64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(MAX_STEPS)
    }
}

impl Budget {
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Limit> {
        self.0 = self.0.checked_sub(steps as u64 + 1).ok_or(Limit::Steps)?;
        Ok(())
    }
}

/// A pattern split at its stars: `segments` has at least one element, and a star stands between any two.
struct Segments<'a> {
    segments: Vec<&'a [Token]>,
}

/// Why there is no match at some place.
enum Miss {
    /// Not at this place.
    Here,
    /// Not in this line either: a segment behind a star is not in the rest of it.
    Line,
}

impl Pattern {
    /// Reads a pattern; `None` if a `\` stands before a character that it cannot escape.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        let mut tokens = Vec::new();
        let mut chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if tokens.last() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                // These had to be escaped from the expansion only.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => Token::Is(chars.next().filter(|c| matches!(c, '*' | '?' | '\\'))?),
                c => Token::Is(c),
            });
        }
        Some(Pattern { tokens })
    }

    /// `value` without the start that matches.
    pub(super) fn strip_start(
        &self,
        value: &str,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<String, Limit> {
        let chars: Vec<char> = value.chars().collect();
        Ok(match Segments::new(&self.tokens).match_at(&chars, 0, longest, budget)? {
            Ok(end) => chars[end..].iter().collect(),
            Err(_) => value.to_owned(),
        })
    }

    /// `value` without the end that matches.
    pub(super) fn strip_end(&self, value: &str, longest: bool, budget: &mut Budget) -> Result<String, Limit> {
        let reversed = Pattern { tokens: self.tokens.iter().rev().copied().collect() };
        let value: String = value.chars().rev().collect();
        Ok(reversed.strip_start(&value, longest, budget)?.chars().rev().collect())
    }

    /// `value` with the first or all matches replaced; more than `limit` bytes are an error.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        limit: usize,
        budget: &mut Budget,
    ) -> Result<String, Limit> {
        let chars: Vec<char> = value.chars().collect();
        let segments = Segments::new(&self.tokens);
        let mut out = String::new();
        let mut copied = 0;
        let mut from = 0;
        while from <= chars.len() {
            let Some((start, end)) = segments.find(&chars, from, budget)? else { break };
            out.extend(&chars[copied..start]);
            // An empty match directly behind another match does not count.
            if end > copied || start == 0 {
                if all {
                    template(replacement, &chars[start..end], limit, &mut out);
                } else {
                    out.push_str(replacement);
                }
            }
            copied = end;
            if out.len() > limit {
                return Err(Limit::Length);
            }
            if !all {
                break;
            }
            from = end.max(from + 1);
        }
        out.extend(&chars[copied.min(chars.len())..]);
        Ok(out)
    }
}

impl<'a> Segments<'a> {
    fn new(tokens: &'a [Token]) -> Segments<'a> {
        Segments { segments: tokens.split(|t| *t == Token::Star).collect() }
    }

    /// The leftmost match at or behind `from`, as long as possible.
    fn find(&self, text: &[char], from: usize, budget: &mut Budget) -> Result<Option<(usize, usize)>, Limit> {
        let one_line = !self.segments.iter().any(|s| s.contains(&Token::Is('\n')));
        let mut start = from;
        while start <= text.len() {
            match self.match_at(text, start, true, budget)? {
                Ok(end) => return Ok(Some((start, end))),
                Err(Miss::Line) if one_line => start = line_end(text, start) + 1,
                Err(_) => start += 1,
            }
        }
        Ok(None)
    }

    /// Where the match that begins at `start` ends.
    fn match_at(
        &self,
        text: &[char],
        start: usize,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<Result<usize, Miss>, Limit> {
        let [first, middle @ ..] = self.segments.as_slice() else { return Ok(Ok(start)) };
        if !fits(text, start, first, budget)? {
            return Ok(Err(Miss::Here));
        }
        let mut at = start + first.len();
        let Some((last, middle)) = middle.split_last() else { return Ok(Ok(at)) };
        for segment in middle {
            match Self::search(text, at, segment, false, budget)? {
                Some(found) => at = found + segment.len(),
                None => return Ok(Err(Miss::Line)),
            }
        }
        Ok(match Self::search(text, at, last, longest, budget)? {
            Some(found) => Ok(found + last.len()),
            None => Err(Miss::Line),
        })
    }

    /// The first or last place of `segment` that a star which begins at `from` can reach.
    fn search(
        text: &[char],
        from: usize,
        segment: &[Token],
        latest: bool,
        budget: &mut Budget,
    ) -> Result<Option<usize>, Limit> {
        if latest {
            let reach = line_end(text, from);
            budget.spend(reach - from)?;
            for place in (from..=reach).rev() {
                if fits(text, place, segment, budget)? {
                    return Ok(Some(place));
                }
            }
            return Ok(None);
        }
        for place in from..=text.len() {
            if fits(text, place, segment, budget)? {
                return Ok(Some(place));
            }
            if text.get(place) == Some(&'\n') {
                break;
            }
        }
        Ok(None)
    }
}

/// The place of the first line feed at or behind `from`, or the end.
fn line_end(text: &[char], from: usize) -> usize {
    text[from..].iter().position(|c| *c == '\n').map_or(text.len(), |at| from + at)
}

fn fits(text: &[char], at: usize, segment: &[Token], budget: &mut Budget) -> Result<bool, Limit> {
    let Some(part) = text.get(at..at + segment.len()) else { return Ok(false) };
    let equal = part
        .iter()
        .zip(segment)
        .take_while(|(c, token)| match token {
            Token::Is(wanted) => *c == wanted,
            Token::Any => **c != '\n',
            Token::Star => false,
        })
        .count();
    budget.spend(equal)?;
    Ok(equal == segment.len())
}

/// Appends `replacement`, with references to the match resolved; not much further than to `limit` bytes.
fn template(replacement: &str, found: &[char], limit: usize, out: &mut String) {
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        if out.len() > limit {
            return;
        }
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (braced, body) = match rest.strip_prefix('{') {
            Some(body) => (true, body),
            None => (false, rest),
        };
        let end = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
        let (name, after) = body.split_at(end);
        let after = if braced { after.strip_prefix('}') } else { Some(after) };
        let (Some(after), false) = (after, name.is_empty()) else {
            out.push('$');
            continue;
        };
        if name.bytes().all(|b| b == b'0') {
            out.extend(found);
        }
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap_or_else(|| panic!("{text} is a pattern"))
    }

    #[test]
    fn starts_and_ends() {
        for (text, value, shortest, longest) in [
            ("a", "aab", "ab", "ab"),
            ("*a", "xaxab", "xab", "b"),
            ("*", "abc", "abc", ""),
            ("a*", "abc", "bc", ""),
            ("?", "abc", "bc", "bc"),
            ("?", "\nb", "\nb", "\nb"),
            ("", "abc", "abc", "abc"),
            ("*b*d", "abcdbd", "bd", ""),
            ("*x", "a\nx", "a\nx", "a\nx"),
            ("*\n*x", "a\nxx", "x", ""),
            ("\\*\\?\\\\", "*?\\a", "a", "a"),
        ] {
            let pattern = pattern(text);
            assert_eq!(
                pattern.strip_start(value, false, &mut Budget::default()).as_deref(),
                Ok(shortest),
                "{text} {value}"
            );
            assert_eq!(
                pattern.strip_start(value, true, &mut Budget::default()).as_deref(),
                Ok(longest),
                "{text} {value}"
            );
        }
        assert_eq!(pattern("b*").strip_end("abcbd", false, &mut Budget::default()).as_deref(), Ok("abc"));
        assert_eq!(pattern("b*").strip_end("abcbd", true, &mut Budget::default()).as_deref(), Ok("a"));
        assert_eq!(pattern("a\\*c").strip_end("xa*c", true, &mut Budget::default()).as_deref(), Ok("x"));
        assert!(Pattern::new("\\x").is_none() && Pattern::new("\\").is_none());
    }

    #[test]
    fn replacements() {
        for (text, value, replacement, first, all) in [
            ("b", "abcb", "x", "axcb", "axcx"),
            ("", "abc", "-", "-abc", "-a-b-c-"),
            ("*", "a\nb", "x", "x\nb", "x\nx"),
            ("b*", "abcb", "x", "ax", "ax"),
            ("b?", "abcbd", "$0$1$$${0}.", "a$0$1$$${0}.bd", "abc$bc.bd$bd."),
            ("z", "abc", "x", "abc", "abc"),
            ("a", "a", "$", "$", "$"),
        ] {
            let pattern = pattern(text);
            assert_eq!(
                pattern.replace(value, replacement, false, 1 << 20, &mut Budget::default()).as_deref(),
                Ok(first),
                "{text} {value}"
            );
            assert_eq!(
                pattern.replace(value, replacement, true, 1 << 20, &mut Budget::default()).as_deref(),
                Ok(all),
                "{text} {value}"
            );
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let value = "a".repeat(200_000);
        assert_eq!(
            pattern(&"*a".repeat(20_000))
                .replace(&value, "", true, 1 << 20, &mut Budget::default())
                .as_deref(),
            Ok("")
        );
        assert_eq!(
            pattern("a*a*a*b").replace(&value, "x", true, 1 << 20, &mut Budget::default()).as_deref(),
            Ok(value.as_str())
        );
        let costly = format!("{}b", "a".repeat(100_000));
        assert_eq!(
            pattern(&costly).replace(&value, "x", true, 1 << 20, &mut Budget::default()),
            Err(Limit::Steps)
        );
        let often = "$0".repeat(500_000);
        let grown = pattern("*").replace(&value, &often, true, 1 << 20, &mut Budget::default());
        assert_eq!(grown, Err(Limit::Length), "a single match that stands in its replacement many times");
    }
}
