//! InvalidDefaultArgInFrom: without `--build-arg`, FROM would have no valid image.

use super::super::model::Model;
use super::super::reference;
use super::super::{Check, Finding, Reporter, Rule};
use crate::expand;

pub(in super::super) static RULE: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    summary: "defaults of global arguments should give a valid image in FROM",
    experimental: false,
    check: Check::File(check),
};

fn check(model: &Model<'_>, reporter: &mut Reporter<'_>) {
    let Some(defaults) = &model.defaults else { return };
    for stage in &model.stages {
        let image = &stage.from.image;
        let Ok(found) = expand::word(image, &|name| defaults.get(name).cloned(), model.escape) else {
            continue;
        };
        let has_arguments = !(found.used.is_empty() && found.unset.is_empty());
        if has_arguments && !reference::is_valid(&found.text) {
            let result = if found.text.is_empty() { "an empty name" } else { found.text.as_str() };
            let message = format!("without build arguments, {image} is {result}, which is no image");
            let help = "give the argument a default with ARG name=value";
            reporter.report(&[stage.statement], Finding::new(stage.statement, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::CheckInput;
    use super::super::super::testing::{lines, lines_with};
    use super::*;

    const TEXT: &str = "ARG TAG\nARG BASE=a\nFROM $BASE\nFROM b:$TAG\nFROM c:${TAG:-1}\nFROM b$TAG\n";

    #[test]
    fn defaults() {
        assert_eq!(lines(&RULE, TEXT), [4]);
    }

    #[test]
    fn build_arguments_do_not_count() {
        let build_args = BTreeMap::from([("TAG".to_owned(), "1".to_owned())]);
        let input = CheckInput { build_args, ..CheckInput::default() };
        assert_eq!(lines_with(&RULE, TEXT, &input), [4]);
    }
}
