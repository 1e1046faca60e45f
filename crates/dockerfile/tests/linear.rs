//! Time in proportion to the length of the text: seen by the ratio of the times for a text and for one four times as long.
//!
//! Counted is the time that this thread had a processor, so that a busy machine does not matter.

use dockerfile::check::{self, CheckInput};
use dockerfile::{Parsed, parse};
use rustix::time::{ClockId, clock_gettime};

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let now = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
    };
    let before = now();
    // Freed within: what a tree costs to take down is part of it.
    drop(work());
    now() - before
}

/// A text of about this length.
fn text(unit: &str, length: usize) -> String {
    format!("FROM a:1\n{}", unit.repeat(length / unit.len()))
}

/// Asserts that four times the length takes less than nine times as long (it would be sixteen times if it were quadratic). A cache that
/// does not suffice any more, or a page fault, may spoil a measurement, but not all of them.
fn is_linear(name: &str, length: usize, work: impl Fn(&str)) {
    let unit = |length| text(name, length);
    let (short, long) = (unit(length), unit(4 * length));
    let mut ratios = Vec::new();
    for _ in 0..4 {
        let ratio = seconds(|| work(&long)) / seconds(|| work(&short)).max(1e-6);
        ratios.push(ratio);
        if ratio < 9.0 {
            return;
        }
    }
    panic!("{name:?}: four times the length takes {ratios:.1?} times as long");
}

fn parsed(text: &str) -> Parsed {
    let parsed = parse(text);
    assert!(parsed.file.statements.len() > 100);
    parsed
}

#[test]
fn parsing_ten_megabytes() {
    let unit = "RUN apt-get update && apt-get install --no-install-recommends -y some packages and their friends \\\n  # why\n  and more\n";
    is_linear(unit, 10 << 18, |text| drop(parsed(text)));
}

#[test]
fn parsing_all_kinds_of_instructions() {
    for unit in [
        "COPY --from=x --chown=1:2 [\"a b\", \"c\"]\n",
        "ENV A=b C=\"d $e\" F=g\\ h\n",
        "RUN <<E cat\nx $y\nE\n",
        "RUN a \\\n\n# b\n c\n",
        "ARG A=${B:-${C#x*y}}\n",
        "# comment\n\n",
        "NOPE x\n",
        "FROM a AS b\n",
    ] {
        // One of the units has no instructions.
        is_linear(unit, 200_000, |text| drop(parse(text)));
    }
}

#[test]
fn checking() {
    let input = CheckInput { own_rules: true, ..CheckInput::default() };
    for unit in [
        "RUN apt-get update && apt-get install x && make\nCOPY a b /c/\nENV A=b C=\"d e\"\n",
        "COPY x /x\nRUN chmod 1 /y && rm /z\n",
        "COPY . .\nRUN npm ci && pip install x\nARG GIT_SHA\nENV X=$GIT_SHA\n",
        "RUN curl x | sh && cd /x\n",
        "ONBUILD RUN x\nEXPOSE 1 2/TCP\nCMD x\n",
        "FROM alpine AS b\nRUN a\n",
        "RUN apk add gcc\nRUN apk del make\nUSER $NOPE\n",
    ] {
        is_linear(unit, 30_000, |text| drop(check::run(&parsed(text), &input)));
    }
}

/// The longest lines that there may be, of whatever is between them.
#[test]
fn lines_of_65535_bytes() {
    for unit in ["a", "a ", "\"", "\\x", "[\"a\",", "${a:-", "<<", "--a ", "a=b ", "$(a && ", "`"] {
        for keyword in ["RUN ", "ENV x=", "COPY "] {
            let line = |length: usize| {
                let mut line = format!("{keyword}{}", unit.repeat(length / unit.len()));
                line.truncate(length);
                line
            };
            let both = |line: String| {
                let text = format!("FROM scratch\n{line}\n");
                let parsed = parse(&text);
                assert!(parsed.diagnostics.iter().all(|d| d.code != "LineTooLong"), "{unit} {keyword}");
                drop(check::run(&parsed, &CheckInput { own_rules: true, ..CheckInput::default() }));
            };
            assert_eq!(line(65_535).len(), 65_535);
            let short = || seconds(|| both(line(65_535 / 4)));
            let long = || seconds(|| both(line(65_535)));
            let linear = (0..5).any(|_| long() < 9.0 * short().max(1e-4));
            assert!(linear, "{keyword}{unit}: a line four times as long takes more than nine times as long");
        }
    }
    let parsed = parse(&format!("FROM a\nRUN {}\n", "x".repeat(65_532)));
    assert!(parsed.diagnostics.iter().any(|d| d.code == "LineTooLong"), "one byte more is refused");
}
