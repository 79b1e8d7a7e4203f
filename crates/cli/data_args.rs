//! Flags that say which images: shared by every verb that trains or prunes on some.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::data_recipe::{DataRecipe, EMBEDDED};
use crate::exit::usage;

/// Flags of verbs that read images.
#[derive(Args, Clone, Debug, Default)]
pub struct DataArgs {
    /// Images: a folder with one sub-folder per class, a .tar or .tar.gz of such, an IDX file, or a folder of CIFAR
    /// batches [default: the embedded inspection set]
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: Option<String>,
    /// CSV with a `split` column (train, val, test) and a `file` or `index` column; a split.csv beside the images is
    /// found by itself
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub split_file: Option<PathBuf>,
    /// Resize all images to this height and width, or to a square
    #[arg(long, value_name = "PIXELS", num_args = 1..=2, help_heading = "Data")]
    pub size: Vec<usize>,
    /// Read as grey (1) or RGB (3)
    #[arg(long, value_name = "1|3", help_heading = "Data")]
    pub channels: Option<usize>,
    /// Use at most so many training images, classes in proportion; validation and test images stay as they are
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub train_limit: Option<usize>,
    /// Mean per channel of pixel/255 that an imported model was trained with, for example 0.485,0.456,0.406
    #[arg(long, value_name = "M", value_delimiter = ',', requires = "std", help_heading = "Data")]
    pub mean: Vec<f32>,
    /// Deviation per channel of pixel/255 that an imported model was trained with
    #[arg(long, value_name = "D", value_delimiter = ',', requires = "mean", help_heading = "Data")]
    pub std: Vec<f32>,
}

impl DataArgs {
    /// Puts the flags that were given over the recipe's values.
    pub fn overlay(&self, recipe: &mut DataRecipe) -> Result<()> {
        if let Some(source) = &self.data {
            recipe.source.clone_from(source);
        }
        if recipe.source != EMBEDDED {
            // A run folder is read from anywhere later on.
            let path = std::path::absolute(&recipe.source).with_context(|| format!("finding {}", recipe.source))?;
            recipe.source = path.display().to_string();
        }
        if !self.mean.is_empty() {
            (recipe.mean, recipe.std) = (Some(self.mean.clone()), Some(self.std.clone()));
        }
        recipe.split_file = self.split_file.clone().or(recipe.split_file.take());
        recipe.channels = self.channels.or(recipe.channels);
        recipe.train_limit = self.train_limit.or(recipe.train_limit);
        match self.size[..] {
            [] => {}
            [side] => recipe.size = Some([side, side]),
            [height, width] => recipe.size = Some([height, width]),
            _ => return usage("--size takes one or two numbers"),
        }
        Ok(())
    }
}

/// The flag of verbs that count defects.
#[derive(Args, Clone, Debug, Default)]
pub struct OkClassArgs {
    /// Class that means "no defect": recall at fixed false-alarm rates is counted against it
    #[arg(long, value_name = "CLASS", help_heading = "Data")]
    pub ok_class: Option<String>,
}

impl OkClassArgs {
    /// Puts the flag over the recipe's value.
    pub fn overlay(&self, recipe: &mut DataRecipe) {
        recipe.ok_class = self.ok_class.clone().or(recipe.ok_class.take());
    }
}

/// Index of the class that means "no defect", if there is one.
///
/// # Errors
/// When the recipe names a class that the data set does not have.
pub fn ok_class(recipe: &DataRecipe, classes: &[String]) -> Result<Option<usize>> {
    if let Some(name) = &recipe.ok_class {
        let found = classes.iter().position(|c| c == name);
        return found
            .map(Some)
            .with_context(|| format!("--ok-class `{name}` is none of the classes {}", classes.join(", ")));
    }
    let means_ok = |class: &String| {
        let lower = class.to_lowercase();
        lower
            .split(['_', '-', ' '])
            .any(|word| matches!(word, "ok" | "good" | "free" | "normal" | "nodefect" | "defectfree"))
    };
    Ok(classes.iter().position(means_ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn the_ok_class_is_found_by_its_name() {
        let recipe = DataRecipe::default();
        assert_eq!(ok_class(&recipe, &names(&["MT_Break", "MT_Free"])).expect("found"), Some(1));
        assert_eq!(ok_class(&recipe, &names(&["crazing", "scratches"])).expect("none"), None);
        assert_eq!(ok_class(&recipe, &names(&["broken", "ok"])).expect("found"), Some(1));
    }

    #[test]
    fn a_wrong_ok_class_lists_the_classes() {
        let recipe = DataRecipe { ok_class: Some("fine".into()), ..DataRecipe::default() };
        let error = ok_class(&recipe, &names(&["a", "b"])).expect_err("unknown class").to_string();
        assert!(error.contains("fine") && error.contains("a, b"), "{error}");
    }

    #[test]
    fn flags_win_over_the_recipe() {
        let mut recipe = DataRecipe { size: Some([10, 20]), ..DataRecipe::default() };
        DataArgs { size: vec![32], data: Some("x".into()), ..DataArgs::default() }.overlay(&mut recipe).expect("valid");
        assert_eq!(recipe.size, Some([32, 32]));
        assert!(recipe.source.ends_with("/x"), "{} is absolute", recipe.source);
    }
}
