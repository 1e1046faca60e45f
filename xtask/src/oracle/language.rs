//! Cases about the language: words, quotes, variables, continued lines, directives, heredocs, and every instruction that makes no file.
//!
//! They begin from scratch and run nothing. Instructions are patterns: `@` stands for a word made of [`PIECES`], `~` for blanks.

use super::case::Case;
use crate::random::Random;

const NAMES: &[&str] = &["A", "B", "EMPTY", "UNSET", "a_b", "PATH"];
const OPERATORS: &[&str] = &[":-", "-", ":+", "+", "#", "##", "%", "%%", "/", "//"];
/// Those that are an error, always or for a variable that is not set.
const WRONG_OPERATORS: &[&str] = &[":?", "?", "^", ":=", "=", ":"];
/// What stands behind an operator.
#[rustfmt::skip]
const OPERANDS: &[&str] = &[
    "w", "", "$B", "${A}", "*", "f*o", "?o", "o/0", "o/", "*/x", "a\\/b/c", "'q r'", "\"q $A\"", "foo",
    "${UNSET:-z}", "[a-f]*", "\\}", "}", " sp", "*o", "/#", "b?r/$A",
];
/// Plain pieces of a word, quoted ones, and those that look like the beginning of something.
const PIECES: [&[&str]; 4] = [
    &["x", "foo", "a.b", "1", "/p/q", "-", "é", "t*x", "foobarfoo"],
    &["'x y'", "'$A'", "'\\'", "'\"'", "''"],
    &[
        "\"x y\"",
        "\"$A\"",
        "\"\\$A\"",
        "\"\\\\\"",
        "\"'\"",
        "\"\\\"\"",
        "\"${A:-q w}\"",
        "\"\\n\"",
        "\"\\q\"",
        "\"\"",
    ],
    &[
        "$", "$$", "${", "${}", "$1", "$-", "$@", "${1}", "}", "{", "$(x)", "`x`", "\"", "'", "$A_b", "${A",
        "${!A}", "#",
    ],
];

/// Instructions, how often of [`TOTAL`] each occurs, and the patterns of what follows it.
#[rustfmt::skip]
const INSTRUCTIONS: &[(usize, &str, &[&str])] = &[
    (6, "ENV", &[
        "N=@", "N=@ M=@", "N @ @", "A=@ C=$A", "N=@~M=@~", "@=@", "N", "N=", "\"N\"=1", "'N M'=1", "N = 1",
        "=x", "N=a b", "N=a\\ b M='c d'e\"f g\"",
    ]),
    (4, "LABEL", &["l=@", "\"l $A\"=@ m=@", "l @ x", "l.@=@", "l", "l=1 l=2 L=3", "$A=$B"]),
    (4, "ARG", &[
        "N=@", "N=@ M=@", "N M", "A", "UNSET", "N= M", "N=\"a b\" M", "BUILDARG", "BUILDARG=@", "G", "G=@",
        "TARGETPLATFORM", "TARGETOS=x", "HTTP_PROXY", "a b=c d", "$A=1", "=1", "N=1 N=2", "'N'=1",
    ]),
    (3, "CMD", COMMANDS),
    (2, "ENTRYPOINT", COMMANDS),
    (2, "EXPOSE", &[
        "@", "80 @", "80/tcp 80/TCP 80", "$A", "1000-1003/udp 22", "8080-8000", "127.0.0.1:80:80",
        "[::1]:80:90", "80:90-91", "80-81:90-91", "65535 65536", "80/", "/tcp", "80//tcp", "080", " 80\t81",
        "80-", "80,81", "\"80 81\"", "$PORTS",
    ]),
    (2, "VOLUME", &[
        "@", "[\"/a\", \"$A\"]", "/a\t/b  /c", "[\"/a b\"]", "[\"\"]", "['/a']", "\"/a b\" /c", "/a#b",
    ]),
    (2, "WORKDIR", &["@", "a/@", "/x//y/", "\"/a b\"", "/a b c", "./x/../y", "..", "/a\\ b", "C:\\x"]),
    (1, "USER", &["@", "a b", "\"u v\"", ":5", "u:g"]),
    (1, "STOPSIGNAL", &[
        "SIGTERM", "$SIG", "15", "SIGRTMIN+2", "rtmax", "SIG", "sigsigterm", "9 9", "\"9\"", "POLL", "0x9",
        "+9", " 9", "UNUSED", "STKFLT", "CLD", "SIGIOT", "EMT", "RTMIN-1", "RTMAX-14", "RTMAX-0", "1e1",
        "INFO",
    ]),
    (2, "HEALTHCHECK", &[
        "CMD $A b", "CMD [\"a\", \"$A\"]", "--interval=1s CMD x", "--interval=1.5s CMD x",
        "--interval=500ms CMD x", "--interval=1ms CMD x", "--interval=999us CMD x", "--interval=1m2s CMD x",
        "--interval=-1s CMD x", "--interval=1 CMD x", "--interval=1S CMD x", "--interval= CMD x",
        "--interval=1h CMD x", "--interval=1d CMD x", "--interval=.5s CMD x", "--interval=1s1 CMD x",
        "--interval=0s CMD x", "--interval=$I CMD x", "--interval=+5s CMD x", "--retries=1 CMD x",
        "--retries=0 CMD x", "--retries=x CMD x", "--retries=99999999999 CMD x", "--retries=01 CMD x",
        "--retries=1.0 CMD x", "--retries=-1 CMD x", "--retries=+1 CMD x", "NONE x", "none", "cmd x",
        "--timeout=1s --timeout=2s CMD x", "--foo=1 CMD x", "CMD", "CMD --interval=1s",
        "--start-interval=1s --start-period=2s CMD a", "--interval 5s CMD x", "CMD []", "CMD  a   b",
        "--interval=1s NONE",
    ]),
    (1, "SHELL", &[
        "[\"a\"]\nCMD x $A", "[\"a\", \"-c\"]\nENTRYPOINT y", "a -c", "[\"$A\"]\nCMD z",
        "[\"a\",\"b\",\"c\"]\nHEALTHCHECK CMD q", "[]", "[\"\"]\nCMD x",
    ]),
    (2, "ONBUILD", &[
        "ENV N=@", "LABEL l=@ m=@", "ARG N=@", "CMD @", "EXPOSE @", "WORKDIR @", "USER @", "VOLUME @",
        "RUN <<E\nx\nE", "COPY a  b", "copy --from=x a b", "RUN  a   b", "RUN [\"a\"]", "FOO x", "",
        "ENV a=$b c='d'", "COPY --foo a b", "onbuild run x", "from x", "COPY <<E /x\n$A\nE", "RUN a \\\n b",
        "ENV", "EXPOSE 99999",
    ]),
    (1, "MAINTAINER", &["@", "a  b", "\"a\"", ""]),
];
const TOTAL: usize = 33;

#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "@", "[\"a\",\"b\"]", "[\"a\",\"$A\"]", "[\"a\",\"\\\"\"]", "[\"a\",\"\\\\\"]", "[\"a\",\"\\u0041\"]",
    "[\"a\",\"é\"]", "[\"a\",\"\\n\"]", "[\"a\",\"\\/\"]", "[\"a\",\"\\x\"]", "[\"a\",\"<&>\"]",
    "[ \"a\" , \"b\" ]", "[\"a\"] x", "[]", "[1]", "[\"a\", 1]", "[\"a\"", "a  b   'c d'", "echo \"$A\" && x",
    "[\"a\",\n\"b\"]", "[ ]", "a # b", "[\"a\", [\"b\"]]", "[null]", "[\"a\"]]",
];

#[rustfmt::skip]
const DIRECTIVES: &[&str] = &[
    "#escape = `", "# Escape=`", "# foo=bar\n# escape=`", "#\n# escape=`", "# escape=\\", "\n# escape=`",
    "# escape=x", "# check=skip=all", "# escape=`\n# escape=`", "// escape=`",
];
const GLOBALS: &[&str] =
    &["ARG G=glob", "ARG G", "ARG G=$UNSET", "ARG G='a b'", "ARG G=x\nARG H=$G-y", "arg G=\"q$BUILDARG\""];
#[rustfmt::skip]
const FROMS: &[&str] = &[
    "FROM scratch", "FROM scratch", "FROM scratch", "from scratch AS x", "FROM  scratch  as  X",
    "FROM --platform=$BUILDPLATFORM scratch", "FROM ${UNSET:-scratch}", "FROM --platform=linux/arm64 scratch",
];
/// The last instruction makes a file: an image without layers is another matter.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "COPY Dockerfile /", "COPY Dockerfile /", "COPY Dockerfile /", "COPY Dockerfile /", "COPY Dockerfile /",
    "COPY <<E /x\n$A ${B:-x} '$A' \\$A\n\\\\ q\nE", "COPY <<'E' /x\n$A\nE", "COPY <<-E /x\n\t\ta $A\n\tE",
    "COPY <<E <<F /d/\n1\nE\n2\nF", "COPY <<\"E\" /x\n$A\nE", "COPY <<E /x\n${A//o/0}\n\"$A\"\n\nE",
    "COPY <<E /x\n${A%foo}\nE", "COPY <<E /$A/x\nq\nE", "COPY <<E.txt /d/\nq\nE.txt", "ADD <<E /x\n$\nE",
];
/// Those that are refused: few, since they hide what stands above them.
const WRONG_FILES: &[&str] =
    &["COPY <<E /x\n${UNSET:?no}\nE", "COPY <<E /x\nno end", "ADD <<E /x\n${A^^}\nE"];
const BUILD_ARGS: &[&str] =
    &["BUILDARG=given", "N=narg", "A=aarg", "G=garg", "M=", "HTTP_PROXY=http://p", "TARGETOS=bad"];

/// Makes a case.
pub(super) fn case(r: &mut Random) -> Case {
    let mut lines: Vec<String> = Vec::new();
    let mut escape = "\\";
    if r.percent(12) {
        escape = "`";
        lines.push("# escape=`".into());
    } else if r.percent(4) {
        lines.push(r.of(DIRECTIVES).into());
    }
    if r.percent(30) {
        lines.push(r.of(GLOBALS).into());
    }
    if r.percent(5) {
        lines.push(r.of(&["", "# c", "   ", "\t# c"]).into());
    }
    lines.push(r.of(FROMS).into());
    lines.push("ENV A=foobarfoo B=b.o EMPTY= a_b=ab".into());
    for _ in 0..r.of(&[1, 2, 2, 3]) {
        let made = instruction(r, escape);
        let mut line = continued(r, escape, made);
        if r.percent(6) {
            line.insert_str(0, "  ");
        }
        if r.percent(6) {
            line.push_str("   ");
        }
        lines.push(line);
        if r.percent(6) {
            lines.push(r.of(&["# c", "", "  # c", "\t"]).into());
        }
    }
    lines.push(if r.percent(4) { r.of(WRONG_FILES) } else { r.of(FILES) }.into());
    let mut text = lines.join("\n");
    if r.percent(90) {
        text.push('\n');
    }
    if r.percent(6) {
        text = text.replace('\n', "\r\n");
    }
    if r.percent(3) {
        text.insert(0, '\u{feff}');
    }
    let build_arg = r.percent(40).then(|| r.of(BUILD_ARGS));
    Case { dockerfile: text, build_arg, ..Case::default() }
}

/// One instruction, with what shows its effect where it has none of its own.
fn instruction(r: &mut Random, escape: &str) -> String {
    let mut at = r.below(TOTAL);
    let &(_, name, patterns) = INSTRUCTIONS
        .iter()
        .find(|(weight, ..)| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        })
        .unwrap_or(&INSTRUCTIONS[0]);
    let written = match r.below(5) {
        0 => name.to_lowercase(),
        1 => format!("{}{}", &name[..1], name[1..].to_lowercase()),
        _ => name.to_owned(),
    };
    let pattern = r.of(patterns);
    let shown = if name == "ARG" { "\nLABEL after=$N-$M-$A-$G-$BUILDARG" } else { "" };
    format!("{written}{}{}{shown}", blank(r), filled(r, escape, pattern))
}

fn blank(r: &mut Random) -> &'static str {
    r.of(&[" ", " ", " ", "  ", "\t"])
}

fn filled(r: &mut Random, escape: &str, pattern: &str) -> String {
    let mut out = String::new();
    for c in pattern.chars() {
        match c {
            '@' => {
                for _ in 0..r.of(&[1, 1, 2, 2, 3]) {
                    out.push_str(&piece(r, escape));
                }
            }
            '~' => out.push_str(blank(r)),
            c => out.push(c),
        }
    }
    out
}

fn piece(r: &mut Random, escape: &str) -> String {
    let name = r.of(NAMES);
    match r.below(100) {
        0..20 => r.of(PIECES[0]).into(),
        20..35 => format!("${name}"),
        35..45 => format!("${{{name}}}"),
        45..80 => {
            let operators = if r.percent(8) { WRONG_OPERATORS } else { OPERATORS };
            format!("${{{name}{}{}}}", r.of(operators), r.of(OPERANDS))
        }
        80..86 => r.of(PIECES[1]).into(),
        86..94 => r.of(PIECES[2]).into(),
        94..98 => format!("{escape}{}", r.of(&["$", "\\", "\"", "'", " ", "n", "{", "a"])),
        _ => r.of(PIECES[3]).into(),
    }
}

/// Breaks a line at one of its blanks, sometimes.
fn continued(r: &mut Random, escape: &str, line: String) -> String {
    let blanks: Vec<usize> = line.match_indices(' ').map(|(at, _)| at).collect();
    if blanks.len() < 2 || !r.percent(25) {
        return line;
    }
    let at = r.of(&blanks);
    let behind = r.of(&["", "", " ", "\t"]);
    let between = r.of(&["", "", "\n# comment", "\n   # indented", "\n", "\n\n"]);
    let indent = r.of(&["", "  "]);
    format!("{} {escape}{behind}{between}\n{indent}{}", &line[..at], &line[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_can_occur() {
        assert_eq!(INSTRUCTIONS.iter().map(|i| i.0).sum::<usize>(), TOTAL);
        let mut r = Random::new(1);
        let all: String = (0..500).map(|_| instruction(&mut r, "\\") + "\n").collect();
        for (_, name, _) in INSTRUCTIONS {
            assert!(all.lines().any(|l| l.starts_with(name)), "{name}");
        }
    }
}
