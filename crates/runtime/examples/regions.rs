//! What becomes of models: load time, layers with kernel and time, difference from tract's own operators, speed.
//!
//! `cargo run --release -p sentei-runtime --features tract --example regions -- [--threads N] [--layers] MODEL...`

use std::time::{Duration, Instant};

use sentei_runtime::{KernelChoice, LoadOptions, Plan, RuntimeError, Session, engine_named, noise_inputs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut threads, mut layers, mut models) = (1, false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().ok_or("--threads takes a number")?.parse()?,
            "--layers" => layers = true,
            _ => models.push(argument),
        }
    }
    for model in models {
        if let Err(error) = show(&model, threads, layers) {
            println!("{model}: {error}");
        }
    }
    Ok(())
}

fn show(model: &str, threads: usize, layers: bool) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(model)?;
    let load = |kernel_choice, plan: Option<Plan>| -> Result<(Box<dyn Session>, Duration), RuntimeError> {
        let started = Instant::now();
        let options = LoadOptions { threads, kernel_choice, plan, ..LoadOptions::default() };
        let session = engine_named("tract")?.load(&bytes, &options)?;
        Ok((session, started.elapsed()))
    };
    let (mut dense, dense_load) = load(KernelChoice::AlwaysDense, None)?;
    let (first, first_load) = load(KernelChoice::Measure, None)?;
    let (mut session, planned_load) = load(KernelChoice::Measure, first.facts().plan.clone())?;
    drop(first);
    let inputs = noise_inputs(&*session, 3);
    let (found, expected) = (session.run(&inputs)?, dense.run(&inputs)?);
    let mut worst = 0f32;
    for (found, expected) in found.iter().zip(&expected) {
        let largest = expected.data.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
        let differences = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs() / largest);
        worst = differences.fold(worst, f32::max);
    }
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        for (session, best) in [(&mut session, &mut ours), (&mut dense, &mut theirs)] {
            let started = Instant::now();
            session.run(&inputs)?;
            *best = (*best).min(started.elapsed());
        }
    }
    let facts = session.facts();
    println!(
        "{model}: {ours:.2?}, tract {theirs:.2?}; loads in {first_load:.0?}, with a plan {planned_load:.0?}, tract {dense_load:.0?}; \
         {} threads, weights {:?} of {} bytes, arena {:?}; differs by {worst:.1e}",
        facts.engine.threads,
        facts.weight_bytes,
        bytes.len(),
        facts.arena_bytes
    );
    facts.notes.iter().for_each(|note| println!("  note: {note}"));
    let kernels = facts.kernels.clone();
    for node in session.profile(&inputs, 9)?.iter().filter(|_| layers) {
        let kernel = kernels.iter().find(|kernel| kernel.name == node.name);
        let (kernel, reason) = kernel.map_or(("", ""), |kernel| (&kernel.kernel, &kernel.reason));
        println!("  {:8.1} us  {:40} {:24} {kernel:28} {reason}", node.time_ns as f64 / 1e3, node.name, node.op);
    }
    Ok(())
}
