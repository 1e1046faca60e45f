//! UndefinedVar: an instruction uses a variable that nothing sets before it.
//!
//! Where the variables of the base image are not known, only names that are nearly one that is set are reported,
//! since the base may set any other. Arguments that are declared without a value are no finding, and neither is
//! the text of RUN, CMD and ENTRYPOINT, which the shell expands.

use super::super::model::Model;
use super::super::{Check, Finding, Reporter, Rule};
use crate::suggest::did_you_mean;

pub(in super::super) static RULE: Rule = Rule {
    name: "UndefinedVar",
    summary: "variables should be set before they are used",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    for unset in model.stages.iter().flat_map(|stage| &stage.unset) {
        if !unset.certain && unset.similar.is_none() {
            continue;
        }
        let message = format!("variable {} is not set", unset.name);
        let mut finding = Finding::new(unset.statement, message);
        finding.help = did_you_mean(unset.similar.as_ref().map(|name| format!("${name}")));
        reporter.report(&[unset.statement], finding);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::testing::{check, lines, lines_with};
    use super::super::super::{BaseImage, CheckInput};
    use super::*;

    #[test]
    fn on_scratch_everything_is_known() {
        let text = "FROM scratch\nENV A=1\nENV B=$A C=$D\nCOPY $E /\nLABEL x=$PATH\nARG F\nUSER $F\nRUN $G\n";
        assert_eq!(lines(&RULE, text), [3, 4]);
    }

    #[test]
    fn an_instruction_does_not_see_itself() {
        assert_eq!(lines(&RULE, "FROM scratch\nENV A=1 B=$A\nARG C=1 D=$C\n"), [2]);
    }

    #[test]
    fn all_that_is_expanded() {
        for instruction in [
            "ADD --chown=$X a b",
            "COPY --chmod=$X a b",
            "ADD --checksum=$X a b",
            "COPY a $X",
            "WORKDIR /$X",
            "USER $X",
            "VOLUME $X",
            "STOPSIGNAL $X",
            "LABEL $X=a",
            "ENV a=${X:-b}",
            "RUN --mount=target=$X a",
            "COPY <<E /f\n$X\nE",
            "ARG A=$X",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM scratch\n{instruction}\n")), [2], "{instruction}");
        }
        for instruction in
            ["COPY <<'E' /f\n$X\nE", "EXPOSE $X", "CMD [\"$X\"]", "COPY --exclude=$X a b", "ONBUILD USER $X"]
        {
            assert_eq!(lines(&RULE, &format!("FROM scratch\n{instruction}\n")), [0; 0], "{instruction}");
        }
    }

    #[test]
    fn stages_inherit() {
        let text = "FROM scratch AS x\nENV A=1\nARG B\nFROM x\nUSER $A$B\nFROM scratch\nUSER $A\n";
        assert_eq!(lines(&RULE, text), [7]);
    }

    #[test]
    fn unknown_bases_may_set_anything() {
        let text = "FROM a\nARG VERSION=1\nUSER $HOME\nLABEL v=$VERSON\n";
        let found = check(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].help.as_deref(), Some("did you mean $VERSION?"));
        let base = BaseImage { variables: vec!["HOME".into()], ..BaseImage::default() };
        let input = CheckInput { bases: BTreeMap::from([(0, base)]), ..CheckInput::default() };
        assert_eq!(lines_with(&RULE, "FROM a\nUSER $HOME\nUSER $ABCDE\n", &input), [3]);
    }

    #[test]
    fn build_arguments_replace_defaults() {
        let build_args = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let input = CheckInput { build_args, ..CheckInput::default() };
        let text = "FROM scratch\nARG A=$B\nUSER $A\n";
        assert_eq!(lines(&RULE, text), [2]);
        assert_eq!(lines_with(&RULE, text, &input), [0; 0]);
    }
}
