//! Flags that limit what a step or a container may use, with the names and rules of Docker's.

use sandbox::Limits;

use crate::error::CommandError;
use crate::values;

/// Docker's least memory: less than that does not even start a program.
const LEAST_MEMORY: u64 = 6 << 20;

/// The flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LimitArgs {
    /// Memory that each may use, such as 512m (limits need control groups; where there are none, a warning says so)
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    memory: Option<String>,
    /// Memory and swap together; -1: no limit of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "Limits")]
    memory_swap: Option<String>,
    /// How many processors' time each may use, such as 1.5
    #[arg(long, value_name = "N", help_heading = "Limits")]
    cpus: Option<String>,
    /// Weight where processors are scarce (others: 1024)
    #[arg(short, long, value_name = "N", help_heading = "Limits")]
    cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "N", help_heading = "Limits")]
    cpu_period: Option<u64>,
    /// Processors that may be used, such as 0-2,5
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    cpuset_mems: Option<String>,
    /// Processes and threads that each may have; -1: no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pids_limit: Option<i64>,
    /// Control group in which those of the steps are made; a path from the root of the hierarchy, or from the own group
    #[arg(long, value_name = "GROUP", help_heading = "Limits")]
    cgroup_parent: Option<String>,
}

impl LimitArgs {
    /// What they say together.
    pub(crate) fn limits(&self) -> Result<Limits, CommandError> {
        let wrong = |flag: &str, why: &str| CommandError::usage(format!("--{flag}: {why}"));
        let memory =
            self.memory.as_deref().map(|m| values::bytes("memory", m)).transpose()?.filter(|m| *m > 0);
        if memory.is_some_and(|m| m < LEAST_MEMORY) {
            return Err(wrong("memory", "the least is 6m"));
        }
        let memory_swap = match self.memory_swap.as_deref() {
            None | Some("0") => None,
            Some("-1") => Some(u64::MAX),
            Some(text) => Some(values::bytes("memory-swap", text)?),
        };
        match (memory, memory_swap) {
            (None, Some(_)) => return Err(wrong("memory-swap", "it needs --memory, too")),
            (Some(m), Some(both)) if both < m => {
                return Err(wrong(
                    "memory-swap",
                    "it is memory and swap together, so not less than --memory",
                ));
            }
            _ => {}
        }
        let mut limits = Limits {
            memory,
            memory_swap,
            cpu_shares: self.cpu_shares.filter(|n| *n > 0),
            cpu_quota: self.cpu_quota.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
            cpu_period: self.cpu_period.filter(|n| *n > 0),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|l| !l.is_empty()),
            cpuset_mems: self.cpuset_mems.clone().filter(|l| !l.is_empty()),
            pids: self.pids_limit.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
            parent: self.cgroup_parent.clone().filter(|p| !p.is_empty()),
        };
        if limits.cpu_shares.is_some_and(|n| !(2..=262_144).contains(&n)) {
            return Err(wrong("cpu-shares", "expected 2 to 262144"));
        }
        if limits.cpu_period.is_some_and(|n| !(1000..=1_000_000).contains(&n)) {
            return Err(wrong("cpu-period", "expected 1000 to 1000000 microseconds"));
        }
        if limits.cpu_quota.is_some_and(|n| n < 1000) {
            return Err(wrong("cpu-quota", "the least is 1000 microseconds"));
        }
        for (flag, list) in [("cpuset-cpus", &limits.cpuset_cpus), ("cpuset-mems", &limits.cpuset_mems)] {
            if list.as_ref().is_some_and(|l| !is_list(l)) {
                return Err(wrong(flag, "expected numbers and ranges such as 0-2,5"));
            }
        }
        if limits.parent.as_ref().is_some_and(|p| p.split('/').any(|name| name == "..")) {
            return Err(wrong("cgroup-parent", "a path with .. is not taken"));
        }
        if let Some(cpus) = self.cpus.as_deref() {
            if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
                return Err(wrong(
                    "cpus",
                    "it says the same as --cpu-quota and --cpu-period, so give one or the other",
                ));
            }
            let bad = || wrong("cpus", "expected a number such as 1.5, of 0.01 or more");
            let number: f64 = cpus.parse().map_err(|_| bad())?;
            if number != 0.0 {
                if !(0.01..=1e6).contains(&number) {
                    return Err(bad());
                }
                // Of a period of 100000 microseconds.
                limits.cpu_quota = Some((number * 100_000.0).round() as u64);
                limits.cpu_period = Some(100_000);
            }
        }
        Ok(limits)
    }
}

/// `0-2,5`.
fn is_list(text: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.len() < 7 && n.bytes().all(|b| b.is_ascii_digit());
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(part),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(words: &str) -> Result<Limits, String> {
        let words = std::iter::once("x").chain(words.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
        cli.limits.limits().map_err(|e| e.message)
    }

    #[test]
    fn flags_say_what_they_say_to_docker() {
        let none = Limits::default();
        assert_eq!(limits("").unwrap(), none);
        assert_eq!(limits("-m 512m").unwrap(), Limits { memory: Some(512 << 20), ..none.clone() });
        let both = limits("--memory=1g --memory-swap=-1 --pids-limit 100").unwrap();
        assert_eq!((both.memory, both.memory_swap, both.pids), (Some(1 << 30), Some(u64::MAX), Some(100)));
        let cpu = limits("--cpus 1.5 -c 512").unwrap();
        assert_eq!(
            (cpu.cpu_quota, cpu.cpu_period, cpu.cpu_shares),
            (Some(150_000), Some(100_000), Some(512))
        );
        for nothing in [
            "--memory 0",
            "--pids-limit -1",
            "--pids-limit 0",
            "--cpu-quota -1",
            "--cpus 0",
            "--cpu-shares 0",
        ] {
            assert_eq!(limits(nothing).unwrap(), none, "{nothing}");
        }
        assert_eq!(
            limits("--cpuset-cpus 0-2,5 --cgroup-parent /ci").unwrap(),
            Limits { cpuset_cpus: Some("0-2,5".into()), parent: Some("/ci".into()), ..none }
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (words, why) in [
            ("-m 5m", "6m"),
            ("-m x", "size"),
            ("--memory-swap 1g", "--memory"),
            ("-m 1g --memory-swap 512m", "together"),
            ("--cpus 1 --cpu-quota 5000", "one or the other"),
            ("--cpus 0.001", "0.01"),
            ("--cpus NaN", "0.01"),
            ("--cpu-shares 1", "262144"),
            ("--cpu-period 10", "1000000"),
            ("--cpu-quota 10", "1000"),
            ("--cpuset-cpus 0-", "0-2,5"),
            ("--cpuset-mems a", "0-2,5"),
            ("--cgroup-parent ../x", ".."),
        ] {
            let error = limits(words).expect_err(words);
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}
