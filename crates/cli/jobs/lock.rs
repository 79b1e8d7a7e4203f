//! A lock between processes that ends with the process that holds it.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

/// Held until dropped, or until the process ends in whatever way. The file stays; it means nothing by itself.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the file is what gives the lock back")] File);

impl Lock {
    /// Takes the lock at `path`; `waiting` is called once when somebody else holds it.
    ///
    /// # Errors
    /// When the file cannot be made, or its file system has no locks.
    pub fn wait(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let open = File::options().create(true).truncate(false).write(true).open(path);
        let file = open.with_context(|| format!("opening the lock {}", path.display()))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        locked
            .with_context(|| format!("locking {} (workers must share a file system that has locks)", path.display()))?;
        Ok(Lock(file))
    }
}
