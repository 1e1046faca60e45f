//! Case 1: which steps a change runs again.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::lab::Lab;
use crate::lab::Step::{Cached, Ran};

/// Builds the example on its base.
pub(crate) fn build(lab: &Lab) -> Option<&'static str> {
    lab.base()?;
    let context = lab.example("cache");
    lab.build("example/cache", &context, &[]);
    Some("example/cache")
}

#[test]
fn case_1_only_what_a_change_touches_runs_again() {
    let Some(lab) = Lab::new() else { return };
    if lab.base().is_none() {
        return;
    }
    let context = lab.example("cache");
    let file = context.join("example.txt");
    let build = || lab.build("example/cache", &context, &[]);
    let ends = |steps: Vec<(String, crate::lab::Step)>| {
        let names: Vec<String> =
            steps.iter().map(|s| s.0.split(' ').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(names, ["RUN", "COPY", "RUN"]);
        steps.into_iter().map(|s| s.1).collect::<Vec<_>>()
    };
    let id = || lab.json(&["inspect", "example/cache"])[0]["id"].as_str().expect("an id").to_owned();

    assert_eq!(ends(build()), [Ran, Ran, Ran]);
    let first = id();
    assert_eq!(ends(build()), [Cached, Cached, Cached], "nothing changed");
    assert_eq!(id(), first, "and so it is the same image");

    let later = SystemTime::now() + Duration::from_secs(100);
    let touched = fs::File::options().append(true).open(&file).expect("it is there");
    touched.set_modified(later).expect("times can be set");
    assert_eq!(ends(build()), [Cached, Cached, Cached], "only the time of the file changed");
    assert_eq!(id(), first);

    fs::write(&file, "one two three\n").expect("it can be written");
    assert_eq!(ends(build()), [Cached, Ran, Ran], "the file changed");
    let printed = lab.print(&["run", "example/cache"]);
    assert_eq!(
        printed, "3 words in 1 lines\none two three\n",
        "the image has the new file, and what was made of it"
    );

    let sizes: Vec<u64> = lab.history("example/cache").iter().rev().take(3).map(|h| h.1).collect();
    assert_eq!(sizes, [0, 19, 14], "CMD makes no layer; RUN and COPY made what they wrote");
}
