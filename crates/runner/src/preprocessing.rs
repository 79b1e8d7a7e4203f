//! How pixels become network input, kept in the model file so that the model and its scaling cannot be parted.

use std::collections::BTreeMap;

use sentei_data::Normalise;

use crate::error::RunnerError;

const CLASSES: &str = "sentei.classes";
const MEAN: &str = "sentei.mean";
const STD: &str = "sentei.std";

/// Class names, and mean and deviation per channel of `pixel / 255`.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Class of each output.
    pub classes: Vec<String>,
    /// Standardisation of the pixels.
    pub normalise: Normalise,
}

impl Preprocessing {
    /// Puts the classes and the scaling into a model's metadata.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        let list = |values: &[f32]| serde_json::to_string(values).expect("numbers serialise");
        metadata.insert(CLASSES.into(), serde_json::to_string(&self.classes).expect("text serialises"));
        metadata.insert(MEAN.into(), list(&self.normalise.mean));
        metadata.insert(STD.into(), list(&self.normalise.std));
    }

    /// Reads them back; `None` when the model carries none (it was not made by sentei).
    ///
    /// # Errors
    /// [`RunnerError::Description`] when they are there and broken.
    pub fn read(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, RunnerError> {
        let (Some(classes), Some(mean), Some(std)) = (metadata.get(CLASSES), metadata.get(MEAN), metadata.get(STD))
        else {
            return Ok(None);
        };
        let broken = |key: &str, text: &str| RunnerError::Description(format!("metadata `{key}` is `{text}`"));
        let numbers = |key: &str, text: &str| -> Result<Vec<f32>, RunnerError> {
            serde_json::from_str(text).map_err(|_| {
                RunnerError::Description(format!("metadata `{key}` is `{text}`, expected a list of numbers"))
            })
        };
        let classes = serde_json::from_str(classes).map_err(|_| broken(CLASSES, classes))?;
        let (mean, std) = (numbers(MEAN, mean)?, numbers(STD, std)?);
        if mean.is_empty() || mean.len() != std.len() || std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(RunnerError::Description(format!(
                "metadata `{MEAN}` and `{STD}` need the same number of entries and deviations above 0, found {mean:?} and {std:?}"
            )));
        }
        Ok(Some(Preprocessing { classes, normalise: Normalise { mean, std } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let normalise = Normalise { mean: vec![0.25, 0.1], std: vec![0.5, 0.3] };
        let ours = Preprocessing { classes: vec!["ok".into(), "a \"b\"".into()], normalise };
        let mut metadata = BTreeMap::new();
        assert_eq!(Preprocessing::read(&metadata).expect("nothing there"), None);
        ours.write(&mut metadata);
        assert_eq!(Preprocessing::read(&metadata).expect("valid"), Some(ours));
    }

    #[test]
    fn a_zero_deviation_is_refused() {
        let entries = [(CLASSES, "[\"a\"]"), (MEAN, "[0.5]"), (STD, "[0]")];
        let metadata = entries.map(|(k, v)| (k.to_string(), v.to_string())).into();
        assert!(Preprocessing::read(&metadata).is_err());
    }
}
