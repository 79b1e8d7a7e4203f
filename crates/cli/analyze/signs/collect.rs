//! Tables, verdicts and plots of the question, from whatever is done.

use anyhow::{Result, bail};
use sentei_prune::SignRow;
use sentei_report::format;
use sentei_report::plot::{Plot, Point, Series};
use sentei_report::stats::{MeanInterval, mean_interval, paired_difference};
use sentei_report::table::Table;
use serde::Serialize;
use serde_json::json;

use super::job::Done;
use super::{Arm, Job, Plan};
use crate::jobs::JobFolder;
use crate::output::Output;
use crate::study::Study;

/// Coverage of every interval.
const LEVEL: f64 = 0.95;

/// One arm at one sparsity.
#[derive(Serialize)]
struct Row {
    arm: Arm,
    about: &'static str,
    sparsity: f64,
    seeds: Vec<u64>,
    accuracies: Vec<f64>,
    accuracy: MeanInterval,
    /// Accuracy minus that of the reference, over the seeds that both have; absent for the reference.
    difference: Option<MeanInterval>,
}

/// Signs of one layer after the last epoch, over all seeds of an arm.
#[derive(Serialize)]
struct LayerRow {
    arm: Arm,
    sparsity: f64,
    layer: String,
    kept: u64,
    flipped: f64,
    stable: f64,
}

/// Collects the folder, prints the table and writes the report beside it.
///
/// * `samples`: number of validation images.
pub fn run(folder: &JobFolder, plan: &Plan, samples: usize, out: Output) -> Result<()> {
    let mut done: Vec<(Job, Done)> = Vec::new();
    for (index, job) in plan.jobs.iter().enumerate() {
        done.extend(folder.result(index)?.map(|result| (*job, result)));
    }
    if done.is_empty() {
        bail!("no job of {} is done", folder.path().display());
    }
    let rows = rows(&done, samples);
    let layers = layer_rows(&done);
    let verdicts = verdicts(&rows);
    let state = format!("{} of {} networks done", done.len(), plan.jobs.len());
    let table = table(&rows);
    let verdict = verdicts.join("\n\n");
    let speed = if plan.jobs[0].arm == Arm::Plain {
        " All take the same learning rates and the same decay; Sign-In applies them to its factors, so that a weight theta \
         moves sqrt(1 + 4 theta^2) times as fast as in plain training and is decayed otherwise."
    } else {
        ""
    };
    let page = format!(
        "# Signs or magnitudes\n\n{}\n\n{state}. Model `{}`, images `{}`, {} epochs each; accuracy on validation images, \
         mean over the seeds with its {:.0} % interval; differences are paired by seed.{speed}\n\n{}\n{verdict}\n\n\
         ## Signs per layer, after the last epoch\n\nOver the kept weights that were not zero at the beginning of the \
         training.\n\n{}",
        if plan.jobs[0].arm == Arm::Plain {
            "Sparse training from random ERK masks: what is the parameterisation worth?".to_string()
        } else {
            format!("What does a network sparsified by `{}` owe to its signs, what to its magnitudes?", plan.mask)
        },
        plan.recipe.model,
        plan.recipe.data.source,
        plan.recipe.train.epochs,
        LEVEL * 100.0,
        table.markdown(),
        layer_table(&layers).markdown(),
    );
    let mut plots = vec![("accuracy".to_string(), accuracy_plot(&rows))];
    plots.extend(sparsities(&done).into_iter().filter_map(|s| {
        let name = format!("signs-{}", (s * 1000.0).round() / 10.0);
        Some((name.replace('.', "_"), flips_plot(&done, s)?))
    }));
    let plots: Vec<(&str, Plot)> = plots.iter().map(|(name, plot)| (name.as_str(), plot.clone())).collect();
    let numbers = json!({
        "question": plan.question, "model": plan.recipe.model, "data": plan.data, "mask": plan.mask,
        "epochs": plan.recipe.train.epochs, "done": done.len(), "jobs": plan.jobs.len(),
        "level": LEVEL, "rows": rows, "layers": layers, "verdicts": verdicts,
    });
    Study::write(folder.path(), &page, &numbers, &plots)?;
    out.say(table.plain());
    out.say(verdict);
    out.say(format!("{state}; report in {}", folder.path().join("report.md").display()));
    out.object(&numbers);
    Ok(())
}

fn sparsities(done: &[(Job, Done)]) -> Vec<f64> {
    let mut found = Vec::new();
    for (job, _) in done {
        if !found.contains(&job.sparsity) {
            found.push(job.sparsity);
        }
    }
    found
}

fn of_arm(done: &[(Job, Done)], arm: Arm, sparsity: f64) -> Vec<(u64, &Done)> {
    done.iter()
        .filter(|(job, _)| job.arm == arm && job.sparsity == sparsity)
        .map(|(job, result)| (job.seed, result))
        .collect()
}

fn arms(done: &[(Job, Done)]) -> Vec<Arm> {
    let mut found = Vec::new();
    for (job, _) in done {
        if !found.contains(&job.arm) {
            found.push(job.arm);
        }
    }
    found
}

fn rows(done: &[(Job, Done)], samples: usize) -> Vec<Row> {
    let step = 1.0 / samples.max(1) as f64;
    let mut rows = Vec::new();
    for sparsity in sparsities(done) {
        let reference = if arms(done).contains(&Arm::Plain) { Arm::Plain } else { Arm::Neither };
        let base = of_arm(done, reference, sparsity);
        for arm in arms(done) {
            let mine = of_arm(done, arm, sparsity);
            let accuracies: Vec<f64> = mine.iter().map(|(_, d)| d.accuracy).collect();
            let Some(accuracy) = mean_interval(&accuracies, LEVEL) else { continue };
            let pair = |(seed, d): &(u64, &Done)| Some((d.accuracy, base.iter().find(|(s, _)| s == seed)?.1.accuracy));
            let pairs: Vec<(f64, f64)> = mine.iter().filter_map(pair).collect();
            let difference = if arm == reference { None } else { paired_difference(&pairs, LEVEL, step) };
            let seeds = mine.iter().map(|(seed, _)| *seed).collect();
            rows.push(Row { arm, about: arm.about(), sparsity, seeds, accuracies, accuracy, difference });
        }
    }
    rows
}

fn layer_rows(done: &[(Job, Done)]) -> Vec<LayerRow> {
    let mut rows = Vec::new();
    for sparsity in sparsities(done) {
        for arm in arms(done) {
            let last: Vec<&SignRow> =
                of_arm(done, arm, sparsity).into_iter().filter_map(|(_, d)| d.signs.last()).collect();
            let Some(first) = last.first() else { continue };
            for (i, layer) in first.layers.iter().enumerate() {
                let sum = |of: fn(&sentei_prune::LayerSigns) -> u64| last.iter().map(|r| of(&r.layers[i])).sum::<u64>();
                let kept = sum(|l| l.kept);
                let share = |count: u64| count as f64 / kept.max(1) as f64;
                let (flipped, stable) = (share(sum(|l| l.flipped)), share(sum(|l| l.stable)));
                rows.push(LayerRow { arm, sparsity, layer: layer.name.clone(), kept, flipped, stable });
            }
        }
    }
    rows
}

/// `+1.2 [0.3, 2.1]`, in percentage points.
fn points(difference: &MeanInterval) -> String {
    let MeanInterval { mean, low, high, .. } = difference;
    match low.zip(*high) {
        Some((low, high)) => format!("{:+.2} [{:+.2}, {:+.2}]", mean * 100.0, low * 100.0, high * 100.0),
        None => format!("{:+.2}", mean * 100.0),
    }
}

fn table(rows: &[Row]) -> Table {
    let reference = rows.iter().find(|r| r.difference.is_none()).map_or("the first", |r| r.about);
    let mut table =
        Table::new(&["#Sparsity", "Network", "#Seeds", "#Accuracy", "#±", &format!("#Points against: {reference}")]);
    for row in rows {
        table.push([
            format::percent(row.sparsity).into(),
            row.about.into(),
            row.seeds.len().to_string().into(),
            format::percent(row.accuracy.mean).into(),
            format::or_unknown(row.accuracy.half(), |h| format!("{:.2}", h * 100.0)).into(),
            format::or_unknown(row.difference.as_ref(), points).into(),
        ]);
    }
    table
}

fn layer_table(rows: &[LayerRow]) -> Table {
    let mut table =
        Table::new(&["#Sparsity", "Network", "Layer", "#Kept, all seeds", "#Sign flipped", "#As an epoch before"]);
    for row in rows {
        table.push([
            format::percent(row.sparsity).into(),
            row.arm.about().into(),
            row.layer.clone().into(),
            format::large(row.kept).into(),
            format::percent(row.flipped).into(),
            format::percent(row.stable).into(),
        ]);
    }
    table
}

/// One sentence per sparsity and comparison.
fn verdicts(rows: &[Row]) -> Vec<String> {
    let mut sparsities: Vec<f64> = rows.iter().map(|r| r.sparsity).collect();
    sparsities.dedup();
    let mut said = Vec::new();
    for sparsity in sparsities {
        let difference = |arm| rows.iter().find(|r| r.arm == arm && r.sparsity == sparsity)?.difference;
        let at = format::percent(sparsity);
        if let (Some(signs), Some(magnitudes)) = (difference(Arm::Signs), difference(Arm::Magnitudes)) {
            let both = difference(Arm::Both);
            said.push(format!("At {at} sparsity {}", apart(&signs, &magnitudes, both.as_ref())));
        }
        for (arm, name) in [(Arm::SignIn, "Sign-In"), (Arm::Ham, "HAM")] {
            said.extend(difference(arm).map(|d| format!("At {at} sparsity {}", gain(name, &d))));
        }
    }
    said
}

fn apart(signs: &MeanInterval, magnitudes: &MeanInterval, both: Option<&MeanInterval>) -> String {
    let gains = |d: &MeanInterval| d.excludes_zero() && d.mean > 0.0;
    let finding = match (gains(signs), gains(magnitudes)) {
        (true, false) => "the signs carry what was learned",
        (false, true) => "the magnitudes carry what was learned",
        (true, true) => "signs and magnitudes both carry part of what was learned",
        (false, false) if signs.n < 2 => "one seed tells nothing",
        (false, false) if both.is_some_and(gains) => {
            "neither signs nor magnitudes are shown to help alone, and together they do"
        }
        (false, false) => "neither signs nor magnitudes, alone or together, are shown to add to what the mask gives",
    };
    format!(
        "{finding}: against fresh weights the learned signs make {} points, the learned magnitudes {} ({} seeds, 95 %).",
        points(signs),
        points(magnitudes),
        signs.n
    )
}

fn gain(name: &str, difference: &MeanInterval) -> String {
    let finding = match (difference.excludes_zero(), difference.mean > 0.0) {
        (true, true) => "helps",
        (true, false) => "hurts",
        (false, _) if difference.n < 2 => "was tried with one seed, which tells nothing",
        (false, _) => "makes no difference that these seeds could show",
    };
    format!("{name} {finding}: {} points against plain training ({} seeds, 95 %).", points(difference), difference.n)
}

fn accuracy_plot(rows: &[Row]) -> Plot {
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        let MeanInterval { mean, low, high, .. } = row.accuracy;
        let point = Point { x: row.sparsity, y: mean, low, high };
        match series.iter_mut().find(|s| s.name == row.about) {
            Some(found) => found.points.push(point),
            None => series.push(Series { name: row.about.into(), points: vec![point], line: true }),
        }
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    Plot {
        title: "Validation accuracy, mean and 95 % interval".into(),
        x_label: "sparsity".into(),
        y_label: "accuracy".into(),
        x_percent: true,
        y_percent: true,
        series,
        ..Plot::default()
    }
}

/// Flips over epochs, mean over the seeds; `None` when nothing was trained.
fn flips_plot(done: &[(Job, Done)], sparsity: f64) -> Option<Plot> {
    let mut series = Vec::new();
    for arm in arms(done) {
        let runs: Vec<&Vec<SignRow>> =
            of_arm(done, arm, sparsity).into_iter().map(|(_, d)| &d.signs).filter(|s| !s.is_empty()).collect();
        let epochs = runs.iter().map(|r| r.len()).min().unwrap_or(0);
        let mean = |e: usize| runs.iter().map(|r| r[e].flipped()).sum::<f64>() / runs.len() as f64;
        let points: Vec<Point> = (0..epochs).map(|e| Point::new((e + 1) as f64, mean(e))).collect();
        if !points.is_empty() {
            series.push(Series { name: arm.about().into(), points, line: true });
        }
    }
    (!series.is_empty()).then(|| Plot {
        title: format!("Kept weights with another sign than at the beginning, {} sparsity", format::percent(sparsity)),
        x_label: "epoch".into(),
        y_label: "flipped".into(),
        y_percent: true,
        series,
        ..Plot::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Validation images, so many that accuracies are not coarse.
    const MANY: usize = 1_000_000;

    fn done(arm: Arm, seed: u64, accuracy: f64) -> (Job, Done) {
        (Job { arm, sparsity: 0.9, seed }, Done { accuracy, density: 0.1, signs: Vec::new() })
    }

    #[test]
    fn differences_are_paired_by_seed_and_the_verdict_follows_the_intervals() {
        let mut all = Vec::new();
        for (seed, base) in [(1, 0.70), (2, 0.80), (3, 0.90)] {
            let noise = seed as f64 * 0.001;
            all.push(done(Arm::Neither, seed, base));
            all.push(done(Arm::Signs, seed, base + 0.05 + noise));
            all.push(done(Arm::Magnitudes, seed, base + if seed == 2 { 0.04 } else { -0.03 }));
        }
        // A seed that only one arm has done yet is in its mean, not in its difference.
        all.push(done(Arm::Signs, 4, 0.1));
        let rows = rows(&all, MANY);
        let signs = rows.iter().find(|r| r.arm == Arm::Signs).expect("a row");
        assert_eq!((signs.accuracy.n, signs.difference.expect("pairs").n), (4, 3));
        assert!((signs.difference.expect("pairs").mean - 0.052).abs() < 1e-12);
        let said = verdicts(&rows);
        assert!(said.len() == 1 && said[0].contains("the signs carry what was learned: "), "{said:?}");
        assert!(said[0].contains("+5.20 ["), "{said:?}");
    }

    #[test]
    fn weights_that_help_only_whole_are_not_put_down_to_the_mask() {
        let arms = |both: f64| {
            let of = |seed: u64| {
                let (swing, noise) = (if seed == 2 { 0.05 } else { -0.04 }, seed as f64 * 0.001);
                let alone = [(Arm::Neither, 0.5), (Arm::Signs, 0.5 + swing), (Arm::Magnitudes, 0.5 - swing)];
                alone.into_iter().chain([(Arm::Both, 0.5 + both + noise)]).map(move |(arm, a)| done(arm, seed, a))
            };
            verdicts(&rows(&[1, 2, 3].into_iter().flat_map(of).collect::<Vec<_>>(), MANY)).remove(0)
        };
        assert!(arms(0.2).contains("and together they do"), "{}", arms(0.2));
        assert!(arms(-0.002).contains("what the mask gives"), "{}", arms(-0.002));
    }

    #[test]
    fn one_seed_and_no_difference_are_said_to_be_that() {
        let one = rows(&[done(Arm::Plain, 1, 0.8), done(Arm::SignIn, 1, 0.9)], MANY);
        assert!(verdicts(&one)[0].contains("tells nothing"), "{:?}", verdicts(&one));
        let apart: Vec<_> = [(1, 0.9), (2, 0.7), (3, 0.8)]
            .into_iter()
            .flat_map(|(seed, a)| [done(Arm::Plain, seed, 0.8), done(Arm::SignIn, seed, a)])
            .collect();
        assert!(verdicts(&rows(&apart, MANY))[0].contains("no difference that these seeds could show"));
        let same: Vec<_> =
            [1, 2].into_iter().flat_map(|s| [done(Arm::Plain, s, 0.8), done(Arm::SignIn, s, 0.81)]).collect();
        assert!(verdicts(&rows(&same, MANY))[0].contains("helps"));
        let said = verdicts(&rows(&same, 100)).remove(0);
        assert!(said.contains("no difference that these seeds could show"), "one image more of a hundred: {said}");
    }
}
