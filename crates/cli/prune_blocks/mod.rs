//! `sentei prune --method sr-init`: whole blocks leave the network, the rest is fine-tuned, and controls say whether the
//! ranking was worth it.

mod controls;
mod speed;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sentei_data::Split;
use sentei_graph::Graph;
use sentei_graph::blocks::blocks;
use sentei_graph::passes::{for_training, remove_blocks};
use sentei_prune::Checkpointing;
use sentei_prune::sr_init::{self, Ranking, Removal, Selection, SrInit, Which};
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::{Value, json};

use crate::bench::at_least_one;
use crate::blocks::{self as ranking, RankArgs, list, macs};
use crate::exit::usage;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::training::Workbench;
use crate::{files, models, training};

/// Value of `--method` that removes blocks.
pub const METHOD: &str = "sr-init";

/// Heading of these flags in the help.
const HEADING: &str = "Blocks (--method sr-init)";

/// Flags of `--method sr-init`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BlockArgs {
    /// Blocks to remove, counted from 0 over all residual blocks, for example 1,8,17,21-26; no ranking is done
    #[arg(long, help_heading = HEADING, value_name = "LIST", value_parser = block_list, conflicts_with_all = ["drop_blocks", "threshold", "largest_gap", "greedy"])]
    blocks: Option<BlockList>,
    /// Remove so many blocks, the cheapest ones
    #[arg(long, help_heading = HEADING, value_name = "K", value_parser = at_least_one, conflicts_with_all = ["threshold", "largest_gap"])]
    drop_blocks: Option<usize>,
    /// Remove every block whose drop is at most this fraction: 0.6 is a drop of 60 points when it is drawn anew
    #[arg(long, help_heading = HEADING, value_name = "TAU", conflicts_with = "largest_gap", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Remove the cheapest blocks up to the largest step in the sorted drops
    #[arg(long, help_heading = HEADING)]
    largest_gap: bool,
    /// Measure the blocks again after each removal; takes as many rankings as blocks are removed
    #[arg(long, help_heading = HEADING, conflicts_with = "largest_gap")]
    greedy: bool,
    /// Compare with N random sets of as many blocks, the dense network fine-tuned as long, and the small network trained
    /// from scratch
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = at_least_one)]
    controls: Option<usize>,
    /// Seeds to fine-tune everything with, paired [default: 3 with --controls, else 1]
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = at_least_one)]
    seeds: Option<usize>,
    /// Folder of the comparison; a run that was killed goes on from it [default: OUT-study]
    #[arg(long, help_heading = HEADING, value_name = "DIR")]
    study: Option<PathBuf>,
    #[command(flatten)]
    rank: RankArgs,
}

/// Numbers of blocks, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BlockList(Vec<usize>);

/// What `prune` hands over.
pub struct Request {
    /// Trained model.
    pub input: PathBuf,
    /// Flags of the method.
    pub args: BlockArgs,
    /// The recipe with every other flag put over it.
    pub recipe: Recipe,
    /// Whether nothing is to be trained.
    pub no_retrain: bool,
    /// Whether fine-tuning goes on from the checkpoint beside the output.
    pub resume: bool,
    /// Where the smaller model goes.
    pub output: PathBuf,
}

impl BlockArgs {
    /// Refuses flags that another method would ignore.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn refuse_for(&self, method: &str) -> Result<()> {
        let flags = [
            ("--blocks", self.blocks.is_some()),
            ("--drop-blocks", self.drop_blocks.is_some()),
            ("--threshold", self.threshold.is_some()),
            ("--largest-gap", self.largest_gap),
            ("--greedy", self.greedy),
            ("--controls", self.controls.is_some()),
            ("--seeds", self.seeds.is_some()),
            ("--study", self.study.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag).or(self.rank.given().next()) {
            Some(flag) => usage(format!("{flag} belongs to --method {METHOD}, found --method {method}")),
            None => Ok(()),
        }
    }

    /// Whether networks are compared, in a folder of their own.
    fn is_study(&self) -> bool {
        self.controls.is_some() || self.study.is_some() || self.seeds.is_some_and(|n| n > 1)
    }

    fn selection(&self) -> Result<Selection> {
        match (self.drop_blocks, self.threshold, self.largest_gap) {
            (Some(count), ..) => Ok(Selection::Count(count)),
            (_, Some(tau), _) if tau.is_finite() => Ok(Selection::Threshold(tau)),
            (_, Some(tau), _) => usage(format!("--threshold expects a finite number, found {tau}")),
            (.., true) => Ok(Selection::LargestGap),
            _ => usage("how many blocks? give --blocks, --drop-blocks, --threshold or --largest-gap"),
        }
    }
}

/// What is removed, and why.
struct Chosen {
    numbers: Vec<usize>,
    how: SrInit,
    ranking: Option<Ranking>,
    removals: Vec<Removal>,
}

/// Selects, removes, fine-tunes, compares.
///
/// # Errors
/// When a block cannot go: its number, its name and the reason; else as training.
pub fn run(request: Request, out: Output) -> Result<()> {
    let Request { input, args, recipe, no_retrain, resume, output } = request;
    if no_retrain {
        let compares = args.controls.is_some() || args.seeds.is_some() || args.study.is_some();
        if args.blocks.is_none() || compares || args.rank.given().next().is_some() {
            return usage(
                "--no-retrain sees no image: name the blocks with --blocks and leave ranking and controls out",
            );
        }
        return surgery(&input, &args, &output, out);
    }
    if args.blocks.is_none() {
        args.selection()?;
    }
    if resume && args.is_study() {
        return usage("--resume: a comparison goes on from its folder by itself");
    }
    recipe.prune.retrain.train_config(&recipe.train).check().context("[prune.retrain]")?;
    let seeds = recipe.seeds(args.seeds.unwrap_or(if args.controls.is_some() { 3 } else { 1 }) as u64)?;
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
    let chosen = choose(&mut bench, &start, &args, out)?;
    if chosen.numbers.is_empty() {
        return usage("no block is chosen, nothing is removed: raise --threshold or give --drop-blocks");
    }
    if let Some(asked) = args.drop_blocks.filter(|asked| *asked > chosen.numbers.len()) {
        out.note(format!("note: --drop-blocks {asked}, but only {} blocks can go", chosen.numbers.len()));
    }
    let small = remove_blocks(start.graph.clone(), &chosen.numbers).with_context(|| input.display().to_string())?.graph;
    let ranked = chosen.ranking.as_ref().map(ranking::table);
    let tables: Vec<Table> = ranked.into_iter().chain([sizes(&start.graph, &small)?]).collect();
    tables.iter().for_each(|table| out.say(table.plain()));
    let text: String = tables.iter().map(|table| table.markdown() + "\n").collect();
    out.say(format!("removing blocks {} of {}", list(&chosen.numbers), blocks(&start.graph)?.len()));

    let mut json = json!({
        "model": output,
        "method": METHOD,
        "removed": chosen.numbers,
        "before": size(&start.graph)?,
        "after": size(&small)?,
        "ranking": chosen.ranking.as_ref().map(|r| ranking::to_json(r, &chosen.how)),
        "greedy": chosen.removals,
    });
    let bytes = if args.is_study() {
        let dir = args.study.clone().unwrap_or_else(|| study_beside(&output));
        let setting = controls::Setting {
            start: &start,
            chosen: &chosen,
            small: &small,
            draws: args.controls.unwrap_or(0),
            with_controls: args.controls.is_some(),
            seeds,
            model_sha256: files::sha256(&files::read(&input)?),
        };
        let (bytes, found) = controls::compare(&mut bench, &setting, &dir, &text, out)?;
        json["study"] = json!(dir);
        json["comparison"] = found;
        bytes
    } else {
        let config = bench.recipe.prune.retrain.train_config(&bench.recipe.train);
        bench.announce(&small, config.epochs, out)?;
        let path = output.with_extension("checkpoint.safetensors");
        let checkpoint = Checkpointing { path: path.clone(), resume };
        let tuned = bench.train_as("fine-tune", &small, &start.normalise, &config, Some(checkpoint))?;
        let val = training::evaluated(&mut bench, &tuned, &start.normalise, Split::Val)?;
        json["val_accuracy"] = json!(val.as_ref().map(|v| v.accuracy()));
        out.say(format!(
            "validation accuracy after fine-tuning: {}",
            format::or_unknown(val.as_ref(), |v| format::percent(v.accuracy()))
        ));
        let bytes = models::to_onnx(&tuned)?;
        let _ = std::fs::remove_file(path);
        bytes
    };
    files::write_atomic(&output, &bytes)?;
    json["sha256"] = json!(files::sha256(&bytes));
    out.say(format!("{}: written", output.display()));
    out.object(&json);
    Ok(())
}

/// `OUT-study` beside `OUT.onnx`.
fn study_beside(output: &Path) -> PathBuf {
    let stem = output.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    output.with_file_name(format!("{stem}-study"))
}

/// The blocks named, or those that a ranking chooses.
fn choose(bench: &mut Workbench, start: &models::Start, args: &BlockArgs, out: Output) -> Result<Chosen> {
    let how = args.rank.settings(&bench.data, &bench.recipe.data, bench.recipe.seed)?;
    if let Some(BlockList(numbers)) = &args.blocks {
        let judging = |flag: &&str| args.is_study() && ["--metric", "--ok-class"].contains(flag);
        if let Some(flag) = args.rank.given().find(|flag| !judging(flag)) {
            return usage(format!("{flag} says how to rank, and --blocks leaves nothing to rank"));
        }
        return Ok(Chosen { numbers: numbers.clone(), how, ranking: None, removals: Vec::new() });
    }
    let until = args.selection()?;
    ranking::announce(bench, &start.graph, &start.normalise, &how, Which::Candidates, 0.0, out)?;
    let device = bench.device.clone();
    let mut run = bench.run(&start.normalise, None);
    if args.greedy {
        out.note("--greedy ranks what is left again after each removal: about as long each time, a little less");
        let done = sr_init::greedy(&start.graph, &how, until, &device, &mut run).context("removing greedily")?;
        return Ok(Chosen { numbers: done.numbers(), how, ranking: None, removals: done.removals });
    }
    let found = sr_init::rank(&start.graph, &how, Which::Candidates, &device, &mut run).context("ranking blocks")?;
    let numbers = sr_init::select(&found.blocks, &found.drops, until);
    Ok(Chosen { numbers, how, ranking: Some(found), removals: Vec::new() })
}

/// Removes the blocks of `--blocks` from the model at `input`; no image is needed.
///
/// # Errors
/// When a block cannot go: its number, its name and the reason.
fn surgery(input: &Path, args: &BlockArgs, output: &Path, out: Output) -> Result<()> {
    let Some(BlockList(numbers)) = &args.blocks else {
        return usage("which blocks? without retraining --method sr-init needs --blocks LIST");
    };
    let graph = for_training(models::read(input)?)?.graph;
    let smaller = remove_blocks(graph.clone(), numbers).with_context(|| input.display().to_string())?.graph;
    let bytes = models::to_onnx(&smaller)?;
    files::write_atomic(output, &bytes)?;
    out.say(sizes(&graph, &smaller)?.plain());
    out.say(format!("{}: blocks {} of {} removed", output.display(), list(numbers), blocks(&graph)?.len()));
    out.object(&json!({
        "model": output,
        "sha256": files::sha256(&bytes),
        "method": METHOD,
        "removed": numbers,
        "before": size(&graph)?,
        "after": size(&smaller)?,
    }));
    Ok(())
}

fn size(graph: &Graph) -> Result<Value> {
    Ok(json!({ "blocks": blocks(graph)?.len(), "params": training::parameters(graph), "macs": macs(graph)? }))
}

/// Before and after, side by side.
fn sizes(before: &Graph, after: &Graph) -> Result<Table> {
    let mut table = Table::new(&["", "#Before", "#After", "#Removed"]);
    let mut row = |name: &str, before: u64, after: u64| {
        let share = 1.0 - after as f64 / before.max(1) as f64;
        let [name, before, after] = [name.to_string(), before.to_string(), after.to_string()];
        table.push([name.into(), before.into(), after.into(), format::percent(share).into()]);
    };
    row("Parameters", training::parameters(before) as u64, training::parameters(after) as u64);
    row("MACs", macs(before)?, macs(after)?);
    Ok(table)
}

/// Numbers and ranges: `1,8,21-26`.
fn block_list(text: &str) -> Result<BlockList, String> {
    /// More than any network has; a longer range is a slip of the keyboard.
    const MOST: usize = 10_000;
    let refuse = |part: &str| format!("expected block numbers and ranges such as 1,8,21-26, found `{part}`");
    let mut numbers = std::collections::BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let number = |t: &str| t.trim().parse::<usize>().ok().filter(|n| *n < MOST).ok_or_else(|| refuse(part));
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(refuse(part));
        }
        numbers.extend(first..=last);
    }
    Ok(BlockList(numbers.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_study_lies_beside_the_output() {
        assert_eq!(study_beside(Path::new("a/small.onnx")), Path::new("a/small-study"));
    }

    #[test]
    fn lists_are_read_in_any_order_and_printed_short() {
        let read = |text: &str| block_list(text).map(|BlockList(numbers)| numbers);
        assert_eq!(read("21-26, 1,8,8").expect("valid"), [1, 8, 21, 22, 23, 24, 25, 26]);
        assert_eq!(list(&[1, 8, 9, 21, 22, 23]), "1, 8, 9, 21-23");
        assert_eq!(list(&[]), "none");
        for bad in ["", "a", "3-1", "1,,2", "-1", "1-99999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
