//! Build checks: things that BuildKit warns of, under the same names, and rules of our own on cache and size.
//!
//! The two do not mix: our rules run only when asked for ([`CheckInput::own_rules`]), their names begin with [`OWN`], and they never make
//! a build fail.
//!
//! A file chooses among them with the directive `# check=skip=A,B;error=true;experimental=C`, where `all` stands
//! for every rule; the build argument `BUILDKIT_DOCKERFILE_CHECK` takes its place. A comment of the same form right
//! above an instruction adds to that for the instruction. `skip` does not concern experimental rules, which run
//! only when named. With `error=true` every finding is an error.
//!
//! What depends on facts that are not in the file (the base image's variables and platform, the ignore patterns) is
//! checked as far as [`CheckInput`] holds them. Findings that the facts do not make certain are left out.
//!
//! Rule names and addresses are BuildKit's (frontend/dockerfile/linter/ruleset.go).

mod config;
mod facts;
pub mod fix;
mod model;
mod own;
mod platform;
mod reference;
mod rules;

use std::collections::BTreeMap;

use crate::ignore::Matcher;
use crate::{Class, Diagnostic, Fix, Parsed, Severity, Span, Statement};
use config::Config;
use facts::Facts;
use model::Model;

/// What is known about a build beside its Dockerfile.
#[derive(Debug, Default)]
pub struct CheckInput<'a> {
    /// The values of `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// The context's ignore patterns.
    pub ignore: Option<&'a Matcher>,
    /// The platform to build for, such as `linux/amd64`.
    pub target_platform: Option<String>,
    /// The platform of the builder.
    pub build_platform: Option<String>,
    /// The stage to build (`--target`), in lower case.
    pub target_stage: Option<String>,
    /// Facts about base images, by the number of the stage that they are the base of, from 0.
    pub bases: BTreeMap<usize, BaseImage>,
    /// Whether our own rules run as well.
    pub own_rules: bool,
}

/// What is known about a base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// The names of the variables that it sets.
    pub variables: Vec<String>,
    /// Whether it sets a shell.
    pub has_shell: bool,
    /// Its platform.
    pub platform: Option<String>,
}

/// A check.
#[derive(Debug)]
pub struct Rule {
    /// The name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What it warns of.
    pub summary: &'static str,
    /// Whether it runs only when asked for.
    pub experimental: bool,
    check: Check,
}

/// How a rule is run.
#[derive(Debug, Clone, Copy)]
enum Check {
    /// On the file.
    File(fn(&Model<'_>, &mut Reporter<'_>)),
    /// On what our own rules look at.
    Facts(fn(&Facts<'_>, &mut Reporter<'_>)),
}

impl Rule {
    /// Whether it is our own and not BuildKit's.
    pub fn is_own(&self) -> bool {
        self.name.starts_with(OWN)
    }
}

/// What the names of our own rules begin with.
pub const OWN: &str = "layercake/";

/// A rule and the text of its file.
struct Entry {
    rule: &'static Rule,
    source: &'static str,
}

/// Entries of modules that have a `RULE`.
macro_rules! entries {
    ($($module:ident),* $(,)?) => {
        [$(Entry { rule: &$module::RULE, source: include_str!(concat!(stringify!($module), ".rs")) }),*]
    };
}
use entries;

fn all() -> impl Iterator<Item = &'static Entry> {
    rules::ALL.iter().chain(&own::ALL)
}

/// All checks: BuildKit's in the order of their names, then our own.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    all().map(|entry| entry.rule)
}

/// What there is to say about a rule: why it is one, and what it does not look at. Markdown; `None` if there is no such rule.
///
/// Our own rules may be named without [`OWN`].
pub fn explain(name: &str) -> Option<String> {
    let entry = all().find(|e| e.rule.name == name || e.rule.name.strip_prefix(OWN) == Some(name))?;
    let doc = entry.source.lines().map_while(|line| line.strip_prefix("//!"));
    Some(doc.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// The address of the page about a rule; `None` if there is no such rule or no page.
pub fn url(code: &str) -> Option<String> {
    let rule = rules::ALL.iter().map(|entry| entry.rule).find(|rule| rule.name == code)?;
    // BuildKit has no page for this one.
    if rule.name == rules::invalid_base_image_platform::RULE.name {
        return None;
    }
    Some(format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(rule.name)))
}

/// Runs all checks that the file does not turn off; the findings are in the order of lines.
pub fn run(parsed: &Parsed, input: &CheckInput<'_>) -> Vec<Diagnostic> {
    let written = input.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    let written = written.or(parsed.file.directives.check.as_ref());
    let config = match Config::parse(written.map_or("", String::as_str)) {
        Ok(config) => config,
        Err(error) => {
            let message = error.to_string();
            let place = Span::default();
            return vec![Diagnostic::error(Class::Check, "InvalidCheckOption", message, place, 1)];
        }
    };
    let model = Model::new(&parsed.file, input);
    let mut found = Vec::new();
    let facts = input.own_rules.then(|| Facts::new(&model));
    for Entry { rule, .. } in all() {
        let mut reporter = Reporter { rule, config: &config, found: &mut found };
        match (rule.check, &facts) {
            (Check::File(check), _) => check(&model, &mut reporter),
            (Check::Facts(check), Some(facts)) => check(facts, &mut reporter),
            (Check::Facts(_), None) => {}
        }
    }
    found.sort_by(|a: &Diagnostic, b| (a.line, a.span, a.code).cmp(&(b.line, b.span, b.code)));
    found
}

/// What a rule reports to.
struct Reporter<'a> {
    rule: &'static Rule,
    config: &'a Config,
    found: &'a mut Vec<Diagnostic>,
}

/// One finding.
struct Finding {
    message: String,
    span: Span,
    line: u32,
    help: Option<String>,
    fix: Option<Fix>,
}

impl Finding {
    /// A finding about the first line of a statement, from the keyword on.
    fn new(statement: &Statement, message: impl Into<String>) -> Finding {
        let whole = statement.keyword_span.start..statement.args_span.end.max(statement.keyword_span.end);
        Finding {
            message: message.into(),
            span: Span::new(whole.start, whole.end),
            line: statement.first_line,
            help: None,
            fix: None,
        }
    }

    fn at(mut self, span: Span) -> Finding {
        self.span = span;
        self
    }

    fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    fn fix(mut self, span: Span, replacement: impl Into<String>) -> Finding {
        self.fix = Some(Fix { span, replacement: replacement.into() });
        self
    }
}

impl Reporter<'_> {
    /// Reports a finding that comments above any of `statements` may turn off.
    fn report(&mut self, statements: &[&Statement], finding: Finding) {
        let comments = statements.iter().flat_map(|s| &s.comments);
        if !self.config.with_comments(comments).runs(self.rule) {
            return;
        }
        let error = self.config.errors() && !self.rule.is_own();
        let severity = if error { Severity::Error } else { Severity::Warning };
        self.found.push(Diagnostic {
            code: self.rule.name,
            severity,
            class: Class::Check,
            message: finding.message,
            span: finding.span,
            line: finding.line,
            help: finding.help,
            fix: finding.fix,
        });
    }
}

/// `JSONArgsRecommended` as `json-args-recommended`.
fn kebab(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let lower = |at: Option<&char>| at.is_some_and(char::is_ascii_lowercase);
        let before = i.checked_sub(1).and_then(|at| chars.get(at));
        if c.is_ascii_uppercase() && before.is_some() && (lower(before) || lower(chars.get(i + 1))) {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod testing {
    use super::*;

    /// The findings about `text`.
    pub(super) fn check(text: &str) -> Vec<Diagnostic> {
        check_with(text, &CheckInput::default())
    }

    /// Asks for our own rules.
    fn input(rule: &Rule) -> CheckInput<'static> {
        CheckInput { own_rules: rule.is_own(), ..CheckInput::default() }
    }

    pub(super) fn check_with(text: &str, input: &CheckInput<'_>) -> Vec<Diagnostic> {
        run(&crate::parse(text), input)
    }

    /// The lines on which `rule` finds something.
    pub(super) fn lines(rule: &Rule, text: &str) -> Vec<u32> {
        lines_with(rule, text, &input(rule))
    }

    pub(super) fn lines_with(rule: &Rule, text: &str, input: &CheckInput<'_>) -> Vec<u32> {
        check_with(text, input).into_iter().filter(|d| d.code == rule.name).map(|d| d.line).collect()
    }

    /// `text` with all fixes of `rule` applied; after that, the rule must find nothing.
    pub(super) fn fixed(rule: &Rule, text: &str) -> String {
        let fixed = some_fixed(rule, text);
        assert_eq!(lines(rule, &fixed), Vec::<u32>::new(), "{fixed}");
        fixed
    }

    /// `text` with all fixes of `rule` applied, where it has no fix for everything.
    pub(super) fn some_fixed(rule: &Rule, text: &str) -> String {
        let fixed = fix::apply(text, &|text| {
            let mut found = check_with(text, &input(rule));
            found.retain(|d| d.code == rule.name);
            found
        });
        let again = check_with(&fixed.text, &input(rule)).into_iter().filter(|d| d.code == rule.name);
        assert_eq!(
            again.filter(|d| d.fix.is_some()).count(),
            0,
            "what can be fixed is fixed: {}",
            fixed.text
        );
        fixed.text
    }
}

#[cfg(test)]
mod tests {
    use super::testing::check;
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        check(text).into_iter().map(|d| d.code).collect()
    }

    const TWO: &str = "FROM a AS B\nMAINTAINER me\n";

    #[test]
    fn directives_choose() {
        assert_eq!(codes(TWO), ["StageNameCasing", "MaintainerDeprecated"]);
        assert_eq!(codes(&format!("# check=skip=StageNameCasing\n{TWO}")), ["MaintainerDeprecated"]);
        assert_eq!(codes(&format!("# check=skip=StageNameCasing,MaintainerDeprecated\n{TWO}")), [""; 0]);
        assert_eq!(codes(&format!("# check=skip=all\n{TWO}")), [""; 0]);
        assert_eq!(codes("# check=skip=all;what\nFROM a\n"), ["InvalidCheckOption"]);
    }

    #[test]
    fn comments_choose_for_one_instruction() {
        let text = "FROM a AS B\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n";
        assert_eq!(codes(text), ["StageNameCasing"]);
        let text = "FROM a AS B\n# check=skip=all\nMAINTAINER me\nMAINTAINER you\n";
        assert_eq!(codes(text), ["StageNameCasing", "MaintainerDeprecated"]);
    }

    #[test]
    fn findings_may_be_errors() {
        let found = check(&format!("# check=error=true\n{TWO}"));
        assert!(found.len() == 2 && found.iter().all(Diagnostic::is_error));
        assert!(check(TWO).iter().all(|d| d.severity == Severity::Warning));
    }

    #[test]
    fn a_build_argument_takes_the_place_of_the_directive() {
        let build_args = BTreeMap::from([("BUILDKIT_DOCKERFILE_CHECK".into(), "skip=all".into())]);
        let input = CheckInput { build_args, ..CheckInput::default() };
        assert_eq!(testing::check_with(&format!("# check=error=true\n{TWO}"), &input), []);
    }

    #[test]
    fn our_own_rules_stay_apart() {
        let text = "# check=error=true\nFROM alpine\nRUN apk add x\n";
        assert_eq!(codes(text), [""; 0], "they run only when asked for");
        let input = CheckInput { own_rules: true, ..CheckInput::default() };
        let found = testing::check_with(text, &input);
        assert!(
            found.len() == 2 && found.iter().all(|d| d.code.starts_with(OWN) && !d.is_error()),
            "{found:?}"
        );
        let skipped = text.replace("error=true", "skip=layercake/UnpinnedBase,PackageListsKept");
        assert_eq!(testing::check_with(&skipped, &input), [], "with the prefix or without");
    }

    #[test]
    fn names_and_addresses() {
        assert_eq!(rules().filter(|rule| !rule.is_own()).count(), 22);
        assert!(rules().is_sorted_by_key(|rule| (rule.is_own(), rule.name)));
        for rule in rules() {
            let doc = explain(rule.name).expect("every rule has a doc");
            let name = rule.name.strip_prefix(OWN).unwrap_or(rule.name);
            assert!(doc.starts_with(&format!("{name}: ")) || doc.starts_with(&format!("{name} (")), "{doc}");
            assert_eq!(explain(name), Some(doc));
        }
        assert_eq!(explain("NoSuchRule"), None);
        assert_eq!(url("layercake/UnpinnedBase"), None);
        let page = "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/";
        assert_eq!(url("JSONArgsRecommended").as_deref(), Some(page));
        assert_eq!(kebab("UndefinedArgInFrom"), "undefined-arg-in-from");
        assert_eq!(url("UnknownFlag"), None);
    }
}
