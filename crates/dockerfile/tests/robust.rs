//! Hostile input: nothing panics, and the time is in proportion to the length of the input.
//!
//! Inputs are made from a few files by a small generator with fixed seeds, so that a failure can be repeated. That
//! the time is bounded is seen by the tests ending at all: the inputs are large enough that anything quadratic or
//! worse would take minutes.

use std::collections::BTreeMap;

use dockerfile::check::{self, CheckInput};
use dockerfile::ignore::{Matcher, ParentMatches, read_patterns};
use dockerfile::{Diagnostic, Parsed, expand, glob, mount, parse, parse_instruction};

const FILES: [&str; 4] = [
    "# syntax=docker/dockerfile:1\n# escape=`\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-2} AS b\n\
     RUN --mount=type=cache,target=/x,id=\"a,b\" a `\n # c\n\n d\nCOPY --from=b --chown=1:2 [\"e f\", \"/g\"]\n",
    "FROM scratch\nRUN <<-EOF cat 3<<'X' | sh\n\ta $b\n\tEOF\nc\nX\nCOPY <<A <<B /d/\n1\nA\n${2:-$3}\nB\n",
    "FROM a\nENV a='b c' d=\"e\\\"f\" g=h\\ i\nENV j k l\nLABEL m=${n%%*o} p=${q//r/s}\nARG t=$u v w=\"\"\n\
     HEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\"]\nONBUILD ONBUILD RUN y\nEXPOSE 1-2/TCP 3:4 $z\n",
    "FROM a AS Ä\nUSER é:ü\nWORKDIR 日本 \\\n  語\nVOLUME [\"\\u00e9\", \"\\ud83d\\ude00\"]\nSHELL [\"x\", \"-c\"]\n\
     STOPSIGNAL 9\nMAINTAINER \u{a0}x\u{a0}\nENTRYPOINT [\"a\", 1]\nCMD [\"a\",]\nWHAT --is=this\n",
];

/// Pieces that mean something somewhere.
const PIECES: [&str; 46] = [
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    " ",
    "\t",
    "\u{a0}",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "\"",
    "'",
    "\\",
    "`",
    "$",
    "${",
    "}",
    ":-",
    "//",
    "%%",
    "##",
    "*",
    "?",
    "[",
    "]",
    "[\"",
    "\",",
    "<<",
    "<<-",
    "<<E\n",
    "E\n",
    "--",
    "--from=",
    "--mount=",
    "=",
    "FROM ",
    "RUN ",
    "ONBUILD ",
    "ENV ",
    "COPY ",
    "ARG ",
    "HEALTHCHECK ",
    "\0",
    "\u{feff}",
    "é",
    "😀",
];

/// A generator of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn piece(&mut self) -> &'static str {
        PIECES[self.below(PIECES.len())]
    }

    /// A place between two characters.
    fn place(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn mutated(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..=self.below(6) {
            let (a, b) = (self.place(&text), self.place(&text));
            let (a, b) = (a.min(b), a.max(b));
            match self.below(4) {
                0 => text.insert_str(a, self.piece()),
                1 => {
                    let some = text[a..b].chars().take(8).map(char::len_utf8).sum::<usize>();
                    text.replace_range(a..a + some, "");
                }
                2 => text.truncate(b),
                _ => {
                    let part = text[a..b].to_owned();
                    text.push_str(&part);
                }
            }
        }
        text
    }
}

trait Boundary {
    fn is_place(&self, at: usize) -> bool;
}

impl Boundary for str {
    fn is_place(&self, at: usize) -> bool {
        at <= self.len() && self.is_char_boundary(at)
    }
}

/// Does all that can be done with a file, and looks at what must hold for each.
fn examine(text: &str) -> Parsed {
    let parsed = parse(text);
    let lines = text.matches('\n').count() as u32 + 1;
    let in_text = |d: &Diagnostic| {
        let span = d.span;
        span.start <= span.end
            && text.is_place(span.start)
            && text.is_place(span.end)
            && (1..=lines).contains(&d.line)
    };
    for diagnostic in &parsed.diagnostics {
        assert!(in_text(diagnostic), "{diagnostic:?}\n{text:?}");
    }
    for statement in &parsed.file.statements {
        let spans = [statement.span, statement.keyword_span, statement.args_span];
        let words = statement.words.iter().map(|w| w.span).chain(statement.flags.iter().map(|f| f.span));
        for span in spans.into_iter().chain(words) {
            assert!(text.get(span.start..span.end).is_some(), "{statement:?}\n{text:?}");
        }
        // A keyword may go on over several lines.
        let keyword = &text[statement.keyword_span.start..statement.keyword_span.end];
        assert!(keyword.contains('\n') || keyword == statement.keyword, "{text:?}");
        assert!(statement.first_line <= statement.last_line && statement.last_line <= lines, "{text:?}");
        let _ = expand::word(&statement.original, &|_| Some("x".to_owned()), '\\');
    }
    let matcher = Matcher::new(&["**/a"]).expect("a valid pattern");
    let input = CheckInput { ignore: Some(&matcher), own_rules: true, ..CheckInput::default() };
    for diagnostic in check::run(&parsed, &input) {
        assert!(in_text(&diagnostic), "{diagnostic:?}\n{text:?}");
        if let Some(fix) = diagnostic.fix {
            assert!(text.get(fix.span.start..fix.span.end).is_some(), "{fix:?}\n{text:?}");
        }
    }
    parsed
}

#[test]
fn the_files_themselves() {
    let counts = FILES.map(|file| examine(file).file.statements.len());
    assert_eq!(counts, [4, 3, 7, 7]);
}

#[test]
fn truncated_files() {
    for file in FILES {
        for at in (0..=file.len()).filter(|at| file.is_char_boundary(*at)) {
            examine(&file[..at]);
            examine(&file[at..]);
        }
    }
}

#[test]
fn mutated_files() {
    let mut numbers = Numbers(1);
    for round in 0..3_000 {
        let text = numbers.mutated(FILES[round % FILES.len()]);
        examine(&text);
    }
}

#[test]
fn random_pieces() {
    let mut numbers = Numbers(2);
    for _ in 0..3_000 {
        let text: String = (0..numbers.below(60)).map(|_| numbers.piece()).collect();
        examine(&text);
        parse_instruction(&text, '`');
        let lookup = |name: &str| (name.len() % 2 == 1).then(|| format!("<{name}>"));
        let _ = expand::words(&text, &lookup, '\\');
        let _ = expand::heredoc(&text, &lookup);
        let _ = expand::display(&text, &lookup, '`');
        let _ = mount::parse(&text, &mut |value| expand::word(value, &lookup, '\\').map(|e| e.text));
        let _ = mount::Device::parse(&text);
        let patterns = read_patterns(&text);
        if let Ok(matcher) = Matcher::new(&patterns) {
            for path in ["a", "a/b/é", "", "/", &text] {
                let alone = matcher.matches_below(path, &ParentMatches::default()).0;
                assert_eq!(matcher.matches(path), alone, "{patterns:?} {path:?}");
                matcher.may_skip_dir(path);
            }
        }
        let _ = glob::matches(&text, &text);
    }
}

/// A walk with the parents' results agrees with looking at every path alone where no pattern is negated, and a
/// directory that may be skipped holds nothing that is not excluded.
#[test]
fn walks() {
    let mut numbers = Numbers(3);
    let words = ["a", "b", "*", "**", "?", "[ab]", "a*", "/", "/", "/", "!"];
    let paths = ["a", "b", "a/a", "a/b", "a/b/a", "a/b/ab", "b/a", "b/a/b", "ab", "ab/a/b"];
    let (mut excluded_paths, mut skipped) = (0, 0);
    for _ in 0..2_000 {
        let patterns: Vec<String> = (0..1 + numbers.below(4))
            .map(|_| (0..1 + numbers.below(4)).map(|_| words[numbers.below(words.len())]).collect())
            .collect();
        let Ok(matcher) = Matcher::new(&patterns) else { continue };
        let mut known: BTreeMap<&str, (bool, ParentMatches)> = BTreeMap::new();
        for path in paths {
            let parent = path.rsplit_once('/').map(|(parent, _)| known.get(parent).cloned());
            let parent = parent.unwrap_or_else(|| Some((false, ParentMatches::default())));
            let Some((parent_excluded, parent)) = parent else {
                // The directory is not listed above; ask without it.
                continue;
            };
            let found = matcher.matches_below(path, &parent);
            if !matcher.has_negations() {
                assert_eq!(found.0, matcher.matches(path), "{patterns:?} {path}");
            }
            if let Some((directory, _)) = path.rsplit_once('/')
                && parent_excluded
                && matcher.may_skip_dir(directory)
            {
                skipped += 1;
                assert!(found.0, "{patterns:?} {path} lies in a directory that was skipped");
            }
            excluded_paths += usize::from(found.0);
            known.insert(path, found);
        }
    }
    assert!(
        excluded_paths > 1_000 && skipped > 100,
        "{excluded_paths} {skipped}: the test looks at too little"
    );
}

#[test]
fn long_lines() {
    let length = 200_000;
    for keyword in ["FROM", "RUN", "ENV", "COPY", "ARG", "CMD", "HEALTHCHECK", "ONBUILD", "X"] {
        for unit in [
            "a",
            "a ",
            "a=b ",
            "\"",
            "'",
            "\\",
            "[",
            "[\"a\",",
            "${a:-",
            "$a",
            "<<",
            "<<a ",
            "--a ",
            "--mount=a ",
        ] {
            let text = format!("FROM a\n{keyword} {}\n", unit.repeat(length / unit.len()));
            let parsed = parse(&text);
            assert!(parsed.diagnostics.iter().any(|d| d.code == "LineTooLong"), "{keyword} {unit}");
        }
    }
}

#[test]
fn a_line_of_a_mebibyte() {
    let parsed = parse(&format!("FROM a\nRUN {}\n", "x \"$y\" ".repeat(1 << 17)));
    assert!(parsed.diagnostics.iter().any(|d| d.code == "LineTooLong"));
    let flags: String = (0..100_000).map(|i| format!("--mount={i}\\\" ")).collect();
    let parsed = parse(&format!("FROM a\nRUN {flags}x\n"));
    assert_eq!(parsed.diagnostics.iter().filter(|d| d.code == "InvalidMount").count(), 100_000);
}

/// Many stages, each with a variable more than the one that it builds on, and uses of unset ones.
#[test]
fn many_stages_and_variables() {
    let stage =
        |i: usize| format!("FROM s{} AS s{}\nENV LONG_NAME_{i}=x\nUSER $LONG_NOME_{i}\n", i.max(1) - 1, i);
    let text: String = (0..5_000).map(stage).collect();
    let found = check::run(&parse(&format!("FROM scratch AS s0\n{text}")), &CheckInput::default());
    assert!(found.iter().any(|d| d.code == "UndefinedVar"));
}

#[test]
fn many_lines() {
    for unit in [
        "RUN a\n",
        "RUN a \\\n",
        "RUN a \\\n\n",
        "# a\n",
        "\n",
        "FROM a AS b\n",
        "ARG a\n",
        "ENV a=$a$a$a\n",
        "X\n",
        "COPY <<E /\nE\n",
        "FROM s AS s\nRUN apk add x\n",
        "COPY . .\nRUN npm ci && rm /x\n",
        "ARG GIT_SHA\nRUN make\n",
        "COPY x /x\nRUN chmod 1 /y\n",
        "RUN curl -o /x y\nRUN rm /z\n",
    ] {
        let text = format!("FROM scratch\n{}", unit.repeat(20_000));
        let parsed = parse(&text);
        assert!(parsed.diagnostics.iter().all(|d| d.code != "LineTooLong"), "{unit}");
        check::run(&parsed, &CheckInput { own_rules: true, ..CheckInput::default() });
    }
}

#[test]
fn deep_nesting() {
    let onbuild = "ONBUILD ".repeat(8_000);
    assert!(examine(&format!("FROM a\n{onbuild}RUN x\n")).diagnostics.iter().any(Diagnostic::is_error));
    let json = "[".repeat(60_000);
    examine(&format!("FROM a\nCMD {json}\n"));
    let variable = "${a:-".repeat(10_000);
    examine(&format!("FROM scratch\nUSER {variable}\n"));
}

/// Doubling a variable again and again neither fills the memory nor takes long.
#[test]
fn doubling_variables() {
    let text = format!("FROM scratch\nENV A=xxxxxxxx\n{}", "ENV A=$A$A$A$A$A$A$A$A\n".repeat(200));
    assert_eq!(check::run(&parse(&text), &CheckInput::default()), []);
}
