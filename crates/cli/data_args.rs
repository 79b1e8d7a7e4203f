//! Flags that say which images: shared by every verb that reads a data set.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use sentei_data::{Dataset, InspectionSpec, ReadOptions, Split, SplitRatios};
use serde::{Deserialize, Serialize};

use crate::exit::usage;

/// What `--data` says when the built-in generator is meant.
pub const EMBEDDED: &str = "embedded";

/// Sides of embedded images, in pixels: below, defects vanish; above, generating takes minutes.
const EMBEDDED_SIDES: std::ops::RangeInclusive<usize> = 16..=256;

/// The `[data]` table of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataRecipe {
    /// `embedded`, or a folder, archive or IDX file.
    pub source: String,
    /// Height and width to resize to; absent keeps the images' own size.
    pub size: Option<[usize; 2]>,
    /// 1 grey, 3 RGB; absent keeps what is stored.
    pub channels: Option<usize>,
    /// CSV that assigns train, val and test.
    pub split_file: Option<PathBuf>,
    /// Fraction of training images drawn for validation when nothing assigns it.
    pub val: f64,
    /// Fraction drawn for the test split when nothing assigns it.
    pub test: f64,
    /// Most training images to use, drawn by the seed below with the classes in proportion; absent uses all.
    pub train_limit: Option<usize>,
    /// Seed of the generator and of drawn splits; apart from the run's seed, so that repeated runs see the same samples.
    pub seed: u64,
    /// Mean per channel of `pixel / 255` that an imported model expects; absent takes what the model file says.
    pub mean: Option<Vec<f32>>,
    /// Deviation per channel of `pixel / 255` that an imported model expects.
    pub std: Option<Vec<f32>>,
    /// Class that means "no defect"; absent looks for one called ok, good, free or the like.
    pub ok_class: Option<String>,
}

impl Default for DataRecipe {
    fn default() -> Self {
        let ratios = SplitRatios::default();
        DataRecipe {
            source: EMBEDDED.into(),
            size: None,
            channels: None,
            split_file: None,
            val: ratios.val,
            test: ratios.test,
            train_limit: None,
            seed: 0,
            mean: None,
            std: None,
            ok_class: None,
        }
    }
}

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
    /// Class that means "no defect": recall at fixed false-alarm rates is counted against it
    #[arg(long, value_name = "CLASS", help_heading = "Data")]
    pub ok_class: Option<String>,
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
        recipe.ok_class = self.ok_class.clone().or(recipe.ok_class.take());
        match self.size[..] {
            [] => {}
            [side] => recipe.size = Some([side, side]),
            [height, width] => recipe.size = Some([height, width]),
            _ => return usage("--size takes one or two numbers"),
        }
        Ok(())
    }
}

/// Reads or generates the data set of a recipe.
///
/// # Errors
/// When nothing readable lies at the source; when resizing or a split file is asked of the embedded set.
pub fn open(recipe: &DataRecipe) -> Result<Arc<Dataset>> {
    let mut data = read(recipe)?;
    if let Some(limit) = recipe.train_limit {
        if limit == 0 {
            return usage("--train-limit expects at least 1, found 0");
        }
        data.limit(Split::Train, limit, recipe.seed);
    }
    Ok(Arc::new(data))
}

fn read(recipe: &DataRecipe) -> Result<Dataset> {
    if recipe.source == EMBEDDED {
        let mut spec = InspectionSpec::default();
        if let Some([height, width]) = recipe.size {
            if !EMBEDDED_SIDES.contains(&height) || !EMBEDDED_SIDES.contains(&width) {
                let (low, high) = (EMBEDDED_SIDES.start(), EMBEDDED_SIDES.end());
                return usage(format!("--size of the embedded set is {low} to {high} pixels, found {height}x{width}"));
            }
            (spec.height, spec.width) = (height, width);
        }
        let untouched = DataRecipe::default();
        let drawn = recipe.val != untouched.val || recipe.test != untouched.test;
        if recipe.split_file.is_some() || recipe.channels.is_some_and(|c| c != 1) || drawn {
            return usage(
                "the embedded set is grey and has splits of its own: split files, `val`, `test` and --channels \
                          need images given with --data PATH",
            );
        }
        return Ok(sentei_data::inspection(&spec, recipe.seed));
    }
    let options = ReadOptions {
        size: recipe.size.map(|[height, width]| (height, width)),
        channels: recipe.channels,
        split_file: recipe.split_file.clone(),
        split: SplitRatios { val: recipe.val, test: recipe.test },
        seed: recipe.seed,
        ..ReadOptions::default()
    };
    let dataset = sentei_data::open(recipe.source.as_ref(), &options);
    dataset.with_context(|| format!("reading images from {}", recipe.source))
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
