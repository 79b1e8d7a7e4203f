//! From finished trainings to means, differences and findings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use sentei_prune::survivors::{Survivors, ks_distance};
use sentei_report::ablation::{Change, Finding, finding, stated_confidence};
use sentei_report::stats::{MeanInterval, mean_interval, paired_difference};
use serde::Serialize;
use serde_json::{Value, json};

use super::arm::Arm;
use super::plan::{CONTROL, DENSE, InitPlan, Job, Variant};
use crate::jobs::JobFolder;

/// Every variant, in the order of the tables.
const VARIANTS: [Variant; 4] = [Variant::Original, Variant::Shuffle, Variant::Reinit, Variant::Inversion];

/// Coverage of the intervals in the tables.
pub const LEVEL: f64 = 0.95;

/// What is known of a study.
pub struct Results {
    /// Every training that is finished.
    pub arms: Vec<(Job, Arm)>,
    /// Trainings that failed, and why.
    pub failed: Vec<(Job, String)>,
    /// One per method, in the order of the plan, the control last.
    pub methods: Vec<Summary>,
    /// Accuracy of the dense network.
    pub dense: Option<MeanInterval>,
}

/// One method.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name.
    pub name: String,
    /// One per variant that has a result.
    pub variants: Vec<Row>,
    /// Layers of the original mask, averaged over seeds.
    pub layers: Vec<Share>,
    /// What the ablations show.
    pub finding: Finding,
    /// Pairs that the finding rests on.
    pub seeds: usize,
}

/// One variant of one method.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done to the mask.
    pub variant: Variant,
    /// Accuracy over seeds.
    pub accuracy: Option<MeanInterval>,
    /// Accuracy minus that of the original, paired by seed; absent for the original.
    pub difference: Option<MeanInterval>,
    /// The same with the band of the rule.
    pub change: Option<Change>,
}

/// What a mask keeps of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Name of the weight.
    pub layer: String,
    /// Its weights.
    pub weights: u64,
    /// Mean number of kept weights.
    pub kept: f64,
}

impl Share {
    /// Kept fraction.
    pub fn density(&self) -> f64 {
        self.kept / self.weights.max(1) as f64
    }
}

impl Results {
    /// Reads what is there.
    ///
    /// * `chance`: accuracy of guessing, in `[0, 1]`; `samples`: images it is an accuracy over.
    ///
    /// # Errors
    /// When a result is damaged.
    pub fn read(plan: &InitPlan, folder: &JobFolder, chance: f64, samples: usize) -> Result<Self> {
        let (mut arms, mut failed) = (Vec::new(), Vec::new());
        for (index, job) in plan.jobs.iter().enumerate() {
            match folder.result::<Arm>(index)? {
                Some(arm) => arms.push((job.clone(), arm)),
                None => failed.push((job.clone(), folder.failure(index).unwrap_or_else(|| "not done".into()))),
            }
        }
        Ok(Self::of(plan, arms, failed, chance, 1.0 / samples.max(1) as f64))
    }

    /// From finished and failed trainings.
    pub fn of(plan: &InitPlan, arms: Vec<(Job, Arm)>, failed: Vec<(Job, String)>, chance: f64, step: f64) -> Self {
        let mut results = Results { arms, failed, methods: Vec::new(), dense: None };
        results.dense = results.mean(DENSE, Variant::Original);
        let names = plan.methods.iter().map(|m| m.name.as_str()).chain([CONTROL]);
        results.methods = names.map(|name| results.summary(name, &plan.variants, chance, step)).collect();
        results
    }

    /// Finished trainings of one method and variant, by seed.
    pub fn of_variant(&self, method: &str, variant: Variant) -> BTreeMap<u64, &Arm> {
        let wanted = self.arms.iter().filter(|(job, _)| job.method == method && job.variant == variant);
        wanted.map(|(job, arm)| (job.seed, arm)).collect()
    }

    fn mean(&self, method: &str, variant: Variant) -> Option<MeanInterval> {
        let values: Vec<f64> = self.of_variant(method, variant).values().map(|arm| arm.accuracy).collect();
        mean_interval(&values, LEVEL)
    }

    fn summary(&self, name: &str, variants: &[Variant], chance: f64, step: f64) -> Summary {
        let original = self.of_variant(name, Variant::Original);
        let row = |variant: &Variant| {
            let arms = self.of_variant(name, *variant);
            let pairs: Vec<(f64, f64)> =
                arms.iter().filter_map(|(seed, arm)| Some((arm.accuracy, original.get(seed)?.accuracy))).collect();
            let difference = paired_difference(&pairs, LEVEL, step).filter(|_| *variant != Variant::Original);
            let change = difference.as_ref().map(Change::of);
            Row { variant: *variant, accuracy: self.mean(name, *variant), difference, change }
        };
        let rows: Vec<Row> = variants.iter().map(row).filter(|row| row.accuracy.is_some()).collect();
        let change = |variant| rows.iter().find(|r| r.variant == variant).and_then(|r| r.change);
        let (shuffle, reinit) = (change(Variant::Shuffle), change(Variant::Reinit));
        let seeds = [shuffle, reinit].iter().flatten().map(|c| c.seeds).min().unwrap_or(0);
        let finding = match self.mean(name, Variant::Original) {
            Some(mean) => finding(mean.mean, chance, shuffle, reinit),
            None => Finding::Unclear,
        };
        Summary { name: name.into(), layers: shares(&original), variants: rows, finding, seeds }
    }

    /// Per layer, how far a variant's survivors are from the original's of the same seed: Kolmogorov-Smirnov distances before
    /// and after training, averaged over seeds.
    pub fn distances(&self, method: &str, variant: Variant) -> Vec<(String, Option<f64>, Option<f64>)> {
        let original = self.of_variant(method, Variant::Original);
        let arms = self.of_variant(method, variant);
        let Some(first) = arms.values().next() else { return Vec::new() };
        let mean_distance = |layer: &str, of: fn(&Arm) -> &[Survivors]| {
            let sketch = |arm: &Arm| of(arm).iter().find(|s| s.layer == layer).map(|s| s.sketch.clone());
            let one = |(seed, arm): (&u64, &&Arm)| ks_distance(&sketch(arm)?, &sketch(original.get(seed)?)?);
            let all: Vec<f64> = arms.iter().filter_map(one).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let layers = first.before.iter().map(|s| s.layer.clone());
        let distances = |layer: String| {
            let before = mean_distance(&layer, |arm| &arm.before);
            let after = mean_distance(&layer, |arm| &arm.after);
            (layer, before, after)
        };
        layers.map(distances).collect()
    }

    /// One line per method and variant in which a layer lost all its weights, or no path is left.
    pub fn alarms(&self) -> Vec<String> {
        let names = self.methods.iter().map(|m| m.name.as_str());
        let cases = names.flat_map(|name| VARIANTS.map(|variant| (name, variant)));
        cases.filter_map(|(name, variant)| self.alarm(name, variant)).collect()
    }

    fn alarm(&self, method: &str, variant: Variant) -> Option<String> {
        let mut arms = self.of_variant(method, variant);
        arms.retain(|_, arm| !arm.collapsed.is_empty() || !arm.passes_signal);
        let seeds: Vec<String> = arms.keys().map(ToString::to_string).collect();
        let layers: BTreeSet<&str> = arms.values().flat_map(|arm| arm.collapsed.iter().map(String::as_str)).collect();
        let emptied = match layers.is_empty() {
            true => "every layer keeps weights".to_string(),
            false => format!("{} kept no weight", layers.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let is_cut = arms.values().any(|arm| !arm.passes_signal);
        let cut = if is_cut { "; no path leads from input to output" } else { "" };
        let seeds = (!seeds.is_empty()).then(|| seeds.join(", "))?;
        Some(format!("layer collapse: {method} {variant} (seeds {seeds}): {emptied}{cut}"))
    }

    /// The whole study in numbers, for `report.json`.
    pub fn json(&self, plan: &InitPlan) -> Value {
        let bare = |list: &[Survivors]| {
            let mut value = serde_json::to_value(list).expect("summaries are plain data");
            for layer in value.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                layer.remove("sketch");
            }
            value
        };
        let arm = |(job, arm): &(Job, Arm)| {
            json!({
                "method": job.method, "variant": job.variant, "seed": job.seed, "accuracy": arm.accuracy,
                "kept": arm.kept, "prunable": arm.prunable, "collapsed": arm.collapsed,
                "passes_signal": arm.passes_signal, "moved": arm.moved, "seconds": arm.seconds,
                "survivors_before": bare(&arm.before), "survivors_after": bare(&arm.after),
            })
        };
        let distances = |m: &Summary| {
            let rows = m.variants.iter().filter(|r| r.variant != Variant::Original);
            rows.map(|r| json!({ "variant": r.variant, "layers": self.distances(&m.name, r.variant) }))
                .collect::<Vec<_>>()
        };
        let method = |m: &Summary| {
            json!({
                "summary": m, "verdict": m.finding.sentence(m.seeds), "confidence": stated_confidence(m.seeds),
                "ks_distances": distances(m),
            })
        };
        json!({
            "plan": plan,
            "dense": self.dense,
            "methods": self.methods.iter().map(method).collect::<Vec<_>>(),
            "alarms": self.alarms(),
            "failed": self.failed,
            "arms": self.arms.iter().map(arm).collect::<Vec<_>>(),
        })
    }

    /// The study in one line of numbers.
    pub fn brief(&self, plan: &InitPlan, dir: &Path) -> Value {
        let method = |m: &Summary| {
            json!({
                "name": m.name, "variants": m.variants, "finding": m.finding,
                "verdict": m.finding.sentence(m.seeds), "confidence": stated_confidence(m.seeds), "layers": m.layers,
            })
        };
        json!({
            "output": dir, "sparsity": plan.control.sparsity, "seeds": plan.seeds, "dense": self.dense,
            "methods": self.methods.iter().map(method).collect::<Vec<_>>(),
            "alarms": self.alarms(), "failed": self.failed.len(),
        })
    }
}

fn shares(arms: &BTreeMap<u64, &Arm>) -> Vec<Share> {
    let Some(first) = arms.values().next() else { return Vec::new() };
    let share = |i: usize| {
        let kept: u64 = arms.values().filter_map(|arm| arm.before.get(i)).map(|s| s.kept).sum();
        let layer = &first.before[i];
        Share { layer: layer.layer.clone(), weights: layer.weights, kept: kept as f64 / arms.len() as f64 }
    };
    (0..first.before.len()).map(share).collect()
}
