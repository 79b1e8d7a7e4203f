//! The `[data]` table of a recipe, and the images that it names.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
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
