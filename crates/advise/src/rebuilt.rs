//! A Dockerfile put together from the history of an image, for images whose Dockerfile is not at hand.
//!
//! A history line is an instruction as it was run, with variables expanded: `RUN /bin/sh -c x # buildkit`, `/bin/sh -c x`,
//! `/bin/sh -c #(nop) ENV A=1`, `COPY file:... in /x`, `COPY a /x # buildkit`. What the base image brought cannot be told from the rest without
//! help, so the caller says how many lines and layers are the base's. Advice on such a file can be read, not applied, and nothing is
//! known of what steps read and of the time that they took.

use std::sync::Arc;

use build::plan::{Copy, CopySource, Run};
use dockerfile::Instruction;
use oci::types::ImageConfig;
use oci::{Content, LayerIndex, Tree};

use crate::facts::{Facts, FactsError, Stage, Step, What};

/// One line of a history as an instruction; none for what is no instruction of a Dockerfile.
fn instruction(line: &str) -> Option<String> {
    let line = line.trim();
    let line = line.strip_suffix("# buildkit").unwrap_or(line).trim();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = line.strip_prefix("/bin/sh -c #(nop)") {
        return Some(rest.trim().to_owned()).filter(|r| !r.is_empty());
    }
    let command = line.strip_prefix("RUN ").unwrap_or(&line);
    // Arguments that a build was given stand in front: `|1 A=b /bin/sh -c x`.
    let command = match command.strip_prefix('|').and_then(|c| c.split_once("/bin/sh -c ")) {
        Some((_, c)) => c,
        None => command.strip_prefix("/bin/sh -c ").unwrap_or(command),
    };
    if line.starts_with("RUN ") || command.len() < line.len() {
        return Some(format!("RUN {command}"));
    }
    Some(line).filter(|l| !l.is_empty())
}

/// Facts about an image alone. `base` is the number of its layers that are not looked at; `name` what its base is called.
pub fn of_image(
    config: &ImageConfig,
    layers: &[Arc<LayerIndex>],
    base: usize,
    name: &str,
    content: Arc<dyn Content>,
    min_bytes: u64,
) -> Result<Facts, FactsError> {
    let mut text = format!("FROM {name}\n");
    let mut tree = Tree::new();
    for l in layers.iter().take(base) {
        tree.apply(l)?;
    }
    let base_tree = Arc::new(tree.clone());
    let mut numbers = 0..layers.len();
    let mut steps: Vec<(u32, usize)> = Vec::new();
    let mut line = 1;
    for h in &config.history {
        let layer = if h.empty_layer { None } else { numbers.next() };
        let own = layer.map_or(steps.len() + base < layers.len() && numbers.start > base, |n| n >= base);
        let Some(i) = h.created_by.as_deref().and_then(instruction).filter(|_| own) else { continue };
        // Docker's own builder writes checksums where the sources stood.
        let checksum = |w: &str| ["file:", "dir:", "multi:"].iter().any(|p| w.starts_with(p));
        let readable = !i.split(' ').nth(1).is_some_and(checksum);
        let parsed = dockerfile::parse_instruction(&i, '\\').0.filter(|_| readable);
        // What cannot be read (`COPY file:... in /x`, other builders' lines) keeps its place as a comment.
        let text_line = if parsed.is_some() { i } else { format!("# {i}") };
        text.push_str(&text_line);
        text.push('\n');
        line += 1;
        if let (Some(n), Some(_)) = (layer, parsed) {
            steps.push((line, n));
        }
    }
    let file = dockerfile::parse(&text).file;
    let mut out = Vec::new();
    for (n, layer) in layers.iter().enumerate().skip(base) {
        let before = Arc::new(tree.clone());
        tree.apply(layer)?;
        let at = steps.iter().find(|(_, l)| *l == n).map(|(line, _)| *line);
        let statement = at.and_then(|line| file.statements.iter().position(|s| s.first_line == line));
        let what = match statement.map(|s| &file.statements[s].instruction) {
            Some(Instruction::Run(_)) => What::Run(Run {
                args: Vec::new(),
                env: env(config),
                proxy: Vec::new(),
                cwd: "/".into(),
                user: String::new(),
                network: None,
                security: None,
                mounts: Vec::new(),
                script: None,
                always: false,
                chain: false,
            }),
            Some(Instruction::Copy(c)) => What::Copy(Copy {
                add: false,
                sources: c.sources.iter().map(|s| CopySource::Path(s.clone())).collect(),
                dest: c.dest.clone(),
                chown: c.chown.clone(),
                chmod: None,
                exclude: c.exclude.clone(),
                parents: c.parents,
                link: c.link,
                from: c.from.as_ref().map(|_| 0),
                unpack: None,
            }),
            _ => What::Workdir,
        };
        let number = before.layers();
        out.push(Step { statement, number, layer: layer.clone(), before, seconds: 0.0, reads: None, what });
    }
    let base_layers = base_tree.layers();
    let stage = Stage { from: 0, shipped: true, base: base_tree, base_layers, steps: out };
    Ok(Facts {
        name: "history".into(),
        text,
        file,
        stages: vec![stage],
        last: Arc::new(tree),
        config: config.clone(),
        content,
        min_bytes,
        min_seconds: 0.0,
    })
}

fn env(config: &ImageConfig) -> Vec<(String, String)> {
    let pairs = config.config.env.iter().filter_map(|e| e.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{file, gone};
    use oci::content::MemoryContent;
    use oci::types::History;

    #[test]
    fn lines_of_all_builders() {
        for (line, said) in [
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("RUN /bin/sh -c a   &&  b # buildkit", "RUN a && b"),
            ("RUN |1 A=b /bin/sh -c x # buildkit", "RUN x"),
            ("|1 A=b /bin/sh -c x", "RUN x"),
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", "CMD [\"sh\"]"),
            ("COPY a /b # buildkit", "COPY a /b"),
        ] {
            assert_eq!(instruction(line).as_deref(), Some(said));
        }
    }

    #[test]
    fn advice_can_be_had_of_an_image_alone() {
        let mut config = ImageConfig::default();
        for line in [
            "/bin/sh -c #(nop) ADD file:12 in /",
            "RUN /bin/sh -c get big",
            "COPY file:x in /",
            "RUN /bin/sh -c rm /big",
        ] {
            config.history.push(History { created_by: Some(line.into()), ..History::default() });
        }
        let layer = |entries| Arc::new(LayerIndex::from_entries(entries).unwrap());
        let layers = [
            layer(vec![file("b", 1)]),
            layer(vec![file("big", 5000)]),
            layer(vec![file("x", 1)]),
            layer(vec![gone("big")]),
        ];
        let facts = of_image(&config, &layers, 1, "base", Arc::new(MemoryContent::default()), 100).unwrap();
        assert_eq!(facts.text, "FROM base\nRUN get big\n# COPY file:x in /\nRUN rm /big\n");
        let all = crate::advise(&facts);
        assert_eq!((all.len(), all[0].kind, all[0].worth.bytes), (1, crate::Kind::MergeRuns, 5000));
    }
}
