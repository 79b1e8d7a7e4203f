//! The sources of the runner, carried by this program, and where runners made of them are kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files;

/// What `build.rs` packed: the rooms of a board, as gzipped tar.
const ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner-source.tar.gz"));

/// Folders of one version of the runner below the cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    /// Version and hash of the sources.
    version: String,
}

impl Cache {
    /// The cache at `SENTEI_CACHE`, else where this system keeps caches.
    ///
    /// # Errors
    /// When neither is known.
    pub fn find(named: Option<PathBuf>) -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = named
            .or_else(|| variable("SENTEI_CACHE"))
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("sentei")))
            .or_else(|| variable("HOME").map(|folder| folder.join(".cache/sentei")))
            .context("no folder to keep runners in: set SENTEI_CACHE or HOME, or use --cache")?;
        // cargo is started elsewhere
        let root = std::path::absolute(&root).with_context(|| format!("finding {}", root.display()))?;
        let version = format!("{}-{}", env!("CARGO_PKG_VERSION"), &files::sha256(ARCHIVE)[..12]);
        Ok(Self { root, version })
    }

    /// Where the finished runner for `platform` is kept, with all that it depends on in its path.
    pub fn runner(&self, platform: &str) -> PathBuf {
        self.root.join("runners").join(&self.version).join(platform).join("sentei-run")
    }

    /// What cargo compiles into; shared by versions, since most of it is other people's crates.
    pub fn target_folder(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Unpacks the sources, in place of those of another version; the caller holds [`Cache::lock`].
    ///
    /// Files are as old as the unpacking: cargo compiles what is younger than its last result, and takes the same crate of another
    /// version, in another folder or with older files, for what it has compiled already.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn sources(&self) -> Result<PathBuf> {
        let folder = self.root.join("sources");
        let make = || -> std::io::Result<()> {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(ARCHIVE));
            archive.set_preserve_mtime(false);
            archive.unpack(&folder)
        };
        make().with_context(|| format!("unpacking the runner's sources to {}", folder.display()))?;
        Ok(folder)
    }

    /// One build at a time: a second `sentei build` waits.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn lock(&self) -> Result<File> {
        let lock = || -> std::io::Result<File> {
            fs::create_dir_all(&self.root)?;
            let file = File::create(self.root.join("lock"))?;
            file.lock()?;
            Ok(file)
        };
        lock().with_context(|| format!("locking the cache {} (choose another with --cache)", self.root.display()))
    }
}

/// Copies a program to `to`, executable, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_program(to: &Path, bytes: &[u8]) -> Result<()> {
    let parent = to.parent().context("a program lies in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    files::write_atomic(to, bytes)?;
    #[cfg(unix)]
    fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .with_context(|| format!("making {} executable", to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_unpack_to_a_workspace_of_the_board_rooms() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::find(Some(folder.path().to_owned())).unwrap();
        let sources = cache.sources().unwrap();
        assert!(sources.join("crates/runner/src/main.rs").is_file());
        assert!(!sources.join("crates/prune").exists());
        let manifest: toml::Table = fs::read_to_string(sources.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["workspace"]["members"].as_array().unwrap().len(), 5);
        assert!(manifest["profile"]["runner"].is_table() && manifest.get("package").is_none());
        let age = fs::metadata(sources.join("Cargo.toml")).unwrap().modified().unwrap().elapsed();
        assert!(age.is_ok_and(|age| age.as_secs() < 3600), "cargo has to see that they are new");
        fs::write(sources.join("crates/runner/src/left_over.rs"), b"").unwrap();
        assert!(!cache.sources().unwrap().join("crates/runner/src/left_over.rs").exists());
    }
}
