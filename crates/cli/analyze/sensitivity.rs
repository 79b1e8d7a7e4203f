//! `sentei analyze sensitivity`: accuracy when one layer alone is pruned.

use std::path::PathBuf;

use anyhow::Result;
use sentei_data::Split;
use sentei_prune::sensitivity::suggest;
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::json;

use crate::bench::at_least_one;
use crate::exit::usage;
use crate::models;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::RecipeArgs;
use crate::training::Workbench;

/// Which layers can lose weights, and how many.
#[derive(clap::Args)]
pub struct Args {
    /// Trained ONNX model
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// Validation images to use, drawn by the seed
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least_one)]
    samples: usize,
    /// Loss of accuracy that a layer may cause, in percentage points; sets the suggested density
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    budget: f64,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// Runs the question.
pub fn run(args: Args, out: Output) -> Result<()> {
    if !args.budget.is_finite() || args.budget < 0.0 {
        return usage(format!("--budget expects percentage points of at least 0, found {}", args.budget));
    }
    if args.recipe.data.train_limit.is_some() {
        return usage("--train-limit: no training image is looked at here; --samples limits the validation images");
    }
    let mut recipe = args.recipe.resolve()?;
    recipe.model = args.input.display().to_string();
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
    let scans = bench.sensitivity(&start.graph, &start.normalise, args.samples)?;
    let suggested = suggest(&scans, args.budget);
    let sparsities: Vec<f64> =
        scans.iter().flat_map(|s| &s.points).map(|p| p.sparsity).fold(Vec::new(), |mut all, s| {
            if !all.contains(&s) {
                all.push(s);
            }
            all
        });
    let mut titles = vec!["Layer".to_string()];
    titles.extend(sparsities.iter().map(|s| format!("#{}", format::percent(*s))));
    titles.push("#Keep at least".into());
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for scan in &scans {
        let at = |s: &f64| scan.points.iter().find(|p| p.sparsity == *s);
        let mut row = vec![scan.layer.clone().into()];
        row.extend(sparsities.iter().map(|s| format::or_unknown(at(s), |p| format::percent(p.accuracy)).into()));
        row.push(format::or_unknown(suggested.get(&scan.layer), |d| format::percent(*d)).into());
        table.push(row);
    }
    out.say("Accuracy on validation images when one layer alone loses this share of its weights:\n");
    out.say(table.plain());
    out.object(
        &json!({ "model": args.input, "samples": args.samples.min(bench.data.indices(Split::Val).len()), "scans": scans, "suggested_density": suggested }),
    );
    Ok(())
}
