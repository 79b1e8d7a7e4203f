//! Parameterisation: which numbers the optimiser moves to move a weight. The network always holds the weight itself, so
//! scores, masks, evaluation and export know nothing of this. One schedule does: `reselect` ranks SR-STE's hidden weights.

mod ham;
mod sign_in;
mod sr_ste;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

pub(crate) use ham::calibrate;
pub use ham::{Alpha, Ham};
pub(crate) use sign_in::split_f32;
pub use sign_in::{FactorDecay, ResetMomentum, SignIn, split};
pub use sr_ste::SrSte;

/// What the optimiser moves instead of a convolution's or linear layer's weights; biases and batch norm stay plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameterisation {
    /// The weights themselves.
    #[default]
    Plain,
    /// Two factors whose product is the weight, balanced anew now and then.
    SignIn(SignIn),
    /// The weights themselves, then a multiplicative step in the same geometry.
    Ham(Ham),
    /// Hidden weights that the masks only cover: a removed weight goes on training and may return.
    SrSte(SrSte),
}

impl Parameterisation {
    /// Checks ranges that the types do not hold.
    ///
    /// # Errors
    /// [`ConfigError`] about `parameterisation`.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Parameterisation::Plain => Ok(()),
            Parameterisation::SignIn(settings) => settings.check(),
            Parameterisation::Ham(settings) => settings.check(),
            Parameterisation::SrSte(settings) => settings.check(),
        }
    }

    /// Whether removed weights are moved by their gradients, too.
    pub(crate) fn reads_dense_gradients(&self) -> bool {
        matches!(self, Parameterisation::SrSte(_))
    }
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { key: "parameterisation", why: why() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PruneConfig;

    fn parse(json: &str) -> Result<Parameterisation, String> {
        let schedule = if json.contains("sr_ste") { "reselect" } else { "one_shot" };
        let text = format!(r#"{{"parameterisation": {json}, "schedule": "{schedule}"}}"#);
        let config: PruneConfig = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        assert_eq!(serde_json::from_str::<PruneConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        Ok(config.parameterisation)
    }

    #[test]
    fn a_name_or_a_table_choose_and_unknown_or_impossible_settings_are_refused() {
        assert_eq!(parse(r#""plain""#), Ok(Parameterisation::Plain));
        assert_eq!(parse(r#""sign_in""#), Ok(Parameterisation::SignIn(SignIn::default())));
        let twice = SignIn { reset_period: 2, momentum: ResetMomentum::Transform, ..SignIn::default() };
        let table = r#"{"sign_in": {"reset_period": 2, "momentum": "transform"}}"#;
        assert_eq!(parse(table), Ok(Parameterisation::SignIn(twice)));
        assert_eq!(parse(r#""ham""#), Ok(Parameterisation::Ham(Ham::default())));
        let fixed = Ham { alpha: Alpha::Fixed(200.0), ..Ham::default() };
        assert_eq!(parse(r#"{"ham": {"alpha": 200}}"#), Ok(Parameterisation::Ham(fixed)));
        assert_eq!(parse(r#"{"ham": {"alpha": "auto"}}"#), Ok(Parameterisation::Ham(Ham::default())));
        assert_eq!(parse(r#""sr_ste""#), Ok(Parameterisation::SrSte(SrSte { lambda: 2e-4 })));
        assert_eq!(parse(r#"{"sr_ste": {"lambda": 0}}"#), Ok(Parameterisation::SrSte(SrSte { lambda: 0.0 })));
        assert!(parse(r#"{"sr_ste": {"lambda": -1}}"#).unwrap_err().contains("lambda"));
        assert!(parse(r#"{"sign_in": {"bta": 1}}"#).unwrap_err().contains("`bta`"));
        assert!(parse(r#"{"sign_in": {"beta": 0}}"#).unwrap_err().contains("beta"));
        assert!(parse(r#"{"sign_in": {"last_reset": 1.5}}"#).unwrap_err().contains("last_reset"));
        assert!(parse(r#"{"ham": {"alpha": "big"}}"#).unwrap_err().contains("auto"));
        assert!(parse(r#"{"ham": {"alpha": -1}}"#).unwrap_err().contains("alpha"));
    }
}
