//! The typed form of a Dockerfile.

use std::time::Duration;

use crate::Span;
use crate::syntax::{Directives, Heredoc, Word};

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives.
    pub directives: Directives,
    /// The instructions without error, in order. ARG may stand before the first FROM. There may be no FROM at
    /// all.
    pub statements: Vec<Statement>,
}

/// One instruction with all that is known about its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// From the keyword to the end of the last line, including heredocs.
    pub span: Span,
    /// The first line, counted from 1.
    pub first_line: u32,
    /// The last line, counted from 1.
    pub last_line: u32,
    /// The keyword as written.
    pub keyword: String,
    /// Where the keyword stands.
    pub keyword_span: Span,
    /// The instruction's text with continuation lines joined, without heredoc bodies.
    pub original: String,
    /// The comments right above, without `#` and blanks.
    pub comments: Vec<String>,
    /// The flags, in order.
    pub flags: Vec<Flag>,
    /// The argument words as written with their places; none for ENV, LABEL and ONBUILD.
    pub words: Vec<Word>,
    /// Where all arguments stand.
    pub args_span: Span,
    /// Empty lines within the instruction, with their endings: line counted from 1, and place.
    pub empty_continuations: Vec<(u32, Span)>,
    /// The parts of `original`: offset in it, offset in the text; ascending. None for what stands behind ONBUILD.
    pub pieces: Vec<(usize, usize)>,
    /// What it says.
    pub instruction: Instruction,
}

impl Statement {
    /// Where a part of the arguments stands, where these are one text: bytes `start..end` of it. None behind ONBUILD.
    pub fn place(&self, start: usize, end: usize) -> Option<Span> {
        let text = &self.words.last().filter(|_| self.words.len() == 1)?.text;
        let before = self.original.trim_end().strip_suffix(text.as_str())?.len();
        (!self.pieces.is_empty() && end <= text.len())
            .then(|| crate::syntax::span(&self.pieces, before + start, before + end))
    }
}

/// A flag of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The name without dashes.
    pub name: String,
    /// What stands behind `=`, without quotes and with variables as written; `None` without `=`.
    pub value: Option<String>,
    /// Where the flag stands.
    pub span: Span,
}

/// What an instruction says. Variables are not expanded anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Begins a stage.
    From(FromInst),
    /// Declares build arguments.
    Arg(Vec<ArgDef>),
    /// Sets environment variables.
    Env(KeyValues),
    /// Sets labels.
    Label(KeyValues),
    /// Runs a command.
    Run(RunInst),
    /// Copies files.
    Copy(CopyInst),
    /// Copies files, unpacks archives, downloads.
    Add(AddInst),
    /// Sets and makes the working directory; one path, which may hold blanks.
    Workdir(String),
    /// Sets the user.
    User(String),
    /// The default command.
    Cmd(Command),
    /// The entry point.
    Entrypoint(Command),
    /// Ports, sorted by their bytes, each `port[-port][/protocol]` or a variable.
    Expose(Vec<String>),
    /// Volumes; none is empty.
    Volume(Vec<String>),
    /// The signal that stops a container.
    Stopsignal(String),
    /// How to see whether a container is well.
    Healthcheck(Healthcheck),
    /// The shell of shell forms; not empty.
    Shell(Vec<String>),
    /// An instruction for builds on top of this image.
    Onbuild(Onbuild),
    /// The author (deprecated).
    Maintainer(String),
}

impl Instruction {
    /// The name of the instruction, in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Instruction::From(_) => "FROM",
            Instruction::Arg(_) => "ARG",
            Instruction::Env(_) => "ENV",
            Instruction::Label(_) => "LABEL",
            Instruction::Run(_) => "RUN",
            Instruction::Copy(_) => "COPY",
            Instruction::Add(_) => "ADD",
            Instruction::Workdir(_) => "WORKDIR",
            Instruction::User(_) => "USER",
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Stopsignal(_) => "STOPSIGNAL",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Shell(_) => "SHELL",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInst {
    /// The image or stage.
    pub image: String,
    /// `--platform`; `None` without the flag or when it is empty.
    pub platform: Option<String>,
    /// The name of the stage in lower case.
    pub name: Option<String>,
    /// The name of the stage as written.
    pub name_as_written: Option<String>,
}

/// One argument that ARG declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDef {
    /// The name.
    pub key: String,
    /// The default, if there is one; it may be empty.
    pub value: Option<String>,
}

/// The pairs of ENV and LABEL. Both names and values are to be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValues {
    /// Name, value; names are not empty.
    pub pairs: Vec<(String, String)>,
    /// Whether it was written in the old form `ENV name value`, with a blank and only one pair.
    pub legacy: bool,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To be run by the shell of the stage; may be empty.
    Shell(String),
    /// To be run as it is; may be empty.
    Exec(Vec<String>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInst {
    /// The command as written, without heredoc bodies.
    pub command: Command,
    /// The values of `--mount`, for [`crate::mount::parse`]; that they are CSV is checked.
    pub mounts: Vec<String>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// `--cache`: `traced` or `chain`. Ours; BuildKit does not know it.
    pub cache: Option<String>,
    /// The values of `--device`, for [`crate::mount::Device::parse`]; they are checked.
    pub devices: Vec<String>,
    /// `--no-cache`: it runs in every build. Not BuildKit's.
    pub no_cache: bool,
    /// The heredocs, as written.
    pub heredocs: Vec<Heredoc>,
}

/// What a RUN is to run, with heredocs put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A command line for the shell of the stage.
    Shell(String),
    /// A command to be run as it is.
    Exec(Vec<String>),
    /// A file to be run: provided read-only with mode 0755 as `/dev/pipes/NAME`, and given to the shell of the
    /// stage as its command line (this is what BuildKit does, so that variables of SHELL apply).
    File {
        /// The name of the file.
        name: String,
        /// What it holds; begins with `#!`.
        content: String,
    },
}

impl RunInst {
    /// The command with its heredocs.
    ///
    /// A RUN that is one heredoc and nothing else runs its text: as a file if it begins with `#!`, otherwise as
    /// the shell's command line. Any other RUN with heredocs hands all of it to the shell.
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(argv) => return Script::Exec(argv.clone()),
            Command::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else { return Script::Shell(line.clone()) };
        if matches!(crate::syntax::parse_heredoc(line), Ok(Some(_))) {
            let content = first.body();
            if content.starts_with("#!") {
                return Script::File { name: first.name.clone(), content };
            }
            return Script::Shell(content);
        }
        let mut full = line.clone();
        for heredoc in &self.heredocs {
            full.push('\n');
            full.push_str(&heredoc.content);
            full.push_str(&heredoc.name);
        }
        Script::Shell(full)
    }
}

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInst {
    /// The sources that are paths.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: String,
    /// The sources that are heredocs: files named by the delimiter. Their text is as it is to be written, but
    /// for variables.
    pub heredocs: Vec<Heredoc>,
    /// `--from`, which is not expanded.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, which is not expanded.
    pub exclude: Vec<String>,
}

/// ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInst {
    /// The sources that are paths, URLs or git repositories.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: String,
    /// The sources that are heredocs, as in [`CopyInst`].
    pub heredocs: Vec<Heredoc>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
    /// `--exclude`, which is not expanded.
    pub exclude: Vec<String>,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even the base image's.
    None,
    /// A command. Times are at least a millisecond; `None` (also for 0) leaves the engine's default.
    Cmd {
        /// What to run; not empty.
        command: Command,
        /// `--interval`.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`.
        retries: Option<u32>,
    },
}

/// ONBUILD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// What is stored in the image: the instruction's text, with heredoc bodies.
    pub text: String,
    /// The instruction itself; `None` if it is wrong, which is no error before it is used.
    pub inner: Option<Box<Statement>>,
}
