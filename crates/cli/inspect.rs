//! `sentei inspect`: what is in any ONNX file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sentei_convert::{ImportOptions, LayerPattern, explain};
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::json;

use crate::files;
use crate::output::Output;

/// Layers, zeros, multiply-adds and bytes of any ONNX file, and what pruning would pay.
#[derive(clap::Args)]
pub struct Args {
    /// ONNX model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let bytes = files::read(&args.model)?;
    let options = ImportOptions { directory: args.model.parent().map(Into::into), ..ImportOptions::default() };
    let found =
        sentei_convert::inspect(&bytes, &options).with_context(|| format!("inspecting {}", args.model.display()))?;
    let mut table =
        Table::new(&["Layer", "Op", "Shape", "#Density", "#Bytes", "#MACs", "#Dense MACs", "2:4", "Pruning it"]);
    for layer in &found.layers {
        let shape = layer.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        table.push([
            layer.name.clone().into(),
            layer.op.clone().into(),
            shape.into(),
            format::percent(layer.density).into(),
            format::large(layer.bytes).into(),
            format::or_unknown(layer.macs, format::large).into(),
            format::or_unknown(layer.dense_macs, format::large).into(),
            layer.two_of_four.short().into(),
            layer.advice.clone().into(),
        ]);
    }
    out.say(table.plain());
    out.say(format!(
        "{}: opset {}, {}, {} parameters, {} not zero, {} MACs ({} dense)",
        args.model.display(),
        found.opset,
        format::bytes(bytes.len() as u64),
        format::large(found.params),
        format::large(found.nonzero),
        format::or_unknown(found.macs, format::large),
        format::or_unknown(found.dense_macs, format::large),
    ));
    let patterned = found.layers.iter().filter(|l| !l.patterns.is_empty());
    let named: Vec<String> = patterned.map(|l| format!("{} {}", l.name, patterns(l).join(" in "))).collect();
    if !named.is_empty() {
        out.say(format!("regular zeros (N:4 along the input channels, blocks of channels): {}", named.join(", ")));
    }
    let tensor_cores: Vec<LayerPattern> = found.layers.iter().map(pattern).collect();
    if tensor_cores.iter().any(|l| l.pattern.holds()) {
        out.say("sparse tensor cores:");
        explain(&tensor_cores).into_iter().for_each(|line| out.say(line));
    }
    for note in &found.notes {
        out.say(format!("note: {note}"));
    }
    if !found.unsupported.is_empty() {
        out.say(format!("ops that sentei cannot train or prune: {}", found.unsupported.join(", ")));
    }
    out.object(&json!({
        "model": args.model,
        "file_bytes": bytes.len(),
        "opset": found.opset,
        "params": found.params,
        "nonzero": found.nonzero,
        "macs": found.macs,
        "dense_macs": found.dense_macs,
        "unsupported": found.unsupported,
        "metadata": found.metadata,
        "layers": found.layers.iter().map(|l| json!({
            "name": l.name, "op": l.op, "shape": l.shape, "density": l.density, "patterns": patterns(l), "bytes": l.bytes,
            "tensor_cores": { "state": l.two_of_four.short(), "eligible": l.two_of_four.holds(), "why": l.two_of_four.to_string() },
            "macs": l.macs, "dense_macs": l.dense_macs, "kernel": if l.encoding == "dense" { "dense" } else { "sparse" }, "advice": l.advice,
        })).collect::<Vec<_>>(),
    }));
    Ok(())
}

fn pattern(row: &sentei_convert::LayerRow) -> LayerPattern {
    let (layer, weight) = (row.name.clone(), row.weight.clone());
    LayerPattern { layer, weight, pattern: row.two_of_four, pruned: row.density < 1.0 }
}

fn patterns(layer: &sentei_convert::LayerRow) -> Vec<String> {
    layer.patterns.iter().map(ToString::to_string).collect()
}
