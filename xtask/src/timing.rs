//! Timing programs, their processor time with them.

use std::process::Command;
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
