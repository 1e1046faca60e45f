//! What the workloads build: made from a fixed seed, the same bytes every time.

use std::io::{self, Write};
use std::path::Path;

use crate::random::Random;

/// Every build begins with this: no image has to come from anywhere.
pub(super) const BASE: &str = "FROM scratch AS base\nCOPY bin /bin\n";

/// Programs that the steps use.
const PROGRAMS: &[&str] =
    &["cat", "echo", "find", "mkdir", "sh", "sha256sum", "sleep", "sort", "wc", "xargs"];

const MB: usize = 1 << 20;

/// Text like source code, which gzip makes a quarter of.
fn text(rng: &mut Random, size: usize) -> Vec<u8> {
    let words: Vec<String> = (0..4000)
        .map(|_| (0..2 + rng.below(9)).map(|_| char::from(b'a' + rng.below(26) as u8)).collect())
        .collect();
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        out.extend_from_slice(words[rng.below(words.len())].as_bytes());
        out.extend_from_slice([" ", " ", " ", "\n", "(", ") {\n", ";\n"][rng.below(7)].as_bytes());
    }
    out.truncate(size);
    out
}

/// The programs of the steps: busybox under their names.
pub(super) fn programs(context: &Path) -> io::Result<()> {
    let bin = context.join("bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox"))?;
    PROGRAMS.iter().try_for_each(|name| std::os::unix::fs::symlink("busybox", bin.join(name)))
}

/// `files` small files in 8 modules of 25 directories, about 10 KB each.
pub(super) fn sources(context: &Path, files: usize) -> io::Result<()> {
    let mut rng = Random::new(1);
    let pool = text(&mut rng, 4 * MB);
    for i in 0..files {
        let dir = context.join(format!("mod{}/d{:02}", i % 8, i / 8 % 25));
        std::fs::create_dir_all(&dir)?;
        let size = 64 + rng.below(5000) + rng.below(15_000);
        let at = rng.below(pool.len() - size);
        let mut file = std::fs::File::create(dir.join(format!("f{i:05}.c")))?;
        file.write_all(format!("/* {i} */\n").as_bytes())?;
        file.write_all(&pool[at..at + size])?;
    }
    Ok(())
}

/// `count` files of `each` bytes in `dir`, text and random bytes by turns.
pub(super) fn large(dir: &Path, count: usize, each: usize) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut rng = Random::new(2);
    let pool = text(&mut rng, 16 * MB);
    for i in 0..count {
        let mut file = io::BufWriter::new(std::fs::File::create(dir.join(format!("big{i:02}")))?);
        let mut left = each;
        while left > 0 {
            let n = left.min(MB);
            if i % 2 == 0 {
                let at = rng.below(pool.len() - n);
                file.write_all(&pool[at..at + n])?;
            } else {
                let bytes: Vec<u8> = (0..n.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).collect();
                file.write_all(&bytes[..n])?;
            }
            left -= n;
        }
    }
    Ok(())
}

/// Twelve instructions on the sources; the last three steps read three of the eight modules.
pub(super) fn application(nonce: u64) -> String {
    let hash =
        |n| format!("RUN find /app/mod{n} -type f | sort | xargs sha256sum > /out/mod{n} && sleep 1\n");
    format!(
        "{BASE}ENV N={nonce}\nWORKDIR /app\nRUN mkdir -p /out && echo tools > /out/tools\nCOPY deps.txt /app/deps.txt\n\
         RUN wc -l /app/deps.txt > /out/deps\nLABEL bench=app\nCOPY . .\n{}{}{}CMD [\"cat\", \"/out/mod0\"]\n",
        hash(0),
        hash(1),
        hash(2)
    )
}

/// Changes one file that none of the steps reads.
pub(super) fn edit(context: &Path, nonce: u64) -> io::Result<()> {
    std::fs::write(context.join("mod7/d00/f00007.c"), format!("/* edit {nonce} */\n"))
}

/// Eight stages that sleep, joined.
pub(super) fn stages(nonce: u64) -> String {
    let each = |i| format!("FROM base AS s{i}\nENV N={nonce}\nRUN sleep 1.5 && echo {i} > /out{i}\n");
    let joined: String = (0..8).map(|i| format!("COPY --from=s{i} /out{i} /out{i}\n")).collect();
    format!("{BASE}{}FROM base\n{joined}", (0..8).map(each).collect::<String>())
}

/// Sixty steps that do nothing.
pub(super) fn steps(nonce: u64) -> String {
    let each: String = (0..60).map(|i| format!("RUN echo {i}\n")).collect();
    format!("{BASE}ENV N={nonce}\n{each}")
}
