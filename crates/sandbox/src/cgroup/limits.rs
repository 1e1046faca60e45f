//! What may be limited, and which files of a control group say so.

use std::path::Path;

/// Limits of what a step may use. Every step gets all of it: steps that run at once do not share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; `u64::MAX` is no limit. Without it twice the memory, as with Docker.
    pub memory_swap: Option<u64>,
    /// Weight beside other groups where processors are scarce: 1024 is usual, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// Length of a period in microseconds; 100000 without it.
    pub cpu_period: Option<u64>,
    /// Processors that may be used, such as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The group in which the step's own is made: an absolute path starts at the root of each hierarchy, another at our group.
    pub parent: Option<String>,
}

/// A limit that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    /// What would be limited.
    pub limit: &'static str,
    /// Why it is not.
    pub why: String,
}

/// The limits that a step met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// The kernel killed a process, since the step wanted more memory than it may have.
    pub memory: bool,
    /// A process could not be started, since there were as many as there may be.
    pub pids: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Controller; 4] =
        [Controller::Memory, Controller::Cpu, Controller::Cpuset, Controller::Pids];

    /// The kernel's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Pids => "pids",
        }
    }
}

/// A file of a group, what to write to it, and which limit that is. The swap limit that nobody asked for is none.
type Setting = (&'static str, String, Option<&'static str>);

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.controllers().is_empty()
    }

    pub(super) fn controllers(&self) -> Vec<Controller> {
        Controller::ALL.into_iter().filter(|c| !self.settings(*c, Version::Two).is_empty()).collect()
    }

    /// Everything to be written to the files of one controller, in order.
    pub(super) fn settings(&self, controller: Controller, version: Version) -> Vec<Setting> {
        use Version::{One, Two};
        let mut out: Vec<Setting> = Vec::new();
        let number = |n: u64, none: &str| if n == u64::MAX { none.to_owned() } else { n.to_string() };
        match (controller, version) {
            (Controller::Memory, _) => {
                let Some(memory) = self.memory else { return out };
                let both = self.memory_swap.unwrap_or(memory.saturating_mul(2));
                let asked = self.memory_swap.map(|_| "memory and swap");
                if version == One {
                    out.push(("memory.limit_in_bytes", memory.to_string(), Some("memory")));
                    // After the other: it may not be less.
                    out.push(("memory.memsw.limit_in_bytes", number(both, "-1"), asked));
                } else {
                    let swap = if both == u64::MAX { both } else { both.saturating_sub(memory) };
                    out.push(("memory.max", memory.to_string(), Some("memory")));
                    out.push(("memory.swap.max", number(swap, "max"), asked));
                }
            }
            (Controller::Cpu, One) => {
                if let Some(shares) = self.cpu_shares {
                    out.push(("cpu.shares", shares.to_string(), Some("CPU shares")));
                }
                if let Some(period) = self.cpu_period {
                    out.push(("cpu.cfs_period_us", period.to_string(), Some("CPU period")));
                }
                if let Some(quota) = self.cpu_quota {
                    out.push(("cpu.cfs_quota_us", quota.to_string(), Some("CPU time")));
                }
            }
            (Controller::Cpu, Two) => {
                if let Some(shares) = self.cpu_shares {
                    // 2 to 262144 becomes 1 to 10000, as in the OCI runtimes.
                    let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
                    out.push(("cpu.weight", weight.to_string(), Some("CPU shares")));
                }
                if self.cpu_quota.is_some() || self.cpu_period.is_some() {
                    let quota = self.cpu_quota.map_or("max".to_owned(), |q| q.to_string());
                    let period = self.cpu_period.unwrap_or(100_000);
                    out.push(("cpu.max", format!("{quota} {period}"), Some("CPU time")));
                }
            }
            (Controller::Cpuset, _) => {
                let files = [
                    ("cpuset.cpus", &self.cpuset_cpus, "CPUs"),
                    ("cpuset.mems", &self.cpuset_mems, "memory nodes"),
                ];
                for (file, value, name) in files {
                    out.extend(value.clone().map(|v| (file, v, Some(name))));
                }
            }
            (Controller::Pids, _) => {
                out.extend(self.pids.map(|n| ("pids.max", number(n, "max"), Some("processes"))));
            }
        }
        out
    }

    /// Sets the limits of one controller in a group.
    pub(super) fn set(&self, group: &Path, controller: Controller, version: Version, unset: &mut Vec<Unset>) {
        for (file, value, limit) in self.settings(controller, version) {
            let path = group.join(file);
            let written = std::fs::OpenOptions::new().write(true).open(&path);
            let written = written.and_then(|mut f| std::io::Write::write_all(&mut f, value.as_bytes()));
            if let (Err(e), Some(limit)) = (written, limit) {
                let why = format!("cannot write {value:?} to {}: {e}", path.display());
                unset.push(Unset { limit, why });
            }
        }
    }

    /// Nothing of a controller can be set.
    pub(super) fn unset(&self, controller: Controller, why: &str) -> Vec<Unset> {
        let names = self.settings(controller, Version::Two).into_iter().filter_map(|(_, _, limit)| limit);
        names.map(|limit| Unset { limit, why: why.to_owned() }).collect()
    }
}

impl Hits {
    /// Adds those that a group tells of.
    pub(super) fn read(&mut self, group: &Path, version: Version) {
        let count = |file: &str, key: &str| {
            let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
            let line = text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<u64>().ok());
            line.is_some_and(|n| n > 0)
        };
        let events = if version == Version::One { "memory.oom_control" } else { "memory.events" };
        self.memory |= count(events, "oom_kill ");
        self.pids |= count("pids.events", "max ");
    }
}
