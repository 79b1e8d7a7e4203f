//! `sentei bench`: latency and memory of models, side by side.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sentei_report::record::Bench;
use sentei_report::tables;
use sentei_runtime::ort::per_provider;
use sentei_runtime::{Facts, KernelChoice, LoadOptions, NodeTime, Session, noise_inputs};
use serde_json::{Value, json};

use crate::board::{self, Address, BoardArgs};
use crate::exit::usage;
use crate::files;
use crate::measure::{self, EngineName, Plan, Subject};
use crate::npy;
use crate::ort_args::OrtArgs;
use crate::output::Output;
use crate::report::Joined;

/// Measures models in interleaved rounds; the first one is what the others are compared with.
#[derive(clap::Args)]
pub struct Args {
    /// ONNX files; ratios are first / this one, so put the baseline first
    #[arg(value_name = "MODEL", required_unless_present_any = ["memory_of", "run"])]
    models: Vec<PathBuf>,
    /// Engine that runs the models
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "tract")]
    engine: EngineName,
    /// Threads of the engine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// Tie every thread of the tract engine to a core of its own
    #[arg(long)]
    pin: bool,
    /// Images per inference, where the model leaves the batch open
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    batch: usize,
    /// Seconds of measuring, all models together
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Rounds to measure at least, whatever they take
    #[arg(long, value_name = "N", default_value_t = 100)]
    rounds: usize,
    /// Rounds before measuring starts
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: u32,
    /// Kernels of the tract engine: `measure` keeps the fastest that give the same results, `sparse` or `dense` decide, `int8` runs
    /// convolutions in bytes (inputs rounded as they are read, so results are close, not the same; it pays where the processor has dot
    /// products of bytes). Several with commas between: every model is measured with each
    #[arg(long, value_name = "CHOICES", default_value = "measure", value_parser = measure::kernel_choices)]
    // written in full, as clap would otherwise take the flag several times and parse one choice each time
    kernels: std::vec::Vec<KernelChoice>,
    /// Time kernels thoroughly and keep the choice beside each model (MODEL.plan.json), where later loads find it
    #[arg(long, conflicts_with = "board")]
    tune: bool,
    /// Print a table of layers: kernel or provider, reason, time
    #[arg(long)]
    per_layer: bool,
    /// Leave out the memory table (it takes a process per model)
    #[arg(long)]
    no_memory: bool,
    /// Most bytes that decoded weights may take
    #[arg(long, value_name = "BYTES", default_value_t = LoadOptions::default().byte_budget)]
    byte_budget: u64,
    /// Most seconds that loading one model may take
    #[arg(long, value_name = "S", default_value_t = 60)]
    time_budget: u64,
    #[command(flatten)]
    ort: OrtArgs,
    /// ONNX Runtime library to use instead of searching for one
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
    /// Where to write the raw samples as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the model's noise input and its output as input0.npy, output0.npy, ... to this existing folder
    #[arg(long, value_name = "FOLDER")]
    save_tensors: Option<PathBuf>,
    #[command(flatten)]
    board: BoardArgs,
    /// Measure the dense and the shipped model of this run folder, and put the board's figures into its report beside those of
    /// the host
    #[arg(long, help_heading = "On a board", value_name = "RUN", requires = "board", conflicts_with = "models")]
    run: Option<PathBuf>,
    /// Measure the memory of this one model and print it as JSON (what `bench` starts itself for)
    #[arg(long, hide = true, value_name = "MODEL")]
    memory_of: Option<PathBuf>,
}

pub fn run(args: Args, out: Output) -> Result<()> {
    let options = LoadOptions {
        threads: args.threads,
        pin: args.pin,
        batch: args.batch,
        ort: args.ort.resolve(args.engine)?,
        byte_budget: args.byte_budget,
        time_budget: Duration::from_secs(args.time_budget),
        library: args.ort_library.clone(),
        kernel_choice: args.kernels[0],
        ..LoadOptions::default()
    };
    measure::check_seconds(args.seconds)?;
    if let Some(path) = &args.memory_of {
        return measure::print_memory(path, args.engine, &options);
    }
    if let Some(path) = &args.output {
        files::check_writable(path)?;
    }
    if args.save_tensors.is_some() && args.models.len() * args.kernels.len() != 1 {
        return usage(
            "--save-tensors takes one model and one choice of kernels: the tensors of several would share their names",
        );
    }
    if let Some(folder) = args.save_tensors.as_ref().filter(|folder| !folder.is_dir()) {
        return usage(format!("--save-tensors: {} is no folder", folder.display()));
    }
    let run = args.run.as_deref().map(Joined::open).transpose()?;
    let named = |path: &PathBuf| Subject::new(path.display().to_string(), path);
    let models: Vec<Subject> = run.as_ref().map_or_else(|| args.models.iter().map(named).collect(), Joined::subjects);
    let subjects: Vec<Subject> = models.into_iter().flat_map(|model| model.with_kernels(&args.kernels)).collect();
    let plan = Plan {
        engine: args.engine,
        options,
        kernels: args.kernels.clone(),
        seconds: args.seconds,
        rounds: args.rounds,
        warmup: args.warmup,
        memory: !args.no_memory,
        tune: args.tune,
    };
    if let Some(address) = &args.board.board {
        if args.per_layer || args.save_tensors.is_some() {
            return usage("--per-layer and --save-tensors are of this machine, not of a --board");
        }
        return on_board(address, &args, &subjects, &plan, run, out);
    }
    let measure::Measured { bench, mut sessions, notes } = measure::bench(&subjects, &plan)?;
    out.say(tables::bench(&bench).plain());
    if !args.no_memory {
        out.say(tables::bench_memory(&bench).plain());
    }
    say_energy(&bench, &out);
    if args.per_layer {
        for (subject, session) in subjects.iter().zip(&mut sessions) {
            let mut noting: Box<dyn Session>;
            let session = match args.engine {
                EngineName::Tract => session,
                // a session that notes the time of its nodes is slower, so it is none of those that were measured
                EngineName::Ort => {
                    let options = LoadOptions { profile: true, ..plan.options.clone() };
                    let loaded = args.engine.engine()?.load(&files::read(&subject.path)?, &options);
                    noting = loaded.with_context(|| format!("loading {}", subject.path.display()))?;
                    &mut noting
                }
            };
            let inputs = noise_inputs(&**session, 1);
            let times = session.profile(&inputs, 20)?;
            out.say(format!("\n{}\n", subject.name));
            out.say(per_layer(session.facts(), &times).plain());
        }
    }
    for (subject, session) in subjects.iter().zip(&sessions).filter(|(_, session)| !session.facts().nodes.is_empty()) {
        out.say(format!("{}: {}", subject.name, placement(session.facts())));
    }
    for note in notes {
        out.note(format!("note: {note}"));
    }
    for (subject, session) in subjects.iter().zip(&sessions) {
        for note in &session.facts().notes {
            out.note(format!("note: {}: {note}", subject.name));
        }
    }
    if let Some(row) = bench.rows.iter().find(|row| row.engine.threads != args.threads) {
        let (engine, ran) = (&row.engine.name, row.engine.threads);
        out.note(format!("warning: {engine} ran on {ran} thread(s), not on the {} of --threads", args.threads));
    }
    for warning in bench.warnings() {
        out.note(format!("warning: {warning}"));
    }
    if let (Some(folder), [session]) = (&args.save_tensors, &mut sessions[..]) {
        let inputs = noise_inputs(&**session, 1);
        npy::save(folder, "input", &inputs)?;
        npy::save(folder, "output", &session.run(&inputs)?)?;
    }
    let mut json = bench.to_json();
    let rows = json["rows"].as_array_mut().into_iter().flatten();
    for (row, session) in rows.zip(&sessions).filter(|(_, session)| !session.facts().nodes.is_empty()) {
        row["nodes"] = nodes_json(session.facts());
    }
    if let Some(path) = &args.output {
        files::write_atomic(path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    }
    out.object(&json);
    Ok(())
}

/// The table of energy, where there is something in it.
fn say_energy(bench: &Bench, out: &Output) {
    let table = tables::bench_energy(bench);
    if !table.is_empty() {
        out.say(table.plain());
    }
}

/// Measures on the board, and on this machine beside it.
fn on_board(
    address: &Address,
    args: &Args,
    subjects: &[Subject],
    plan: &Plan,
    run: Option<Joined>,
    out: Output,
) -> Result<()> {
    let board = board::bench(address, &args.board, subjects, plan, out)?;
    // a run has been measured on its host already
    let host = match args.board.with_host() && run.is_none() {
        true => Some(measure::bench(subjects, plan)?.bench),
        false => None,
    };
    for bench in host.iter().chain([&board]) {
        out.say(format!("{}:", tables::place(bench)));
        out.say(tables::bench(bench).plain());
        if bench.rows.iter().any(|row| row.memory.is_some()) {
            out.say(tables::bench_memory(bench).plain());
        }
        say_energy(bench, &out);
        bench.warnings().iter().for_each(|warning| out.note(format!("warning: {}: {warning}", tables::place(bench))));
    }
    let tested = board.rows.iter().filter(|row| row.self_test.is_some()).count();
    out.say(format!("self-test on the board: {tested} of {} models passed", board.rows.len()));
    let mut json = board.to_json();
    json["host"] = host.map_or(serde_json::Value::Null, |bench| bench.to_json());
    if let Some(path) = &args.output {
        files::write_atomic(path, serde_json::to_string_pretty(&json)?.as_bytes())?;
    }
    out.object(&json);
    if let Some(run) = run {
        out.say(format!("wrote {}", run.join(board)?.display()));
    }
    Ok(())
}

/// A count of at least 1.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".into())
}

/// How many nodes each provider ran, in words.
fn placement(facts: &Facts) -> String {
    let counts = per_provider(&facts.nodes);
    counts.iter().map(|(provider, count)| format!("{count} nodes on {provider}")).collect::<Vec<_>>().join(", ")
}

/// The same for scripts: the number of nodes per provider, and each node.
fn nodes_json(facts: &Facts) -> Value {
    let counts: serde_json::Map<String, Value> =
        per_provider(&facts.nodes).into_iter().map(|(provider, count)| (provider, json!(count))).collect();
    json!({ "per_provider": counts, "all": facts.nodes })
}

/// Every node with its time; for packed layers the kernel and why it was chosen, in ONNX Runtime the provider.
fn per_layer(facts: &Facts, times: &[NodeTime]) -> sentei_report::table::Table {
    let mut table = sentei_report::table::Table::new(&["Node", "Op", "#Time", "#Non-zeros", "Kernel", "Why"]);
    for node in times {
        let layer = measure::owner(&node.name, facts.kernels.iter().map(|k| k.name.as_str()));
        let kernel = facts.kernels.iter().find(|k| Some(k.name.as_str()) == layer);
        let place = facts.nodes.iter().find(|place| place.name == node.name && place.op == node.op);
        let text = |f: fn(&sentei_runtime::LayerKernel) -> String| kernel.map(f).unwrap_or_default();
        table.push([
            node.name.clone().into(),
            node.op.clone().into(),
            sentei_report::format::milliseconds(node.time_ns as f64 / 1e6).into(),
            text(|k| k.nnz.to_string()).into(),
            place.map_or_else(|| text(|k| k.kernel.clone()), |place| place.provider.clone()).into(),
            text(|k| k.reason.clone()).into(),
        ]);
    }
    table
}
