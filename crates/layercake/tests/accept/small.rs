//! Case 2: what a later step removes is still shipped; one RUN that installs, uses and removes ships nothing of it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::apk;
use crate::lab::{self, Lab, bytes, ok, skip};
use crate::serve;

/// Bytes of the dependency: of a size that nothing else in these images has.
const DEPENDENCY: usize = 5_000_000;

/// A file that does not compress, so that archives show it, too.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Imports the Alpine root file system as `alpine:3.7`. `None`, with the reason said, where there is none.
fn alpine(lab: &Lab) -> Option<()> {
    let Some(rootfs) = lab::file_of("LAYERCAKE_TEST_ALPINE") else {
        skip("LAYERCAKE_TEST_ALPINE does not name an Alpine root file system for x86_64");
        return None;
    };
    if !cfg!(target_arch = "x86_64") {
        skip("the Alpine root file system is for x86_64");
        return None;
    }
    let rootfs = rootfs.to_str().expect("a path in UTF-8");
    lab.print(&["import", "-c", "CMD [\"/bin/sh\"]", rootfs, "alpine:3.7"]);
    Some(())
}

/// Builds both images and gives the names of them.
fn images(lab: &Lab, base: &str, install: &str, remove: &str) -> [&'static str; 2] {
    let used = "dependency /lib/dependency.bin > /checksum";
    let one = format!("FROM {base}\nRUN {install} && {used} && {remove}\n");
    let three = format!("FROM {base}\nRUN {install}\nRUN {used}\nRUN {remove}\n");
    for (name, text) in [("one", one), ("three", three)] {
        let file = lab.write(&format!("{name}/Dockerfile"), text);
        lab.build(name, file.parent().expect("its directory"), &[]);
    }
    ["one", "three"]
}

/// The images differ by the dependency, and by no path.
fn compare(lab: &Lab) {
    for image in ["one", "three"] {
        let seen = lab.print(&[
            "run",
            image,
            "sh",
            "-c",
            "cat /checksum; ls /bin/dependency /lib/dependency.bin 2>&1 | grep -c No",
        ]);
        assert!(seen.contains("/lib/dependency.bin") && seen.ends_with("\n2\n"), "{image}: {seen}");
    }
    let (one, three) = (lab.size("one"), lab.size("three"));
    let more = three - one;
    let mut report = String::new();
    for image in ["one", "three"] {
        let _ = writeln!(report, "{image}: {}", bytes(lab.size(image)));
        for (by, size) in lab.history(image) {
            let _ = writeln!(report, "  {:>14}  {}", bytes(size), by.chars().take(70).collect::<String>());
        }
    }
    println!("{report}the second ships {} more", bytes(more));
    let dependency = DEPENDENCY as u64;
    // Package managers rewrite their lists with each call, which each layer then holds.
    assert!((dependency..dependency + 200_000).contains(&more), "{more} bytes more\n{report}");
    let steps = lab.history("three");
    let [install, used, remove] = &steps[steps.len() - 3..] else { panic!("three steps") };
    assert!(install.1 >= dependency, "{report}");
    assert!(used.1 < 1000 && remove.1 < 200_000, "{report}");
    let last = lab.history("one").pop().expect("a step");
    assert!(last.1 < 200_000, "{report}");

    // What a registry would have to send.
    let sent = |image: &str| {
        let tar = lab.path(&format!("{image}.tar"));
        lab.print(&["save", "--format", "oci", "-o", tar.to_str().expect("UTF-8"), image]);
        tar.metadata().expect("the archive is there").len()
    };
    let (one, three) = (sent("one"), sent("three"));
    assert!(three > one + dependency, "archives of {one} and {three} bytes");
}

#[test]
fn case_2_what_a_later_run_removes_is_still_shipped() {
    let Some(lab) = Lab::new() else { return };
    if lab.base().is_none() {
        return;
    }
    let files = lab.path("files");
    dependency(&lab, "files");
    let server = serve::directory(&files);
    let get = |name: &str| format!("wget -q -O /{name} {}/{name}", server.url());
    let install = format!(
        "mkdir -p /lib && {} && {} && chmod 755 /bin/dependency",
        get("bin/dependency"),
        get("lib/dependency.bin")
    );
    images(&lab, "example/base", &install, "rm /bin/dependency /lib/dependency.bin");
    compare(&lab);
}

/// Lays the dependency out: a program, and the large file that comes with it.
fn dependency(lab: &Lab, under: &str) {
    let program = lab.write(&format!("{under}/bin/dependency"), "#!/bin/sh\nexec sha256sum \"$1\"\n");
    ok(Command::new("chmod").arg("755").arg(program));
    lab.write(&format!("{under}/lib/dependency.bin"), noise(DEPENDENCY));
}

/// The same with a real package manager, from a repository on loopback. `None` where there is no Alpine.
pub(crate) fn build(lab: &Lab) -> Option<[&'static str; 2]> {
    alpine(lab)?;
    dependency(lab, "package");
    let repository = lab.path("repository");
    apk::repository(&repository.join("x86_64"), "dependency", &lab.path("package"));
    let server = serve::directory(&repository);
    let quiet = "apk --no-cache --no-progress --repositories-file /dev/null";
    let install = format!("{quiet} add --allow-untrusted -X {} dependency", server.url());
    Some(images(lab, "alpine:3.7", &install, &format!("{quiet} del dependency")))
}

#[test]
fn case_2_with_apk() {
    let Some(lab) = Lab::new() else { return };
    if build(&lab).is_some() {
        compare(&lab);
        assert!(!Path::new("/checksum").exists(), "the step wrote into its image, not here");
    }
}
