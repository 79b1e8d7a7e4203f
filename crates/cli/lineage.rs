//! `lineage.json`: which bytes came from which. Each link hashes the file and everything it was made from,
//! so a changed image, recipe or model shows as a broken link and nowhere else.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files;

/// Where a run's data came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSource {
    /// `embedded`, or the path as given.
    pub source: String,
    /// Hash over names, labels, splits and pixels.
    pub manifest_sha256: String,
}

/// One file of the run folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// File name inside the run folder.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// What it was made from: `data`, `recipe`, `seed`, or earlier file names.
    pub from: Vec<String>,
    /// SHA-256 over this file's hash and the chains of everything in `from`.
    pub chain: String,
}

/// The whole chain of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Version of this file's layout.
    pub schema: u32,
    /// Version of sentei that wrote it.
    pub sentei: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Data of the run.
    pub data: DataSource,
    /// SHA-256 of `recipe.toml`.
    pub recipe_sha256: String,
    /// Files in the order they were made.
    pub files: Vec<Link>,
}

/// Name of the file inside a run folder.
pub const FILE: &str = "lineage.json";

#[cfg(any(feature = "prune", test))]
impl Lineage {
    /// A chain with no files yet.
    pub fn new(seed: u64, data: DataSource, recipe: &[u8]) -> Self {
        Lineage {
            schema: 1,
            sentei: env!("CARGO_PKG_VERSION").into(),
            seed,
            data,
            recipe_sha256: files::sha256(recipe),
            files: Vec::new(),
        }
    }

    /// Appends a file that was made from `from`.
    ///
    /// # Panics
    /// When `from` names something that is not in the chain yet: a bug of the caller.
    pub fn add(&mut self, name: &str, bytes: &[u8], from: &[&str]) {
        let sha256 = files::sha256(bytes);
        let chain = self.chain(&sha256, from.iter().copied()).expect("links are added in the order they are made");
        let from = from.iter().map(|s| s.to_string()).collect();
        self.files.push(Link { name: name.into(), sha256, from, chain });
    }
}

impl Lineage {
    fn chain<'a>(&self, sha256: &str, from: impl Iterator<Item = &'a str>) -> Option<String> {
        let mut text = sha256.to_string();
        for origin in from {
            text.push('\n');
            match origin {
                "data" => text.push_str(&self.data.manifest_sha256),
                "recipe" => text.push_str(&self.recipe_sha256),
                "seed" => text.push_str(&self.seed.to_string()),
                file => text.push_str(&self.files.iter().find(|l| l.name == file)?.chain),
            }
        }
        Some(files::sha256(text.as_bytes()))
    }

    /// Reads the chain of a run folder.
    ///
    /// # Errors
    /// When the file is missing or not a lineage.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(FILE);
        serde_json::from_str(&files::read_text(&path)?).with_context(|| format!("parsing {}", path.display()))
    }

    /// Takes a file of the chain anew, because this program has added to it. Nothing may be made from it.
    ///
    /// # Errors
    /// When the file was not as the chain says before, `was`: adding to it would hide that.
    pub fn renew(&mut self, name: &str, was: &[u8], bytes: &[u8]) -> Result<()> {
        let Some(at) = self.files.iter().position(|link| link.name == name) else { return Ok(()) };
        if self.files[at].sha256 != files::sha256(was) {
            bail!(
                "{name} is not what {FILE} says, so nothing is added to it (`sentei verify` says what else is broken)"
            );
        }
        let sha256 = files::sha256(bytes);
        let chain = self.chain(&sha256, self.files[at].from.iter().map(String::as_str));
        self.files[at].chain = chain.with_context(|| format!("{name} was made from what {FILE} does not know"))?;
        self.files[at].sha256 = sha256;
        Ok(())
    }

    /// Recomputes every hash of `run` and returns what is broken, in words; empty when all holds.
    ///
    /// # Errors
    /// When `recipe.toml` cannot be read at all.
    pub fn broken(&self, run: &Path) -> Result<Vec<String>> {
        if self.schema != 1 {
            bail!("{} has layout {}, this sentei reads 1", run.join(FILE).display(), self.schema);
        }
        let mut broken = Vec::new();
        if files::sha256(&files::read(&run.join("recipe.toml"))?) != self.recipe_sha256 {
            broken.push("recipe.toml is not the recipe of this run".to_string());
        }
        for link in &self.files {
            match files::read(&run.join(&link.name)) {
                Err(_) => broken.push(format!("{} is missing", link.name)),
                Ok(bytes) if files::sha256(&bytes) != link.sha256 => broken.push(format!("{} was changed", link.name)),
                Ok(_) => {}
            }
            if self.chain(&link.sha256, link.from.iter().map(String::as_str)).as_ref() != Some(&link.chain) {
                broken.push(format!("{} was not made from {}", link.name, link.from.join(", ")));
            }
        }
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (tempfile::TempDir, Lineage) {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, bytes) in [("recipe.toml", "seed = 1"), ("baseline.onnx", "b"), ("pruned.onnx", "p")] {
            files::write_atomic(&folder.path().join(name), bytes.as_bytes()).expect("written");
        }
        let data = DataSource { source: "embedded".into(), manifest_sha256: "d".into() };
        let mut lineage = Lineage::new(1, data, b"seed = 1");
        lineage.add("baseline.onnx", b"b", &["data", "recipe", "seed"]);
        lineage.add("pruned.onnx", b"p", &["baseline.onnx", "data", "recipe", "seed"]);
        (folder, lineage)
    }

    #[test]
    fn a_file_that_was_added_to_is_taken_anew_unless_it_was_tampered_with() {
        let (folder, mut lineage) = run();
        lineage.add("report.json", b"r", &["pruned.onnx"]);
        assert!(lineage.renew("report.json", b"forged", b"more").unwrap_err().to_string().contains("verify"));
        lineage.renew("report.json", b"r", b"more").expect("as it was");
        files::write_atomic(&folder.path().join("report.json"), b"more").expect("written");
        assert_eq!(lineage.broken(folder.path()).expect("read"), Vec::<String>::new());
    }

    #[test]
    fn an_untouched_run_is_whole() {
        let (folder, lineage) = run();
        assert_eq!(lineage.broken(folder.path()).expect("readable"), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_tampering_is_named() {
        let (folder, lineage) = run();
        files::write_atomic(&folder.path().join("pruned.onnx"), b"q").expect("written");
        assert_eq!(lineage.broken(folder.path()).expect("readable"), ["pruned.onnx was changed"]);

        let (folder, mut lineage) = run();
        lineage.data.manifest_sha256 = "other".into();
        assert_eq!(lineage.broken(folder.path()).expect("readable").len(), 2);

        let (folder, lineage) = run();
        files::write_atomic(&folder.path().join("recipe.toml"), b"seed = 2").expect("written");
        assert_eq!(lineage.broken(folder.path()).expect("readable"), ["recipe.toml is not the recipe of this run"]);
    }
}
