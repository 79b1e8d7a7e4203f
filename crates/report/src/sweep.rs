//! What a sweep of methods over sparsities and seeds says: means with intervals, paired differences, advice, one plot.

use serde::{Deserialize, Serialize};

use crate::format;
use crate::plot::{Plot, Point, Series};
use crate::record::{DENSE, SplitScores, SweepJob, SweepResult};
use crate::stats::{MeanInterval, mean_interval, paired_difference};

/// Coverage of every interval.
pub const LEVEL: f64 = 0.95;

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction classified correctly.
    #[default]
    Accuracy,
    /// Mean recall of the classes.
    BalancedAccuracy,
}

impl Metric {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::BalancedAccuracy => "balanced accuracy",
        }
    }

    fn of(self, scores: &SplitScores) -> f64 {
        match self {
            Metric::Accuracy => scores.accuracy,
            Metric::BalancedAccuracy => scores.balanced_accuracy,
        }
    }
}

/// Which samples are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Those that may decide.
    Validation,
    /// Those that only tell.
    Test,
}

/// A sweep, or as much of it as is done.
#[derive(Clone, Debug)]
pub struct Sweep<'a> {
    /// Every job of the plan.
    pub planned: &'a [SweepJob],
    /// What is done, in any order.
    pub results: &'a [SweepResult],
    /// What is compared.
    pub metric: Metric,
    /// Method that the others are compared with.
    pub baseline: &'a str,
}

/// All seeds of one method at one sparsity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepCell {
    /// Method.
    pub method: String,
    /// Removed fraction that was asked for.
    pub sparsity: f64,
    /// Number of jobs in the plan.
    pub planned: usize,
    /// Number of jobs that are done.
    pub done: usize,
    /// On validation images.
    pub validation: Option<MeanInterval>,
    /// On test images.
    pub test: Option<MeanInterval>,
    /// Method minus baseline on test images, over the seeds that both have; absent for the baseline itself.
    pub difference: Option<MeanInterval>,
    /// Method minus baseline on validation images.
    pub validation_difference: Option<MeanInterval>,
    /// Mean kept fraction reached.
    pub density: Option<f64>,
    /// Number of jobs whose network has a layer without any weight.
    pub collapsed: usize,
    /// Mean number of epochs, those of the dense parent included.
    pub epochs: Option<f64>,
    /// Mean wall time in seconds, without the dense parent.
    pub seconds: Option<f64>,
}

impl<'a> Sweep<'a> {
    /// Methods in the order of the plan, without the dense network.
    pub fn methods(&self) -> Vec<&'a str> {
        let mut names: Vec<&'a str> = Vec::new();
        for job in self.planned.iter().filter(|job| job.method != DENSE) {
            if !names.contains(&job.method.as_str()) {
                names.push(&job.method);
            }
        }
        names
    }

    /// Sparsities of the plan, ascending, without the dense network's 0.
    pub fn sparsities(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.planned.iter().filter(|j| j.method != DENSE).map(|j| j.sparsity).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    /// One cell per method and sparsity, the dense network first, in the order of the plan.
    pub fn cells(&self) -> Vec<SweepCell> {
        let dense = self.planned.iter().any(|job| job.method == DENSE).then_some((DENSE, 0.0));
        let (methods, sparsities) = (self.methods(), self.sparsities());
        let pairs = methods.iter().flat_map(|m| sparsities.iter().map(move |s| (*m, *s)));
        dense.into_iter().chain(pairs).map(|(method, sparsity)| self.cell(method, sparsity)).collect()
    }

    /// All seeds of `method` at `sparsity`.
    pub fn cell(&self, method: &str, sparsity: f64) -> SweepCell {
        let planned = self.planned.iter().filter(|j| j.method == method && j.sparsity == sparsity).count();
        let done = self.done(method, sparsity);
        let mean = |on| {
            let values: Vec<f64> = done.iter().filter_map(|r| self.value(r, on)).collect();
            mean_interval(&values, LEVEL)
        };
        let average = |of: &dyn Fn(&SweepResult) -> f64| {
            (!done.is_empty()).then(|| done.iter().map(|r| of(r)).sum::<f64>() / done.len() as f64)
        };
        SweepCell {
            method: method.into(),
            sparsity,
            planned,
            done: done.len(),
            validation: mean(On::Validation),
            test: mean(On::Test),
            difference: self.difference(method, sparsity, On::Test),
            validation_difference: self.difference(method, sparsity, On::Validation),
            density: average(&|r| r.density),
            collapsed: done.iter().filter(|r| r.layers.iter().any(|l| l.kept == 0)).count(),
            epochs: average(&|r| (r.epochs + r.parent_epochs) as f64),
            seconds: average(&|r| r.seconds),
        }
    }

    /// `method` minus the baseline at `sparsity`, paired by seed; `None` when they share no seed or are the same.
    /// The dense network is compared with nothing, since it has another sparsity.
    pub fn difference(&self, method: &str, sparsity: f64, on: On) -> Option<MeanInterval> {
        if method == self.baseline {
            return None;
        }
        let base = self.done(self.baseline, sparsity);
        let pair = |r: &&SweepResult| {
            let other = base.iter().find(|b| b.job.seed == r.job.seed)?;
            Some((self.value(r, on)?, self.value(other, on)?))
        };
        let mine = self.done(method, sparsity);
        let pairs: Vec<(f64, f64)> = mine.iter().filter_map(pair).collect();
        let samples = mine.iter().filter_map(|r| Some(scores(r, on)?.samples)).min()?;
        paired_difference(&pairs, LEVEL, 1.0 / samples.max(1) as f64)
    }

    fn done(&self, method: &str, sparsity: f64) -> Vec<&SweepResult> {
        self.results.iter().filter(|r| r.job.method == method && r.job.sparsity == sparsity).collect()
    }

    fn value(&self, result: &SweepResult, on: On) -> Option<f64> {
        scores(result, on).map(|scores| self.metric.of(scores))
    }

    /// Which method to take at each sparsity, judged on validation images alone; one sentence each.
    ///
    /// Only methods of which every planned seed is done are candidates: a mean over fewer seeds is of another sample.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        for sparsity in self.sparsities() {
            let at = format::sparsity(sparsity);
            let cells: Vec<SweepCell> = self.methods().iter().map(|m| self.cell(m, sparsity)).collect();
            let whole = cells.iter().filter(|c| c.done == c.planned);
            let ranked = whole.filter_map(|c| Some((c, c.validation?.mean)));
            // The first of equals in the order of the plan.
            let best = ranked.reduce(|best, next| if next.1 > best.1 { next } else { best });
            let Some((best, mean)) = best else {
                advice.push(format!("At {at}: no method is finished and has validation images."));
                continue;
            };
            let head = format!("At {at}: `{}` is best on validation images ({})", best.method, format::percent(mean));
            advice.push(match best.validation_difference {
                _ if best.method == self.baseline => format!("{head}; it is the baseline."),
                None => format!("{head}; no seed of the baseline `{}` to compare with.", self.baseline),
                Some(difference) => {
                    let by = format!("{} against `{}`", points(&difference), self.baseline);
                    let sure = match (difference.n, difference.excludes_zero()) {
                        (1, _) => "one seed says nothing about the spread",
                        (_, true) => "the paired interval excludes 0",
                        (_, false) => "the paired interval includes 0, so the two cannot be told apart on these seeds",
                    };
                    format!("{head}, {by}; {sure}.")
                }
            });
        }
        advice
    }

    /// Test results against sparsity with their intervals; the dense network as a level line.
    /// Without test images: validation results, and the axis says so.
    pub fn plot(&self) -> Plot {
        let on = if self.results.iter().any(|r| r.test.is_some()) { On::Test } else { On::Validation };
        let sparsities = self.sparsities();
        let mean = |cell: &SweepCell| if on == On::Test { cell.test } else { cell.validation };
        // The interval of a fraction ends where fractions end.
        let point = |x: f64, m: MeanInterval| Point {
            x,
            y: m.mean,
            low: m.low.map(|low| low.max(0.0)),
            high: m.high.map(|high| high.min(1.0)),
        };
        let line = |name: &str, points| Series { name: name.into(), points, line: true };
        let mut series: Vec<Series> = Vec::new();
        for method in self.methods() {
            let points = sparsities.iter().filter_map(|&s| Some(point(s, mean(&self.cell(method, s))?)));
            series.push(line(method, points.collect()));
        }
        if let (Some(level), Some(first), Some(last)) =
            (mean(&self.cell(DENSE, 0.0)), sparsities.first(), sparsities.last())
        {
            series.push(line(DENSE, vec![Point::new(*first, level.mean), Point::new(*last, level.mean)]));
        }
        series.retain(|s| !s.points.is_empty());
        let split = if on == On::Test { "test" } else { "validation" };
        Plot {
            title: format!(
                "{} against sparsity (mean and {:.0} % interval over seeds)",
                capital(self.metric.name()),
                LEVEL * 100.0
            ),
            x_label: "prunable weights removed".into(),
            y_label: format!("{split} {}", self.metric.name()),
            x_percent: true,
            y_percent: true,
            series,
            ..Plot::default()
        }
    }
}

fn scores(result: &SweepResult, on: On) -> Option<&SplitScores> {
    match on {
        On::Validation => result.val.as_ref(),
        On::Test => result.test.as_ref(),
    }
}

/// A difference in percentage points with its interval, for example `+1.2 points (0.4 to 2.0)`.
pub(crate) fn points(difference: &MeanInterval) -> String {
    let interval = difference.low.zip(difference.high);
    let interval =
        interval.map(|(low, high)| format!(" ({:.1} to {:.1})", low * 100.0, high * 100.0).replace('-', "−"));
    format::points(difference.mean * 100.0) + &interval.unwrap_or_default()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::SweepLayer;

    pub(crate) fn job(method: &str, sparsity: f64, seed: u64) -> SweepJob {
        SweepJob { method: method.into(), sparsity, seed }
    }

    pub(crate) fn result(job: SweepJob, val: f64, test: f64) -> SweepResult {
        let scores = |accuracy| SplitScores { samples: 10_000, accuracy, balanced_accuracy: accuracy / 2.0, loss: 0.1 };
        SweepResult {
            density: 1.0 - job.sparsity,
            job,
            nonzero: 10,
            params: 100,
            layers: Vec::new(),
            val: Some(scores(val)),
            test: Some(scores(test)),
            epochs: 2,
            parent_epochs: 1,
            seconds: 3.0,
            signs: None,
        }
    }

    /// Two methods, one sparsity, three seeds and the dense network; `b` is one point better on validation images in every
    /// seed, and worse on test images. The last seed of `c` is missing.
    pub(crate) fn example() -> (Vec<SweepJob>, Vec<SweepResult>) {
        let (mut planned, mut results) = (Vec::new(), Vec::new());
        for seed in 0..3 {
            let spread = seed as f64 * 0.05;
            planned.push(job(DENSE, 0.0, seed));
            results.push(result(job(DENSE, 0.0, seed), 0.95, 0.94));
            for (method, val, test) in [("a", 0.80, 0.80), ("b", 0.81, 0.70), ("c", 0.90, 0.90)] {
                planned.push(job(method, 0.9, seed));
                if method != "c" || seed < 2 {
                    results.push(result(job(method, 0.9, seed), val + spread, test + spread));
                }
            }
        }
        (planned, results)
    }

    fn sweep<'a>(planned: &'a [SweepJob], results: &'a [SweepResult]) -> Sweep<'a> {
        Sweep { planned, results, metric: Metric::Accuracy, baseline: "a" }
    }

    #[test]
    fn methods_are_compared_seed_by_seed() {
        let (planned, results) = example();
        let found = sweep(&planned, &results).cell("b", 0.9);
        let difference = found.validation_difference.unwrap();
        assert!((difference.mean - 0.01).abs() < 1e-12 && difference.excludes_zero() && difference.n == 3);
        assert!(found.validation.unwrap().half().unwrap() > 0.1, "the seeds themselves spread far");
        assert_eq!((found.planned, found.done, found.epochs), (3, 3, Some(3.0)));
        assert_eq!(sweep(&planned, &results).cell("a", 0.9).difference, None);
        assert_eq!(found.collapsed, 0);
        let few = sweep(&planned, &results).cell("c", 0.9);
        assert_eq!((few.planned, few.done, few.difference.unwrap().n), (3, 2, 2));
        let mut emptied = results.clone();
        let layer = |kept| SweepLayer { name: "w".into(), weights: 9, kept };
        emptied[2].layers = vec![layer(1), layer(0)];
        assert_eq!(sweep(&planned, &emptied).cell("b", 0.9).collapsed, 1);
    }

    #[test]
    fn the_same_few_images_more_in_every_seed_are_no_proof() {
        let (planned, mut results) = example();
        results.iter_mut().for_each(|r| r.val.iter_mut().for_each(|v| v.samples = 100));
        let advice = sweep(&planned, &results).advice();
        assert!(advice[0].contains("`b` is best") && advice[0].contains("includes 0"), "one image each: {advice:?}");
    }

    #[test]
    fn advice_reads_validation_images_only_and_whole_cells_only() {
        let (planned, mut results) = example();
        let before = sweep(&planned, &results).advice();
        assert_eq!(before.len(), 1);
        assert!(before[0].contains("`b` is best") && before[0].contains("excludes 0"), "{before:?}");
        results.iter_mut().for_each(|r| r.test = None);
        assert_eq!(sweep(&planned, &results).advice(), before, "test images do not matter");
    }

    #[test]
    fn the_dense_network_is_a_level_line_across_the_sparsities() {
        let (mut planned, mut results) = example();
        planned.push(job("a", 0.5, 0));
        results.push(result(job("a", 0.5, 0), 0.9, 0.9));
        let plot = sweep(&planned, &results).plot();
        let names: Vec<&str> = plot.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", DENSE]);
        assert_eq!(plot.series[3].points, [Point::new(0.5, 0.94), Point::new(0.9, 0.94)].map(|p| p).to_vec());
        assert!(plot.series[0].points[1].high.unwrap() <= 1.0 && plot.svg().is_ok());
    }

    #[test]
    fn the_metric_is_a_choice() {
        let (planned, results) = example();
        let balanced = Sweep { metric: Metric::BalancedAccuracy, ..sweep(&planned, &results) };
        assert!((balanced.cell("a", 0.9).test.unwrap().mean - 0.425).abs() < 1e-12);
    }
}
