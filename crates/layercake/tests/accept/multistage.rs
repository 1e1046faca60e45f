//! Case 3: compile in a stage of 300 MB, ship one file.

use crate::debian;
use crate::lab::{Lab, bytes, ok, text};

const DOCKERFILE: &str = r#"FROM debian:local AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY answer.c /src/
RUN gcc -static -O2 -o /src/answer /src/answer.c
FROM scratch
COPY --from=build /src/answer /usr/bin/answer
ENTRYPOINT ["/usr/bin/answer"]
"#;

const SOURCE: &str = r#"#include <stdio.h>
int main(int argc, char **argv) { printf("compiled, %d words\n", argc - 1); return 42; }
"#;

/// Builds the image. `None` where there is no Debian.
pub(crate) fn build(lab: &Lab) -> Option<&'static str> {
    debian::base(lab)?;
    lab.write("multistage/answer.c", SOURCE);
    let file = lab.write("multistage/Dockerfile", DOCKERFILE);
    lab.build("answer", file.parent().expect("its directory"), &[]);
    Some("answer")
}

#[test]
fn case_3_a_compiler_in_one_stage_one_file_in_the_image() {
    let Some(lab) = Lab::new() else { return };
    if build(&lab).is_none() {
        return;
    }
    let out = lab.layercake(&["run", "answer", "a", "b"]).output().expect("it starts");
    assert_eq!((text(&out.stdout).as_str(), out.status.code()), ("compiled, 2 words\n", Some(42)));

    let tar = lab.path("answer.tar");
    lab.print(&["export", "-o", tar.to_str().expect("UTF-8"), "answer"]);
    let list = text(&ok(std::process::Command::new("tar").arg("-tf").arg(&tar)).stdout);
    let mut names: Vec<&str> =
        list.lines().map(|l| l.trim_start_matches("./").trim_end_matches('/')).collect();
    names.retain(|n| !n.is_empty());
    assert_eq!(names, ["usr", "usr/bin", "usr/bin/answer"], "one file and its parents");
    let (image, base) = (bytes(lab.size("answer")), bytes(lab.size("debian:local")));
    println!("the image: {image}; the base of the stage that made it, without its compiler: {base}");
    assert!(lab.size("answer") < 2_000_000 && lab.size("debian:local") > 50_000_000);
}
