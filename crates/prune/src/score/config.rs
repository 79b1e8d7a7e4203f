//! The score by its name in a recipe.

use serde::{Deserialize, Serialize};

use super::{Grasp, Images, Magnitude, Random, Score, Snip, Synflow};
use crate::config::{ConfigError, require};

/// Which weights matter: `score = "snip"`, or with settings `score = { snip = { per_class = 20 } }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreConfig {
    /// Large weights: `|w|`.
    #[default]
    Magnitude,
    /// Any weight as likely as any other; with `global` each weight of the network, else within its layer.
    Random,
    /// Weights whose scaling would change the loss: `|w * dL/dw|`.
    Snip {
        /// Images of each class in a batch, at least 1.
        #[serde(default = "per_class")]
        per_class: usize,
        /// Batches that the gradient is averaged over, at least 1.
        #[serde(default = "batches")]
        batches: usize,
    },
    /// Weights that keep the gradient up: `w * (H g)`.
    Grasp {
        /// Images of each class in a batch, at least 1.
        #[serde(default = "per_class")]
        per_class: usize,
        /// Batches that gradient and Hessian are averaged over, at least 1.
        #[serde(default = "batches")]
        batches: usize,
        /// Logits are divided by it, more than 0.
        #[serde(default = "temperature")]
        temperature: f64,
        /// Whether the largest `|w * (H g)|` are kept instead.
        #[serde(default)]
        absolute: bool,
    },
    /// Weights that much of the flow from input to output goes through; needs no images.
    Synflow {
        /// Rounds of scoring and removing, at least 1.
        #[serde(default = "rounds")]
        rounds: u32,
    },
}

fn per_class() -> usize {
    10
}
fn batches() -> usize {
    1
}
fn temperature() -> f64 {
    200.0
}
fn rounds() -> u32 {
    100
}

impl ScoreConfig {
    /// SNIP with the settings of its card.
    pub const SNIP: ScoreConfig = ScoreConfig::Snip { per_class: 10, batches: 1 };
    /// GraSP with the settings of its paper.
    pub const GRASP: ScoreConfig =
        ScoreConfig::Grasp { per_class: 10, batches: 1, temperature: 200.0, absolute: false };
    /// The variant of [`ScoreConfig::GRASP`] that keeps the largest scores whatever their sign.
    pub const GRASP_ABSOLUTE: ScoreConfig =
        ScoreConfig::Grasp { per_class: 10, batches: 1, temperature: 200.0, absolute: true };
    /// SynFlow with the rounds of its paper.
    pub const SYNFLOW: ScoreConfig = ScoreConfig::Synflow { rounds: 100 };

    /// The score with these settings.
    pub fn build(&self) -> Box<dyn Score> {
        match *self {
            ScoreConfig::Magnitude => Box::new(Magnitude),
            ScoreConfig::Random => Box::new(Random),
            ScoreConfig::Snip { per_class, batches } => Box::new(Snip { images: Images { per_class, batches } }),
            ScoreConfig::Grasp { per_class, batches, temperature, absolute } => {
                Box::new(Grasp { images: Images { per_class, batches }, temperature, absolute })
            }
            ScoreConfig::Synflow { rounds } => Box::new(Synflow { rounds }),
        }
    }

    /// Its name in a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            ScoreConfig::Magnitude => "magnitude",
            ScoreConfig::Random => "random",
            ScoreConfig::Snip { .. } => "snip",
            ScoreConfig::Grasp { .. } => "grasp",
            ScoreConfig::Synflow { .. } => "synflow",
        }
    }

    /// The score of that name with its default settings.
    pub fn named(name: &str) -> Option<Self> {
        ScoreConfig::ALL.into_iter().find(|score| score.name() == name)
    }

    /// Names of all scores.
    pub fn names() -> Vec<&'static str> {
        ScoreConfig::ALL.iter().map(Self::name).collect()
    }

    /// Every score with its default settings.
    pub const ALL: [ScoreConfig; 5] =
        [ScoreConfig::Magnitude, ScoreConfig::Random, ScoreConfig::SNIP, ScoreConfig::GRASP, ScoreConfig::SYNFLOW];

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let ScoreConfig::Snip { per_class, batches } | ScoreConfig::Grasp { per_class, batches, .. } = *self {
            require(per_class > 0 && batches > 0, "score", || {
                format!("per_class and batches must be at least 1, found {per_class} and {batches}")
            })?;
        }
        match *self {
            ScoreConfig::Grasp { temperature, .. } => {
                let fine = temperature.is_finite() && temperature > 0.0;
                require(fine, "score", || format!("temperature must be more than 0, found {temperature}"))
            }
            ScoreConfig::Synflow { rounds: 0 } => require(false, "score", || "synflow needs at least 1 round".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PruneConfig;

    #[test]
    fn names_and_tables_are_read_and_written() {
        let read = |json: &str| serde_json::from_str::<PruneConfig>(json).map(|c| c.score).map_err(|e| e.to_string());
        for score in ScoreConfig::ALL {
            assert_eq!(read(&format!(r#"{{"score": "{}"}}"#, score.name())), Ok(score));
            let written = serde_json::to_string(&PruneConfig { score, ..PruneConfig::default() }).unwrap();
            assert_eq!(read(&written), Ok(score));
            assert_eq!(ScoreConfig::named(score.name()), Some(score));
            assert_eq!(score.check(), Ok(()));
        }
        let grasp = read(r#"{"score": {"grasp": {"temperature": 1, "absolute": true}}}"#).unwrap();
        assert_eq!(grasp, ScoreConfig::Grasp { per_class: 10, batches: 1, temperature: 1.0, absolute: true });
        assert!(read(r#"{"score": {"snip": {"batch": 2}}}"#).unwrap_err().contains("`batch`"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for bad in [
            ScoreConfig::Snip { per_class: 0, batches: 1 },
            ScoreConfig::Grasp { per_class: 1, batches: 1, temperature: 0.0, absolute: false },
            ScoreConfig::Synflow { rounds: 0 },
        ] {
            assert_eq!(bad.check().unwrap_err().key, "score", "{bad:?}");
        }
    }
}
