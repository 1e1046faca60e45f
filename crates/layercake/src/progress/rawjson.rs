//! One JSON object a line on standard error, for programs: the events as they are, with `event` naming the kind.

use build::{Event, Listener};

use crate::output::note;

pub(crate) struct RawJson;

/// The line of an event.
fn line(event: &Event) -> Option<String> {
    serde_json::to_string(event).ok()
}

impl Listener for RawJson {
    fn event(&self, event: Event) {
        if let Some(text) = line(&event) {
            note(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::sample;

    #[test]
    fn the_form_of_each_event() {
        let layer = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let lines: Vec<String> = sample().iter().filter_map(|(_, e)| line(e)).collect();
        assert_eq!(
            lines,
            [
                r#"{"event":"task","step":{"id":1,"stage":"","place":"","name":"pull docker.io/library/a:latest","lines":null}}"#,
                r#"{"event":"started","id":1}"#,
                r#"{"event":"transfer","id":1,"what":"0123456789ab","done":1000000,"total":2000000}"#,
                r#"{"event":"transfer","id":1,"what":"0123456789ab","done":2000000,"total":2000000}"#,
                r#"{"event":"transfer","id":1,"what":"0123456789ab","done":2000000,"total":2000000}"#,
                r#"{"event":"done","id":1,"took":{"secs":0,"nanos":500000000},"reason":null,"layer":null,"bytes":0,"adopted":false}"#,
                r#"{"event":"planned","steps":[{"id":2,"stage":"","place":"1/3","name":"COPY a /a","lines":[2,2]},{"id":3,"stage":"","place":"2/3","name":"RUN make","lines":[3,4]},{"id":4,"stage":"","place":"3/3","name":"RUN false","lines":[5,5]},{"id":5,"stage":"other","place":"1/1","name":"RUN true","lines":[7,7]}]}"#,
                r#"{"event":"warning","text":"StageNameCasing: odd name","line":2}"#,
                r#"{"event":"started","id":2}"#,
                &format!(
                    r#"{{"event":"cached","id":2,"rule":"same-observations","layer":"{layer}","saved":{{"secs":3,"nanos":0}},"detail":"the same files"}}"#
                ),
                r#"{"event":"started","id":3}"#,
                r#"{"event":"log","id":3,"stream":"stdout","data":"one\ntwo "}"#,
                r#"{"event":"log","id":3,"stream":"stderr","data":"three\nend"}"#,
                r#"{"event":"waiting","id":3,"what":"process 7"}"#,
                &format!(
                    r#"{{"event":"done","id":3,"took":{{"secs":1,"nanos":200000000}},"reason":{{"why":"parent-changed","origin":null}},"layer":"{layer}","bytes":5,"adopted":true}}"#
                ),
                r#"{"event":"started","id":4}"#,
                r#"{"event":"log","id":4,"stream":"stdout","data":"oh\n"}"#,
                r#"{"event":"failed","id":4,"error":"exit code: 1","tail":"oh"}"#,
                r#"{"event":"canceled","id":5}"#,
            ]
        );
    }
}
