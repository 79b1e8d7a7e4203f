//! What a study of initial masks consists of: methods, variants, seeds, and the list of trainings that follows.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use sentei_graph::Graph;
use sentei_prune::config::{PruneConfig, Start};
use sentei_prune::distribution::{Collapse, Distribution};
use sentei_prune::methods::{Method, method, methods};
use sentei_prune::parameterisation::Parameterisation;
use sentei_prune::schedule::Schedule;
use sentei_prune::score::ScoreConfig;
use serde::{Deserialize, Serialize};

use crate::exit::usage;
use crate::recipe::Recipe;

/// The dense network in tables.
pub const DENSE: &str = "dense";

/// The control: masks of a trained network.
pub const CONTROL: &str = "trained-magnitude";

/// Least density of a layer in the control, the default of global pruning, unless less than twice as much is kept in all.
pub const CONTROL_FLOOR: f64 = 0.01;

/// What is done to a mask before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Nothing.
    Original,
    /// Permuted within each layer.
    Shuffle,
    /// Fresh weights of the same distribution under it.
    Reinit,
    /// Made from the reversed ranking.
    Inversion,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Original => "original",
            Variant::Shuffle => "shuffle",
            Variant::Reinit => "reinit",
            Variant::Inversion => "inversion",
        })
    }
}

/// One training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Seed of initial weights, scores, shuffles and data order.
    pub seed: u64,
    /// A name of [`InitPlan::methods`], [`DENSE`] or [`CONTROL`].
    pub method: String,
    /// What is done to its mask.
    pub variant: Variant,
}

/// A method with everything that makes its masks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// Name as it was asked for.
    pub name: String,
    /// How masks are made.
    pub prune: PruneConfig,
}

/// Everything that decides the results of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitPlan {
    /// Model, images and training; the same for every arm but for the seed.
    pub recipe: Recipe,
    /// Hash of the images.
    pub data: String,
    /// Methods at initialisation.
    pub methods: Vec<Named>,
    /// How the masks of the control are made.
    pub control: PruneConfig,
    /// What is done to the masks; the original is always among them.
    pub variants: Vec<Variant>,
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// Every training, seed by seed.
    pub jobs: Vec<Job>,
}

/// What the command line says about a study.
pub struct Wish<'a> {
    /// Names of methods; `magnitude` is that of initial weights here.
    pub methods: &'a [String],
    /// What to do to the masks.
    pub variants: &'a [Variant],
    /// Number of seeds.
    pub seeds: u64,
    /// Removed fraction of the prunable weights.
    pub sparsity: f64,
    /// Least density of a layer where weights are ranked globally.
    pub floor: f64,
    /// Epochs of the control after pruning.
    pub fine_tune_epochs: u64,
}

impl InitPlan {
    /// The plan of `recipe` on images with the hash `data`.
    ///
    /// # Errors
    /// When a method is unknown, named twice or starts from trained weights, or a number is out of range.
    pub fn new(mut recipe: Recipe, data: String, wish: &Wish) -> Result<Self> {
        if !(wish.sparsity > 0.0 && wish.sparsity < 1.0) {
            return usage(format!("--sparsity expects a number in (0, 1), found {}", wish.sparsity));
        }
        if !(0.0..1.0).contains(&wish.floor) {
            return usage(format!("--floor expects a number in [0, 1), found {}", wish.floor));
        }
        recipe.sparsities = vec![wish.sparsity];
        recipe.prune.retrain.epochs = wish.fine_tune_epochs;
        let base = PruneConfig { sparsity: Some(wish.sparsity), collapse: Collapse::Allow, ..recipe.prune.clone() };
        let base = PruneConfig { distribution: Distribution::Global { floor: wish.floor }, ..base };
        let mut named: Vec<Named> = Vec::new();
        for name in wish.methods {
            if named.iter().any(|m| m.name == *name) {
                return usage(format!("--methods names `{name}` twice"));
            }
            let prune = initial(name)?.configure(&base);
            prune.check()?;
            named.push(Named { name: name.clone(), prune });
        }
        // A control that collapses would show nothing, so it never goes without a floor; half of what is kept goes by rank.
        let floor = wish.floor.max(CONTROL_FLOOR.min((1.0 - wish.sparsity) / 2.0));
        let distribution = Distribution::Global { floor };
        let control = PruneConfig { score: ScoreConfig::Magnitude, start: Start::Trained, distribution, ..base };
        let mut variants = wish.variants.to_vec();
        variants.push(Variant::Original);
        variants.sort();
        variants.dedup();
        let seeds: Vec<u64> = recipe.seeds(wish.seeds)?.collect();
        let jobs = seeds.iter().flat_map(|seed| of_seed(*seed, &named, &variants)).collect();
        Ok(InitPlan { recipe, data, methods: named, control, variants, seeds, jobs })
    }

    /// Whether every mask can be made, as far as that is known before anything is trained.
    ///
    /// * `graph`: the network of any seed.
    ///
    /// # Errors
    /// When the floor keeps more than the sparsity leaves.
    pub fn check_floors(&self, graph: &Graph) -> Result<()> {
        for prune in self.methods.iter().map(|m| &m.prune).chain([&self.control]) {
            if let Err(error) = prune.check_floors(graph) {
                return usage(format!("{error}"));
            }
        }
        Ok(())
    }

    /// The recipe with the seed of a job.
    pub fn recipe_of(&self, job: &Job) -> Recipe {
        let mut recipe = self.recipe.clone();
        recipe.seed = job.seed;
        recipe.train.seed = job.seed;
        recipe
    }

    /// Epochs that a job trains for, not counting a dense parent.
    pub fn epochs_of(&self, job: &Job) -> u64 {
        if job.method == CONTROL { self.control.retrain.epochs } else { self.recipe.train.epochs }
    }
}

/// The trainings of one seed. The dense network comes first, the control that needs it last.
fn of_seed(seed: u64, methods: &[Named], variants: &[Variant]) -> Vec<Job> {
    let job = |method: &str, variant: Variant| Job { seed, method: method.into(), variant };
    let mut jobs = vec![job(DENSE, Variant::Original)];
    jobs.extend(methods.iter().flat_map(|m| variants.iter().map(|v| job(&m.name, *v))));
    jobs.extend(variants.iter().filter(|v| **v != Variant::Inversion).map(|v| job(CONTROL, *v)));
    jobs
}

/// The method of that name, if all it does is a mask on initial weights: nothing here changes masks in training or trains
/// anything but the weights themselves.
fn initial(name: &str) -> Result<&'static Method> {
    let alias = if name == "magnitude" { "magnitude-init" } else { name };
    let fresh = |m: &&Method| {
        let made = m.configure(&PruneConfig::default());
        let plain = made.schedule == Schedule::OneShot && made.parameterisation == Parameterisation::Plain;
        made.start == Start::Fresh && plain
    };
    match method(alias).filter(fresh) {
        Some(found) => Ok(found),
        None => {
            let names: Vec<&str> = methods().iter().filter(fresh).map(|m| m.name).collect();
            let names = names.join(", ");
            usage(format!("--methods: `{name}` is not a mask at initialisation and nothing else; there are {names}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(methods: &[&str], variants: &[Variant]) -> Result<InitPlan> {
        let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
        let wish = Wish { methods: &methods, variants, seeds: 2, sparsity: 0.95, floor: 0.0, fine_tune_epochs: 3 };
        InitPlan::new(Recipe::default(), "hash".into(), &wish)
    }

    #[test]
    fn every_seed_has_the_same_arms_and_the_control_is_never_inverted() {
        let made = plan(&["snip", "random-erk"], &[Variant::Shuffle, Variant::Inversion]).expect("a plan");
        assert_eq!(made.variants, [Variant::Original, Variant::Shuffle, Variant::Inversion]);
        let of = |seed| made.jobs.iter().filter(|j| j.seed == seed).map(|j| (j.method.clone(), j.variant)).collect();
        let (first, second): (Vec<_>, Vec<_>) = (of(0), of(1));
        assert_eq!(first, second);
        assert_eq!(first.len(), 1 + 2 * 3 + 2);
        assert_eq!(first[0].0, DENSE);
        assert!(!first.contains(&(CONTROL.to_string(), Variant::Inversion)));
        assert_eq!(made.epochs_of(made.jobs.last().expect("jobs")), 3);
    }

    #[test]
    fn methods_rank_globally_without_a_floor_and_may_collapse() {
        let made = plan(&["magnitude", "synflow", "random-uniform"], &[]).expect("a plan");
        assert_eq!(made.methods[0].prune.score, ScoreConfig::Magnitude);
        assert_eq!(made.methods[1].prune.distribution, Distribution::Global { floor: 0.0 });
        assert_eq!(made.methods[2].prune.distribution, Distribution::Uniform);
        assert!(made.methods.iter().all(|m| m.prune.collapse == Collapse::Allow && m.prune.start == Start::Fresh));
        assert_eq!(made.control.start, Start::Trained);
        assert_eq!(made.control.distribution, Distribution::Global { floor: CONTROL_FLOOR });
    }

    #[test]
    fn the_control_fits_at_every_sparsity_and_a_floor_that_does_not_is_refused() {
        let methods = ["snip".to_string()];
        let spec = sentei_models::Spec { channels: 1, height: 64, width: 64, classes: 4, seed: 0 };
        let graph = sentei_models::build("inspect", &spec).expect("a model");
        let made = |sparsity, floor| {
            let wish = Wish { methods: &methods, variants: &[], seeds: 1, sparsity, floor, fine_tune_epochs: 1 };
            InitPlan::new(Recipe::default(), "hash".into(), &wish).expect("a plan")
        };
        for sparsity in [0.5, 0.95, 0.98, 0.99, 0.995, 0.999] {
            let plan = made(sparsity, 0.0);
            plan.check_floors(&graph).unwrap_or_else(|e| panic!("{sparsity}: {e}"));
            if sparsity <= 0.98 {
                assert_eq!(plan.control.distribution, Distribution::Global { floor: CONTROL_FLOOR }, "{sparsity}");
            }
        }
        assert!(made(0.95, 0.5).check_floors(&graph).expect_err("too much").to_string().contains("--floor"));
    }

    #[test]
    fn a_method_that_is_more_than_an_initial_mask_is_refused() {
        for bad in [vec!["gmp"], vec!["snap"], vec!["snip", "snip"], vec!["rigl"], vec!["ac-dc"], vec!["sign-in"]] {
            assert!(plan(&bad, &[]).is_err(), "{bad:?}");
        }
    }
}
