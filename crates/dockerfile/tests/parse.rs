//! Dockerfiles and what they say.

use std::time::Duration;

use dockerfile::{
    Class, Command, Diagnostic, Healthcheck, Instruction, Script, Span, Statement, parse, parse_instruction,
};

/// The statements of a file without errors.
fn statements(text: &str) -> Vec<Statement> {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.file.statements
}

/// The instruction behind `FROM a`.
fn one(instruction: &str) -> Instruction {
    let mut all = statements(&format!("FROM a\n{instruction}\n"));
    assert_eq!(all.len(), 2, "{instruction}");
    all.remove(1).instruction
}

fn errors(text: &str) -> Vec<(&'static str, u32)> {
    let all = parse(text).diagnostics;
    all.into_iter().filter(Diagnostic::is_error).map(|d| (d.code, d.line)).collect()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| text.to_string()).collect()
}

#[test]
fn a_whole_file() {
    let text = "\u{feff}# syntax=docker/dockerfile:1 x\n# escape=`\n# check=skip=all\n\n\
                ARG V=1\n# above\n\nFROM --platform=$P a:${V} AS Build\nRUN a `\n  # no\n\n  b \\\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    let directives = parsed.file.directives;
    assert_eq!(directives.syntax.as_deref(), Some("docker/dockerfile:1 x"));
    assert_eq!((directives.escape, directives.check.as_deref()), ('`', Some("skip=all")));
    let [arg, from, run] = parsed.file.statements.as_slice() else { panic!("three instructions") };
    assert_eq!((arg.first_line, arg.last_line, arg.comments.len()), (5, 5, 0));
    let Instruction::From(stage) = &from.instruction else { panic!("FROM") };
    assert_eq!((stage.image.as_str(), stage.platform.as_deref()), ("a:${V}", Some("$P")));
    assert_eq!(stage.name.as_deref(), Some("build"));
    assert_eq!(stage.name_as_written.as_deref(), Some("Build"));
    assert_eq!(from.comments, ["above"]);
    assert_eq!((from.flags[0].name.as_str(), from.flags[0].value.as_deref()), ("platform", Some("$P")));
    assert_eq!(run.original, "RUN a   b \\");
    assert_eq!((run.first_line, run.last_line), (9, 12));
    assert_eq!(run.empty_continuations.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [11]);
}

#[test]
fn places_point_into_the_text() {
    let text = "\u{feff}FROM a\n  COPY --from=b \\\n   --chown=c x \\\n y # z\nRUN <<E\nq\nE\n";
    let parsed = parse(text);
    let at = |span: Span| &text[span.start..span.end];
    let copy = &parsed.file.statements[1];
    assert_eq!(at(copy.keyword_span), "COPY");
    assert_eq!(copy.flags.iter().map(|f| at(f.span)).collect::<Vec<_>>(), ["--from=b", "--chown=c"]);
    assert_eq!(copy.words.iter().map(|w| at(w.span)).collect::<Vec<_>>(), ["x", "y", "#", "z"]);
    assert_eq!(at(copy.span), "COPY --from=b \\\n   --chown=c x \\\n y # z");
    assert_eq!(at(parsed.file.statements[2].span), "RUN <<E\nq\nE");
}

#[test]
fn commands() {
    assert_eq!(one("CMD [\"a\", \"b\"]"), Instruction::Cmd(Command::Exec(texts(&["a", "b"]))));
    assert_eq!(one("CMD [\"a\", b]"), Instruction::Cmd(Command::Shell("[\"a\", b]".into())));
    assert_eq!(one("CMD"), Instruction::Cmd(Command::Shell(String::new())));
    assert_eq!(one("ENTRYPOINT []"), Instruction::Entrypoint(Command::Exec(vec![])));
    assert_eq!(one("SHELL [\"a\"]"), Instruction::Shell(texts(&["a"])));
    assert_eq!(errors("FROM a\nCMD [1]\n"), [("ExecForm", 2)]);
    assert_eq!(errors("FROM a\nSHELL a\nSHELL []\n"), [("ShellForm", 2), ("MissingArgument", 3)]);
}

#[test]
fn key_values() {
    let Instruction::Env(env) = one("ENV a='b c' d=\"e\"f g=") else { panic!("ENV") };
    let pairs: Vec<_> = env.pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("a", "'b c'"), ("d", "\"e\"f"), ("g", "")]);
    assert!(!env.legacy);
    let Instruction::Label(label) = one("LABEL a  b = c") else { panic!("LABEL") };
    assert_eq!((label.pairs[0].1.as_str(), label.legacy), ("b = c", true));
    assert_eq!(
        errors("FROM a\nENV\nENV a\nENV =b\nENV a=b c\nARG =\nARG\n"),
        [
            ("MissingArgument", 2),
            ("MissingValue", 3),
            ("BlankName", 4),
            ("MissingEquals", 5),
            ("BlankName", 6),
            ("MissingArgument", 7)
        ]
    );
}

#[test]
fn plain_arguments() {
    assert_eq!(one("WORKDIR /a b"), Instruction::Workdir("/a b".into()));
    assert_eq!(one("USER a:b "), Instruction::User("a:b".into()));
    assert_eq!(one("STOPSIGNAL 9"), Instruction::Stopsignal("9".into()));
    assert_eq!(one("EXPOSE 90 80/udp"), Instruction::Expose(texts(&["80/udp", "90"])));
    assert_eq!(one("VOLUME [\" a \", \"b\"]"), Instruction::Volume(texts(&["a", "b"])));
    assert_eq!(one("MAINTAINER a b"), Instruction::Maintainer("a b".into()));
    assert_eq!(errors("FROM a\nUSER\nVOLUME [\"\"]\n"), [("MissingArgument", 2), ("EmptyVolume", 3)]);
}

#[test]
fn copies() {
    let Instruction::Copy(copy) = one("COPY --from=x --link --parents=false --exclude=a --exclude=b c d e/")
    else {
        panic!("COPY")
    };
    assert_eq!((copy.sources, copy.dest.as_str()), (texts(&["c", "d"]), "e/"));
    assert_eq!((copy.from.as_deref(), copy.link, copy.parents), (Some("x"), true, false));
    assert_eq!(copy.exclude, ["a", "b"]);
    let Instruction::Add(add) =
        one("ADD --keep-git-dir=TRUE --unpack=false --checksum=sha256:x [\"a b\", \"c\"]")
    else {
        panic!("ADD")
    };
    assert_eq!((add.keep_git_dir, add.unpack, add.link), (Some(true), Some(false), false));
    assert_eq!((add.sources, add.checksum.as_deref()), (texts(&["a b"]), Some("sha256:x")));
}

#[test]
fn flags_that_are_wrong() {
    let text =
        "FROM a\nCOPY --form=b c d\nCOPY --link=maybe --from c d\nCOPY --from=a --from=b c d\nCMD --x y\n";
    assert_eq!(
        errors(text),
        [
            ("UnknownFlag", 2),
            ("InvalidFlagValue", 3),
            ("MissingFlagValue", 3),
            ("DuplicateFlag", 4),
            ("UnknownFlag", 5)
        ]
    );
    let found = parse(text).diagnostics;
    assert_eq!(found[0].help.as_deref(), Some("did you mean --from?"));
    assert_eq!(&text[found[0].span.start..found[0].span.end], "--form=b");
    assert!(found.iter().all(|d| d.class == Class::Instruction));
}

#[test]
fn flags_without_effect_are_warnings() {
    let parsed = parse("FROM a\nARG --x=y a\nSTOPSIGNAL --x 9\nHEALTHCHECK --x NONE\n");
    assert_eq!(parsed.file.statements.len(), 4);
    let found: Vec<_> = parsed.diagnostics.iter().map(|d| (d.code, d.is_error())).collect();
    assert_eq!(found, [("IgnoredFlag", false); 3]);
}

#[test]
fn heredocs_of_copies() {
    let text = "COPY <<-'A' <<B x /d\n\tone\n\tA\ntwo $x\nB";
    let Instruction::Copy(copy) = one(text) else { panic!("COPY") };
    assert_eq!(copy.sources, ["x"]);
    let found: Vec<_> =
        copy.heredocs.iter().map(|h| (h.name.as_str(), h.content.as_str(), h.expand)).collect();
    assert_eq!(found, [("A", "one\n", false), ("B", "two $x\n", true)]);
    assert_eq!(statements("FROM a\nRUN [\"<<E\"]\nUSER b\n").len(), 3, "an exec form has no heredocs");
    assert_eq!(errors("FROM a\nCOPY x <<E\nE\n"), [("HeredocDestination", 2)]);
    assert_eq!(errors("FROM a\nCOPY <<E /x\ny\n"), [("UnterminatedHeredoc", 2)]);
}

#[test]
fn scripts_of_runs() {
    let script = |text: &str| match one(text) {
        Instruction::Run(run) => run.script(),
        other => panic!("{other:?}"),
    };
    assert_eq!(script("RUN a <b"), Script::Shell("a <b".into()));
    assert_eq!(script("RUN [\"a\"]"), Script::Exec(texts(&["a"])));
    assert_eq!(script("RUN <<-E\n\ta\n\tb\n\tE"), Script::Shell("a\nb\n".into()));
    let file = Script::File { name: "E".into(), content: "#!/bin/x\na\n".into() };
    assert_eq!(script("RUN <<E\n#!/bin/x\na\nE"), file);
    assert_eq!(
        script("RUN x <<E && y <<-F\na\nE\n\tb\n\tF"),
        Script::Shell("x <<E && y <<-F\na\nE\n\tb\nF".into())
    );
}

#[test]
fn run_flags() {
    let Instruction::Run(run) =
        one("RUN --mount=type=cache,target=$x --network=none --security=insecure --device=a/b=c,required x")
    else {
        panic!("RUN")
    };
    assert_eq!(run.mounts, ["type=cache,target=$x"]);
    assert_eq!((run.network.as_deref(), run.security.as_deref()), (Some("none"), Some("insecure")));
    assert_eq!(run.devices, ["a/b=c,required"]);
    assert_eq!(
        errors("FROM a\nRUN --mount=from=$x --mount= --network=x --security= --device=a,b x\n"),
        [
            ("InvalidMount", 2),
            ("InvalidMount", 2),
            ("InvalidFlagValue", 2),
            ("InvalidFlagValue", 2),
            ("InvalidDevice", 2)
        ]
    );
}

#[test]
fn healthchecks() {
    assert_eq!(one("HEALTHCHECK none"), Instruction::Healthcheck(Healthcheck::None));
    let Instruction::Healthcheck(check) =
        one("HEALTHCHECK --interval=1m30s --timeout=0 --retries=3 CMD [\"a\"]")
    else {
        panic!("HEALTHCHECK")
    };
    let expected = Healthcheck::Cmd {
        command: Command::Exec(texts(&["a"])),
        interval: Some(Duration::from_secs(90)),
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: Some(3),
    };
    assert_eq!(check, expected);
    for wrong in [
        "",
        "NONE x",
        "CMD",
        "CMD []",
        "x y",
        "--interval=1 CMD x",
        "--timeout=1us CMD x",
        "--retries=-1 CMD x",
    ] {
        assert_eq!(errors(&format!("FROM a\nHEALTHCHECK {wrong}\n")).len(), 1, "{wrong}");
    }
}

#[test]
fn onbuild() {
    let Instruction::Onbuild(onbuild) = one("onbuild  COPY <<E \\\n  /x\ny\nE") else { panic!("ONBUILD") };
    assert_eq!(onbuild.text, "COPY <<E   /x\ny\nE");
    let inner = onbuild.inner.expect("the instruction is right");
    assert!(matches!(&inner.instruction, Instruction::Copy(copy) if copy.heredocs[0].content == "y\n"));
    let (again, found) = parse_instruction(&onbuild.text, '\\');
    assert_eq!((again.map(|s| s.instruction), found), (Some(inner.instruction), vec![]));
    let wrong = "FROM a\nONBUILD\nONBUILD FROM b\nONBUILD ONBUILD RUN c\nONBUILD MAINTAINER d\n";
    assert_eq!(errors(wrong).len(), 4);
    let later = parse("FROM a\nONBUILD WHAT\n");
    assert_eq!(later.file.statements.len(), 2, "an unknown trigger is no error before it is used");
    assert_eq!(later.diagnostics.iter().map(Diagnostic::is_error).collect::<Vec<_>>(), [false]);
}

#[test]
fn single_instructions() {
    assert!(parse_instruction("RUN a `\n b", '`').0.is_some());
    assert!(parse_instruction("# escape=`\nRUN a \\\n b", '\\').0.is_some(), "there are no directives");
    for wrong in ["", "WHAT", "RUN a\nRUN b", "RUN <<E", "COPY a"] {
        let (statement, found) = parse_instruction(wrong, '\\');
        assert!(statement.is_none() && found.iter().any(Diagnostic::is_error), "{wrong}");
    }
}

#[test]
fn all_errors_at_once() {
    let text = "RUN early\nFORM a\nFROM a b\nFROM a AS 1\nRUN --mont=x y\nENV x\nFROM a # why\n";
    assert_eq!(
        errors(text),
        [
            ("NoStage", 1),
            ("UnknownInstruction", 2),
            ("FromArguments", 3),
            ("StageName", 4),
            ("UnknownFlag", 5),
            ("MissingValue", 6),
            ("FromArguments", 7)
        ]
    );
    let found = parse(text).diagnostics;
    assert_eq!(found[1].help.as_deref(), Some("did you mean FROM?"));
    assert_eq!(found[5].class, Class::Syntax);
    assert_eq!(found[6].help.as_deref(), Some("a comment must stand on a line of its own"));
}

#[test]
fn directives_that_are_wrong() {
    assert_eq!(errors("# escape=x\nFROM a\n"), [("InvalidEscape", 1)]);
    assert_eq!(errors("# escape=`\n# escape=`\nFROM a\n"), [("DuplicateDirective", 2)]);
    assert_eq!(errors("# a\n"), [("NoInstructions", 1)]);
    assert_eq!(errors(""), [("NoInstructions", 1)]);
}
