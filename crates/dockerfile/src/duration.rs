//! Durations as Go writes them: `1m30s`, `1.5h`, `-2ms`, `0`.

use std::time::Duration;

/// Reads a duration; the sign is returned apart.
///
/// A sequence of numbers with units `ns`, `us` (`µs`, `μs`), `ms`, `s`, `m`, `h`, or a lone 0. The total must fit
/// 63 bits of nanoseconds. `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total += u128::from(whole) * scale;
        let mut place = scale;
        for digit in fraction.bytes() {
            place /= 10;
            total += u128::from(digit - b'0') * place;
        }
        rest = behind;
        if total > i64::MAX as u128 {
            return None;
        }
    }
    let nanos = u64::try_from(total).ok()?;
    Some((negative && nanos > 0, Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ok = |text: &str| parse(text).map(|(negative, d)| (negative, d.as_nanos()));
        assert_eq!(ok("1m30s"), Some((false, 90_000_000_000)));
        assert_eq!(ok("1.5h"), Some((false, 5_400_000_000_000)));
        assert_eq!(ok("-2ms"), Some((true, 2_000_000)));
        assert_eq!(ok("+.5us"), Some((false, 500)));
        assert_eq!(ok("0"), Some((false, 0)));
        assert_eq!(ok("1µs"), Some((false, 1_000)));
        for bad in
            ["", "1", "s", "1x", ".s", "1..5s", "-", "1s1", "9999999999h", "99999999999999999999s", "1 s"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
