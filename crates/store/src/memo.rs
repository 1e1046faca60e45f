//! Memos: bytes by name that may be lost.
use crate::Store;
use crate::error::{Result, pending};

impl Store {
    /// The bytes last saved under `name`; `None` if there are none or they are damaged.
    pub fn memo_load(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }
    /// Saves bytes under a name. Not durable.
    pub fn memo_save(&self, _name: &str, _bytes: &[u8]) -> Result<()> {
        pending()
    }
}
