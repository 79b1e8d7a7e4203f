//! A run is a folder: recipe, models, checkpoint, events, report, lineage.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files;
use crate::recipe::Recipe;

/// A run folder and whether it is being resumed.
pub struct RunFolder {
    /// The folder.
    pub path: PathBuf,
    /// Whether files of an earlier, interrupted run may be used.
    pub resumed: bool,
}

impl RunFolder {
    /// The folder of a new run: `wanted`, or the first free `runs/NAME` when none is given. Nothing is written yet.
    ///
    /// # Errors
    /// When `wanted` already holds a run.
    pub fn new(wanted: Option<&Path>, name: &str) -> Result<Self> {
        let path = match wanted {
            Some(path) => path.to_path_buf(),
            None => free_name(name),
        };
        if path.join("recipe.toml").exists() {
            bail!(
                "{0} already holds a run: go on with `sentei shrink --resume {0}` or choose another -o",
                path.display()
            );
        }
        Ok(RunFolder { path, resumed: false })
    }

    /// Makes a new run's folder and puts the recipe into it; a resumed one is left as it is.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn create(&self, recipe: &Recipe) -> Result<()> {
        if self.resumed {
            return Ok(());
        }
        let path = &self.path;
        std::fs::create_dir_all(path).with_context(|| format!("making {} (choose another with -o)", path.display()))?;
        Ok(files::write_atomic(&path.join("recipe.toml"), recipe.to_toml()?.as_bytes())?)
    }

    /// Opens the folder of an interrupted run.
    ///
    /// # Errors
    /// When there is no run.
    pub fn resume(path: &Path) -> Result<(Self, Recipe)> {
        let file = path.join("recipe.toml");
        if !file.exists() {
            bail!("{} holds no run to resume (no recipe.toml)", path.display());
        }
        let recipe = Recipe::load(&file.display().to_string())?;
        Ok((RunFolder { path: path.to_path_buf(), resumed: true }, recipe))
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A finished file of an interrupted run, if this run may use it.
    pub fn finished(&self, name: &str) -> Option<PathBuf> {
        let path = self.file(name);
        (self.resumed && path.exists()).then_some(path)
    }
}

fn free_name(name: &str) -> PathBuf {
    let runs = Path::new("runs");
    let numbered = (2..).map(|n| runs.join(format!("{name}-{n}")));
    let mut names = std::iter::once(runs.join(name)).chain(numbered);
    names.find(|path| !path.exists()).expect("some number is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_run_is_not_overwritten_but_can_be_resumed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("r");
        let recipe = Recipe { seed: 5, ..Recipe::default() };
        let made = RunFolder::new(Some(&path), "x").expect("free");
        assert!(!path.exists(), "nothing is written before the run begins");
        made.create(&recipe).expect("made");
        let error = RunFolder::new(Some(&path), "x").err().expect("refused").to_string();
        assert!(error.contains("--resume"), "{error}");
        let (run, found) = RunFolder::resume(&path).expect("resumed");
        assert_eq!(found, recipe);
        assert!(run.finished("recipe.toml").is_some() && run.finished("model.onnx").is_none());
    }

    #[test]
    fn an_empty_folder_cannot_be_resumed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(RunFolder::resume(folder.path()).is_err());
    }
}
