//! What a build would do, against what it then does.

use build::account::{BuildRecord, StepEnd};

use crate::Case;
use crate::kit::World;

pub(crate) const CASES: &[Case] = &[
    ("a_forecast_comes_true", a_forecast_comes_true),
    ("what_cannot_be_known_is_said_to_be_unknown", what_cannot_be_known_is_said_to_be_unknown),
    ("a_forecast_keeps_nothing", a_forecast_keeps_nothing),
];

fn ends(b: &BuildRecord) -> Vec<StepEnd> {
    b.steps().map(|(_, s)| s.end).collect()
}

fn reasons(b: &BuildRecord) -> Vec<String> {
    b.steps().map(|(_, s)| s.reason.as_ref().and_then(|r| r.text()).unwrap_or_default()).collect()
}

const TEXT: &str = "FROM base AS s\nWORKDIR /app\nCOPY . .\nRUN cat one > /one\nRUN cat two > /two\nFROM base\nCOPY --from=s /two /two\nRUN --mount=source=three,target=/t cat /two /t > /end\n";

fn a_forecast_comes_true() {
    let w = World::new();
    for (path, text) in [("one", "1\n"), ("two", "2\n"), ("three", "3\n")] {
        w.write(path, text);
    }
    let before = w.forecast(TEXT, |_| {});
    use StepEnd::{Cached, Unknown, WouldRun};
    // That the copy takes from a stage that would run says nothing; that no RUN has a record does.
    assert_eq!(ends(&before), [WouldRun, WouldRun, WouldRun, WouldRun, Unknown, WouldRun]);
    w.build(TEXT);
    assert_eq!(ends(&w.forecast(TEXT, |_| {})), [Cached; 6]);
    let edits: [(&str, &str); 4] = [("other", "x\n"), ("three", "33\n"), ("other", "y\n"), ("three", "3\n")];
    for (path, text) in edits {
        w.write(path, text);
        let told = w.forecast(TEXT, |_| {});
        let b = w.build(TEXT);
        let done = &b.outcome().account;
        for ((_, t), (_, d)) in told.steps().zip(done.steps()) {
            let want = if d.end == StepEnd::Ran { WouldRun } else { d.end };
            assert_eq!((t.end, &t.reason, t.rule), (want, &d.reason, d.rule), "{} after {path}", t.title);
            assert_eq!((t.layer, t.chain_would_run), (d.layer.filter(|_| want == Cached), d.chain_would_run));
        }
    }
    // A step that would run, and a flag.
    w.write("one", "11\n");
    let told = w.forecast(TEXT, |_| {});
    assert_eq!(ends(&told), [Cached, WouldRun, WouldRun, Unknown, Unknown, Unknown]);
    let why = "/app/one changed (COPY . . line 3 <- one)";
    assert_eq!(reasons(&told)[1..3], ["one changed".to_owned(), why.to_owned()]);
    let none = w.forecast(TEXT, |o| o.choices.no_cache = true);
    assert_eq!(ends(&none)[..4], [Cached, WouldRun, WouldRun, WouldRun]);
}

fn what_cannot_be_known_is_said_to_be_unknown() {
    let w = World::new();
    w.write("f", "1\n");
    let text = "FROM base\nCOPY f /f\nRUN cat /f > /g\nRUN cat /g\nRUN cat /etc/none || true\n";
    w.build(text);
    w.write("f", "2\n");
    let told = w.forecast(text, |_| {});
    let notes: Vec<Option<&str>> = told.steps().map(|(_, s)| s.note.as_deref()).collect();
    let id = told.steps().nth(1).expect("a step").1.id;
    let depends = format!("depends on #{id} RUN cat /f > /g, which would run");
    assert_eq!(notes, [None, None, Some(&*depends), Some(&*depends)]);
    // Another command would run whatever lies below it.
    let told = w.forecast(&text.replace("RUN cat /g", "RUN cat /g /g"), |_| {});
    assert_eq!(ends(&told)[2], StepEnd::WouldRun);
    assert_eq!(reasons(&told)[2], "its instruction changed");
}

fn a_forecast_keeps_nothing() {
    let w = World::new();
    w.write("one", "1\n");
    w.write("two", "2\n");
    w.write("three", "3\n");
    let files = || {
        w.store.flush().expect("the store takes all");
        let mut out = Vec::new();
        for dir in ["objects", "layers", "blobs", "images", "mounts"] {
            walk(&w.store.root().join(dir), &mut out);
        }
        (out, w.store.builds(99).expect("the log").len(), w.store.usage().expect("counts").records)
    };
    let empty = files();
    w.forecast(TEXT, |_| {});
    assert_eq!(files(), empty);
    w.build(TEXT);
    let built = files();
    assert_ne!(built, empty);
    w.write("one", "11\n");
    w.forecast(TEXT, |_| {});
    assert_eq!(files(), built);
}

fn walk(dir: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), out);
        } else {
            out.push(entry.path());
        }
    }
    out.sort();
}
