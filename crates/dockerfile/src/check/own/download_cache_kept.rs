//! DownloadCacheKept: the download cache of a language's package manager stays in the layer.
//!
//! pip, uv, npm, yarn, composer and conda keep what they downloaded, 10 to 500 MB of it, in case it is wanted again; in a layer nobody
//! asks for it any more. What helps in the same RUN: an option (`pip install --no-cache-dir`), a command (`npm cache clean --force`), `rm` of
//! the directory, or a cache mount, with which the next build need not download again. Variables such as `PIP_NO_CACHE_DIR` count, too.
//!
//! Only stages that are shipped are looked at. The fix is there for pip and uv.

use super::super::facts::{Facts, Run, StageFacts};
use super::super::{Check, Finding, Reporter, Rule};
use super::managers::{self, Install, Manager};
use crate::Span;

pub(in super::super) static RULE: Rule = Rule {
    name: "layercake/DownloadCacheKept",
    summary: "download caches of package managers should not stay in the image",
    experimental: false,
    check: Check::Facts(check),
};

/// What is known of a manager's cache.
struct Cache {
    name: &'static str,
    /// Parts of paths by which the cache is known in a mount or in an `rm`.
    places: &'static [&'static str],
    /// Variables that turn it off or move it.
    variables: &'static [&'static str],
    /// An option of the command that turns it off.
    option: Option<&'static str>,
    help: &'static str,
}

fn cache(manager: Manager) -> Option<Cache> {
    Some(match manager {
        Manager::Pip => Cache {
            name: "pip",
            places: &[".cache", "pip"],
            variables: &["PIP_NO_CACHE_DIR"],
            option: Some("--no-cache-dir"),
            help: "use: pip install --no-cache-dir, or a cache mount at /root/.cache/pip",
        },
        Manager::Uv => Cache {
            name: "uv",
            places: &[".cache", "uv"],
            variables: &["UV_NO_CACHE", "UV_CACHE_DIR"],
            option: Some("--no-cache"),
            help: "use --no-cache, or a cache mount at /root/.cache/uv",
        },
        Manager::Npm => Cache {
            name: "npm",
            places: &[".npm", "npm"],
            variables: &["NPM_CONFIG_CACHE", "npm_config_cache"],
            option: None,
            help: "end with: && npm cache clean --force, or use a cache mount at /root/.npm",
        },
        Manager::Yarn => Cache {
            name: "yarn",
            places: &["yarn", ".cache"],
            variables: &["YARN_CACHE_FOLDER"],
            option: None,
            help: "end with: && yarn cache clean, or use a cache mount",
        },
        Manager::Composer => Cache {
            name: "composer",
            places: &["composer", ".cache"],
            variables: &["COMPOSER_CACHE_DIR"],
            option: Some("--no-cache"),
            help: "use --no-cache, or a cache mount at /root/.composer/cache",
        },
        Manager::Conda => Cache {
            name: "conda",
            places: &["conda", "pkgs"],
            variables: &[],
            option: None,
            help: "end with: && conda clean -afy, or use a cache mount",
        },
        _ => return None,
    })
}

fn check(facts: &Facts<'_>, reporter: &mut Reporter<'_>) {
    for stage in facts.stages.iter().filter(|stage| stage.shipped) {
        for run in &stage.runs {
            let kept = run.commands.iter().find_map(|command| {
                let install = managers::install(command)?;
                let cache = cache(install.manager)?;
                let off = cache.option.is_some_and(|option| {
                    command
                        .args()
                        .iter()
                        .any(|w| w.text == option || w.text.starts_with(&format!("{option}=")))
                });
                (!off && !is_gone(stage, run, &cache)).then_some((install, cache))
            });
            if let Some((install, cache)) = kept {
                reporter.report(&[run.statement], finding(run, &install, &cache));
            }
        }
    }
}

fn is_gone(stage: &StageFacts<'_>, run: &Run<'_>, cache: &Cache) -> bool {
    let named = |text: &str| cache.places.iter().any(|place| text.contains(place));
    stage.sets(cache.variables)
        || run
            .mounts
            .iter()
            .any(|target| named(target) || matches!(target.trim_end_matches('/'), "/root" | "/home"))
        || run.commands.iter().any(|c| {
            let removes = c.program() == "rm" && c.args().iter().any(|w| named(&w.text) || !w.literal);
            // `pip cache purge`, `npm cache clean`, `conda clean`, `npm config set cache ...`.
            let cleans = c.has("clean") || c.has("purge") || c.has("config");
            let set_here = c
                .words
                .iter()
                .any(|w| w.text.split_once('=').is_some_and(|(name, _)| cache.variables.contains(&name)));
            removes || cleans || set_here
        })
}

fn finding(run: &Run<'_>, install: &Install<'_>, cache: &Cache) -> Finding {
    let message = format!("the download cache of {} stays in the layer", cache.name);
    let finding = Finding::new(run.statement, message).help(cache.help);
    let sure = matches!(install.manager, Manager::Pip | Manager::Uv);
    let place = install.verb.filter(|_| sure).and_then(|verb| run.place(verb.start, verb.end));
    match (place, cache.option) {
        (Some(verb), Some(option)) => finding.fix(Span::new(verb.end, verb.end), format!(" {option}")),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fixed, lines};
    use super::*;

    #[test]
    fn caches_that_stay() {
        for run in [
            "pip install flask",
            "python3 -m pip install -r r.txt",
            "npm ci",
            "yarn",
            "composer install",
            "conda install x",
            "uv sync",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM a\nRUN {run}\nRUN {run}\n")), [2, 3], "{run}");
        }
    }

    #[test]
    fn caches_that_do_not() {
        for text in [
            "RUN pip install --no-cache-dir flask",
            "ENV PIP_NO_CACHE_DIR=1\nRUN pip install flask",
            "RUN PIP_NO_CACHE_DIR=1 pip install flask",
            "RUN pip install flask && rm -rf ~/.cache",
            "RUN --mount=type=cache,target=/root/.cache/pip pip install flask",
            "RUN --mount=type=cache,target=/root/.npm npm ci",
            "RUN npm ci && npm cache clean --force",
            "RUN yarn --frozen-lockfile && yarn cache clean",
            "RUN yarn build",
            "RUN conda install x && conda clean -afy",
            "RUN pnpm install",
            "RUN npm run build",
        ] {
            assert_eq!(lines(&RULE, &format!("FROM a\n{text}\n")), [0; 0], "{text}");
        }
        assert_eq!(
            lines(&RULE, "FROM a AS b\nRUN npm ci\nFROM c\nCOPY --from=b /x /\n"),
            [0; 0],
            "not shipped"
        );
        assert_eq!(
            lines(&RULE, "FROM a AS b\nENV PIP_NO_CACHE_DIR=1\nFROM b\nRUN pip install x\n"),
            [0; 0],
            "inherited"
        );
    }

    #[test]
    fn fixes() {
        let text = "FROM a\nRUN a && pip \\\n install -r x && uv pip install y\nRUN pip install z\n";
        let wanted = "FROM a\nRUN a && pip \\\n install --no-cache-dir -r x && uv pip install --no-cache y\nRUN pip install --no-cache-dir z\n";
        assert_eq!(fixed(&RULE, text), wanted);
    }
}
