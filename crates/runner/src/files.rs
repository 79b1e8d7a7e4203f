//! Files are written whole or not at all, and known by their SHA-256.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::RunnerError;

/// Reads a file.
///
/// # Errors
/// [`RunnerError::Io`], which names it.
pub fn read(path: &Path) -> Result<Vec<u8>, RunnerError> {
    std::fs::read(path).map_err(RunnerError::io("reading", path))
}

/// Replaces `path` by `bytes` in one step: a crash leaves the old file or the new one, never half of it.
///
/// # Errors
/// [`RunnerError::Io`], which names it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunnerError> {
    let folder = folder_of(path);
    let write = || -> std::io::Result<()> {
        let mut file = new_file().tempfile_in(&folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(RunnerError::io("writing", path))
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The folder that holds `path`.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Temporary files that are going to be kept: readable by whoever the umask lets read.
fn new_file() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.bin");
        write_atomic(&path, b"one").expect("first write");
        write_atomic(&path, b"two").expect("second write");
        assert_eq!(read(&path).expect("readable"), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(folder.path().join("plain"), b"").expect("written");
            let mode = |name: &str| std::fs::metadata(folder.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode("a.bin"), mode("plain"), "as readable as any other new file");
        }
    }

    #[test]
    fn the_hash_is_the_published_one_of_abc() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
