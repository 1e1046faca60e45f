//! Package managers: which commands install something, from where, and what they leave behind.

use crate::shell::{Command, Word};

/// What a command installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install<'c> {
    pub(super) manager: Manager,
    /// The packages that the command names; with none, a file of the project names them.
    pub(super) packages: Vec<&'c str>,
    /// The word behind which options may be put: `install`.
    pub(super) verb: Option<&'c Word>,
}

/// A manager, or several that work alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Apt,
    Apk,
    Dnf,
    Yum,
    Zypper,
    Pacman,
    Pip,
    Uv,
    Poetry,
    Pipenv,
    Npm,
    Yarn,
    Pnpm,
    Bun,
    Bundler,
    Composer,
    Go,
    Cargo,
    Maven,
    Gradle,
    Dotnet,
    Mix,
    Conda,
}

impl Manager {
    /// Whether it installs what the distribution has.
    pub(super) fn is_system(self) -> bool {
        use Manager::{Apk, Apt, Dnf, Pacman, Yum, Zypper};
        matches!(self, Apt | Apk | Dnf | Yum | Zypper | Pacman)
    }
}

/// Options that take the next word as their value.
const WITH_VALUE: [&str; 18] = [
    "-o",
    "-t",
    "-c",
    "-X",
    "-p",
    "-r",
    "-f",
    "-C",
    "-i",
    "--requirement",
    "--constraint",
    "--index-url",
    "--extra-index-url",
    "--repository",
    "--target",
    "--prefix",
    "--virtual",
    "--setopt",
];

/// The words that are neither options nor their values.
fn plain(words: &[Word]) -> Vec<&Word> {
    let mut out = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.text.as_str()) {
            words.next();
        } else if !word.text.starts_with('-') {
            out.push(word);
        }
    }
    out
}

/// What a command installs, if it does.
pub(super) fn install(command: &Command) -> Option<Install<'_>> {
    let mut args = command.args();
    let mut program = command.program();
    if program.starts_with("python") && args.len() > 2 && args[0].text == "-m" {
        program = &args[1].text;
        args = &args[2..];
    }
    let words = plain(args);
    let verb = words.first().copied();
    let name = verb.map_or("", |word| word.text.as_str());
    let all = |manager, skip: usize| {
        let packages = words.iter().skip(skip).map(|word| word.text.as_str()).collect();
        Some(Install { manager, packages, verb })
    };
    // Only what the project's files say: packages named on the command line are another matter.
    let from_files = |manager, skip: usize| match words.get(skip) {
        None => Some(Install { manager, packages: Vec::new(), verb }),
        Some(_) => None,
    };
    match (program, name) {
        ("apt-get" | "apt" | "aptitude", "install") => all(Manager::Apt, 1),
        ("apk", "add") => {
            // `-t` and `--virtual` name a group.
            all(Manager::Apk, 1)
        }
        ("dnf" | "microdnf" | "tdnf", "install" | "groupinstall" | "reinstall") => all(Manager::Dnf, 1),
        ("yum", "install" | "groupinstall" | "localinstall" | "reinstall") => all(Manager::Yum, 1),
        ("zypper", "install" | "in") => all(Manager::Zypper, 1),
        ("pacman", _) if args.first().is_some_and(|word| word.text.starts_with("-S")) => {
            let only = args[0].text.chars().any(|c| matches!(c, 'c' | 's' | 'i' | 'l'));
            if only || words.is_empty() { None } else { all(Manager::Pacman, 0) }
        }
        (pip, "install") if is_pip(pip) => all(Manager::Pip, 1),
        ("uv", "sync") => all(Manager::Uv, 1),
        ("uv", "pip") if words.get(1).is_some_and(|w| matches!(w.text.as_str(), "install" | "sync")) => {
            let mut found = all(Manager::Uv, 2);
            if let Some(install) = &mut found {
                install.verb = words.get(1).copied();
            }
            found
        }
        ("poetry", "install" | "sync") => all(Manager::Poetry, 1),
        ("pipenv", "install" | "sync") => all(Manager::Pipenv, 1),
        ("npm", "ci" | "install" | "i" | "clean-install") => all(Manager::Npm, 1),
        ("yarn", "" | "install") => from_files(Manager::Yarn, 1),
        ("yarn", "add" | "global") => all(Manager::Yarn, 1),
        ("pnpm", "install" | "i" | "fetch" | "add") => all(Manager::Pnpm, 1),
        ("bun", "install" | "i" | "add") => all(Manager::Bun, 1),
        ("bundle" | "bundler", "install" | "") => from_files(Manager::Bundler, 1),
        ("composer", "install" | "update" | "require") => all(Manager::Composer, 1),
        ("go", "mod") if words.get(1).is_some_and(|w| w.text == "download") => from_files(Manager::Go, 2),
        ("cargo", "fetch") => from_files(Manager::Cargo, 1),
        ("mvn" | "mvnw", _) if words.iter().any(|w| w.text.starts_with("dependency:")) => {
            Some(Install { manager: Manager::Maven, packages: Vec::new(), verb })
        }
        ("gradle" | "gradlew", "dependencies") => from_files(Manager::Gradle, 1),
        ("dotnet", "restore") => Some(Install { manager: Manager::Dotnet, packages: Vec::new(), verb }),
        ("mix", "deps.get") => from_files(Manager::Mix, 1),
        ("conda" | "mamba" | "micromamba", "install" | "create" | "env") => all(Manager::Conda, 1),
        _ => None,
    }
}

fn is_pip(program: &str) -> bool {
    let version = program.strip_prefix("pip");
    version.is_some_and(|v| v.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// Whether a command takes long: it installs, compiles or downloads.
pub(super) fn is_expensive(command: &Command) -> bool {
    let first = command.operands().next().map_or("", |word| word.text.as_str());
    install(command).is_some()
        || match command.program() {
            "make" | "cmake" | "ninja" | "configure" | "mvn" | "mvnw" | "gradle" | "gradlew" | "wget"
            | "curl" => true,
            "cargo" => matches!(first, "build" | "install" | "test"),
            "go" => matches!(first, "build" | "install" | "test" | "get"),
            "git" => first == "clone",
            "npm" | "yarn" | "pnpm" | "bun" => matches!(first, "run" | "build"),
            "dotnet" => matches!(first, "build" | "publish"),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(Manager, Vec<String>)> {
        let commands = crate::shell::commands(text);
        let install = install(&commands[0])?;
        Some((install.manager, install.packages.into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn installs() {
        let some =
            |manager, packages: &[&str]| Some((manager, packages.iter().map(|p| (*p).to_owned()).collect()));
        assert_eq!(
            found("apt-get -o A=b install -y -t sid gcc git=1"),
            some(Manager::Apt, &["gcc", "git=1"])
        );
        assert_eq!(found("sudo apk add -U --virtual .build gcc"), some(Manager::Apk, &["gcc"]));
        assert_eq!(found("python3 -m pip install -r requirements.txt"), some(Manager::Pip, &[]));
        assert_eq!(found("/venv/bin/pip3.11 install flask"), some(Manager::Pip, &["flask"]));
        assert_eq!(found("uv pip install x"), some(Manager::Uv, &["x"]));
        assert_eq!(found("yarn --frozen-lockfile"), some(Manager::Yarn, &[]));
        assert_eq!(found("pacman -Syu --noconfirm gcc"), some(Manager::Pacman, &["gcc"]));
        assert_eq!(found("./mvnw -B dependency:go-offline"), some(Manager::Maven, &[]));
        for no in [
            "apt-get update",
            "yarn build",
            "pacman -Scc",
            "pip download x",
            "pipx install x",
            "go mod tidy",
            "apk",
        ] {
            assert_eq!(found(no), None, "{no}");
        }
    }

    #[test]
    fn what_takes_long() {
        let expensive = |text| is_expensive(&crate::shell::commands(text)[0]);
        assert!(expensive("./configure") && expensive("go build ./...") && expensive("apk add x"));
        assert!(!expensive("go version") && !expensive("echo make") && !expensive("git rev-parse HEAD"));
    }
}
