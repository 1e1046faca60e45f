//! Dockerfiles: from text to typed instructions, and what goes with them: variable expansion, `.dockerignore`
//! matching, `--mount` values, and build checks.
//!
//! Everything here is pure: no I/O, no clock, no environment. Parsing never fails; it gives a file and what is
//! wrong with it. The language is BuildKit's; where the two differ on purpose, the module says so.

pub mod check;
mod diagnostic;
mod duration;
pub mod expand;
mod flags;
pub mod glob;
pub mod ignore;
mod instruction;
mod lower;
pub mod mount;
pub mod outline;
pub mod shell;
mod suggest;
pub mod syntax;

pub use diagnostic::{Class, Diagnostic, Fix, Severity, Span};
pub use instruction::{
    AddInst, ArgDef, Command, CopyInst, Dockerfile, Flag, FromInst, Healthcheck, Instruction, KeyValues,
    Onbuild, RunInst, Script, Statement,
};
pub use syntax::{Directives, Heredoc, Word};

/// A file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The instructions that are right.
    pub file: Dockerfile,
    /// Errors and warnings, by line. If one is an error ([`Diagnostic::is_error`]), the file must not be built.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile.
///
/// A file without FROM is no error here.
pub fn parse(text: &str) -> Parsed {
    let mut diagnostics = Vec::new();
    let file = lower::file(syntax::parse(text), &mut diagnostics);
    Parsed { file, diagnostics }
}

/// Parses a single instruction, such as an ONBUILD trigger that an image holds.
///
/// `escape` is the escape character. The statement is `None` if there is an error. Places are those in `text`.
pub fn parse_instruction(text: &str, escape: char) -> (Option<Statement>, Vec<Diagnostic>) {
    let tree = syntax::parse_with_escape(text, escape);
    let mut diagnostics = tree.diagnostics;
    let mut nodes = tree.nodes.into_iter();
    let statement = nodes.next().and_then(|node| lower::statement(node, &mut diagnostics));
    if let Some(second) = nodes.next() {
        diagnostics.push(Diagnostic::error(
            Class::Syntax,
            "SeveralInstructions",
            "there must be one instruction only",
            second.span,
            second.first_line,
        ));
    }
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    (statement.filter(|_| !failed), diagnostics)
}
