//! Sizes and times as people read them, in Docker's words.

pub(crate) use analyse::report::human as bytes;
use oci::Time;

/// `About a minute ago`, `3 weeks ago`. A time to come is less than a second ago.
pub(crate) fn ago(then: Time, now: Time) -> String {
    let secs = now.secs.saturating_sub(then.secs).max(0);
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    let text = match secs {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{secs} seconds"),
        60..120 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours < 2 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    };
    format!("{text} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1434, "1.43kB"),
            (9_994, "9.99kB"),
            (9_996, "10.0kB"),
            (99_960, "100kB"),
            (999_600, "1.00MB"),
            (5_573_000, "5.57MB"),
            (128_400_000, "128MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn ages() {
        let at = |secs: i64| ago(Time::from_secs(1_000_000_000 - secs), Time::from_secs(1_000_000_000));
        for (secs, text) in [
            (-5, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (180, "3 minutes ago"),
            (3700, "About an hour ago"),
            (7200, "2 hours ago"),
            (3 * 86_400, "3 days ago"),
            (21 * 86_400, "3 weeks ago"),
            (90 * 86_400, "3 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(at(secs), text);
        }
    }
}
