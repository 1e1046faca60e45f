//! Text that other programs compare: history lines as Go prints them.

use std::fmt::Write;

/// A list of strings as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
    format!("[{}]", words.join(" "))
}

/// A string as Go's `strconv.Quote` prints it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c < ' ' || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list as Go's `%v` prints it: `[a b]`.
pub(crate) fn list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A duration as Go's `time.Duration.String` prints it: `1h2m3.5s`, `150ms`, `0s`.
pub(crate) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |n: u64, unit: u64| {
        let text = format!("{}.{:0width$}", n / unit, n % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match n {
        0..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(n, 1_000_000)),
        _ => {
            let secs = n / 1_000_000_000;
            let rest = fraction(secs % 60 * 1_000_000_000 + n % 1_000_000_000, 1_000_000_000);
            match (secs / 3600, secs / 60 % 60) {
                (0, 0) => format!("{sign}{rest}s"),
                (0, m) => format!("{sign}{m}m{rest}s"),
                (h, m) => format!("{sign}{h}h{m}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_prints_it_so() {
        let words = ["/bin/sh".to_owned(), "-c".into(), "echo \"a\\b\"\t\u{1}é".into()];
        assert_eq!(quoted_list(&words), r#"["/bin/sh" "-c" "echo \"a\\b\"\t\x01é"]"#);
        for (n, text) in [
            (0, "0s"),
            (300_000_000_000, "5m0s"),
            (3_000_000_000, "3s"),
            (1_500_000_000, "1.5s"),
            (150_000_000, "150ms"),
            (1_500_000, "1.5ms"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_000, "25h1m1s"),
        ] {
            assert_eq!(duration(n), text);
        }
    }
}
