//! Commands of an ordinary user: the program enters a user namespace first, in which it is root over what belongs to the user.
//!
//! Files of the store belong to the users of that namespace, so every command that opens a store is in it.

use std::sync::OnceLock;

use sandbox::userns::{self, Entered};

use crate::error::{CommandError, Kind};
use crate::output;

/// Whether the program was started by root.
static STARTED_BY_ROOT: OnceLock<bool> = OnceLock::new();

/// Whether the program was started by root, whoever it is now.
pub(crate) fn is_root() -> bool {
    *STARTED_BY_ROOT.get_or_init(|| rustix::process::geteuid().is_root())
}

/// Enters a user namespace, unless root started the program. To be called before there are threads. `steps`: whether commands are to be
/// run in images; nothing else fails without the namespace.
pub(crate) fn enter(steps: bool) -> Result<(), CommandError> {
    if is_root() {
        return Ok(());
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let maps = userns::maps_of(uid, gid, &read("/etc/passwd"), &read("/etc/subuid"), &read("/etc/subgid"));
    match userns::enter(maps.as_ref().map_err(Clone::clone)) {
        Ok(Entered::Single(why)) if steps => {
            output::note(&format!(
                "warning: only one user exists in images here: {why}; all files belong to root, and changing that is ignored"
            ));
            output::note(
                "hint: have the administrator install newuidmap and newgidmap (package uidmap) and run: usermod --add-subuids \
                 100000-165535 --add-subgids 100000-165535 USER",
            );
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(e) if steps => {
            let error = CommandError::new(Kind::Environment, crate::error::chain(&e));
            Err(match e.remedy() {
                Some(remedy) => error.hint(remedy),
                None => error,
            })
        }
        Err(_) => Ok(()),
    }
}
