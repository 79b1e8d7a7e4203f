//! A recipe: everything a run depends on, in one TOML file. Unknown keys are refused by line, flags win over the file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use sentei_prune::config::{PruneConfig, TrainConfig};
use sentei_report::compare::Gate;
use sentei_runtime::LoadOptions;
use sentei_runtime::ort::{OrtOptions, Provider, smallest_model};
use serde::{Deserialize, Serialize};

use crate::compile::CompileRecipe;
use crate::data_args::DataArgs;
use crate::data_recipe::DataRecipe;
use crate::exit::usage;
use crate::files;
use crate::measure::{self, EngineName};
use crate::method_args;

/// One run, from images to report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Seed of everything random in training and pruning.
    pub seed: u64,
    /// `cpu`, `cuda` or `cuda:N`; where training runs.
    pub device: String,
    /// An architecture of `models`, or the path of an ONNX file.
    pub model: String,
    /// Whether an imported model is trained before it is pruned; `--epochs` turns this on.
    pub train_imported: bool,
    /// Removed fractions to try, each in `[0, 1)`; the first one is the model that is shipped.
    pub sparsities: Vec<f64>,
    /// Method of a paper: sets parts of `[prune]`, which keeps the rest. Absent: `[prune]` alone says what is done.
    pub method: Option<String>,
    /// Images.
    pub data: DataRecipe,
    /// Training of the dense network.
    pub train: TrainConfig,
    /// Pruning and retraining.
    pub prune: PruneConfig,
    /// The packed file.
    pub compile: CompileRecipe,
    /// Measuring.
    pub bench: BenchRecipe,
    /// What the pruned model must keep; a miss is exit code 3 and no model file.
    pub gate: Gate,
}

/// The `[bench]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BenchRecipe {
    /// Engines to measure in: `tract` first, because it runs the sparse kernels; `ort` is left out with a warning where
    /// ONNX Runtime is absent.
    pub engines: Vec<EngineName>,
    /// Threads of each engine.
    pub threads: usize,
    /// Seconds of measuring per engine.
    pub seconds: f64,
    /// Judges and measures what may ship with its convolutions in bytes too, in `tract`.
    pub int8: bool,
    /// Where and how ONNX Runtime computes; another provider than `cpu` must be there.
    pub ort: OrtOptions,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            seed: 0,
            device: "cpu".into(),
            model: "inspect".into(),
            train_imported: false,
            sparsities: vec![0.9],
            method: None,
            data: DataRecipe::default(),
            train: TrainConfig::default(),
            prune: PruneConfig::default(),
            compile: CompileRecipe::default(),
            bench: BenchRecipe::default(),
            gate: Gate::default(),
        }
    }
}

impl Default for BenchRecipe {
    fn default() -> Self {
        let engines = vec![EngineName::Tract, EngineName::Ort];
        BenchRecipe { engines, threads: 1, seconds: 5.0, int8: false, ort: OrtOptions::default() }
    }
}

impl BenchRecipe {
    /// How models are loaded into `engine`.
    pub fn options(&self, engine: EngineName) -> LoadOptions {
        let ort = if engine == EngineName::Ort { self.ort.clone() } else { OrtOptions::default() };
        let options = LoadOptions { threads: self.threads, ort, ..LoadOptions::default() };
        match options.ort.provider {
            // TensorRT times every kernel of every layer while it loads
            Provider::Tensorrt => LoadOptions { time_budget: Duration::from_secs(15 * 60), ..options },
            _ => options,
        }
    }

    /// Whether a run without `engine` is worth nothing: that of the sparse kernels, or one whose provider was asked for.
    pub fn requires(&self, engine: EngineName) -> bool {
        engine == EngineName::Tract || self.ort.provider != Provider::Cpu
    }

    /// Looks for the provider that was asked for, before hours are spent on a model to measure on it.
    ///
    /// # Errors
    /// Exit code 5 when it cannot be had.
    pub fn find_provider(&self) -> Result<()> {
        if self.ort.provider == Provider::Cpu || !self.engines.contains(&EngineName::Ort) {
            return Ok(());
        }
        let ort = OrtOptions { provider: self.ort.provider, device: self.ort.device, ..OrtOptions::default() };
        let options = LoadOptions { ort, ..LoadOptions::default() };
        EngineName::Ort
            .engine()?
            .load(&smallest_model(), &options)
            .context("looking for the provider of [bench.ort]")?;
        Ok(())
    }
}

/// Recipes inside the binary: name and text.
const BUILT_IN: &[(&str, &str)] = &[
    ("inspect", include_str!("../../models/recipes/inspect.toml")),
    ("neu", include_str!("../../models/recipes/neu.toml")),
    ("magnetic-tile", include_str!("../../models/recipes/magnetic-tile.toml")),
    ("lenet300-mnist", include_str!("../../models/recipes/lenet300-mnist.toml")),
    ("lenet300-mnist-l1", include_str!("../../models/recipes/lenet300-mnist-l1.toml")),
    ("fc5-cifar10", include_str!("../../models/recipes/fc5-cifar10.toml")),
    ("lenet5-mnist", include_str!("../../models/recipes/lenet5-mnist.toml")),
];

/// Flags of every verb with a recipe.
#[derive(Args, Clone, Debug, Default)]
pub struct RecipeArgs {
    /// Recipe: a TOML file, or one of inspect, neu, magnetic-tile, lenet300-mnist, lenet300-mnist-l1,
    /// fc5-cifar10, lenet5-mnist [default: inspect]
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Seed of initial weights, sample order, augmentation, dropout and drawn subsets
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
}

/// Flags of verbs that train a dense network.
#[derive(Args, Clone, Debug, Default)]
pub struct TrainArgs {
    /// Architecture (inspect, inspect-wide, inspect-spots, lenet300, fc5, lenet5, resnet8, resnet20, resnet56,
    /// resnet110, resnet18, resnet50, vgg16, mobilenet) or an ONNX file to start from
    #[arg(long, value_name = "NAME|ONNX")]
    pub model: Option<String>,
    /// Epochs of dense training; `shrink` takes an ONNX model as trained unless this is given
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Peak learning rate of dense training; retraining takes a fraction of it
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Samples per training step
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
}

impl RecipeArgs {
    /// The recipe with the flags that were given put over it.
    ///
    /// # Errors
    /// When the recipe cannot be read, has an unknown key (the line is named) or a value out of range.
    pub fn resolve(&self) -> Result<Recipe> {
        let mut recipe = self.resolve_without_method()?;
        if let Some(name) = recipe.method.clone() {
            method_args::apply(&name, &mut recipe.prune, "`method`")?;
        }
        Ok(recipe)
    }

    /// As [`RecipeArgs::resolve`], with `[prune]` as it stands in the file: for verbs that choose methods themselves. What
    /// the recipe's own method sets must not stay where another one does not set it.
    ///
    /// # Errors
    /// As [`RecipeArgs::resolve`].
    pub fn resolve_without_method(&self) -> Result<Recipe> {
        let mut recipe = Recipe::load(self.recipe.as_deref().unwrap_or("inspect"))?;
        if let Some(device) = &self.device {
            recipe.device.clone_from(device);
        }
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        recipe.train.seed = recipe.seed;
        self.data.overlay(&mut recipe.data)?;
        Ok(recipe)
    }
}

impl TrainArgs {
    /// Puts the flags that were given over the recipe.
    pub fn overlay(&self, recipe: &mut Recipe) {
        if let Some(model) = &self.model {
            recipe.model.clone_from(model);
        }
        recipe.train_imported |= self.epochs.is_some();
        recipe.train.epochs = self.epochs.unwrap_or(recipe.train.epochs);
        recipe.train.learning_rate = self.learning_rate.unwrap_or(recipe.train.learning_rate);
        recipe.train.batch_size = self.batch_size.unwrap_or(recipe.train.batch_size);
    }
}

impl Recipe {
    /// A built-in recipe by name, else a TOML file.
    ///
    /// # Errors
    /// As [`RecipeArgs::resolve`].
    pub fn load(name_or_path: &str) -> Result<Recipe> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text).with_context(|| format!("built-in recipe {name}"));
        }
        let path = Path::new(name_or_path);
        if !path.exists() {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            bail!("no recipe `{name_or_path}`: neither a file nor one of {}", names.join(", "));
        }
        Self::parse(&files::read_text(path)?).with_context(|| format!("recipe {}", path.display()))
    }

    fn parse(text: &str) -> Result<Recipe> {
        Ok(toml::from_str(text)?)
    }

    /// Checks what the types do not hold.
    ///
    /// # Errors
    /// Names the first key out of range and the flag that sets it.
    pub fn check(&self) -> Result<()> {
        self.train.check().context("[train]")?;
        self.prune.check().context("[prune]")?;
        if self.sparsities.is_empty() {
            return usage("`sparsities` is empty: give at least one (flag --sparsity)");
        }
        if let Some(bad) = self.sparsities.iter().find(|s| !(0.0..1.0).contains(*s)) {
            return usage(format!("`sparsities` expects numbers in [0, 1), found {bad} (flag --sparsity)"));
        }
        if self.bench.engines.first() != Some(&EngineName::Tract) {
            return usage(
                "[bench] `engines` must begin with \"tract\": it runs the sparse kernels and judges the models",
            );
        }
        if self.bench.threads == 0 {
            return usage("[bench] `threads` expects at least 1, found 0");
        }
        if let Err(error) = self.bench.ort.check() {
            return usage(format!("[bench.ort] {error}"));
        }
        match (&self.data.mean, &self.data.std) {
            (None, None) => {}
            (Some(_), Some(_)) if sentei_models::names().contains(&self.model.as_str()) => {
                return usage(format!(
                    "--mean and --std are for an imported model: `{}` takes the scaling of its training images",
                    self.model
                ));
            }
            (Some(_), Some(_)) => {}
            _ => return usage("[data] `mean` and `std` go together: give both or neither"),
        }
        self.compile.check()?;
        measure::check_seconds(self.bench.seconds)?;
        Ok(())
    }

    /// The seeds of `count` repeats: the recipe's own and the ones after it.
    ///
    /// # Errors
    /// When they exceed what a number holds.
    pub fn seeds(&self, count: u64) -> Result<std::ops::Range<u64>> {
        match self.seed.checked_add(count) {
            Some(end) => Ok(self.seed..end),
            None => usage("--seed and --seeds together exceed what a number holds"),
        }
    }

    /// The recipe as TOML, complete: with every default written out.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing the recipe as TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_recipe_is_valid() {
        for (name, _) in BUILT_IN {
            let recipe = Recipe::load(name).expect("parses");
            recipe.check().expect(name);
        }
    }

    #[test]
    fn unknown_keys_are_refused_by_line() {
        let error = Recipe::parse("seed = 1\n[train]\nepoch = 3\n").expect_err("unknown key");
        let text = format!("{error:#}");
        assert!(text.contains("line 3") && text.contains("epoch"), "{text}");
    }

    #[test]
    fn a_written_recipe_reads_back_the_same() {
        for (name, _) in BUILT_IN {
            let recipe = Recipe::load(name).expect("parses");
            assert_eq!(Recipe::parse(&recipe.to_toml().expect("writes")).expect("reads"), recipe, "{name}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let mut recipe = RecipeArgs { seed: Some(9), ..RecipeArgs::default() }.resolve().expect("valid");
        TrainArgs { epochs: Some(2), ..TrainArgs::default() }.overlay(&mut recipe);
        assert_eq!((recipe.seed, recipe.train.seed, recipe.train.epochs), (9, 9, 2));
        assert_eq!(recipe.seeds(3).expect("fits"), 9..12);
        assert!(Recipe { seed: u64::MAX, ..recipe }.seeds(1).is_err());
    }

    #[test]
    fn a_recipe_without_its_method_keeps_its_own_retraining() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("r.toml");
        std::fs::write(&file, "method = \"lomp\"\n[prune.retrain]\nepochs = 7\n").expect("written");
        let args = RecipeArgs { recipe: Some(file.display().to_string()), ..RecipeArgs::default() };
        assert_eq!(args.resolve().expect("valid").prune.retrain.epochs, 0);
        assert_eq!(args.resolve_without_method().expect("valid").prune.retrain.epochs, 7);
    }

    #[test]
    fn a_bench_that_could_not_judge_is_refused_before_any_training() {
        for engines in [vec![], vec![EngineName::Ort]] {
            let bench = BenchRecipe { engines, ..BenchRecipe::default() };
            assert!(Recipe { bench, ..Recipe::default() }.check().is_err());
        }
        for seconds in [0.0, f64::INFINITY, f64::NAN] {
            let bench = BenchRecipe { seconds, ..BenchRecipe::default() };
            assert!(Recipe { bench, ..Recipe::default() }.check().is_err());
        }
    }

    #[test]
    fn options_of_onnx_runtime_stand_in_a_table_and_must_fit_their_provider() {
        let text = "[bench.ort]\nprovider = \"tensorrt\"\nfp16 = true\nbuilder_level = 3\nengine_cache = \"engines\"\n";
        let recipe = Recipe::parse(text).expect("valid");
        recipe.check().expect("fits");
        assert_eq!(Recipe::parse(&recipe.to_toml().expect("writes")).expect("reads"), recipe);
        for (bad, named) in [("cuda", "fp16"), ("gpu", "xnnpack")] {
            let text = text.replace("tensorrt", bad);
            let error = Recipe::parse(&text).and_then(|recipe| recipe.check()).expect_err(bad);
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
        assert!(Recipe::parse("[bench.ort]\nbuilder_level = 9\n").is_err());
    }

    #[test]
    fn a_pixel_scaling_that_would_be_ignored_is_refused() {
        let data = DataRecipe { mean: Some(vec![0.5]), std: Some(vec![0.5]), ..DataRecipe::default() };
        let imported = Recipe { model: "my.onnx".into(), data, ..Recipe::default() };
        imported.check().expect("an imported model takes it");
        assert!(Recipe { model: "inspect".into(), ..imported.clone() }.check().is_err());
        let data = DataRecipe { std: None, ..imported.data.clone() };
        assert!(Recipe { data, ..imported }.check().is_err());
    }

    #[test]
    fn sparsities_out_of_range_are_refused() {
        for bad in [vec![], vec![1.0], vec![-0.1], vec![f64::NAN]] {
            assert!(Recipe { sparsities: bad, ..Recipe::default() }.check().is_err());
        }
    }
}
