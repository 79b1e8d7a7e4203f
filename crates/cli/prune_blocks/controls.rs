//! Ranked removal against random removal, the dense network and the small network from scratch: the same number of
//! epochs, the same seeds, one job per training, so that a killed comparison goes on where it was.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sentei_data::Split;
use sentei_graph::Graph;
use sentei_graph::blocks::blocks;
use sentei_graph::passes::remove_blocks;
use sentei_prune::Checkpointing;
use sentei_prune::config::TrainConfig;
use sentei_prune::sr_init::{fresh_graph, random_blocks};
use sentei_report::format;
use sentei_report::plot::{Plot, Point, Series};
use sentei_report::stats::{MeanInterval, mean_interval, paired_difference};
use sentei_report::table::Table;
use sentei_report::tables;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Chosen, speed};
use crate::blocks::{list, macs};
use crate::jobs::JobFolder;
use crate::models::Start;
use crate::output::Output;
use crate::study::Study;
use crate::training::{self, Workbench};
use crate::{files, models};

/// Coverage of the intervals.
const LEVEL: f64 = 0.95;

/// What is compared.
pub struct Setting<'a> {
    /// The dense network.
    pub start: &'a Start,
    /// The ranked selection.
    pub chosen: &'a Chosen,
    /// The dense network without the selection, not fine-tuned.
    pub small: &'a Graph,
    /// Random sets per seed.
    pub draws: usize,
    /// Whether dense and scratch are trained too.
    pub with_controls: bool,
    /// Seeds to train everything with.
    pub seeds: std::ops::Range<u64>,
    /// Hash of the file that the dense network came from.
    pub model_sha256: String,
}

/// Where a network comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Variant {
    /// The blocks of the ranking, or of `--blocks`, removed.
    Ranked,
    /// As many random candidates removed.
    Random,
    /// Nothing removed.
    Dense,
    /// As `Ranked`, from fresh weights.
    Scratch,
}

impl Variant {
    const ALL: [Variant; 4] = [Variant::Ranked, Variant::Random, Variant::Dense, Variant::Scratch];

    fn name(self) -> &'static str {
        match self {
            Variant::Ranked => "chosen blocks removed",
            Variant::Random => "random blocks removed",
            Variant::Dense => "dense, fine-tuned as long",
            Variant::Scratch => "small net from scratch",
        }
    }
}

/// One training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    variant: Variant,
    removed: Vec<usize>,
    seed: u64,
}

/// Everything that decides a result.
#[derive(Serialize)]
struct Trainings<'a> {
    model: &'a str,
    data: String,
    /// Mean and deviation per channel of `pixel / 255`.
    scaling: [&'a [f32]; 2],
    fine_tune: TrainConfig,
    scratch: TrainConfig,
    metric: String,
    jobs: Vec<Job>,
}

/// What became of one training.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    job: Job,
    params: usize,
    macs: u64,
    /// Metric on the validation split before any training.
    before: Option<f64>,
    /// Split that the finished network was judged on, once.
    split: String,
    accuracy: f64,
    balanced_accuracy: f64,
    /// The metric of the ranking; a threshold is chosen on the validation split.
    metric: f64,
    sha256: String,
}

/// Trains every variant, writes the study, and returns the bytes of the chosen network of the first seed and the numbers.
///
/// # Errors
/// When `dir` holds another comparison, naming the difference; and as training.
pub fn compare(
    bench: &mut Workbench,
    setting: &Setting,
    dir: &Path,
    heading: &str,
    out: Output,
) -> Result<(Vec<u8>, Value)> {
    let jobs = jobs(setting)?;
    let fine_tune = bench.recipe.prune.retrain.train_config(&bench.recipe.train);
    let scratch = TrainConfig { epochs: fine_tune.epochs, ..bench.recipe.train.clone() };
    let plan = Trainings {
        model: &setting.model_sha256,
        data: bench.data.manifest_sha256(),
        scaling: [&setting.start.normalise.mean, &setting.start.normalise.std],
        fine_tune,
        scratch,
        metric: setting.chosen.how.metric.name(),
        jobs,
    };
    let folder = JobFolder::open_or_create(dir, &plan)?;
    announce(bench, setting, &plan, &folder, out)?;
    for (index, job) in plan.jobs.iter().enumerate() {
        let waiting = || out.note(format!("training {index} is being done by another process; waiting for it"));
        folder.run_one(index, waiting, |work| one(bench, setting, &plan, job, &model_file(&folder, index), work))?;
    }
    let found = (0..plan.jobs.len()).map(|i| folder.result::<Outcome>(i)).collect::<Result<Vec<_>>>()?;
    let Some(found) = found.into_iter().collect::<Option<Vec<Outcome>>>() else {
        bail!("a result vanished from {}", dir.display());
    };
    let benches = speed::compare(&setting.start.graph, setting.small, &bench.recipe.bench, out)?;
    let judged = [Split::Test, Split::Val].map(|split| bench.data.indices(split).len()).into_iter().find(|n| *n > 0);
    let rows = rows(&found, 1.0 / judged.unwrap_or(1) as f64);
    let mut text = format!(
        "{} epochs each, {} seeds; {} of the {} split, mean and {} % interval; differences are paired by seed. From \
         scratch the learning rate starts at {}, fine-tuning at {}.\n\n{}",
        plan.fine_tune.epochs,
        setting.seeds.end - setting.seeds.start,
        plan.metric,
        found[0].split,
        LEVEL * 100.0,
        plan.scratch.learning_rate,
        plan.fine_tune.learning_rate,
        table(&rows).markdown()
    );
    for bench in &benches {
        text += &format!("\n{}", tables::bench(bench).markdown());
    }
    out.say(&text);
    let json = json!({
        "epochs": plan.fine_tune.epochs,
        "metric": plan.metric,
        "rows": rows,
        "runs": found,
        "benches": benches.iter().map(|b| b.to_json()).collect::<Vec<_>>(),
    });
    let page = format!(
        "# Blocks removed, and the controls\n\nRemoved: {}.\n\n{heading}\n{text}",
        list(&setting.chosen.numbers)
    );
    Study::write(dir, &page, &json, &[("comparison", plot(&found, &plan.metric))])?;
    let first = plan.jobs.iter().position(|j| j.variant == Variant::Ranked).expect("the chosen network is a job");
    Ok((files::read(&model_file(&folder, first))?, json))
}

fn jobs(setting: &Setting) -> Result<Vec<Job>> {
    let all = blocks(&setting.start.graph)?;
    let chosen = &setting.chosen.numbers;
    let candidates = all.iter().filter(|b| b.is_candidate()).count();
    if setting.draws > 0 && chosen.len() >= candidates {
        bail!(
            "{} blocks are removed and {candidates} could be: random sets of as many would be the same set",
            chosen.len()
        );
    }
    let mut jobs = Vec::new();
    for seed in setting.seeds.clone() {
        jobs.push(Job { variant: Variant::Ranked, removed: chosen.clone(), seed });
        for draw in 0..setting.draws {
            jobs.push(Job { variant: Variant::Random, removed: random_blocks(&all, chosen.len(), seed, draw), seed });
        }
        if setting.with_controls {
            jobs.push(Job { variant: Variant::Dense, removed: Vec::new(), seed });
            jobs.push(Job { variant: Variant::Scratch, removed: chosen.clone(), seed });
        }
    }
    Ok(jobs)
}

fn model_file(folder: &JobFolder, index: usize) -> std::path::PathBuf {
    folder.path().join("models").join(format!("{index:04}.onnx"))
}

fn announce(bench: &mut Workbench, setting: &Setting, plan: &Trainings, folder: &JobFolder, out: Output) -> Result<()> {
    let pending = folder.pending();
    if out.quiet || pending.is_empty() {
        return Ok(());
    }
    let dense = pending.iter().filter(|i| plan.jobs[**i].variant == Variant::Dense).count() as u64;
    let small = pending.len() as u64 - dense;
    let epochs = plan.fine_tune.epochs;
    let mut time = bench.estimate(setting.small, epochs * small)?;
    if dense > 0 {
        time += bench.estimate(&setting.start.graph, epochs * dense)?;
    }
    let time = std::time::Duration::from_secs(time.as_secs().max(1));
    let (count, time) = (pending.len(), humantime::format_duration(time));
    out.note(format!("{count} trainings of {epochs} epochs: about {time} on this machine"));
    Ok(())
}

fn one(
    bench: &mut Workbench,
    setting: &Setting,
    plan: &Trainings,
    job: &Job,
    model: &Path,
    work: &Path,
) -> Result<Outcome> {
    let normalise = &setting.start.normalise;
    let cut = remove_blocks(setting.start.graph.clone(), &job.removed)?.graph;
    let (graph, config) = match job.variant {
        Variant::Scratch => (fresh_graph(&cut, job.seed), &plan.scratch),
        _ => (cut, &plan.fine_tune),
    };
    let config = TrainConfig { seed: job.seed, ..config.clone() };
    let metric = &setting.chosen.how.metric;
    let before = training::evaluated(bench, &graph, normalise, Split::Val)?;
    let before = before.map(|found| metric.of(&found)).transpose()?;
    let checkpoint = Checkpointing { path: work.join("checkpoint.safetensors"), resume: true };
    let phase = format!("{}, seed {}", job.variant.name(), job.seed);
    let tuned = bench.train_as(&phase, &graph, normalise, &config, Some(checkpoint))?;
    let mut scores = |split| training::evaluated(bench, &tuned, normalise, split);
    let (test, validation) = (scores(Split::Test)?, scores(Split::Val)?);
    let (split, found, choose) = match (&test, &validation) {
        (Some(test), choose) => (Split::Test, test, choose.as_ref()),
        (None, Some(found)) => (Split::Val, found, None),
        (None, None) => bail!("the data set has neither a test nor a validation split"),
    };
    let bytes = models::to_onnx(&tuned)?;
    let folder = model.parent().expect("models lie in a folder");
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    files::write_atomic(model, &bytes)?;
    Ok(Outcome {
        job: job.clone(),
        params: training::parameters(&tuned),
        macs: macs(&tuned)?,
        before,
        split: split.name().into(),
        accuracy: found.accuracy(),
        balanced_accuracy: found.balanced_accuracy(),
        metric: metric.judged(found, choose)?,
        sha256: files::sha256(&bytes),
    })
}

/// One variant over all seeds.
#[derive(Debug, Serialize)]
struct Row {
    variant: Variant,
    params: Option<MeanInterval>,
    macs: Option<MeanInterval>,
    before: Option<MeanInterval>,
    metric: Option<MeanInterval>,
    /// The chosen network less this one, paired by seed.
    chosen_ahead_by: Option<MeanInterval>,
}

/// Mean of `value` over the runs of each seed.
fn per_seed(found: &[Outcome], variant: Variant, value: impl Fn(&Outcome) -> Option<f64>) -> BTreeMap<u64, f64> {
    let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for outcome in found.iter().filter(|o| o.job.variant == variant) {
        if let Some(value) = value(outcome) {
            values.entry(outcome.job.seed).or_default().push(value);
        }
    }
    values.into_iter().map(|(seed, all)| (seed, all.iter().sum::<f64>() / all.len() as f64)).collect()
}

/// * `step`: the least by which two metrics can differ.
fn rows(found: &[Outcome], step: f64) -> Vec<Row> {
    let chosen = per_seed(found, Variant::Ranked, |o| Some(o.metric));
    let variants = Variant::ALL.into_iter().filter(|v| found.iter().any(|o| o.job.variant == *v));
    let row = |variant: Variant| {
        let mean = |value: fn(&Outcome) -> Option<f64>| {
            mean_interval(&per_seed(found, variant, value).into_values().collect::<Vec<f64>>(), LEVEL)
        };
        let own = per_seed(found, variant, |o| Some(o.metric));
        let pairs: Vec<(f64, f64)> = own.iter().filter_map(|(seed, m)| Some((*chosen.get(seed)?, *m))).collect();
        Row {
            variant,
            params: mean(|o| Some(o.params as f64)),
            macs: mean(|o| Some(o.macs as f64)),
            before: mean(|o| o.before),
            metric: mean(|o| Some(o.metric)),
            chosen_ahead_by: (variant != Variant::Ranked).then(|| paired_difference(&pairs, LEVEL, step)).flatten(),
        }
    };
    variants.map(row).collect()
}

fn table(rows: &[Row]) -> Table {
    let titles = [
        "Network",
        "#Parameters",
        "#MACs",
        "#Before training (validation)",
        "#After",
        "#Interval",
        "#Chosen is ahead by",
        "#Interval",
    ];
    let mut table = Table::new(&titles);
    let interval = |m: &MeanInterval| match (m.low, m.high) {
        (Some(low), Some(high)) => format!("{:.2} to {:.2}", low * 100.0, high * 100.0),
        _ => "one seed".into(),
    };
    let points = |m: &MeanInterval| format!("{:.2}", m.mean * 100.0);
    for row in rows {
        let ahead = row.chosen_ahead_by.as_ref();
        let cells = [
            row.variant.name().to_string(),
            format::or_unknown(row.params, |m| format!("{:.0}", m.mean)),
            format::or_unknown(row.macs, |m| format!("{:.0}", m.mean)),
            format::or_unknown(row.before.as_ref(), points),
            format::or_unknown(row.metric.as_ref(), points),
            format::or_unknown(row.metric.as_ref(), interval),
            ahead.map(points).unwrap_or_default(),
            ahead.map(interval).unwrap_or_default(),
        ];
        table.push(cells.map(Into::into));
    }
    table
}

fn plot(found: &[Outcome], metric: &str) -> Plot {
    let variants = Variant::ALL.into_iter().filter(|v| found.iter().any(|o| o.job.variant == *v));
    let series = |variant: Variant| {
        let own = found.iter().filter(|o| o.job.variant == variant);
        let points = own.map(|o| Point::new(o.job.seed as f64, o.metric)).collect();
        Series { name: variant.name().into(), points, line: false }
    };
    Plot {
        title: "The same number of epochs for every network".into(),
        x_label: "seed".into(),
        y_label: metric.into(),
        y_percent: true,
        series: variants.map(series).collect(),
        ..Plot::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(variant: Variant, seed: u64, metric: f64) -> Outcome {
        Outcome {
            job: Job { variant, removed: vec![1], seed },
            params: 10,
            macs: 20,
            before: None,
            split: "test".into(),
            accuracy: metric,
            balanced_accuracy: metric,
            metric,
            sha256: String::new(),
        }
    }

    #[test]
    fn random_sets_of_a_seed_are_averaged_before_they_are_paired() {
        let found = [
            outcome(Variant::Ranked, 4, 0.9),
            outcome(Variant::Random, 4, 0.7),
            outcome(Variant::Random, 4, 0.9),
            outcome(Variant::Ranked, 5, 0.8),
            outcome(Variant::Random, 5, 0.6),
            outcome(Variant::Random, 5, 0.6),
        ];
        let rows = rows(&found, 0.0);
        assert_eq!(rows.len(), 2);
        let ahead = rows[1].chosen_ahead_by.as_ref().expect("two pairs");
        assert_eq!(ahead.n, 2);
        assert!((ahead.mean - 0.15).abs() < 1e-12, "{}", ahead.mean);
        assert!(rows[0].chosen_ahead_by.is_none());
        assert_eq!(table(&rows).rows.len(), 2);
    }
}
