//! What the tests said, out of the JUnit report that nextest writes: tests that skipped themselves do so on standard error with a
//! line that begins with `skipped:`, which a runner that hides the output of passing tests would hide, too.

/// Tests that skipped themselves: name and reason.
pub(crate) fn skipped(report: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, case) in cases(report) {
        let reasons = case.lines().filter_map(|l| {
            let at = l.find("skipped:")?;
            // At the beginning of a line, or right after the element's tag.
            (at == 0 || l[..at].ends_with('>')).then(|| {
                let reason = l[at + "skipped:".len()..].split("</").next().unwrap_or_default();
                unescape(reason.trim())
            })
        });
        out.extend(reasons.map(|r| (name.clone(), r)));
    }
    out
}

/// Tests that failed first and passed when they ran again.
pub(crate) fn flaky(report: &str) -> Vec<String> {
    cases(report).filter(|(_, case)| case.contains("<flakyFailure")).map(|(name, _)| name).collect()
}

/// Each test's name, and what stands from its element's attributes to the next one's.
fn cases(report: &str) -> impl Iterator<Item = (String, &str)> {
    report.split("<testcase").skip(1).map(|case| {
        let head = case.split('>').next().unwrap_or_default();
        let name = ["classname", "name"].map(|a| attribute(head, a).unwrap_or_default()).join(" ");
        (name, case)
    })
}

fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let from = head.split(&format!(" {name}=\"")).nth(1)?;
    from.split('"').next()
}

fn unescape(text: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_found() {
        let report = "<testsuites><testsuite name=\"a\">\n\
            <testcase name=\"x::y\" classname=\"crate::it\" time=\"0.1\">\n\
            <system-out>said skipped: nothing</system-out>\n\
            <system-err>skipped: &quot;git&quot; is not here</system-err>\n</testcase>\n\
            <testcase classname=\"crate\" name=\"z\"><system-err>one\nskipped: no root\ntwo</system-err></testcase>\n\
            <testcase classname=\"crate\" name=\"ran\"/></testsuite></testsuites>";
        let want = [("crate::it x::y", "\"git\" is not here"), ("crate z", "no root")];
        assert_eq!(skipped(report), want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn flaky_tests_are_found() {
        let report = "<testcase name=\"once\" classname=\"a\"><failure/></testcase>\n\
            <testcase name=\"twice\" classname=\"a::it\"><flakyFailure message=\"it timed out\"></flakyFailure></testcase>";
        assert_eq!(flaky(report), ["a::it twice"]);
    }
}
