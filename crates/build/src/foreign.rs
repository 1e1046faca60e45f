//! RUN steps for other platforms: they run if the kernel hands their programs to an emulator, and are refused before the build starts
//! otherwise.
//!
//! The kernel's list of emulators is `/proc/sys/fs/binfmt_misc`: one file for each handler, `qemu-aarch64` for arm64 where Debian's and
//! the usual container images' packages register it; its first line is `enabled`.

use std::path::Path;

use oci::platform::Platform;

use crate::error::BuildError;
use crate::plan::{Plan, StepKind};

const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// QEMU's name of an architecture.
fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    }
}

/// Whether a program of this architecture can be executed here.
fn can_run(architecture: &str, host: &str, handlers: &Path) -> bool {
    // These processors execute the older programs themselves.
    if architecture == host || matches!((host, architecture), ("amd64", "386") | ("arm64", "arm")) {
        return true;
    }
    let handler = handlers.join(format!("qemu-{}", qemu_name(architecture)));
    std::fs::read_to_string(handler).is_ok_and(|t| t.starts_with("enabled"))
}

/// Refuses a plan with a RUN that cannot be executed here, naming its line.
pub(crate) fn check(plan: &Plan) -> Result<(), BuildError> {
    check_with(plan, &Platform::host(), Path::new(HANDLERS))
}

fn check_with(plan: &Plan, host: &Platform, handlers: &Path) -> Result<(), BuildError> {
    for stage in plan.stages.iter().filter(|s| s.needed) {
        let Some(run) = stage.steps.iter().find(|s| matches!(s.kind, StepKind::Run(_))) else { continue };
        if can_run(&stage.platform.architecture, &host.architecture, handlers) {
            continue;
        }
        return Err(BuildError::Line {
            line: run.lines.map(|l| l.0),
            message: format!("this RUN is for {}, and this machine is {host}", stage.platform),
            help: Some(format!(
                "register an emulator (Debian: packages qemu-user-static and binfmt-support), or let the stage run on this machine: FROM --platform={host}"
            )),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Bases, Choices, Resolved, plan};

    struct NoBases;

    impl Bases for NoBases {
        type Error = std::convert::Infallible;
        fn is_named_context(&self, _: &str) -> bool {
            false
        }
        fn resolve(&self, _: &str, _: &Platform) -> Result<Resolved, Self::Error> {
            Ok(Resolved::Local("none".into()))
        }
    }

    fn checked(text: &str, platform: &str, handlers: &Path) -> Result<(), String> {
        let parsed = dockerfile::parse(text);
        let choices = Choices { platform: Some(platform.parse().unwrap()), ..Choices::default() };
        let plan = plan(&parsed.file, &choices, &NoBases).unwrap();
        check_with(&plan, &"linux/amd64".parse().unwrap(), handlers).map_err(|e| e.to_string())
    }

    #[test]
    fn a_foreign_run_needs_an_emulator() {
        let dir = tempfile::tempdir().unwrap();
        let run = "FROM scratch\nCOPY a /a\nRUN x\n";
        assert_eq!(checked(run, "linux/amd64", dir.path()), Ok(()));
        assert_eq!(checked(run, "linux/386", dir.path()), Ok(()));
        let refused = checked(run, "linux/arm64", dir.path()).unwrap_err();
        assert_eq!(refused, "this RUN is for linux/arm64, and this machine is linux/amd64");
        std::fs::write(dir.path().join("qemu-aarch64"), "disabled\n").unwrap();
        assert!(checked(run, "linux/arm64", dir.path()).is_err());
        std::fs::write(dir.path().join("qemu-aarch64"), "enabled\ninterpreter /usr/bin/qemu\n").unwrap();
        assert_eq!(checked(run, "linux/arm64", dir.path()), Ok(()));
    }

    #[test]
    fn copies_need_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(checked("FROM scratch\nCOPY a /a\n", "linux/arm64", dir.path()), Ok(()));
    }
}
