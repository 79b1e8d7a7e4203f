//! `sentei analyze layers`: which blocks the network can lose, by replacing each with a freshly initialised one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sentei_prune::sr_init::{
    Ranking, Selection, SrInit, Which, cheapest_first, largest_gap, random_blocks, rank, select, without,
};
use sentei_report::format;
use sentei_report::plot::{Mark, Plot, Point, Series};
use sentei_report::table::Table;
use serde_json::json;

use crate::blocks::{self, Left, RankArgs, list, points};
use crate::exit::usage;
use crate::models;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::RecipeArgs;
use crate::study::Study;
use crate::training::Workbench;

/// Which residual blocks (or convolutions of a chain) can be removed whole.
#[derive(clap::Args)]
pub struct Args {
    /// Trained ONNX model
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    #[command(flatten)]
    rank: RankArgs,
    /// Sets of as many blocks drawn at random to set beside the cheapest ones, before any fine-tuning
    #[arg(long, value_name = "N", default_value_t = 3)]
    random_sets: usize,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Folder for report.md, report.json and the plots
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the question.
pub fn run(args: Args, out: Output) -> Result<()> {
    if let Some(dir) = &args.output {
        std::fs::create_dir_all(dir).with_context(|| format!("making {} (choose another with -o)", dir.display()))?;
    }
    if args.recipe.data.train_limit.is_some() && !args.rank.reads_training_images() {
        return usage("--train-limit: only --mode recalibrated-bn looks at training images");
    }
    let mut recipe = args.recipe.resolve()?;
    recipe.model = args.input.display().to_string();
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
    let how = args.rank.settings(&bench.data, &bench.recipe.data, bench.recipe.seed)?;
    let candidates = sentei_graph::blocks::blocks(&start.graph)?.iter().filter(|b| b.is_candidate()).count();
    // The networks with blocks removed are half the whole one on average.
    let passes = (1 + args.random_sets) as f64 * candidates as f64 / 2.0;
    blocks::announce(&mut bench, &start.graph, &start.normalise, &how, Which::All, passes, out)?;
    let device = bench.device.clone();
    let ranking = rank(&start.graph, &how, Which::All, &device, &mut bench.run(&start.normalise, None))
        .context("ranking blocks")?;
    let mut left = blocks::cheapest(&start.graph, &ranking)?;
    measure(&mut left, &args, &start, &how, &ranking, &mut bench)?;
    out.say(report(&args, &how, &ranking, &left, Table::plain));
    let mut json = blocks::to_json(&ranking, &how);
    json["model"] = json!(args.input);
    json["cheapest"] = json!(left);
    json["largest_gap"] = json!(largest_gap(&ranking.blocks, &ranking.drops).map(|(count, gap)| {
        json!({ "count": count, "gap": gap, "blocks": select(&ranking.blocks, &ranking.drops, Selection::LargestGap) })
    }));
    if let Some(dir) = &args.output {
        let text = report(&args, &how, &ranking, &left, Table::markdown);
        let page = format!("# Blocks of {}\n\n{text}", args.input.display());
        let plots = [
            ("drops", by_block(&how, &ranking)),
            ("sorted", sorted(&how, &ranking)),
            ("removed", removed(&how, &ranking, &left)),
        ];
        Study::write(dir, &page, &json, &plots)?;
        out.note(format!("written to {}", dir.display()));
    }
    out.object(&json);
    Ok(())
}

/// What is left of the metric right after each removal, and after random ones of the same size.
fn measure(
    left: &mut [Left],
    args: &Args,
    start: &models::Start,
    how: &SrInit,
    ranking: &Ranking,
    bench: &mut Workbench,
) -> Result<()> {
    let random =
        |count: usize| (0..args.random_sets).map(move |draw| random_blocks(&ranking.blocks, count, how.seed, draw));
    let sets: Vec<Vec<usize>> =
        left.iter().flat_map(|row| std::iter::once(row.removed.clone()).chain(random(row.removed.len()))).collect();
    let device = bench.device.clone();
    let metrics = without(&start.graph, &sets, how, &device, &mut bench.run(&start.normalise, None))
        .context("measuring what is left")?;
    for (row, found) in left.iter_mut().zip(metrics.chunks_exact(1 + args.random_sets)) {
        row.metric = Some(found[0]);
        row.random = found[1..].to_vec();
    }
    Ok(())
}

/// * `written`: tables as a terminal shows them, or as Markdown.
fn report(args: &Args, how: &SrInit, ranking: &Ranking, left: &[Left], written: fn(&Table) -> String) -> String {
    let mut text = format!(
        "Drop of validation {} in percentage points when one block alone is freshly initialised ({}, mean and standard \
         deviation of {} draws, seed {}). The network itself: {} on {} images.\n\n",
        how.metric.name(),
        how.mode.name(),
        how.repeats,
        how.seed,
        format::percent(ranking.baseline),
        ranking.samples,
    );
    text += &written(&blocks::table(ranking));
    text += &format!(
        "\nRemoving the cheapest blocks leaves, before any fine-tuning ({} on the same images; beside it the mean of {} \
         random sets of as many blocks). Blocks that are cheap one by one can be dear together:\n\n",
        how.metric.name(),
        args.random_sets,
    );
    let metric = format!("#{}", how.metric.name());
    let mut table =
        Table::new(&["#Removed", "Blocks", "#Parameters", "#Cut", "#MACs", "#Cut", &metric, "#Random sets"]);
    let whole = &left[0];
    for row in left {
        let cut = |now: u64, before: u64| format::percent(1.0 - now as f64 / before.max(1) as f64);
        let cells = [
            row.removed.len().to_string(),
            list(&row.removed),
            row.params.to_string(),
            cut(row.params, whole.params),
            row.macs.to_string(),
            cut(row.macs, whole.macs),
            format::or_unknown(row.metric, format::percent),
            format::or_unknown(mean(&row.random), format::percent),
        ];
        table.push(cells.map(Into::into));
    }
    text += &written(&table);
    if let Some((count, gap)) = largest_gap(&ranking.blocks, &ranking.drops).filter(|(_, gap)| *gap > 0.0) {
        let chosen = select(&ranking.blocks, &ranking.drops, Selection::LargestGap);
        text += &format!(
            "\nThe largest step in the sorted drops is {} points, after the {count} cheapest: blocks {}.\n\
             `sentei prune {} --method sr-init --blocks {} -o OUT.onnx` removes them and fine-tunes the rest (on the same \
             images: repeat --recipe and --data).\n",
            points(gap),
            list(&chosen),
            args.input.display(),
            list(&chosen).replace(", ", ","),
        );
    }
    text
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn removed(how: &SrInit, ranking: &Ranking, left: &[Left]) -> Plot {
    let cheapest = |row: &Left| Some(Point::new(row.removed.len() as f64, row.metric?));
    let random = |row: &Left| {
        let bound = |of: fn(f64, f64) -> f64| row.random.iter().copied().reduce(of);
        let (low, high) = (bound(f64::min), bound(f64::max));
        Some(Point { x: row.removed.len() as f64, y: mean(&row.random)?, low, high })
    };
    let series = |name: &str, points: Vec<Point>| Series { name: name.into(), points, line: true };
    let all = [
        series("cheapest first", left.iter().filter_map(cheapest).collect()),
        series("random sets: mean, lowest and highest", left.iter().filter_map(random).collect()),
    ];
    Plot {
        title: format!("Removed together, not fine-tuned ({} validation images)", ranking.samples),
        x_label: "number of blocks removed".into(),
        y_label: how.metric.name(),
        y_percent: true,
        series: all.into_iter().filter(|s| !s.points.is_empty()).collect(),
        ..Plot::default()
    }
}

fn by_block(how: &SrInit, ranking: &Ranking) -> Plot {
    let series = |name: &str, candidate: bool| Series {
        name: name.into(),
        points: ranking
            .drops
            .iter()
            .filter(|d| ranking.blocks[d.block].is_candidate() == candidate)
            .map(|d| {
                let (y, spread) = (d.mean(), d.std());
                Point { x: d.block as f64, y, low: Some(y - spread), high: Some(y + spread) }
            })
            .collect(),
        line: false,
    };
    let entries = ranking.blocks.iter().enumerate().filter(|(_, b)| b.stage_entry);
    Plot {
        title: format!("What each block costs when it is drawn anew ({})", how.mode.name()),
        x_label: "block".into(),
        y_label: format!("drop of {}", how.metric.name()),
        y_percent: true,
        series: [series("can go", true), series("must stay", false)]
            .into_iter()
            .filter(|s| !s.points.is_empty())
            .collect(),
        marks: entries.map(|(i, _)| Mark { x: i as f64, label: "stage".into() }).collect(),
        ..Plot::default()
    }
}

fn sorted(how: &SrInit, ranking: &Ranking) -> Plot {
    let mut drops = cheapest_first(&ranking.blocks, &ranking.drops);
    if drops.is_empty() {
        drops = ranking.drops.iter().collect();
    }
    let point = |(i, d): (usize, &&sentei_prune::sr_init::BlockDrop)| {
        let (y, spread) = (d.mean(), d.std());
        Point { x: (i + 1) as f64, y, low: Some(y - spread), high: Some(y + spread) }
    };
    let gap = largest_gap(&ranking.blocks, &ranking.drops);
    Plot {
        title: "Blocks that can go, cheapest first".into(),
        x_label: "number of blocks".into(),
        y_label: format!("drop of {}", how.metric.name()),
        y_percent: true,
        series: vec![Series {
            name: how.mode.name().into(),
            points: drops.iter().enumerate().map(point).collect(),
            line: true,
        }],
        marks: gap.map(|(count, _)| Mark { x: count as f64 + 0.5, label: "largest gap".into() }).into_iter().collect(),
        ..Plot::default()
    }
}
