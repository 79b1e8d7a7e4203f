//! `sentei prune --method sr-init`: whole residual blocks leave the network.

use std::path::Path;

use anyhow::{Context, Result};
use sentei_graph::Graph;
use sentei_graph::blocks::blocks;
use sentei_graph::passes::{for_training, remove_blocks};
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::{Value, json};

use crate::exit::usage;
use crate::output::Output;
use crate::{files, models, training};

/// Value of `--method` that removes blocks.
pub const METHOD: &str = "sr-init";

/// Flags of `--method sr-init`.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Blocks (--method sr-init)")]
pub struct BlockArgs {
    /// Blocks to remove, counted from 0 over all residual blocks, for example 1,8,17,21-26
    #[arg(long, value_name = "LIST", value_parser = block_list)]
    blocks: Option<BlockList>,
}

/// Numbers of blocks, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BlockList(Vec<usize>);

impl BlockArgs {
    /// Refuses flags that another method would ignore.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn refuse_for(&self, method: &str) -> Result<()> {
        if self.blocks.is_some() {
            return usage(format!("--blocks belongs to --method {METHOD}, found --method {method}"));
        }
        Ok(())
    }
}

/// Removes the blocks of `--blocks` from the model at `input`; no image is needed.
///
/// # Errors
/// When a block cannot go: its number, its name and the reason.
pub fn surgery(input: &Path, args: &BlockArgs, output: &Path, out: Output) -> Result<()> {
    let Some(BlockList(numbers)) = &args.blocks else {
        return usage("which blocks? without retraining --method sr-init needs --blocks LIST");
    };
    let graph = for_training(models::read(input)?)?.graph;
    let smaller = remove_blocks(graph.clone(), numbers).with_context(|| input.display().to_string())?.graph;
    let bytes = models::to_onnx(&smaller)?;
    files::write_atomic(output, &bytes)?;
    out.say(sizes(&graph, &smaller)?.markdown());
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

/// Multiply-adds of convolutions and linear layers per sample.
pub fn macs(graph: &Graph) -> Result<u64> {
    let batch = graph.inputs().first().and_then(|(_, fact)| fact.shape.first()).map_or(1, |n| (*n).max(1) as u64);
    Ok(graph.macs()?.iter().map(|(_, n)| n).sum::<u64>() / batch)
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
