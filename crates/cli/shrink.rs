//! `sentei shrink`: the whole flow, every arrow a file of the run folder.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use sentei_convert::Compiled;
use sentei_data::{Normalise, Split};
use sentei_graph::Graph;
use sentei_prune::config::PruneConfig;
use sentei_report::compare::Comparison;
use sentei_report::events::{Event, EventSink};
use sentei_report::export;
use sentei_report::record::{FileHash, Machine, PhaseTime, Predictions, Quality, RunRecord, SCHEMA, Variant, flipped};
use sentei_report::warning::Warning;
use sentei_runtime::KernelChoice;

use crate::compile::{self, CompileArgs, CompileRecipe, Packing, Values};
use crate::data_args::OkClassArgs;
use crate::exit::{Failure, usage};
use crate::lineage::{self, DataSource, Lineage};
use crate::measure::{self, EngineName, Plan, Subject};
use crate::method_args::{self, MethodArgs};
use crate::models::Start;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeArgs, TrainArgs};
use crate::record::{self, numbered, percent};
use crate::run_folder::RunFolder;
use crate::training::Workbench;
use crate::{files, models, report, shipped};

/// Validation images of the sensitivity scan.
const SENSITIVITY_SAMPLES: usize = 200;
/// Runs behind each median of the per-layer table.
const PROFILE_ROUNDS: usize = 30;
/// Name of the training checkpoint inside a run folder.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// Trains (or imports), prunes, retrains, compiles, measures and reports; no arguments take the embedded inspection set.
#[derive(clap::Args)]
#[command(after_long_help = method_args::help())]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    ok_class: OkClassArgs,
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Fractions of the prunable weights to remove; the first is the model that is shipped
    #[arg(long, value_name = "S", num_args = 1.., value_delimiter = ',')]
    sparsity: Vec<f64>,
    /// Epochs of retraining; a method that starts from initial weights trains for --epochs instead
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<u64>,
    #[command(flatten)]
    compile: CompileArgs,
    /// Seconds of measuring per engine
    #[arg(long, value_name = "S")]
    bench_seconds: Option<f64>,
    /// Also judge and measure the models that may ship with their convolutions in bytes, as `sentei bench --kernels int8` runs them: the
    /// report then says what that saves, and what it costs in verdicts
    #[arg(long)]
    int8: bool,
    /// Run folder to make [default: the first free runs/MODEL-DATA]
    #[arg(long, short, value_name = "RUN")]
    output: Option<PathBuf>,
    /// Go on with an interrupted run; its own recipe holds
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "recipe", "model", "epochs", "learning_rate", "batch_size", "seed", "device", "data", "split_file", "size",
        "channels", "train_limit", "mean", "std", "ok_class", "method", "distribution", "granularity", "schedule",
        "parameterisation", "sparsity", "retrain_epochs", "packing", "values", "bench_seconds", "int8", "output",
    ])]
    resume: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let started = Instant::now();
    let (folder, recipe) = match &args.resume {
        Some(path) => RunFolder::resume(path)?,
        None => {
            let recipe = args.resolve()?;
            recipe.check()?;
            recipe.bench.find_provider()?;
            (RunFolder::new(args.output.as_deref(), &run_name(&recipe))?, recipe)
        }
    };
    let mut shrink = Shrink::open(recipe, folder, out)?;
    shrink.start();
    shrink.announce()?;
    let baseline = shrink.baseline()?;
    let pruned = shrink.pruned(&baseline)?;
    let files = shrink.compiled(&baseline, &pruned)?;
    let record = shrink.judged(files)?;
    shrink.finish(record, started)
}

impl Args {
    fn resolve(&self) -> Result<Recipe> {
        let mut recipe = self.method.resolve(&self.recipe)?;
        self.ok_class.overlay(&mut recipe.data);
        self.train.overlay(&mut recipe);
        self.method.overlay(&mut recipe)?;
        if !self.sparsity.is_empty() {
            recipe.sparsities.clone_from(&self.sparsity);
        }
        if let Some(density) = recipe.prune.granularity.density() {
            let pattern = recipe.prune.granularity;
            if !self.sparsity.is_empty() {
                return usage(format!(
                    "--sparsity: granularity {pattern} says how much is kept; remove one of the two"
                ));
            }
            recipe.sparsities = vec![1.0 - density];
        }
        recipe.prune.retrain.epochs = self.retrain_epochs.unwrap_or(recipe.prune.retrain.epochs);
        method_args::forget_if_changed(&mut recipe);
        recipe.bench.seconds = self.bench_seconds.unwrap_or(recipe.bench.seconds);
        recipe.bench.int8 |= self.int8;
        self.compile.overlay(&mut recipe.compile);
        Ok(recipe)
    }
}

fn run_name(recipe: &Recipe) -> String {
    let stem = |text: &str| {
        let path = std::path::Path::new(text);
        let name = if path.is_file() { path.file_stem() } else { path.file_name() };
        name.map_or("model".to_string(), |s| s.to_string_lossy().into_owned())
    };
    format!("{}-{}", stem(&recipe.model), stem(&recipe.data.source))
}

/// A model that is going to be judged.
struct Candidate {
    /// Name in the report.
    name: String,
    /// Final file name in the run folder.
    file: String,
    sparsity: f64,
    compiled: Rc<Compiled>,
    /// How it is run.
    kernels: KernelChoice,
}

impl Candidate {
    /// Not the file of another one, run in another way.
    fn is_a_file(&self) -> bool {
        self.kernels == KernelChoice::Measure
    }
}

struct Shrink {
    recipe: Recipe,
    folder: RunFolder,
    bench: Workbench,
    out: Output,
    normalise: Normalise,
    initial: Graph,
    imported: bool,
    lineage: Lineage,
    record: RunRecord,
}

impl Shrink {
    /// Reads images and model first: a run that cannot begin leaves no folder behind.
    fn open(recipe: Recipe, folder: RunFolder, out: Output) -> Result<Self> {
        let toml = recipe.to_toml()?;
        let mut bench = Workbench::open(recipe.clone(), Progress::shown(out))?;
        let start = models::start(&recipe.model, &bench.data, &recipe.data, recipe.seed, out)?;
        folder.create(&recipe)?;
        bench.progress = Progress::logged(out, &folder.file("events.jsonl"))?;
        let manifest_sha256 = bench.data.manifest_sha256();
        let dataset = record::dataset(&recipe.data, &bench.data, &manifest_sha256)?;
        let data = DataSource { source: recipe.data.source.clone(), manifest_sha256 };
        let lineage = Lineage::new(recipe.seed, data, toml.as_bytes());
        let record = RunRecord {
            schema: SCHEMA,
            name: folder.path.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned()),
            created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            seed: recipe.seed,
            recipe: toml,
            versions: [("sentei".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
            machine: Machine::here(),
            dataset,
            ..RunRecord::default()
        };
        let Start { graph, normalise, imported } = start;
        Ok(Shrink { recipe, folder, bench, out, normalise, initial: graph, imported, lineage, record })
    }

    fn start(&mut self) {
        let event = Event::RunStarted {
            run: self.record.name.clone(),
            command: self.record.command.clone(),
            seed: self.recipe.seed,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        self.bench.progress.emit(&event);
        let data = &self.bench.data;
        for note in &data.notes {
            self.out.note(format!("note: {note}"));
        }
        let counts = [Split::Train, Split::Val, Split::Test].map(|s| data.indices(s).len());
        self.out.note(format!(
            "{}: {} classes, {} images for training, {} for validation, {} for the final test",
            data.name,
            data.classes.len(),
            counts[0],
            counts[1],
            counts[2]
        ));
    }

    /// Says how long the trainings ahead will take; those of an interrupted run are counted as if none were done.
    fn announce(&mut self) -> Result<()> {
        let (train, prune) = (&self.recipe.train, &self.recipe.prune);
        let dense = if self.imported && !self.recipe.train_imported { 0 } else { train.epochs };
        let epochs = dense + prune.training_epochs(train) * self.recipe.sparsities.len() as u64;
        if let Some(sentence) = method_args::left_dense(&self.initial, prune) {
            self.out.note(sentence);
        }
        self.bench.announce(&self.initial, epochs, self.out)
    }

    /// The dense network: trained, or imported as it is unless the recipe trains imported models too.
    fn baseline(&mut self) -> Result<Graph> {
        const NAME: &str = "baseline.onnx";
        let started = Instant::now();
        let graph = match self.folder.finished(NAME) {
            Some(path) => with_metadata(models::read(&path)?, &self.initial),
            None if self.imported && !self.recipe.train_imported => self.initial.clone(),
            None => {
                let checkpoint = self.checkpoint();
                self.bench.train(&self.initial, &self.normalise, Some(checkpoint))?
            }
        };
        let bytes = models::to_onnx(&graph)?;
        files::write_atomic(&self.folder.file(NAME), &bytes)?;
        self.forget_checkpoint();
        let origin: &[&str] = if self.imported { &["data", "recipe"] } else { &["data", "recipe", "seed"] };
        self.lineage.add(NAME, &bytes, origin);
        self.phase("train", started);
        let started = Instant::now();
        if !self.bench.data.indices(Split::Val).is_empty() {
            self.record.sensitivity = self.bench.sensitivity(&graph, &self.normalise, SENSITIVITY_SAMPLES)?;
            self.phase("sensitivity", started);
        }
        Ok(graph)
    }

    /// One pruned, retrained network per sparsity.
    fn pruned(&mut self, baseline: &Graph) -> Result<Vec<(f64, Graph)>> {
        let mut all = Vec::new();
        for (i, sparsity) in self.recipe.sparsities.clone().into_iter().enumerate() {
            let started = Instant::now();
            let name = numbered("pruned", i, sparsity, "");
            let graph = match self.folder.finished(&name) {
                Some(path) => with_metadata(models::read(&path)?, &self.initial),
                None => {
                    let takes_target = self.recipe.prune.takes_a_target();
                    let config =
                        PruneConfig { sparsity: takes_target.then_some(sparsity), ..self.recipe.prune.clone() };
                    let checkpoint = self.checkpoint();
                    let fresh = self.initial.clone();
                    self.bench.prune_from(&fresh, Some(baseline), &self.normalise, &config, Some(checkpoint))?.graph
                }
            };
            let bytes = models::to_onnx(&graph)?;
            files::write_atomic(&self.folder.file(&name), &bytes)?;
            self.forget_checkpoint();
            self.lineage.add(&name, &bytes, &["baseline.onnx", "data", "recipe", "seed"]);
            self.phase(&format!("prune {}", percent(sparsity)), started);
            all.push((sparsity, graph));
        }
        Ok(all)
    }

    /// The files to judge: the dense network compiled the same way, and each pruned one packed.
    fn compiled(&mut self, baseline: &Graph, pruned: &[(f64, Graph)]) -> Result<Vec<Candidate>> {
        let started = Instant::now();
        let CompileRecipe { packing, values: shipped } = self.recipe.compile;
        let compile = |graph: &Graph, packing: Packing, values: Values| {
            compile::compiled(graph, &CompileRecipe { packing, values }.options()).map(Rc::new)
        };
        let mut all = vec![Candidate {
            name: "dense".into(),
            file: "dense.onnx".into(),
            sparsity: 0.0,
            compiled: compile(baseline, Packing::Dense, Values::F32).context("compiling the dense network")?,
            kernels: KernelChoice::Measure,
        }];
        // Plain tensors are f32 whatever their values were rounded to: a second dense file would save nothing.
        let packed = packing != Packing::Dense;
        let others = [Values::F32, Values::I8].into_iter().filter(|v| packed && *v != shipped);
        let values: Vec<Values> = std::iter::once(shipped).chain(others).collect();
        for (i, (sparsity, graph)) in pruned.iter().enumerate() {
            for (v, values) in values.iter().enumerate() {
                let suffix = if v == 0 { "" } else { values.name() };
                let compiled = compile(graph, packing, *values).context("compiling the pruned network")?;
                all.push(Candidate {
                    name: format!("{} zeros, {}", percent(*sparsity), values.name()),
                    file: numbered("model", i, *sparsity, suffix),
                    sparsity: *sparsity,
                    compiled,
                    kernels: KernelChoice::Measure,
                });
            }
            if self.recipe.bench.int8 {
                let shipped = &all[all.len() - values.len()];
                let (kernels, compiled) = (KernelChoice::Int8, Rc::clone(&shipped.compiled));
                let (name, file) = (shipped.name.clone() + kernels.label(), shipped.file.clone());
                all.push(Candidate { name, file, sparsity: *sparsity, compiled, kernels });
            }
        }
        std::fs::create_dir_all(self.unproven()).context("making the folder of unproven models")?;
        for candidate in all.iter().filter(|candidate| candidate.is_a_file()) {
            let path = self.unproven().join(&candidate.file);
            files::write_atomic(&path, &candidate.compiled.bytes)?;
            self.bench.progress.emit(&Event::Compiled {
                path: candidate.file.clone(),
                sha256: files::sha256(&candidate.compiled.bytes),
                file_bytes: candidate.compiled.bytes.len() as u64,
                max_abs_error: Some(candidate.compiled.deployment.max_abs),
            });
        }
        self.phase("compile", started);
        Ok(all)
    }

    /// Measures and judges every candidate; this is where the test split is read, once.
    fn judged(&mut self, candidates: Vec<Candidate>) -> Result<RunRecord> {
        let started = Instant::now();
        let mut record = std::mem::take(&mut self.record);
        let subject =
            |c: &Candidate| Subject { name: c.name.clone(), path: self.unproven().join(&c.file), kernels: c.kernels };
        let subjects: Vec<Subject> = candidates.iter().map(subject).collect();
        let mut profiles = Vec::new();
        for (i, engine) in self.recipe.bench.engines.iter().enumerate() {
            let options = self.recipe.bench.options(*engine);
            let seconds = self.recipe.bench.seconds;
            let kernels = vec![options.kernel_choice];
            let plan =
                Plan { engine: *engine, options, kernels, seconds, rounds: 100, warmup: 3, memory: true, tune: false };
            // bytes are tract's alone
            let measured = |subject: &&Subject| *engine == EngineName::Tract || subject.kernels != KernelChoice::Int8;
            let subjects: Vec<Subject> = subjects.iter().filter(measured).cloned().collect();
            self.out.note(format!("measuring {} models in {}", subjects.len(), engine.name()));
            let measure::Measured { bench, mut sessions, .. } = match measure::bench(&subjects, &plan) {
                Ok(done) => done,
                // Without the engine that runs sparse there is nothing to report; a missing rival is a remark.
                Err(error) if i > 0 && crate::exit::code(&error) == 5 && !self.recipe.bench.requires(*engine) => {
                    record.warnings.push(record::absent(engine.name(), &error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for row in &bench.rows {
                let p50_ms = row.latency.summary().map(|s| s.p50_ms);
                let samples = row.latency.samples_ns.len() as u64;
                let (model, engine) = (row.model.clone(), row.engine.name.clone());
                self.bench.progress.emit(&Event::Measured { model, engine, p50_ms, samples });
            }
            if i == 0 {
                for session in &mut sessions {
                    let inputs = sentei_runtime::noise_inputs(&**session, 1);
                    let times = session.profile(&inputs, PROFILE_ROUNDS)?;
                    profiles.push((session.facts().clone(), times));
                }
            }
            let engine = bench.rows[0].engine.clone();
            record.versions.insert(engine.name, engine.version);
            record.benches.push(bench);
        }
        self.phase_into(&mut record, "bench", started);

        assert_eq!(profiles.len(), candidates.len(), "the first engine measured every candidate");
        let started = Instant::now();
        let mut baseline_predictions: Option<Predictions> = None;
        for ((candidate, subject), (facts, times)) in candidates.iter().zip(&subjects).zip(&profiles) {
            let predictions = |split| shipped::predictions(subject, &self.bench.data, split, &self.normalise);
            let (val, test) = (predictions(Split::Val)?, predictions(Split::Test)?);
            let classes = &self.bench.data.classes;
            let ok = record.dataset.ok_class;
            let quality = |on: &Predictions, thresholds: Option<&Predictions>| -> Result<Option<Quality>> {
                Ok(if on.samples.is_empty() { None } else { Some(Quality::of(on, classes, ok, thresholds)?) })
            };
            let thresholds = (!val.samples.is_empty()).then_some(&val);
            let (quality_val, quality_test) = (quality(&val, None)?, quality(&test, thresholds)?);
            let inspection = sentei_convert::inspect(&candidate.compiled.bytes, &Default::default())?;
            let (work, layers) = shipped::layers(&inspection, facts, times);
            let judged_on = if test.samples.is_empty() { val } else { test };
            let flips = match &baseline_predictions {
                Some(baseline) => flipped(baseline, &judged_on)?,
                None => Vec::new(),
            };
            let rows = record.benches.first().map(|b| b.rows.as_slice()).unwrap_or_default();
            let memory = rows.iter().find(|r| r.model == candidate.name).and_then(|r| r.memory.clone());
            let variant = Variant {
                name: candidate.name.clone(),
                sparsity: candidate.sparsity,
                quality_val,
                quality_test,
                work,
                memory,
                layers,
                size: record::size_parts(&candidate.compiled),
                flips,
            };
            if let Some(quality) = variant.quality() {
                self.bench.progress.emit(&Event::Evaluation {
                    model: variant.name.clone(),
                    split: if variant.quality_test.is_some() { "test" } else { "val" }.into(),
                    samples: judged_on.samples.len() as u64,
                    loss: None,
                    accuracy: quality.accuracy().value(),
                    balanced_accuracy: quality.balanced_accuracy(),
                });
            }
            match baseline_predictions {
                None => {
                    record.baseline = variant;
                    baseline_predictions = Some(judged_on);
                }
                Some(_) => record.pruned.push(variant),
            }
        }
        self.phase_into(&mut record, "evaluate", started);
        record.equivalence = candidates.get(1).map(|c| record::equivalence(&c.compiled));
        record.curves = record::epochs(&files::read_text(&self.folder.file("events.jsonl"))?);
        if record.dataset.splits.iter().any(|s| s.name == "test" && s.counts.iter().sum::<u64>() == 0) {
            record.warnings.push(Warning::Note {
                seen: "there is no test split".into(),
                why: "the figures are those of the validation split, on which the weights were chosen".into(),
                help: Some("--split-file with rows marked `test`, or `test = 0.15` under [data]".into()),
            });
        }
        let chosen = record.chosen().expect("a recipe has at least one sparsity");
        if self.recipe.gate != Default::default() {
            record.gate = Some(self.recipe.gate.check(&Comparison::of(&record, chosen)));
        }
        self.release(&mut record, &candidates)?;
        Ok(record)
    }

    /// Moves the judged models into place when the gate passed, and drops them when it did not.
    fn release(&mut self, record: &mut RunRecord, candidates: &[Candidate]) -> Result<()> {
        if record.gate.as_ref().is_none_or(|gate| gate.pass) {
            for candidate in candidates.iter().filter(|candidate| candidate.is_a_file()) {
                let path = self.folder.file(&candidate.file);
                std::fs::rename(self.unproven().join(&candidate.file), &path)
                    .with_context(|| format!("moving {} into place", path.display()))?;
                let origin = candidate.file.replacen("model", "pruned", 1).replace("-i8", "").replace("-f32", "");
                let origin = if candidate.file == "dense.onnx" { "baseline.onnx".to_string() } else { origin };
                self.lineage.add(&candidate.file, &candidate.compiled.bytes, &[&origin, "recipe"]);
            }
        }
        std::fs::remove_dir_all(self.unproven()).context("removing the folder of unproven models")?;
        for link in &self.lineage.files {
            let bytes = std::fs::metadata(self.folder.file(&link.name)).map(|m| m.len()).unwrap_or(0);
            record.files.push(FileHash { path: link.name.clone(), bytes, sha256: link.sha256.clone() });
        }
        Ok(())
    }

    fn finish(mut self, record: RunRecord, started: Instant) -> Result<()> {
        std::fs::create_dir_all(self.folder.file("pictures")).context("making the folder of pictures")?;
        for flip in record.variants().flat_map(|v| &v.flips) {
            if let Some(index) = self.bench.data.sample_names.iter().position(|n| *n == flip.sample) {
                files::write_atomic(
                    &report::picture_path(&self.folder.path, &flip.sample),
                    &self.bench.data.png(index),
                )?;
            }
        }
        report::write(&self.folder.path, &record)?;
        let made_from: Vec<String> = self.lineage.files.iter().map(|link| link.name.clone()).collect();
        let made_from: Vec<&str> = made_from.iter().map(String::as_str).chain(["data", "recipe"]).collect();
        self.lineage.add("report.json", &files::read(&self.folder.file("report.json"))?, &made_from);
        files::write_atomic(&self.folder.file(lineage::FILE), serde_json::to_string_pretty(&self.lineage)?.as_bytes())?;
        let seconds = started.elapsed().as_secs_f64();
        let failed = record.gate.as_ref().filter(|gate| !gate.pass);
        self.bench.progress.emit(&Event::Finished { exit_code: if failed.is_some() { 3 } else { 0 }, seconds });
        self.out.say(record::summary(&record));
        self.out.say(format!("run folder: {} ({seconds:.0} s); open report.html", self.folder.path.display()));
        self.out.object(&export::shrink_json(&record, &self.folder.path.display().to_string(), seconds));
        match failed {
            Some(gate) => Err(Failure::Gate(gate.failures().collect::<Vec<_>>().join("; ")).into()),
            None => Ok(()),
        }
    }

    fn unproven(&self) -> PathBuf {
        self.folder.file("unproven")
    }

    fn checkpoint(&self) -> sentei_prune::Checkpointing {
        sentei_prune::Checkpointing { path: self.folder.file(CHECKPOINT), resume: self.folder.resumed }
    }

    /// A finished phase leaves no checkpoint behind for the next one to trip over.
    fn forget_checkpoint(&self) {
        let _ = std::fs::remove_file(self.folder.file(CHECKPOINT));
    }

    fn phase(&mut self, name: &str, started: Instant) {
        self.record.phases.push(PhaseTime { phase: name.into(), seconds: started.elapsed().as_secs_f64() });
    }

    fn phase_into(&self, record: &mut RunRecord, name: &str, started: Instant) {
        record.phases.push(PhaseTime { phase: name.into(), seconds: started.elapsed().as_secs_f64() });
    }
}

/// A model read back from the run folder, with the preprocessing of this run.
fn with_metadata(mut graph: Graph, initial: &Graph) -> Graph {
    graph.metadata.clone_from(&initial.metadata);
    graph
}
