//! Cache mounts: `du --mounts` and `prune --mount ID`.

use std::process::ExitCode;

use oci::Time;
use serde::Serialize;
use store::{CacheMount, Store};

use crate::error::{CommandError, Kind};
use crate::table::{self, Format};
use crate::{human, output};

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    copies: u32,
    files: u64,
    bytes: u64,
    disk: u64,
    last_used: String,
    in_use: bool,
    #[serde(skip)]
    ago: String,
}

fn row(m: &CacheMount) -> Row {
    Row {
        id: m.id.clone(),
        copies: m.copies,
        files: m.amount.files,
        bytes: m.amount.bytes,
        disk: m.amount.disk,
        last_used: m.last_used.rfc3339(),
        in_use: m.in_use,
        ago: if m.in_use { "now".to_owned() } else { human::ago(m.last_used, Time::now()) },
    }
}

/// Lists them.
pub(crate) fn list(store: &Store, format: Format) -> Result<ExitCode, CommandError> {
    let rows: Vec<Row> = store.cache_mounts()?.iter().map(row).collect();
    table::print(format, &rows, &["ID", "COPIES", "FILES", "SIZE", "LAST USED"], |r| {
        vec![r.id.clone(), r.copies.to_string(), r.files.to_string(), human::bytes(r.bytes), r.ago.clone()]
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes those with an id of `ids`, or all.
pub(crate) fn remove(
    store: &Store,
    ids: &[String],
    dry_run: bool,
    format: Format,
) -> Result<ExitCode, CommandError> {
    let all = store.cache_mounts()?;
    if let Some(id) = ids.iter().find(|id| !all.iter().any(|m| m.id == **id)) {
        let known: Vec<&str> = all.iter().map(|m| m.id.as_str()).collect();
        let out = CommandError::new(Kind::User, format!("there is no cache mount {id}"));
        return Err(if known.is_empty() { out } else { out.hint(format!("there are {}", known.join(", "))) });
    }
    let chosen = all.into_iter().filter(|m| ids.is_empty() || ids.contains(&m.id));
    let (mut gone, mut used) = (Vec::new(), Vec::new());
    for m in chosen {
        if if dry_run { !m.in_use } else { store.remove_cache_mount(&m.key)? } {
            gone.push(m)
        } else {
            used.push(m)
        }
    }
    if format == Format::Json {
        table::json(&gone.iter().map(row).collect::<Vec<_>>());
    } else {
        for m in &gone {
            let verb = if dry_run { "would free" } else { "freed" };
            output::line(&format!("{verb} {}: {}", m.id, human::bytes(m.amount.bytes)));
        }
        if gone.is_empty() && used.is_empty() {
            output::line("there are no cache mounts");
        }
    }
    match used.first() {
        Some(m) => Err(CommandError::new(Kind::Environment, format!("the cache mount {} is in use", m.id))
            .hint("wait for the build that uses it to end")),
        None => Ok(ExitCode::SUCCESS),
    }
}
