//! The JSON that Dockerfiles hold: arrays of strings (the exec form) and the object form of `syntax`.
//!
//! Which texts are JSON decides between the exec and the shell form, so the reader is as strict as Go's
//! `encoding/json`: no trailing commas, no raw control characters, a number beyond the range of a double is
//! no JSON, nesting to 10,000 levels, lone surrogates become U+FFFD.

const MAX_DEPTH: usize = 10_000;

/// What a text is that might be an exec form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Array {
    /// A JSON array of strings.
    Strings(Vec<String>),
    /// A JSON array with something else in it.
    Mixed,
    /// Not a JSON array.
    No,
}

/// Reads `text` as a JSON array of strings.
pub(crate) fn array(text: &str) -> Array {
    let mut reader = Reader::new(text.trim_start());
    match reader.array_of_strings() {
        Some(Some(strings)) => Array::Strings(strings),
        Some(None) => Array::Mixed,
        None => Array::No,
    }
}

/// The string that the object `text` holds under `key`.
pub(crate) fn object_string(text: &str, key: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    let mut found = None;
    reader.blanks();
    reader.eat(b'{')?;
    reader.blanks();
    if reader.eat(b'}').is_none() {
        loop {
            reader.blanks();
            let name = reader.string()?;
            reader.blanks();
            reader.eat(b':')?;
            let value = reader.value()?;
            if name == key {
                found = value;
            }
            reader.blanks();
            if reader.eat(b',').is_none() {
                reader.eat(b'}')?;
                break;
            }
        }
    }
    reader.end()?;
    found
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    After,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Some(());
        }
        None
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Option<()> {
        self.blanks();
        self.peek().is_none().then_some(())
    }

    /// `Some(None)`: an array, but not of strings alone. `None`: no array.
    fn array_of_strings(&mut self) -> Option<Option<Vec<String>>> {
        let mut strings = Some(Vec::new());
        self.eat(b'[')?;
        self.blanks();
        if self.eat(b']').is_none() {
            loop {
                match self.value()? {
                    Some(text) => strings.iter_mut().for_each(|all| all.push(text.clone())),
                    None => strings = None,
                }
                self.blanks();
                if self.eat(b',').is_none() {
                    self.eat(b']')?;
                    break;
                }
            }
        }
        self.end()?;
        Some(strings)
    }

    /// A value inside of one array or object; its text if it is a string.
    fn value(&mut self) -> Option<Option<String>> {
        self.blanks();
        if self.peek() == Some(b'"') {
            return self.string().map(Some);
        }
        self.skip()?;
        Some(None)
    }

    /// Passes over a value of any kind, without recursion.
    fn skip(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        let mut expect = Expect::Value;
        loop {
            self.blanks();
            match expect {
                Expect::Value | Expect::ValueOrEnd => match self.peek()? {
                    b']' if expect == Expect::ValueOrEnd => {
                        self.at += 1;
                        open.pop();
                        expect = Expect::After;
                    }
                    bracket @ (b'[' | b'{') => {
                        self.at += 1;
                        open.push(bracket);
                        // The container that the caller is in counts too.
                        if open.len() + 1 > MAX_DEPTH {
                            return None;
                        }
                        expect = if bracket == b'[' { Expect::ValueOrEnd } else { Expect::KeyOrEnd };
                    }
                    _ => {
                        self.scalar()?;
                        expect = Expect::After;
                    }
                },
                Expect::Key | Expect::KeyOrEnd => {
                    if expect == Expect::KeyOrEnd && self.eat(b'}').is_some() {
                        open.pop();
                        expect = Expect::After;
                        continue;
                    }
                    self.string()?;
                    self.blanks();
                    self.eat(b':')?;
                    expect = Expect::Value;
                }
                Expect::After => {
                    let Some(&bracket) = open.last() else { return Some(()) };
                    if self.eat(b',').is_some() {
                        expect = if bracket == b'[' { Expect::Value } else { Expect::Key };
                    } else {
                        self.eat(if bracket == b'[' { b']' } else { b'}' })?;
                        open.pop();
                    }
                }
            }
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word))?;
                self.at += word.len();
                Some(())
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let _ = self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        if self.eat(b'e').or_else(|| self.eat(b'E')).is_some() {
            let _ = self.eat(b'+').or_else(|| self.eat(b'-'));
            self.digits()?;
        }
        let value: f64 = self.text[start..self.at].parse().ok()?;
        value.is_finite().then_some(())
    }

    fn string(&mut self) -> Option<String> {
        self.eat(b'"')?;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(out);
                }
                b'\\' => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                if (0xd800..0xdc00).contains(&unit) {
                    let mark = self.at;
                    let low = if self.eat(b'\\').is_some() && self.eat(b'u').is_some() {
                        self.hex4()
                    } else {
                        None
                    };
                    if let Some(low @ 0xdc00..0xe000) = low {
                        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        return Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = mark;
                }
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(all: &[&str]) -> Array {
        Array::Strings(all.iter().map(|s| s.to_string()).collect())
    }

    #[test]
    fn arrays_of_strings() {
        assert_eq!(array("[]"), strings(&[]));
        assert_eq!(array(" [ \"a\" ,\t\"b\" ] "), strings(&["a", "b"]));
        assert_eq!(array(r#"["\u00e9\n\/\"\\"]"#), strings(&["é\n/\"\\"]));
        assert_eq!(array(r#"["\ud83d\ude00 \ud83d x \ude00"]"#), strings(&["😀 \u{fffd} x \u{fffd}"]));
        assert_eq!(array(r#"["\ud83d\u0041"]"#), strings(&["\u{fffd}A"]));
    }

    #[test]
    fn what_is_not_json_is_no_array() {
        for text in [
            "",
            "a",
            "[",
            "[\"a\"",
            "[\"a\",]",
            "['a']",
            "[a]",
            "[\"a\"] x",
            "[\"a\nb\"]",
            "[\"\\x\"]",
            "[01]",
            "[1e999]",
            "[1.]",
            "[\"\\u12\"]",
            "[[]",
            "[{]",
            "[tru]",
        ] {
            assert_eq!(array(text), Array::No, "{text}");
        }
    }

    #[test]
    fn other_values_make_it_mixed() {
        for text in ["[1]", "[null]", "[true,\"a\"]", "[[\"a\"]]", "[{\"a\":[1,{}]}]", "[-0.5e+3]"] {
            assert_eq!(array(text), Array::Mixed, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_not_recursive() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(array(&nested(10_000)), Array::Mixed);
        assert_eq!(array(&nested(10_001)), Array::No);
        assert_eq!(array(&"[".repeat(1 << 20)), Array::No);
    }

    #[test]
    fn object_strings() {
        assert_eq!(object_string(r#"{"a": [1], "syntax": "x"}"#, "syntax").as_deref(), Some("x"));
        assert_eq!(object_string(r#"{"syntax": 1}"#, "syntax"), None);
        assert_eq!(object_string("{\"syntax\": \"x\"}\nFROM a", "syntax"), None);
        assert_eq!(object_string("{}", "syntax"), None);
    }
}
