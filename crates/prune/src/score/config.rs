//! The score by its name in a recipe.

use serde::{Deserialize, Serialize};

use super::{Magnitude, Random, Score};
use crate::config::ConfigError;

/// Which weights matter: `score = "magnitude"`, or a table with settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreConfig {
    /// Large weights: `|w|`.
    #[default]
    Magnitude,
    /// Any weight as likely as any other; with `global` each weight of the network, else within its layer.
    Random,
}

impl ScoreConfig {
    /// The score with these settings.
    pub fn build(&self) -> Box<dyn Score> {
        match *self {
            ScoreConfig::Magnitude => Box::new(Magnitude),
            ScoreConfig::Random => Box::new(Random),
        }
    }

    /// Its name in a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            ScoreConfig::Magnitude => "magnitude",
            ScoreConfig::Random => "random",
        }
    }

    /// The score of that name with its default settings.
    pub fn named(name: &str) -> Option<Self> {
        ScoreConfig::all().into_iter().find(|score| score.name() == name)
    }

    /// Names of all scores.
    pub fn names() -> Vec<&'static str> {
        ScoreConfig::all().iter().map(Self::name).collect()
    }

    fn all() -> Vec<Self> {
        vec![ScoreConfig::Magnitude, ScoreConfig::Random]
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
