//! The program for the board: see [`args::HELP`].

mod args;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use peakmem_alloc::{INSTRUMENTED_SYSTEM, PeakMemAlloc, PeakMemAllocTrait};
use sentei_report::record::{Bench, Board, Condition, Machine, Memory};
use sentei_report::tables;
use sentei_runner::classify::{Classifier, images};
use sentei_runner::measure::{self, Measured, Plan, Subject};
use sentei_runner::self_test::SelfTest;
use sentei_runner::{RunnerError, embedded, files, sidecar};
use sentei_runtime::meter::{HeapMeter, MemoryPlan, measure_memory, resident_bytes};
use sentei_runtime::{Engine, KernelChoice, LoadOptions, engine_named};
use serde_json::{Value, json};

use crate::args::{Args, HELP, Verb};

/// Counts live heap bytes so that `bench` can report the peak.
#[global_allocator]
static HEAP: &PeakMemAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    // this program is built without unwinding, so a panic of a library ends it: with a sentence and a code, not with a signal
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("error: the model cannot be run, a library gave up on it: {panic}");
        std::process::exit(1);
    }));
    // ResNet-50 is as fast without them on x86-64; with them an emulated aarch64 board kept 10 MB more (49.6 instead of 39 to 40 MB)
    sentei_kernels::refuse_huge_pages();
    match Args::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: Args) -> Result<(), RunnerError> {
    match args.verb {
        Verb::Help => say(HELP),
        Verb::Version => say(concat!("sentei-run ", env!("CARGO_PKG_VERSION"))),
        Verb::Info => info(&args)?,
        Verb::SelfTest => self_test(&args)?,
        Verb::Run => classify(&args)?,
        Verb::Bench => bench(&args)?,
        Verb::Memory => memory(&args)?,
    }
    Ok(())
}

/// The models named, or the one that this program carries.
fn models(args: &Args) -> Result<Vec<PathBuf>, RunnerError> {
    if !args.models.is_empty() {
        return Ok(args.models.clone());
    }
    let program = program()?;
    match embedded::model_in(&program)? {
        Some(_) => Ok(vec![program]),
        None => Err(RunnerError::Usage(
            "no model: name an .onnx file (this program carries none; `sentei build --model` makes one that does)"
                .into(),
        )),
    }
}

fn program() -> Result<PathBuf, RunnerError> {
    std::env::current_exe().map_err(|source| RunnerError::Io { doing: "finding", path: "this program".into(), source })
}

/// The only engine of a board.
fn tract() -> Box<dyn Engine> {
    engine_named("tract").expect("this program is built with it")
}

/// Text for people, and the object for scripts; with `--json` the text goes to standard error.
fn print(args: &Args, text: &str, object: &Value) {
    if args.json {
        eprintln!("{text}");
        say(object);
    } else {
        say(text);
    }
}

/// A line on standard output; a closed pipe (`sentei-run info | head`) is the reader's choice, not our failure.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn info(args: &Args) -> Result<(), RunnerError> {
    let machine = Machine::here();
    let carried = embedded::model_in(&program()?)?.map(|model| (model.len(), files::sha256(&model)));
    let kernels: Vec<String> =
        sentei_kernels::kernels().into_iter().filter(|kernel| kernel.1).map(|kernel| kernel.0).collect();
    let resident = resident_bytes().map(|(now, _)| now);
    let carries =
        carried.as_ref().map_or("no model".into(), |(bytes, hash)| format!("a model of {bytes} bytes, SHA-256 {hash}"));
    let text = format!(
        "sentei-run {}, carries {carries}\n{}, {} cores, {} of memory, {} {} {}, {}{}\nresident: {}\nkernels: {}",
        env!("CARGO_PKG_VERSION"),
        machine.cpu_model,
        machine.cores,
        sentei_report::format::bytes(machine.memory_bytes),
        machine.os,
        machine.arch,
        machine.kernel,
        machine.libc,
        machine.emulated.as_ref().map_or(String::new(), |by| format!(" (emulated: {by})")),
        resident.map_or("unknown".into(), sentei_report::format::bytes),
        kernels.join(", "),
    );
    let model = carried.map(|(bytes, sha256)| json!({ "bytes": bytes, "sha256": sha256 }));
    let object = json!({
        "version": env!("CARGO_PKG_VERSION"), "machine": machine, "condition": Condition::now(), "model": model,
        "kernels": kernels, "resident_bytes": resident,
    });
    print(args, &text, &object);
    Ok(())
}

fn self_test(args: &Args) -> Result<(), RunnerError> {
    let engine = tract();
    for path in models(args)? {
        let bytes = embedded::read(&path)?;
        let metadata = sentei_runtime::metadata(&bytes).map_err(RunnerError::of_model(&path))?;
        let Some(test) = SelfTest::read(&metadata)? else {
            return Err(RunnerError::Description(format!(
                "{} carries no self-test (`sentei compile` writes one into the file)",
                path.display()
            )));
        };
        let options = sidecar::follow(&args.options, engine.name(), &path, &bytes).0;
        let (outcome, session) = test.prove(&*engine, &path, &bytes, &options)?;
        let (difference, tolerance) = (outcome.difference, outcome.tolerance);
        let bytes = match options.kernel_choice {
            KernelChoice::Int8 => "; in bytes it is what portable kernels give, bit for bit",
            _ => "",
        };
        let text = format!(
            "{}: self-test passed: output differs by {difference:.1e}, {tolerance:.1e} is allowed{bytes}",
            path.display()
        );
        let kernels = &session.facts().kernels;
        print(
            args,
            &text,
            &json!({
                "model": path, "passed": true, "difference": difference, "tolerance": tolerance, "kernels": kernels,
            }),
        );
    }
    Ok(())
}

fn classify(args: &Args) -> Result<(), RunnerError> {
    let models = models(args)?;
    let [path] = &models[..] else { return Err(RunnerError::Usage("run takes one model".into())) };
    let engine = tract();
    let bytes = embedded::read(path)?;
    let (options, note) = sidecar::follow(&args.options, engine.name(), path, &bytes);
    note.iter().for_each(|note| eprintln!("note: {note}"));
    let mut classifier = Classifier::load(path, &bytes, &*engine, &options)?;
    drop(bytes);
    sentei_kernels::return_freed_memory();
    let mut verdicts = Vec::new();
    let mut lines = Vec::new();
    for image in images(&args.images)? {
        let verdict = classifier.classify(&image)?;
        let top = verdict.ranked.iter().take(args.top).map(|(class, p)| format!("{class} {:.1} %", p * 100.0));
        lines.push(format!("{}: {}", image.display(), top.collect::<Vec<_>>().join(", ")));
        let classes: serde_json::Map<String, Value> =
            verdict.ranked.iter().map(|(class, p)| (class.clone(), json!(p))).collect();
        verdicts.push(json!({
            "image": image, "class": verdict.ranked[0].0, "probabilities": classes, "ms": verdict.milliseconds,
        }));
    }
    print(args, &lines.join("\n"), &json!({ "model": path, "verdicts": verdicts }));
    Ok(())
}

fn bench(args: &Args) -> Result<(), RunnerError> {
    let engine = tract();
    let named = |path: PathBuf| Subject::new(path.display().to_string(), path).with_kernels(&args.kernels);
    let subjects: Vec<Subject> = models(args)?.into_iter().flat_map(named).collect();
    let plan = Plan {
        options: args.options.clone(),
        seconds: args.seconds,
        rounds: args.rounds,
        warmup: args.warmup,
        tune: args.tune,
        self_test: args.self_test,
    };
    let before = Condition::now();
    let Measured { mut bench, sessions, notes } = measure::bench(&*engine, &subjects, &plan)?;
    let after = Condition::now();
    drop(sessions);
    for (row, subject) in bench.rows.iter_mut().zip(&subjects) {
        if args.memory {
            row.memory = Some(memory_of(subject, args)?);
        }
        if args.self_test && row.self_test.is_none() {
            eprintln!(
                "note: {} carries no self-test, so nothing says that it computes the right numbers here",
                row.model
            );
        }
    }
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let runner = env!("CARGO_PKG_VERSION").to_owned();
    bench.board = Some(Board { address: "local:".into(), runner, before, after });
    let mut text = tables::bench(&bench).plain();
    if args.memory {
        text += &tables::bench_memory(&bench).plain();
    }
    let energy = tables::bench_energy(&bench);
    if !energy.is_empty() {
        text += &energy.plain();
    }
    bench.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    if let Some(path) = &args.output {
        files::write_atomic(path, serde_json::to_string(&bench).expect("records serialise").as_bytes())?;
    }
    print(args, text.trim_end(), &Bench::to_json(&bench));
    Ok(())
}

/// Memory of one model, read in a process of its own: this program called again.
fn memory_of(subject: &Subject, args: &Args) -> Result<Memory, RunnerError> {
    let failed = |why: &str| {
        RunnerError::Description(format!("measuring the memory of {}: {}", subject.path.display(), why.trim()))
    };
    let options = &args.options;
    let mut child = Command::new(program()?);
    child.arg("memory");
    if !args.models.is_empty() {
        child.arg(&subject.path);
    }
    child.args(["--threads", &options.threads.to_string(), "--batch", &options.batch.to_string()]);
    child.args(["--kernels", subject.kernels.name(), "--byte-budget", &options.byte_budget.to_string()]);
    child.args(["--time-budget", &options.time_budget.as_secs().to_string()]);
    if options.pin {
        child.arg("--pin");
    }
    let out = child.stdin(Stdio::null()).stderr(Stdio::piped()).output().map_err(|error| failed(&error.to_string()))?;
    if !out.status.success() {
        return Err(failed(&String::from_utf8_lossy(&out.stderr)));
    }
    serde_json::from_slice(&out.stdout).map_err(|error| failed(&error.to_string()))
}

/// What the child process of [`memory_of`] does.
fn memory(args: &Args) -> Result<(), RunnerError> {
    let models = models(args)?;
    let [path] = &models[..] else { return Err(RunnerError::Usage("memory takes one model".into())) };
    let heap = HeapMeter { reset_peak: || HEAP.reset_peak_memory(), peak_bytes: || HEAP.get_peak_memory() as u64 };
    let plan = MemoryPlan { heap: Some(heap), ..MemoryPlan::default() };
    let engine = tract();
    let options = |bytes: &[u8]| -> LoadOptions { sidecar::follow(&args.options, engine.name(), path, bytes).0 };
    sentei_kernels::return_freed_memory();
    sentei_kernels::forget_idle_code();
    let read = || read_model(path);
    let memory = measure_memory(&*engine, read, options, &plan).map_err(RunnerError::of_model(path))?;
    println!("{}", serde_json::to_string(&memory).expect("records serialise"));
    Ok(())
}

fn read_model(path: &Path) -> std::io::Result<Vec<u8>> {
    embedded::read(path).map_err(std::io::Error::other)
}
