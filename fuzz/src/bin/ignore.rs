//! `.dockerignore`: the first line is a path, the others are the file. `glob` gets the same two.

#![no_main]

use dockerfile::glob;
use dockerfile::ignore::{Matcher, ParentMatches, read_patterns};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (path, file) = text.split_once('\n').unwrap_or((text, ""));
    let patterns = read_patterns(file);
    if let Ok(matcher) = Matcher::new(&patterns) {
        let whole = matcher.matches(path);
        assert_eq!(matcher.matches_below(path, &ParentMatches::default()).0, whole);
        // A walk: from the top down, each with what was found above it.
        let mut above = ParentMatches::default();
        let mut outcome = false;
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (outcome, above) = matcher.matches_below(&path[..at], &above);
            matcher.may_skip_dir(&path[..at]);
        }
        let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if plain && !matcher.has_negations() {
            assert_eq!(outcome, whole, "{patterns:?} {path:?}");
        }
    }
    let _ = glob::matches(file, path);
});
