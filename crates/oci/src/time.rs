//! Points in time: seconds and nanoseconds since 1970 (UTC), and RFC 3339 text, the form of every OCI document.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z and nanoseconds within the second. Packed, since every file of an image has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(4))]
pub struct Time {
    /// Seconds; negative before 1970.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// Whole seconds.
    pub const fn from_secs(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    /// The clock of this machine.
    pub fn now() -> Time {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => Time { secs: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nanos: d.subsec_nanos() },
            Err(_) => Time::default(),
        }
    }

    /// RFC 3339 in UTC, with nanoseconds only where there are any, as Go writes it. Years outside 0..=9999 are clamped.
    pub fn rfc3339(&self) -> String {
        const MIN: i64 = -62_167_219_200;
        const MAX: i64 = 253_402_300_799;
        let secs = self.secs.clamp(MIN, MAX);
        let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let (y, m, d) = civil_from_days(days);
        let mut out =
            format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
        if self.nanos != 0 {
            let frac = format!(".{:09}", self.nanos);
            out.push_str(frac.trim_end_matches('0'));
        }
        out.push('Z');
        out
    }

    /// Reads RFC 3339 with any offset. `None` if it is none.
    pub fn parse_rfc3339(text: &str) -> Option<Time> {
        let b = text.as_bytes();
        if b.len() < 20
            || b[4] != b'-'
            || b[7] != b'-'
            || !matches!(b[10], b'T' | b't' | b' ')
            || b[13] != b':'
            || b[16] != b':'
        {
            return None;
        }
        let num = |r: std::ops::Range<usize>| -> Option<i64> {
            let part = b.get(r)?;
            part.iter().try_fold(0i64, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
        };
        let (y, m, d) = (num(0..4)?, num(5..7)?, num(8..10)?);
        let (hh, mm, ss) = (num(11..13)?, num(14..16)?, num(17..19)?);
        if !(1..=12).contains(&m) || !(1..=31).contains(&d) || hh > 23 || mm > 59 || ss > 60 {
            return None;
        }
        let mut at = 19;
        let mut nanos = 0u32;
        if b.get(at) == Some(&b'.') {
            at += 1;
            let mut digits = 0;
            while let Some(c) = b.get(at).filter(|c| c.is_ascii_digit()) {
                if digits < 9 {
                    nanos = nanos * 10 + u32::from(c - b'0');
                    digits += 1;
                }
                at += 1;
            }
            if digits == 0 {
                return None;
            }
            nanos *= 10u32.pow(9 - digits);
        }
        let offset = match b.get(at)? {
            b'Z' | b'z' if b.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if b.len() == at + 6 && b[at + 3] == b':' => {
                let s = num(at + 1..at + 3)? * 3600 + num(at + 4..at + 6)? * 60;
                if *sign == b'-' { -s } else { s }
            }
            _ => return None,
        };
        Some(Time { secs: days_from_civil(y, m, d) * 86_400 + hh * 3600 + mm * 60 + ss - offset, nanos })
    }
}

/// Days since 1970-01-01 to (year, month, day), proleptic Gregorian, by shifting the year's start to March so that the leap day comes last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (secs, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_704_067_200, 500_000_000, "2024-01-01T00:00:00.5Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
        ] {
            let t = Time { secs, nanos };
            assert_eq!(t.rfc3339(), text);
            assert_eq!(Time::parse_rfc3339(text), Some(t));
        }
        assert_eq!(Time::parse_rfc3339("2024-01-01T01:00:00+01:00"), Some(Time::from_secs(1_704_067_200)));
        assert_eq!(Time::parse_rfc3339("2024-01-01"), None);
        assert_eq!(Time::parse_rfc3339("2024-13-01T00:00:00Z"), None);
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in -146_097..146_097 {
            let t = Time::from_secs(day * 86_400);
            assert_eq!(Time::parse_rfc3339(&t.rfc3339()), Some(t));
        }
    }
}
