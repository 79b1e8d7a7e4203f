//! `sweep collect`: one table and one plot from whatever is done.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use sentei_prune::methods::method;
use sentei_report::export::sweep_csv;
use sentei_report::record::{SweepJob, SweepResult};
use sentei_report::sweep::{Metric, On, Sweep};
use sentei_report::{format, tables};
use serde_json::json;

use super::plan::SweepPlan;
use crate::exit::usage;
use crate::files;
use crate::jobs::JobFolder;
use crate::output::Output;
use crate::study::Study;

/// Collects a sweep.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the plan
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub view: View,
    /// Where to write report.md, report.json, jobs.csv and accuracy.svg [default: the folder of the plan]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// How the results are looked at.
#[derive(clap::Args, Clone, Debug)]
pub struct View {
    /// What is compared
    #[arg(long, value_name = "METRIC", default_value = "accuracy")]
    metric: MetricName,
    /// Method that the others are compared with, seed by seed [default: the first of the plan]
    #[arg(long, value_name = "M")]
    baseline: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MetricName {
    /// Fraction classified correctly
    Accuracy,
    /// Mean recall of the classes
    BalancedAccuracy,
}

/// Runs the step.
pub fn run(args: Args, out: Output) -> Result<()> {
    let folder = JobFolder::open(&args.folder)?;
    let plan = SweepPlan::of(&folder)?;
    let results = results(&folder)?;
    let open = Open::of(&folder, &plan);
    let metric = match args.view.metric {
        MetricName::Accuracy => Metric::Accuracy,
        MetricName::BalancedAccuracy => Metric::BalancedAccuracy,
    };
    let mut sweep = Sweep { planned: &plan.jobs, results: &results, metric, baseline: "" };
    let methods = sweep.methods();
    sweep.baseline = match &args.view.baseline {
        None => methods.first().copied().unwrap_or_default(),
        Some(name) if methods.contains(&name.as_str()) => name,
        Some(name) => {
            return usage(format!("--baseline `{name}` is none of the plan's methods: {}", methods.join(", ")));
        }
    };

    let page = page(&plan, &sweep, &open);
    let report = json!({
        "data": plan.data,
        "recipe": plan.recipe,
        "metric": metric,
        "baseline": sweep.baseline,
        "planned": plan.jobs.len(),
        "done": results.len(),
        "missing": open.missing,
        "failed": open.failed.iter().map(|(index, why)| json!({ "index": index, "error": why })).collect::<Vec<_>>(),
        "cells": sweep.cells(),
        "advice": sweep.advice(),
        "jobs": results,
    });
    let dir = args.output.unwrap_or(args.folder);
    let plot = sweep.plot();
    let plots = if plot.series.is_empty() { Vec::new() } else { vec![("accuracy", plot)] };
    let drawn = if plots.is_empty() { "" } else { ", accuracy.svg" };
    Study::write(&dir, &page, &report, &plots)?;
    files::write_atomic(&dir.join("jobs.csv"), sweep_csv(&results).as_bytes())?;
    out.say(page);
    out.note(format!("written to {}: report.md, report.json, jobs.csv{drawn}", dir.display()));
    out.object(&report);
    Ok(())
}

/// Finished jobs in the order of the plan.
fn results(folder: &JobFolder) -> Result<Vec<SweepResult>> {
    (0..folder.jobs()).filter_map(|index| folder.result(index).transpose()).collect()
}

/// Jobs without a result.
struct Open {
    missing: Vec<usize>,
    failed: Vec<(usize, String)>,
    lines: Vec<String>,
}

impl Open {
    fn of(folder: &JobFolder, plan: &SweepPlan) -> Self {
        let mut open = Open { missing: Vec::new(), failed: Vec::new(), lines: Vec::new() };
        for index in folder.pending() {
            let SweepJob { method, sparsity, seed } = &plan.jobs[index];
            let name = format!("job {index} ({method} at {}, seed {seed})", format::sparsity(*sparsity));
            match folder.failure(index) {
                Some(why) => {
                    open.lines.push(format!("{name} failed: {}", why.replace('\n', " ")));
                    open.failed.push((index, why));
                }
                None => {
                    open.lines.push(format!("{name} is not done"));
                    open.missing.push(index);
                }
            }
        }
        open
    }
}

fn page(plan: &SweepPlan, sweep: &Sweep<'_>, open: &Open) -> String {
    let recipe = &plan.recipe;
    let metric = sweep.metric.name();
    let mut page = format!(
        "# Sweep of {} on {}\n\n{} of {} jobs are done. Numbers are means over seeds with 95 % intervals (Student's t; with two \
         seeds they are wide), and finished of planned seeds. In the plot a bar without a cap goes on beyond the edge. Dense training \
         takes {} epochs; epochs of a method count those of the dense network that it starts from, its time does not.\n",
        recipe.model,
        recipe.data.source,
        sweep.results.len(),
        plan.jobs.len(),
        recipe.train.epochs
    );
    for (on, title) in [(On::Test, "Test"), (On::Validation, "Validation")] {
        page += &format!("\n## {title} {metric}\n\n{}", tables::sweep_matrix(sweep, on).markdown());
    }
    page += "\n## Which to take, by validation images alone\n\n";
    sweep.advice().iter().for_each(|line| page += &format!("- {line}\n"));
    if sweep.methods().len() > 2 {
        page += "\nEach interval is of one comparison alone. The best of many is partly the luckiest of many: of twenty equal methods one \
                 is expected to have an interval that excludes 0.\n";
    }
    page += &format!("\n## Every cell\n\n{}", tables::sweep_cells(sweep).markdown());
    page += "\n## Methods\n\n";
    for method in sweep.methods().iter().filter_map(|name| method(name)) {
        page += &format!("- `{}`: {} ({})\n", method.name, method.about, method.paper);
    }
    if let Some(doubt) = plan.doubt() {
        page += &format!("\nNote: {doubt}.\n");
    }
    if !open.lines.is_empty() {
        page += &format!("\n## Not finished ({})\n\n", open.lines.len());
        open.lines.iter().for_each(|line| page += &format!("- {line}\n"));
    }
    page
}
