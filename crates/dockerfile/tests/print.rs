//! Parse, print, parse gives the same nodes.

use std::path::{Path, PathBuf};

use dockerfile::Span;
use dockerfile::syntax::{Args, Node, Tree, Word, parse, print};

/// A node without its places.
fn bare(mut node: Node) -> Node {
    let words = |words: Vec<Word>| words.into_iter().map(|w| Word { span: Span::default(), ..w }).collect();
    node.args = match node.args {
        Args::Words(list) => Args::Words(words(list)),
        Args::Exec(list) => Args::Exec(words(list)),
        Args::Nested(inner) => Args::Nested(Box::new(bare(*inner))),
        other => other,
    };
    Node {
        flags: words(node.flags),
        keyword_span: Span::default(),
        args_span: Span::default(),
        span: Span::default(),
        original: String::new(),
        first_line: 0,
        last_line: 0,
        empty_continuations: Vec::new(),
        pieces: Vec::new(),
        ..node
    }
}

/// Whether the text was printed and found the same; files with syntax errors are not.
fn same(text: &str, name: &str) -> bool {
    let first = parse(text);
    if !first.diagnostics.is_empty() {
        return false;
    }
    let printed = print(&first);
    let second = parse(&printed);
    assert_eq!(second.diagnostics, [], "{name}: {printed:?}");
    assert_eq!(second.directives, first.directives, "{name}: {printed:?}");
    let nodes = |tree: Tree| tree.nodes.into_iter().map(bare).collect::<Vec<_>>();
    let second_text = print(&second);
    assert_eq!(nodes(second), nodes(first), "{name}: {printed:?}");
    assert_eq!(second_text, printed, "{name}: printing is stable");
    true
}

const FILES: [&str; 8] = [
    "# syntax=docker/dockerfile:1 x\n# escape=`\n# check=skip=all\n# about the base\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-2} AS b\n\
     RUN --mount=type=cache,target=/x,id=\"a,b\" a `\n # c\n\n d\nCOPY --from=b --chown=1:2 [\"e f\", \"/g\"]\n",
    "FROM scratch\nRUN <<-EOF cat 3<<'X' | sh\n\ta $b\n\tEOF\nc\r\nX\nCOPY <<A <<B /d/\n1\nA\n${2:-$3}\nB\nRUN x\n",
    "FROM a\nENV a='b c' d=\"e\\\"f\" g=h\\ i\nENV j k  l \nLABEL m=${n%%*o} p=\nARG t=$u v w=\"\" 'x y'\n\
     HEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\"]\nHEALTHCHECK CMD a  b\nHEALTHCHECK NONE\nONBUILD ONBUILD RUN y\n",
    "FROM a AS Ä\nUSER é:ü\nWORKDIR 日本 \\\n  語\nVOLUME [\"\\u00e9\", \"\\ud83d\\ude00\\n\\t\\\"\\\\\"]\nSHELL [\"x\", \"-c\"]\nCMD [ ]\n\
     CMD [\"a\",]\nSTOPSIGNAL\nCOPY [\u{b}\"a\"]\nWHAT --is=this  thing\nONBUILD COPY <<E /x\ny\nE\n",
    "FROM a\nRUN --x='a b'\"c\\\"\"\\  --y=\\\\ -- --z a\nCOPY --a -- --b c\nCMD --a\nENTRYPOINT --a=' '\n",
    "FROM a\n# one\n\n# two\n#\n# three\n#four\nRUN a\n# end\n",
    "\u{feff}FROM a\r\nRUN a \\\r\n  b\\\\\r\nRUN c \\ \t\n   \\\\\n",
    "FROM a\nRUN b\\ \\",
];

#[test]
fn files() {
    for file in FILES {
        assert!(same(file, file), "{file:?} has syntax errors: {:?}", parse(file).diagnostics);
    }
}

#[test]
fn lines_that_are_continued_because_they_are_long() {
    let words = "#ab \\# cd\\\\ ".repeat(4_000);
    let text = format!("FROM a\nRUN {}\nRUN {}\n", vec![words; 5].join("\\\n"), "é".repeat(32_000));
    assert!(same(&text, "long"));
}

/// Files put together from lines and words that mean something.
#[test]
fn generated_files() {
    let mut state = 7u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % limit
    };
    let keywords = [
        "FROM",
        "run",
        "COPY",
        "Add",
        "ENV",
        "LABEL",
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "VOLUME",
        "SHELL",
        "HEALTHCHECK CMD",
        "ONBUILD",
        "ONBUILD RUN",
        "USER",
        "WORKDIR",
        "EXPOSE",
        "STOPSIGNAL",
        "MAINTAINER",
        "NOPE",
    ];
    let pieces = [
        " ",
        "  ",
        "\t",
        " a",
        " b=c",
        " \"d e\"",
        " 'f",
        "'",
        "\"",
        " --g=h",
        " --",
        " [\"i\", \"j\"]",
        " [\"k\" ",
        "]",
        " \\\n",
        "\\\n\n",
        " \\\\",
        " \\\"",
        " $l",
        " ${m:-n}",
        " #o",
        "\\\n# p\n",
        " é",
        " <<Q",
        " <<-\"R\"",
        "\u{b}",
        "\r",
        "\u{a0}",
        " =",
        "s=t",
    ];
    let mut printed = 0;
    for _ in 0..4_000 {
        let mut text = String::new();
        for _ in 0..=below(4) {
            if below(4) == 0 {
                text.push_str(["# u\n", "#\n", "\n", "# escape=`\n", "#!x\n"][below(5)]);
            }
            text.push_str(keywords[below(keywords.len())]);
            for _ in 0..below(7) {
                text.push_str(pieces[below(pieces.len())]);
            }
            text.push('\n');
            if text.contains("<<") {
                text.push_str("\tv\nQ\nw\n\tR\n");
            }
        }
        printed += usize::from(same(&text, &format!("{text:?}")));
    }
    assert!(printed > 1_500, "{printed} files without errors are too few");
}

/// Every Dockerfile of the conformance suites, where they lie beside the checkout.
#[test]
fn files_of_the_conformance_suites() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/build");
    let mut todo = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let kind = entry.file_type();
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                todo.push(entry.path());
            } else if kind.is_ok_and(|k| k.is_file())
                && entry.file_name().to_string_lossy().contains("ockerfile")
            {
                files.push(entry.path());
            }
        }
    }
    let texts = files.iter().filter_map(|f| Some((f, std::fs::read_to_string(f).ok()?)));
    let printed = texts.filter(|(f, text)| same(text, &f.display().to_string())).count();
    assert!(!root.is_dir() || printed > 100, "{printed} of {} files were printed", files.len());
}
