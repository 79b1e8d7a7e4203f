//! Everything one `shrink` run produced, as `report.json` keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bench, BenchRow, EpochRow, Flip, LayerRow, Machine, Memory, Quality, SensitivityScan, SizePart, Work};
use crate::compare::GateResult;
use crate::error::ReportError;
use crate::stats::{Proportion, Ratio};
use crate::warning::Warning;

/// Version of the record schema this program writes and reads.
pub const SCHEMA: u32 = 1;

/// Samples per class and split below which a warning is raised.
const FEW_SAMPLES: u64 = 20;
/// Largest over smallest class above which a warning is raised.
const IMBALANCE: u64 = 5;
/// Half width of an accuracy interval, in points, above which a split is called small.
const SMALL_SPLIT_POINTS: f64 = 3.0;

/// Everything one run produced. Statistics are derived from what is kept here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Schema version, [`SCHEMA`].
    pub schema: u32,
    /// Name of the run.
    pub name: String,
    /// When the run began, RFC 3339; kept as text because only people read it.
    pub created: String,
    /// Command line as typed.
    pub command: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Recipe as TOML text.
    pub recipe: String,
    /// Version per program or library.
    pub versions: BTreeMap<String, String>,
    /// Machine that ran it.
    pub machine: Machine,
    /// Samples that were used.
    pub dataset: Dataset,
    /// The dense model.
    pub baseline: Variant,
    /// Pruned models.
    pub pruned: Vec<Variant>,
    /// Index into `pruned` of the model the verdict is about.
    pub chosen: usize,
    /// One row per epoch, in the order they ran.
    pub curves: Vec<EpochRow>,
    /// Accuracy against sparsity, one scan per layer.
    pub sensitivity: Vec<SensitivityScan>,
    /// Latency of the variants; rows carry the variant's name.
    pub benches: Vec<Bench>,
    /// How the compiled file compares with its reference.
    pub equivalence: Option<Equivalence>,
    /// Result of the gate, if the recipe has one.
    pub gate: Option<GateResult>,
    /// Wall time of each phase, in order.
    pub phases: Vec<PhaseTime>,
    /// Warnings raised during the run; see [`RunRecord::all_warnings`] for those the record itself implies.
    pub warnings: Vec<Warning>,
    /// Files of the run.
    pub files: Vec<FileHash>,
}

/// Samples a run used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Name, for example `embedded inspection set`.
    pub name: String,
    /// Class names.
    pub classes: Vec<String>,
    /// Index of the class without defect, if the task is an inspection.
    pub ok_class: Option<usize>,
    /// Shape of one sample, channels first.
    pub input: Vec<usize>,
    /// Samples per split.
    pub splits: Vec<Split>,
    /// SHA-256 of the manifest, lower-case hexadecimal.
    pub manifest_sha256: Option<String>,
}

/// Samples of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Split, for example `test`.
    pub name: String,
    /// Samples per class.
    pub counts: Vec<u64>,
}

/// One model of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Name, unique in the run, for example `dense` or `90 % sparse`.
    pub name: String,
    /// Removed fraction of the prunable weights, in `[0, 1]`.
    pub sparsity: f64,
    /// Quality on the validation split.
    pub quality_val: Option<Quality>,
    /// Quality on the test split.
    pub quality_test: Option<Quality>,
    /// What it computes.
    pub work: Work,
    /// Where its bytes are.
    pub memory: Option<Memory>,
    /// Its layers.
    pub layers: Vec<LayerRow>,
    /// Bytes of its file by purpose.
    pub size: Vec<SizePart>,
    /// Test samples whose verdict differs from the baseline's.
    pub flips: Vec<Flip>,
}

impl Variant {
    /// Quality on the test split, or on the validation split when the test split was not used.
    pub fn quality(&self) -> Option<&Quality> {
        self.quality_test.as_ref().or(self.quality_val.as_ref())
    }
}

/// How the outputs of a compiled file compare with those of its reference on seeded inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// Inputs that were compared.
    pub inputs: u64,
    /// Largest absolute difference of an output.
    pub max_abs_error: f64,
    /// Largest difference in units in the last place.
    pub max_ulp: Option<u64>,
    /// Largest absolute difference that was accepted.
    pub tolerance: f64,
    /// The same per layer, where layers were compared.
    pub layers: Vec<LayerError>,
}

/// Largest difference in the output of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerError {
    /// Name of the layer.
    pub name: String,
    /// Largest absolute difference.
    pub max_abs_error: f64,
    /// Largest difference in units in the last place.
    pub max_ulp: Option<u64>,
}

/// Wall time of one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Phase of the run.
    pub phase: String,
    /// Wall time.
    pub seconds: f64,
}

/// A file of the run and its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Path relative to the run folder.
    pub path: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// The baseline and one variant in the same engine and bench.
#[derive(Clone, Debug)]
pub struct LatencyPair<'a> {
    /// Row of the baseline.
    pub baseline: &'a BenchRow,
    /// Row of the variant.
    pub variant: &'a BenchRow,
    /// Baseline / variant: above 1, the variant is faster.
    pub ratio: Option<Ratio>,
}

impl RunRecord {
    /// The pruned model the verdict is about; `None` when the run only trained.
    pub fn chosen(&self) -> Option<&Variant> {
        self.pruned.get(self.chosen)
    }

    /// The baseline, then the pruned models.
    pub fn variants(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.baseline).chain(&self.pruned)
    }

    /// The baseline beside the variant called `name`, once per machine and engine that measured both together; emulated machines
    /// are left out.
    pub fn latency_pairs(&self, name: &str) -> Vec<LatencyPair<'_>> {
        let mut pairs = Vec::new();
        for bench in self.benches.iter().filter(|bench| bench.machine.emulated.is_none()) {
            for baseline in bench.rows.iter().filter(|row| row.model == self.baseline.name) {
                let same = |row: &&BenchRow| row.model == name && row.engine == baseline.engine;
                if let Some(variant) = bench.rows.iter().find(same) {
                    pairs.push(LatencyPair { baseline, variant, ratio: bench.ratio(baseline, variant) });
                }
            }
        }
        pairs
    }

    /// The stored warnings and those that samples, splits and curves imply, without repeats.
    pub fn all_warnings(&self) -> Vec<Warning> {
        let mut all = self.warnings.clone();
        all.extend(self.dataset.warnings());
        all.extend(self.benches.iter().flat_map(Bench::warnings));
        for row in self.curves.iter().filter(|row| !row.train_loss.is_finite()) {
            all.push(Warning::LossNotFinite { phase: row.phase.clone(), epoch: row.epoch });
        }
        let points = self.variants().filter_map(Variant::quality).flat_map(|q| &q.false_alarms);
        for point in points.filter(|p| p.rate * (p.chosen_on as f64) < 1.0) {
            all.push(Warning::FalseAlarmUnresolved { rate: point.rate, ok_samples: point.chosen_on });
        }
        let mut unique: Vec<Warning> = Vec::with_capacity(all.len());
        for warning in all {
            if !unique.contains(&warning) {
                unique.push(warning);
            }
        }
        unique
    }

    /// Reads a record and checks that its parts fit together.
    ///
    /// # Errors
    /// [`ReportError::Schema`] for another version, [`ReportError::Json`] or [`ReportError::Record`] for a broken one.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text)?;
        if schema != SCHEMA {
            return Err(ReportError::Schema { found: schema, expected: SCHEMA });
        }
        let record: Self = serde_json::from_str(text)?;
        record.check()?;
        Ok(record)
    }

    /// Checks that class indices, confusion matrices and the chosen model fit together.
    ///
    /// # Errors
    /// [`ReportError::Record`] naming the part that does not fit.
    pub fn check(&self) -> Result<(), ReportError> {
        let broken = |what: String| Err(ReportError::Record(what));
        if !self.pruned.is_empty() && self.chosen >= self.pruned.len() {
            return broken(format!("chosen is {}, but there are {} pruned models", self.chosen, self.pruned.len()));
        }
        let classes = self.dataset.classes.len();
        for variant in self.variants() {
            for quality in variant.quality_val.iter().chain(&variant.quality_test) {
                let n = quality.classes.len();
                let square = quality.confusion.len() == n && quality.confusion.iter().all(|row| row.len() == n);
                if !square || quality.ok_class.is_some_and(|ok| ok >= n) {
                    return broken(format!("confusion matrix of `{}` does not fit {n} classes", variant.name));
                }
            }
            if variant.flips.iter().any(|f| f.label.max(f.before).max(f.after) >= classes) {
                return broken(format!("a flipped sample of `{}` is outside {classes} classes", variant.name));
            }
        }
        match self.dataset.splits.iter().find(|split| split.counts.len() != classes) {
            Some(split) => broken(format!("split `{}` counts {} of {classes} classes", split.name, split.counts.len())),
            None => Ok(()),
        }
    }
}

impl Dataset {
    /// Reasons to doubt numbers measured on these samples.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = Vec::new();
        let of = |counts: &[u64]| {
            let mut named: Vec<(u64, String)> = counts.iter().copied().zip(self.classes.iter().cloned()).collect();
            named.sort();
            named
        };
        for split in &self.splits {
            let samples: u64 = split.counts.iter().sum();
            if split.name == "train" {
                let named = of(&split.counts);
                if let (Some(few), Some(many)) = (named.first(), named.last())
                    && many.0 > few.0.saturating_mul(IMBALANCE)
                {
                    found.push(Warning::Imbalance {
                        largest: many.1.clone(),
                        largest_samples: many.0,
                        smallest: few.1.clone(),
                        smallest_samples: few.0,
                    });
                }
                continue;
            }
            // The interval of a fair coin is the widest an accuracy can have.
            let widest = Proportion { hits: samples / 2, total: samples }.wilson();
            let points = widest.map(|interval| (interval.high - interval.low) * 50.0);
            if let Some(points) = points.filter(|&points| points > SMALL_SPLIT_POINTS) {
                found.push(Warning::SmallSplit { split: split.name.clone(), samples, points });
            }
            for (samples, class) in of(&split.counts).into_iter().filter(|named| named.0 < FEW_SAMPLES) {
                found.push(Warning::FewSamples { class, split: split.name.clone(), samples });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(train: [u64; 2], val: [u64; 2]) -> Dataset {
        let split = |name: &str, counts: [u64; 2]| Split { name: name.into(), counts: counts.to_vec() };
        let splits = vec![split("train", train), split("val", val)];
        Dataset { classes: vec!["ok".into(), "pit".into()], splits, ..Dataset::default() }
    }

    #[test]
    fn a_large_balanced_set_raises_no_warning() {
        assert_eq!(dataset([900, 800], [1000, 900]).warnings(), []);
    }

    #[test]
    fn small_and_skewed_splits_are_named() {
        let texts: Vec<String> = dataset([900, 30], [90, 10]).warnings().iter().map(Warning::seen).collect();
        assert_eq!(
            texts,
            [
                "class `ok` has 900 samples, class `pit` only 30",
                "split `val` has 100 samples: an accuracy on it is known to ±9.6 points at worst",
                "class `pit` has 10 samples in split `val`",
            ]
        );
    }

    #[test]
    fn another_schema_is_refused_by_number() {
        let error = RunRecord::from_json(r#"{"schema": 9}"#).unwrap_err();
        assert_eq!(error.to_string(), "record has schema 9, this program reads 1");
    }

    #[test]
    fn a_record_whose_parts_do_not_fit_is_refused() {
        let mut record = RunRecord { schema: SCHEMA, ..RunRecord::default() };
        record.pruned.push(Variant { name: "p".into(), ..Variant::default() });
        record.chosen = 1;
        let error = RunRecord::from_json(&serde_json::to_string(&record).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "record does not fit together: chosen is 1, but there are 1 pruned models");
    }
}
