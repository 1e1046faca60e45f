//! The traced cache against no cache: random Dockerfiles, random edits, and after each edit both builds must give the same image,
//! entry by entry, in everything but times.
//!
//! A second test turns off one kind of observation after the other (see `weaken`), and demands that the first would notice.
//!
//! `--steps N` edits (default 2000), `--seed S` (default 1), `--worlds W` at once (default 3), `--per-world N` edits before a new
//! Dockerfile is drawn, `--progress` says how far it is. A divergence prints the Dockerfile, the edits and the first entry that differs,
//! and fails. `--weakness NAME` builds with records of which one kind of observation is left out.
//!
//! Needs root and a C compiler; without them it says so and passes. What else a host may lack (a static busybox, a C library to link
//! to) is said, and left out.

mod base;
mod edits;
mod ldcache;
mod script;
mod weaken;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use weaken::Weakness;

const EQUAL: &str = "traced_builds_equal_uncached_builds";
const NOTICED: &str = "every_lost_kind_of_observation_is_noticed";

/// Worlds that share two stores.
const WORLDS_PER_STORE: usize = 6;

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

fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a String> {
    args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1))
}

fn number(args: &[String], flag: &str, default: u64) -> u64 {
    value(args, flag).and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == sandbox::INIT_ARG) {
        sandbox::init_main([]);
    }
    if args.iter().any(|a| a == "--list") {
        // What nextest asks for.
        if !args.iter().any(|a| a == "--ignored") {
            say(&format!("{EQUAL}: test\n{NOTICED}: test"));
        }
        return;
    }
    let skip = |why: &str| say(&format!("skipped: {why}\n\ntest result: 0 passed; 0 failed"));
    if !rustix::process::geteuid().is_root() {
        return skip("it needs root");
    }
    let tools = match base::tools() {
        Ok(tools) => tools,
        Err(e) => return skip(&format!("its programs cannot be built: {e}")),
    };
    if let Some(why) = &tools.missing {
        say(&format!("without dynamically linked programs: {why}"));
    }
    let plan = |steps| Plan {
        steps: number(&args, "--steps", steps) as usize,
        seed: number(&args, "--seed", 1),
        threads: number(&args, "--worlds", 3) as usize,
        per_world: number(&args, "--per-world", 20) as usize,
        progress: args.iter().any(|a| a == "--progress"),
        weakness: None,
    };
    let named = |name: &str| args.get(1).is_none_or(|a| a.starts_with('-')) || args.iter().any(|a| a == name);
    let mut results = Vec::new();
    if let Some(name) = value(&args, "--weakness") {
        let weakness = Weakness::ALL.into_iter().find(|w| w.name() == name);
        results.push(run(tools, Plan { weakness, ..plan(2000) }).is_none());
    } else {
        if named(EQUAL) {
            results.push(run(tools, plan(2000)).is_none());
        }
        let quick = value(&args, "--steps").is_none();
        if named(NOTICED) && quick {
            for weakness in Weakness::ALL {
                if weakness == Weakness::LinkerCache && tools.dynamic.is_none() {
                    continue;
                }
                let found = run(tools, Plan { weakness: Some(weakness), ..plan(3000) });
                say(&match found {
                    Some(n) => format!("{}: noticed after {n} edits", weakness.name()),
                    None => format!("{}: NOT NOTICED", weakness.name()),
                });
                results.push(found.is_some());
            }
        }
    }
    let failed = results.iter().filter(|ok| !**ok).count();
    say(&format!("\ntest result: {} passed; {failed} failed", results.len() - failed));
    if failed > 0 {
        std::process::exit(101);
    }
}

/// How much is done.
#[derive(Debug, Clone)]
struct Plan {
    steps: usize,
    seed: u64,
    threads: usize,
    per_world: usize,
    progress: bool,
    weakness: Option<Weakness>,
}

/// Builds worlds; gives the number of edits after which two builds differed, or that reuse was too rare to prove anything.
fn run(tools: &base::Tools, plan: Plan) -> Option<usize> {
    let counts = Counts::default();
    let diverged = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let n = |c: &AtomicUsize| c.load(Ordering::Relaxed);
    let tell = || {
        say(&format!(
            "seed {}: {} edits, {} of them to something that cannot be built, {} steps: {} same parent, {} same observations, {} ran",
            plan.seed,
            n(&counts.edits),
            n(&counts.refused),
            n(&counts.steps),
            n(&counts.same_parent),
            n(&counts.observed),
            n(&counts.ran)
        ));
    };
    let fail = |text: String| {
        stop.store(true, Ordering::Relaxed);
        diverged.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((n(&counts.edits), text));
    };
    let work = || {
        while !stop.load(Ordering::Relaxed) && n(&counts.edits) < plan.steps {
            // Stores are shared by worlds that follow each other in one thread, so that a seed always gives the same.
            let first = next.fetch_add(WORLDS_PER_STORE, Ordering::Relaxed);
            let mut stores = match world::Stores::new() {
                Ok(s) => s,
                Err(e) => return fail(e),
            };
            for world in first..first + WORLDS_PER_STORE {
                if stop.load(Ordering::Relaxed) || n(&counts.edits) >= plan.steps {
                    return;
                }
                let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(world as u64);
                let done = world::run(seed, plan.per_world, tools, &mut stores, plan.weakness, &counts);
                if let Err(text) = done {
                    fail(format!("DIVERGED in world {seed} (store from world {first}):\n{text}"));
                }
                if plan.progress && world % 50 == 0 {
                    tell();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(work);
        }
    });
    let found = diverged.into_inner().unwrap_or_else(PoisonError::into_inner);
    if plan.weakness.is_some() {
        return found.map(|(n, _)| n);
    }
    tell();
    if let Some((n, text)) = found {
        say(&text);
        return Some(n);
    }
    // A test that never reuses by observations would prove nothing.
    let idle = n(&counts.edits) >= 100 && n(&counts.observed) < n(&counts.edits) / 20;
    if idle {
        say("too few steps were reused by observations to prove anything");
    }
    idle.then(|| n(&counts.edits))
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
