//! What can be said about a Dockerfile: where, how bad, and what to do.

/// A half-open range of byte offsets into the text that was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to, but not including, `end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file cannot be built as it stands.
    Error,
    /// The file can be built, but probably does not do what was meant.
    Warning,
}

/// Which part of the language a diagnostic belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The text does not split into instructions and arguments.
    Syntax,
    /// It does, but an instruction is wrong: unknown, unknown flag, missing argument, outside of a stage.
    Instruction,
    /// One of the build checks ([`crate::check`]).
    Check,
}

/// A change of the text that makes a diagnostic go away without changing what is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to replace, in bytes of the parsed text.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable name, such as `UnknownFlag`; for checks, BuildKit's name of the rule.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub class: Class,
    /// What is wrong, as a lower-case fragment without a final full stop.
    pub message: String,
    /// Where, in bytes of the parsed text.
    pub span: Span,
    /// The line on which `span` begins, counted from 1.
    pub line: u32,
    /// What to do about it, if that can be said.
    pub help: Option<String>,
    /// A rewrite that is certainly right, if there is one.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    pub(crate) fn error(
        class: Class,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        line: u32,
    ) -> Diagnostic {
        let message = message.into();
        Diagnostic { code, severity: Severity::Error, class, message, span, line, help: None, fix: None }
    }

    pub(crate) fn warning(
        class: Class,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        line: u32,
    ) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(class, code, message, span, line) }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Diagnostic {
        self.help = help;
        self
    }

    /// Whether the file cannot be built because of this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
