//! Variables, quotes and patterns: the first line is the word, the others are values of `a`, `b`, `c`, and so on.

#![no_main]

use dockerfile::{expand, mount};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (word, values) = text.split_once('\n').unwrap_or((text, ""));
    let values: Vec<&str> = values.lines().collect();
    let lookup = |name: &str| {
        let at = name.bytes().next()?.wrapping_sub(b'a');
        values.get(usize::from(at)).map(|v| (*v).to_owned())
    };
    for escape in ['\\', '`'] {
        if let Ok(found) = expand::word(word, &lookup, escape) {
            assert!(found.text.len() <= word.len() + expand::MAX_GROWTH);
        }
        if let Ok(words) = expand::words(word, &lookup, escape) {
            assert!(words.iter().all(|w| !w.is_empty()));
        }
        let _ = expand::display(word, &lookup, escape);
    }
    let _ = expand::heredoc(word, &lookup);
    let _ = mount::parse(word, &mut |value| expand::word(value, &lookup, '\\').map(|e| e.text));
    let _ = mount::Device::parse(word);
});
