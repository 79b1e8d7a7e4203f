//! `sentei compile`: a trained or pruned ONNX model in, a small packed one out, proven equal.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use sentei_convert::{CompileOptions, Compiled, ExportOptions, explain};
use sentei_data::Normalise;
use sentei_graph::Graph;
use sentei_report::format;
use sentei_report::table::Table;
use sentei_runner::preprocessing::Preprocessing;
use sentei_runner::self_test::SelfTest;
use sentei_runner::sidecar;
use sentei_runtime::LoadOptions;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::exit::usage;
use crate::measure::EngineName;
use crate::output::Output;
use crate::{files, measure, models};

/// How pruned weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Local functions: smallest, for sentei and ONNX Runtime
    #[default]
    Functions,
    /// The same nodes in the main graph: for stock tract, OpenVINO and others without local functions; runs dense
    Inline,
    /// Plain tensors with zeros in them
    Dense,
}

/// The type of stored weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Exact
    #[default]
    F32,
    /// Half precision
    F16,
    /// 8 bits with a scale per output channel
    I8,
}

impl Values {
    /// `f32`, `f16` or `i8`.
    pub fn name(self) -> &'static str {
        sentei_convert::Values::from(self).name()
    }
}

impl From<Packing> for sentei_convert::Packing {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::Functions => Self::Functions,
            Packing::Inline => Self::Inline,
            Packing::Dense => Self::Dense,
        }
    }
}

impl From<Values> for sentei_convert::Values {
    fn from(values: Values) -> Self {
        match values {
            Values::F32 => Self::F32,
            Values::F16 => Self::F16,
            Values::I8 => Self::I8,
        }
    }
}

/// Where the model will run, which decides how its weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Any runtime that reads ONNX: --packing inline
    Portable,
    /// sentei's own engine: --packing functions
    TractCpu,
    /// ONNX Runtime on a CPU: --packing functions
    OrtCpu,
    /// ONNX Runtime with TensorRT: --packing dense, and layers with 2:4 zeros keep them, checked group by group
    OrtTensorrt,
}

impl From<Target> for sentei_convert::Target {
    fn from(target: Target) -> Self {
        match target {
            Target::Portable => Self::Portable,
            Target::TractCpu => Self::TractCpu,
            Target::OrtCpu => Self::OrtCpu,
            Target::OrtTensorrt => Self::OrtTensorrt,
        }
    }
}

/// The `[compile]` table of a recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileRecipe {
    /// How pruned weights are stored.
    pub packing: Packing,
    /// Stored values of the shipped file.
    pub values: Values,
}

impl CompileRecipe {
    /// Refuses a combination that would round weights and save nothing.
    ///
    /// # Errors
    /// Exit code 2, naming both flags.
    pub fn check(self) -> Result<()> {
        if self.packing == Packing::Dense && self.values != Values::F32 {
            return usage(format!(
                "--packing dense (also of --target ort-tensorrt) stores f32; --values {} would only round the weights",
                self.values.name()
            ));
        }
        Ok(())
    }

    /// The compiler's options; the file takes any batch.
    pub fn options(self) -> CompileOptions {
        CompileOptions {
            packing: self.packing.into(),
            values: self.values.into(),
            export: ExportOptions { dynamic_batch: true },
            ..CompileOptions::default()
        }
    }
}

/// Flags of verbs that compile.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct CompileArgs {
    /// How pruned weights are stored [default: functions]
    #[arg(long, value_enum, value_name = "PACKING")]
    pub packing: Option<Packing>,
    /// Type of the stored weights [default: f32]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub values: Option<Values>,
}

impl CompileArgs {
    /// Puts the flags that were given over the recipe's values.
    pub fn overlay(self, recipe: &mut CompileRecipe) {
        recipe.packing = self.packing.unwrap_or(recipe.packing);
        recipe.values = self.values.unwrap_or(recipe.values);
    }
}

/// Folds batch norm, drops dead channels, fuses, packs; nothing is written unless the result computes the same.
#[derive(clap::Args)]
pub struct Args {
    /// ONNX model, dense or packed
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where to write the compiled model
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    options: CompileArgs,
    /// Where the model will run, in place of --packing
    #[arg(long, value_enum, value_name = "TARGET", conflicts_with = "packing")]
    target: Option<Target>,
    /// Class names in the order of the outputs, written into the file so that `sentei run` knows them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "mean")]
    classes: Vec<String>,
    /// Mean per channel of pixel/255 that the model was trained with
    #[arg(long, value_name = "M", value_delimiter = ',', requires = "std")]
    mean: Vec<f32>,
    /// Deviation per channel of pixel/255 that the model was trained with
    #[arg(long, value_name = "D", value_delimiter = ',', requires = "classes")]
    std: Vec<f32>,
    /// Time kernels on this machine and keep the choice beside OUT (OUT.plan.json), where later loads find it
    #[arg(long)]
    tune: bool,
}

impl Args {
    /// Writes classes and pixel scaling into the metadata, when they were given.
    fn describe(&self, graph: &mut Graph) -> Result<()> {
        if self.classes.is_empty() {
            return Ok(());
        }
        let facts = graph.facts()?;
        let outputs = graph.outputs().first().map_or(0, |id| facts[id].shape.iter().skip(1).product());
        if outputs != self.classes.len() {
            return usage(format!("--classes names {}, the model has {outputs} outputs", self.classes.len()));
        }
        let normalise = Normalise { mean: self.mean.clone(), std: self.std.clone() };
        Preprocessing { classes: self.classes.clone(), normalise }.write(&mut graph.metadata);
        Preprocessing::read(&graph.metadata)?;
        Ok(())
    }
}

/// Compiles `graph`; the file carries a self-test, so that a board can prove that it computes the same.
///
/// # Errors
/// As [`sentei_convert::compile`]. A model that no engine of this build runs gets no self-test.
pub fn compiled(graph: &Graph, options: &CompileOptions) -> Result<Compiled> {
    let mut compiled = sentei_convert::compile(graph, options)?;
    let expected = EngineName::Tract.engine().ok().map(|engine| SelfTest::expected(&*engine, &compiled.bytes));
    if let Some(Ok(test)) = expected {
        compiled.bytes = test.append_to(compiled.bytes);
    }
    Ok(compiled)
}

/// Times the kernels of a compiled model and keeps the decisions beside it.
fn tune(model: &Path, bytes: &[u8], out: &Output) -> Result<()> {
    let options = LoadOptions { choice_budget: measure::TUNING, tune: true, ..LoadOptions::default() };
    let session = EngineName::Tract.engine()?.load(bytes, &options)?;
    match &session.facts().plan {
        Some(plan) => out.say(format!("kernels: {}", sidecar::write(model, bytes, plan)?.display())),
        None => out.note("note: no layer of the model has kernels to choose from"),
    }
    Ok(())
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    files::check_writable(&args.output)?;
    let mut recipe = CompileRecipe::default();
    args.options.overlay(&mut recipe);
    let target = args.target.map(sentei_convert::Target::from);
    if target.is_some_and(|t| t.packing() == sentei_convert::Packing::Dense) {
        recipe.packing = Packing::Dense;
    }
    recipe.check()?;
    let mut graph = models::read(&args.input)?;
    args.describe(&mut graph)?;
    let mut options = recipe.options();
    if let Some(target) = target {
        (options.packing, options.keep_groups) = (target.packing(), target.keeps_groups());
    }
    let compiled = compiled(&graph, &options).with_context(|| format!("compiling {}", args.input.display()))?;
    files::write_atomic(&args.output, &compiled.bytes)?;

    let mut table = Table::new(&["Weight", "Shape", "#Non-zeros", "Stored as", "#Bytes", "#Dense bytes"]);
    for row in &compiled.tensors {
        let shape = row.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let stored = format!("{} {}", row.encoding, row.values);
        let [nnz, bytes, dense] = [row.nnz as u64, row.bytes, row.dense_bytes].map(|n| format::large(n).into());
        table.push([row.name.clone().into(), shape.into(), nnz, stored.into(), bytes, dense]);
    }
    out.say(table.plain());
    let (packed, dense) = (compiled.bytes.len() as u64, compiled.dense_bytes.len() as u64);
    let dense_gzip = measure::gzip_bytes(&compiled.dense_bytes)?;
    out.say(format!(
        "{}: {}, {:.2} times smaller than the dense file ({}; {} after gzip)",
        args.output.display(),
        format::bytes(packed),
        dense as f64 / packed as f64,
        format::bytes(dense),
        format::bytes(dense_gzip)
    ));
    let came_in = std::fs::metadata(&args.input).map_or(0, |m| m.len());
    if packed > came_in {
        out.note(format!(
            "warning: the file that came in is smaller ({}): it stores its weights in a smaller type (--values i8 or f16)",
            format::bytes(came_in)
        ));
    }
    out.say(format!(
        "proof: the packed file computes its dense twin bit for bit; folding and fusing moved outputs by at most {:.1e} ({} ulp){}",
        compiled.deployment.max_abs,
        compiled.deployment.max_ulp,
        compiled.rounding.as_ref().map_or(String::new(), |r| format!("; rounding the weights to {} by {:.1e}", options.values.name(), r.max_abs))
    ));
    let holding = compiled.patterns.iter().filter_map(|l| l.pattern.groups());
    let (layers, groups) = (holding.clone().count(), holding.sum::<usize>());
    if options.keep_groups {
        out.say(format!("2:4: {groups} groups of 4 in {layers} layers of the written file checked one by one"));
        if compiled.dead_channels_stay {
            out.say("  dead channels stay: without them groups of 4 would be torn");
        }
        explain(&compiled.patterns).into_iter().skip(1).for_each(|line| out.say(line));
    }
    if args.tune {
        tune(&args.output, &compiled.bytes, &out)?;
    }
    out.object(&json!({
        "model": args.output,
        "sha256": files::sha256(&compiled.bytes),
        "file_bytes": packed,
        "input_bytes": came_in,
        "dense_bytes": dense,
        "dense_gzip_bytes": dense_gzip,
        "packed_max_abs_error": compiled.equivalence.max_abs,
        "packed_max_ulp": compiled.equivalence.max_ulp,
        "folding_max_abs_error": compiled.deployment.max_abs,
        "folding_max_ulp": compiled.deployment.max_ulp,
        "target": args.target.and_then(|t| Some(t.to_possible_value()?.get_name().to_string())),
        "two_of_four": { "layers": layers, "groups": groups, "dead_channels_stay": compiled.dead_channels_stay },
        "rounding_max_abs_error": compiled.rounding.as_ref().map(|r| r.max_abs),
        "tensors": compiled.tensors.iter().map(|row| json!({
            "name": row.name, "shape": row.shape, "nnz": row.nnz, "encoding": row.encoding, "values": row.values,
            "bytes": row.bytes, "dense_bytes": row.dense_bytes,
        })).collect::<Vec<_>>(),
    }));
    Ok(())
}
