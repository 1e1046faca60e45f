//! Timing programs, their processor time with them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sh::Result;

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the program and all that it waited for.
    pub(crate) cpu: Duration,
}

/// Processor time of all children that were waited for.
fn children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|e| format!("cannot read /proc: {e}"))?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    // proc(5): fields 16 and 17, in ticks; after the name come fields 3 and on. A tick is 10 ms.
    let ticks: u64 = after.split_whitespace().skip(13).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Runs commands one after the other and times them together.
pub(crate) fn timed(commands: impl IntoIterator<Item = Command>) -> Result<Cost> {
    let (begin, before) = (Instant::now(), children()?);
    for mut command in commands {
        let out = command.output().map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(format!(
                "{command:?}: {}\n{}",
                out.status,
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
    }
    Ok(Cost { wall: begin.elapsed(), cpu: children()?.saturating_sub(before) })
}

/// Like [`timed`], but with the processor time of everything that the command starts, whoever waits for it: of a control group of
/// version 2. `name` is the group's.
pub(crate) fn timed_group(command: &Command, name: &str) -> Result<Cost> {
    let mounts =
        std::fs::read_to_string("/proc/self/mounts").map_err(|e| format!("cannot read /proc: {e}"))?;
    let groups = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let root = groups.filter(|f| f.get(2) == Some(&"cgroup2")).find_map(|f| f.get(1).map(PathBuf::from));
    let group = root.ok_or("there are no control groups of version 2 to measure with")?.join(name);
    if !group.is_dir() {
        std::fs::create_dir(&group).map_err(|e| format!("cannot make a control group: {e}"))?;
    }
    let usage = || -> Result<Duration> {
        let stat =
            std::fs::read_to_string(group.join("cpu.stat")).map_err(|e| format!("cannot read: {e}"))?;
        let micros = stat.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse().ok());
        micros.map(Duration::from_micros).ok_or_else(|| "cpu.stat tells no usage".into())
    };
    let before = usage()?;
    let mut entered = Command::new("sh");
    entered.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.join("cgroup.procs"));
    entered.arg(command.get_program()).args(command.get_args());
    entered.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let cost = timed([entered])?;
    let cpu = usage()?.saturating_sub(before);
    // Whoever is still there has ended with the next one.
    let _ = std::fs::remove_dir(&group);
    Ok(Cost { cpu, ..cost })
}

/// The middle one of some figures; of none, nothing that could be taken for a figure.
pub(crate) fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([30.0, 10.0, 20.0].into_iter()), 20.0);
        assert!(median(std::iter::empty()).is_nan());
    }
}
