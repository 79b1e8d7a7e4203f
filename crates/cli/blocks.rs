//! How blocks are ranked, as flags and as tables: shared by `analyze layers` and `prune --method sr-init`.

use std::time::Duration;

use anyhow::{Context, Result};
use sentei_data::{Dataset, Normalise};
use sentei_graph::Graph;
use sentei_graph::blocks::Block;
use sentei_prune::sr_init::{self, BnMode, Metric, Ranking, SrInit, Which};
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::{Value, json};

use crate::bench::at_least_one;
use crate::data_args::{self, OkClassArgs};
use crate::data_recipe::DataRecipe;
use crate::exit::usage;
use crate::output::Output;
use crate::training::{self, Workbench};

/// False-alarm rate at which `--metric recall` counts.
const FALSE_ALARMS: f64 = 0.05;

/// Heading of these flags in the help.
const HEADING: &str = "Ranking of blocks";

/// Flags that say how the worth of a block is measured.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RankArgs {
    /// What a fresh block's batch norms normalise by: fresh-bn (mean 0, variance 1; the paper) or recalibrated-bn
    /// (statistics of a few training batches) [default: fresh-bn]
    #[arg(long, help_heading = HEADING, value_name = "MODE", value_parser = bn_mode)]
    mode: Option<BnMode>,
    /// Fresh draws per block [default: 3]
    #[arg(long, help_heading = HEADING, value_name = "R", value_parser = at_least_one)]
    repeats: Option<usize>,
    /// What a drop is a drop of: accuracy, balanced (mean recall of the classes) or recall (defects found at 5 % false
    /// alarms; needs an ok class) [default: accuracy]
    #[arg(long, help_heading = HEADING, value_name = "METRIC", value_parser = ["accuracy", "balanced", "recall"])]
    metric: Option<String>,
    /// Validation images to rank on, drawn by the seed [default: all]
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = at_least_one)]
    samples: Option<usize>,
    /// Cheapest candidates to measure again on all validation images when --samples left some out [default: 10]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    rerank: Option<usize>,
    #[command(flatten)]
    ok_class: OkClassArgs,
}

impl RankArgs {
    /// Those of these flags that were given.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("--mode", self.mode.is_some()),
            ("--repeats", self.repeats.is_some()),
            ("--metric", self.metric.is_some()),
            ("--samples", self.samples.is_some()),
            ("--rerank", self.rerank.is_some()),
            ("--ok-class", self.ok_class.ok_class.is_some()),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// Whether a ranking by these settings looks at training images.
    pub fn reads_training_images(&self) -> bool {
        self.mode.unwrap_or(SrInit::default().mode) == BnMode::RecalibratedBn
    }

    /// The flags as settings.
    ///
    /// # Errors
    /// Exit code 2 when recall is asked for and no class means "no defect", or a flag would have no effect.
    pub fn settings(&self, data: &Dataset, recipe: &DataRecipe, seed: u64) -> Result<SrInit> {
        let plain = SrInit::default();
        if self.ok_class.ok_class.is_some() && self.metric.as_deref() != Some("recall") {
            return usage("--ok-class is what --metric recall counts against: give both");
        }
        if self.rerank.is_some() && self.samples.is_none() {
            return usage("--rerank measures again on the images that --samples leaves out: give both");
        }
        let mut recipe = recipe.clone();
        self.ok_class.overlay(&mut recipe);
        let metric = match self.metric.as_deref() {
            Some("balanced") => Metric::Balanced,
            Some("recall") => match data_args::ok_class(&recipe, &data.classes)? {
                Some(ok) => Metric::Recall { ok, false_alarms: FALSE_ALARMS },
                None => return usage("--metric recall needs the class that means no defect: give --ok-class"),
            },
            _ => Metric::Accuracy,
        };
        Ok(SrInit {
            mode: self.mode.unwrap_or(plain.mode),
            repeats: self.repeats.unwrap_or(plain.repeats),
            metric,
            samples: self.samples.or(plain.samples),
            rerank: self.rerank.unwrap_or(plain.rerank),
            seed,
            ..plain
        })
    }
}

fn bn_mode(text: &str) -> Result<BnMode, String> {
    let found = [BnMode::FreshBn, BnMode::RecalibratedBn].into_iter().find(|mode| mode.name() == text);
    found.ok_or_else(|| "expected fresh-bn or recalibrated-bn".into())
}

/// Says how long a ranking takes, before it starts.
///
/// # Errors
/// As [`sr_init::rank`].
pub fn announce(
    bench: &mut Workbench,
    graph: &Graph,
    normalise: &Normalise,
    how: &SrInit,
    which: Which,
    more: f64,
    out: Output,
) -> Result<()> {
    if out.quiet {
        return Ok(());
    }
    let device = bench.device.clone();
    let time =
        sr_init::estimate(graph, how, which, more, &device, &mut bench.run(normalise, None)).context("timing")?;
    out.note(format!(
        "ranking blocks ({}, {} draws each, {}): about {} on this machine",
        how.mode.name(),
        how.repeats,
        how.metric.name(),
        humantime::format_duration(Duration::from_secs(time.as_secs().max(1)))
    ));
    Ok(())
}

/// Multiply-adds of convolutions and linear layers per sample.
///
/// # Errors
/// When the graph is not valid.
pub fn macs(graph: &Graph) -> Result<u64> {
    let batch = graph.inputs().first().and_then(|(_, fact)| fact.shape.first()).map_or(1, |n| (*n).max(1) as u64);
    Ok(graph.macs()?.iter().map(|(_, n)| n).sum::<u64>() / batch)
}

/// Every block with what it costs and whether it can go.
pub fn table(ranking: &Ranking) -> Table {
    let titles = ["#Block", "Name", "Shortcut", "#Drop", "#Spread", "#Images", "#Parameters", "#MACs", "Can go"];
    let mut table = Table::new(&titles);
    for (number, block) in ranking.blocks.iter().enumerate() {
        let drop = ranking.drops.iter().find(|d| d.block == number);
        let cells = [
            number.to_string(),
            block.name.clone(),
            block.kind.to_string(),
            format::or_unknown(drop, |d| points(d.mean())),
            format::or_unknown(drop.filter(|d| d.drops.len() > 1), |d| points(d.std())),
            format::or_unknown(drop, |d| d.samples.to_string()),
            format::large(block.parameters),
            format::large(block.macs),
            verdict(block),
        ];
        table.push(cells.map(Into::into));
    }
    table
}

/// A fraction as percentage points.
pub fn points(fraction: f64) -> String {
    format!("{:.2}", fraction * 100.0)
}

/// `yes`, or why not.
pub fn verdict(block: &Block) -> String {
    match &block.obstacle {
        Some(obstacle) => format!("no: {obstacle}"),
        None if block.stage_entry => "by hand only: it opens a stage".into(),
        None => "yes".into(),
    }
}

/// What is left when the cheapest blocks go.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Left {
    /// Numbers of the removed blocks, ascending.
    pub removed: Vec<usize>,
    /// Trainable numbers left.
    pub params: u64,
    /// Multiply-adds left, per sample.
    pub macs: u64,
    /// Metric right after the removal, before any fine-tuning, once it is measured.
    pub metric: Option<f64>,
    /// The same for as many blocks drawn at random, one per draw.
    pub random: Vec<f64>,
}

/// One row for each number of removed blocks, from none to every candidate.
///
/// # Errors
/// When the graph is not valid.
pub fn cheapest(graph: &Graph, ranking: &Ranking) -> Result<Vec<Left>> {
    let (params, macs) = (training::parameters(graph) as u64, macs(graph)?);
    let candidates = ranking.blocks.iter().filter(|b| b.is_candidate()).count();
    let row = |count: usize| {
        let removed = sr_init::select(&ranking.blocks, &ranking.drops, sr_init::Selection::Count(count));
        let gone = |of: fn(&Block) -> u64| {
            // What lies within another removed block goes with that one.
            let outer = removed.iter().map(|i| &ranking.blocks[*i]).filter(|block| {
                let holds =
                    |other: &Block| other.branch.len() > block.branch.len() && other.branch.contains(&block.branch[0]);
                !removed.iter().any(|i| holds(&ranking.blocks[*i]))
            });
            outer.map(of).sum::<u64>()
        };
        Left {
            params: params - gone(|b| b.parameters),
            macs: macs - gone(|b| b.macs),
            removed,
            metric: None,
            random: Vec::new(),
        }
    };
    Ok((0..=candidates).map(row).collect())
}

/// A ranking in numbers.
pub fn to_json(ranking: &Ranking, how: &SrInit) -> Value {
    let row = |(number, block): (usize, &Block)| {
        let drop = ranking.drops.iter().find(|d| d.block == number);
        json!({
            "block": number,
            "name": block.name,
            "kind": block.kind.to_string(),
            "drop": drop.map(|d| d.mean()),
            "std": drop.map(|d| d.std()),
            "drops": drop.map(|d| &d.drops),
            "samples": drop.map(|d| d.samples),
            "removable": block.is_removable(),
            "candidate": block.is_candidate(),
            "reason": block.obstacle.as_ref().map(|o| o.to_string()),
            "params": block.parameters,
            "macs": block.macs,
        })
    };
    json!({
        "baseline": ranking.baseline,
        "samples": ranking.samples,
        "how": how,
        "metric": how.metric.name(),
        "blocks": ranking.blocks.iter().enumerate().map(row).collect::<Vec<_>>(),
    })
}

/// `1, 8, 21-26`.
pub fn list(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    };
    if runs.is_empty() { "none".into() } else { runs.iter().map(text).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use sentei_graph::blocks::blocks;
    use sentei_graph::passes::remove_blocks;
    use sentei_prune::sr_init::BlockDrop;

    use super::*;

    #[test]
    fn what_is_left_is_counted_once_where_blocks_lie_in_blocks() {
        let mut text = "x = input f32[1,2,4,4]\nz = Conv(x, u[2,2,3,3]) pad=1\nfirst = Add(z, x)\n".to_string();
        text += "a = Conv(first, w[2,2,3,3]) pad=1\nb = Conv(a, v[2,2,3,3]) pad=1\ninner = Add(a, b)\n";
        text += "outer = Add(inner, first)\ny = Relu(outer)";
        let graph = Graph::parse(&text).expect("parses");
        let all = blocks(&graph).expect("valid");
        let drops = (0..all.len()).map(|block| BlockDrop { block, drops: vec![0.1], samples: 1 }).collect();
        let ranking = Ranking { blocks: all, baseline: 1.0, samples: 1, drops };
        let left = cheapest(&graph, &ranking).expect("counted");
        assert_eq!(left.iter().map(|l| l.removed.len()).collect::<Vec<_>>(), [0, 1, 2], "the first one stays");
        for row in left {
            let small = remove_blocks(graph.clone(), &row.removed).expect("can go").graph;
            let found = (training::parameters(&small) as u64, macs(&small).expect("valid"));
            assert_eq!((row.params, row.macs), found, "{:?}", row.removed);
        }
    }
}
