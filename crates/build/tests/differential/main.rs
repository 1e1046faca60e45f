//! The traced cache against no cache: random Dockerfiles, random edits, and after each edit both builds must give the same image,
//! entry by entry, in everything but times.
//!
//! `--steps N` edits (default 120), `--seed S` (default 1), `--worlds W` at once (default 2), `--per-world N` edits before a new
//! Dockerfile is drawn. A divergence prints the Dockerfile, the edit and the first entry that differs, and fails.
//!
//! Needs root and a static busybox; without them it says so and passes.

mod edits;
mod script;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const NAME: &str = "traced_builds_equal_uncached_builds";

/// A small deterministic generator (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn number(args: &[String], flag: &str, default: u64) -> u64 {
    let at = args.iter().position(|a| a == flag);
    at.and_then(|i| args.get(i + 1)).and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main([]);
    }
    let mut out = std::io::stdout();
    if args.iter().any(|a| a == "--list") {
        // What nextest asks for.
        if !args.iter().any(|a| a == "--ignored") {
            let _ = writeln!(out, "{NAME}: test");
        }
        return;
    }
    if !rustix::process::geteuid().is_root() || !std::path::Path::new(world::BUSYBOX).exists() {
        let _ = writeln!(out, "skipped: it needs root and a static {}", world::BUSYBOX);
        let _ = writeln!(out, "\ntest result: 0 passed; 0 failed");
        return;
    }
    let (steps, seed) = (number(&args, "--steps", 120), number(&args, "--seed", 1));
    let (worlds, per_world) = (number(&args, "--worlds", 2), number(&args, "--per-world", 12) as usize);
    let counts = Counts::default();
    let diverged = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let total = (steps as usize).div_ceil(per_world);
    std::thread::scope(|scope| {
        for _ in 0..worlds {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total || diverged.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = seed.wrapping_mul(1_000_003).wrapping_add(n as u64);
                    if let Err(text) = world::run(seed, per_world, &counts) {
                        diverged.store(true, Ordering::Relaxed);
                        let _ = writeln!(std::io::stdout(), "DIVERGED in world {seed}:\n{text}");
                    }
                }
            });
        }
    });
    let n = |c: &AtomicUsize| c.load(Ordering::Relaxed);
    let _ = writeln!(
        out,
        "seed {seed}: {} edits, {} of them to something that cannot be built, {} steps: {} same parent, {} same observations, {} ran",
        n(&counts.edits),
        n(&counts.refused),
        n(&counts.steps),
        n(&counts.same_parent),
        n(&counts.observed),
        n(&counts.ran)
    );
    let failed = diverged.load(Ordering::Relaxed);
    // A test that never reuses by observations would prove nothing.
    let idle = n(&counts.edits) >= 100 && n(&counts.observed) < n(&counts.edits) / 20;
    if idle {
        let _ = writeln!(out, "too few steps were reused by observations to prove anything");
    }
    let _ = writeln!(
        out,
        "\ntest result: {} passed; {} failed",
        usize::from(!failed && !idle),
        usize::from(failed || idle)
    );
    if failed || idle {
        std::process::exit(101);
    }
}

/// What the traced builds did, over all worlds.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) edits: AtomicUsize,
    /// Builds that failed both ways, for the same reason.
    pub(crate) refused: AtomicUsize,
    pub(crate) steps: AtomicUsize,
    pub(crate) same_parent: AtomicUsize,
    pub(crate) observed: AtomicUsize,
    pub(crate) ran: AtomicUsize,
}
