//! One network trained on made-up images, a few steps whenever asked: the part of tools/bench-train that is ours.
//!
//! usage: train_steps ARCHITECTURE CxHxW CLASSES BATCH SPARSITY [profile]
//!
//! What runs is `sentei_prune::train::train` as `sentei train` calls it, loader included: SGD with momentum 0.9, weight decay 5e-4 on
//! every parameter, no augmentation. SPARSITY in `[0, 1)` is the share of each layer's weights, the smallest, that a fixed mask
//! removes; at 0 there is no mask. Threads: RAYON_NUM_THREADS.
//!
//! After some steps the first line on standard output describes the network. Then each line SECONDS on standard input is
//! answered with a line of step times, and training stands still until the next one. It ends with the input; `profile` then prints
//! to standard error where the time went.

use std::error::Error;
use std::io::{BufRead, StdinLock};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sentei_data::{Dataset, Normalise, Split};
use sentei_graph::ops::{Flatten, GlobalAveragePool};
use sentei_graph::{Graph, Mask};
use sentei_models::{Builder, Spec, build};
use sentei_prune::config::{LearningRateSchedule, OptimizerConfig, TrainConfig};
use sentei_prune::train::{Plan, Run, Stop, TrainError, Trained, train};
use sentei_prune::{Masks, Net, PrunableSet, device, prunable_layers, top_k};
use sentei_report::events::{Event, EventSink};
use serde_json::{Value, json};

/// Steps before the first line: buffers are made, kernels chosen.
const WARMUP: usize = 8;
/// Steps of a turn at least, after one that finds the caches full of what ran meanwhile.
const LEAST: usize = 3;
/// Bytes of pixels: many steps per epoch, and more than the caches hold.
const PIXELS: usize = 48 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: train_steps ARCHITECTURE CxHxW CLASSES BATCH SPARSITY [profile]";
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let profile = words.pop_if(|word| word == "profile").is_some();
    let [name, shape, classes, batch, sparsity] = words.as_slice() else { return Err(usage.into()) };
    let shape = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let [channels, height, width] = shape[..] else { return Err(usage.into()) };
    let spec = Spec { channels, height, width, classes: classes.parse()?, seed: 1 };
    let (batch_size, sparsity): (usize, f64) = (batch.parse()?, sparsity.parse()?);
    if batch_size == 0 || !(0.0..1.0).contains(&sparsity) {
        return Err(format!("BATCH is at least 1 and SPARSITY in [0, 1); {usage}").into());
    }

    let data = Arc::new(images(&spec, batch_size, PIXELS));
    let normalise = Normalise::of(&data, Split::Train);
    // The program's code is in memory before the network is: a tiny one is trained for that.
    tiny()?;
    let before = resident_from_now_on();
    let graph = build(name, &spec)?;
    let masks = if sparsity > 0.0 { smallest_removed(&graph, sparsity)? } else { Masks::default() };
    let stop = Stop::never();
    let hello = json!({
        "parameters": parameters(&graph),
        "layers": layers(&graph)?,
        "kept": masks.density(),
        "threads": rayon::current_num_threads(),
    });
    let mut turns = Turns {
        hello: Some(hello),
        steps: 0,
        turn: None,
        input: std::io::stdin().lock(),
        stop: &stop,
        before,
        profile,
    };
    let mut run = Run { data: &data, normalise: &normalise, events: &mut turns, stop: &stop, checkpoint: None };
    let config = config(batch_size);
    let mut net = Net::new(&graph, &device("cpu")?)?;
    drop(graph);
    ended(train(&mut net, Plan::new("train", &config, &masks), &mut run))
}

fn config(batch_size: usize) -> TrainConfig {
    TrainConfig {
        epochs: 1 << 20,
        batch_size,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false },
        learning_rate: 0.01,
        schedule: LearningRateSchedule::Constant,
        warmup_epochs: 0.0,
        weight_decay: 5e-4,
        decay_bias_and_norm: true,
        ..TrainConfig::default()
    }
}

/// Two steps of a network of two layers.
fn tiny() -> Result<(), Box<dyn Error>> {
    let spec = Spec { channels: 3, height: 4, width: 4, classes: 2, seed: 1 };
    let data = Arc::new(images(&spec, 2, 0));
    let mut net = Builder::new(&spec)?;
    net.conv_bn_relu("conv", 8, 3, 1, 1)?.node("pool", GlobalAveragePool, &[])?;
    net.node("features", Flatten { axis: 1 }, &[])?.linear("logits", 8, spec.classes)?;
    let mut net = Net::new(&net.finish(), &device("cpu")?)?;
    let (normalise, stop, mut events) = (Normalise::of(&data, Split::Train), Stop::after(2), Vec::new());
    let mut run = Run { data: &data, normalise: &normalise, events: &mut events, stop: &stop, checkpoint: None };
    ended(train(&mut net, Plan::new("tiny", &config(2), &Masks::default()), &mut run))
}

/// Being asked to stop is how a training ends here.
fn ended(result: Result<Trained, TrainError>) -> Result<(), Box<dyn Error>> {
    match result {
        Ok(_) | Err(TrainError::Stopped { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Images and labels that mean nothing, of about so many bytes.
fn images(spec: &Spec, batch_size: usize, bytes: usize) -> Dataset {
    let per_batch = spec.channels * spec.height * spec.width * batch_size;
    let samples = batch_size * (bytes / per_batch.max(1)).max(2 * LEAST);
    let random = |at: usize| ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32;
    Dataset {
        name: "made up".into(),
        classes: (0..spec.classes).map(|class| class.to_string()).collect(),
        channels: spec.channels,
        height: spec.height,
        width: spec.width,
        images: (0..samples * per_batch / batch_size).map(|at| random(at) as u8).collect(),
        labels: (0..samples).map(|at| random(at) % spec.classes as u32).collect(),
        sample_names: vec![String::new(); samples],
        splits: vec![Split::Train; samples],
        notes: Vec::new(),
    }
}

/// Removes the same share of every layer.
fn smallest_removed(graph: &Graph, sparsity: f64) -> Result<Masks, Box<dyn Error>> {
    let mut masks = Vec::new();
    for layer in prunable_layers(graph, PrunableSet::ALL) {
        let weights = graph.value(&layer.name).and_then(|id| graph.initializer(id)).ok_or("a layer has its weights")?;
        let sizes: Vec<f32> = weights.data.iter().map(|weight| weight.abs()).collect();
        let keep = (sizes.len() as f64 * (1.0 - sparsity)).round().max(1.0) as usize;
        let mask = top_k(&layer.name, &sizes, &Mask::dense(sizes.len()), keep)?;
        masks.push((layer.name, mask));
    }
    Ok(masks.into_iter().collect())
}

fn parameters(graph: &Graph) -> usize {
    let trained = graph.parameters().into_iter().filter(|(_, role)| role.is_trainable());
    trained.filter_map(|(id, _)| Some(graph.initializer(id)?.len())).sum()
}

/// Weights and map of every layer, as `64x3x7x7 32x32`: what makes two networks the same to a clock.
fn layers(graph: &Graph) -> Result<Vec<String>, Box<dyn Error>> {
    let (facts, by_x) =
        (graph.facts()?, |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
    let mut found = Vec::new();
    for layer in prunable_layers(graph, PrunableSet::ALL) {
        let output = graph.value(&layer.node).and_then(|id| facts.get(&id)).ok_or("a layer has an output")?;
        found.push(
            format!("{} {}", by_x(&layer.shape), by_x(output.shape.get(2..).unwrap_or_default())).trim().to_string(),
        );
    }
    Ok(found)
}

/// Takes the time between steps, and holds training up where nobody asks for it.
struct Turns<'a> {
    /// Until it was said.
    hello: Option<Value>,
    steps: usize,
    turn: Option<Turn>,
    input: StdinLock<'static>,
    stop: &'a Stop,
    before: Option<u64>,
    profile: bool,
}

/// Training that was asked for.
struct Turn {
    until: Instant,
    last: Option<Instant>,
    step_ms: Vec<f64>,
}

impl EventSink for Turns<'_> {
    fn emit(&mut self, event: &Event) {
        if let (Event::Profile { rows, .. }, true) = (event, self.profile) {
            eprint!("{}", sentei_report::tables::profile(rows).plain());
        }
        if !matches!(event, Event::Progress { .. }) {
            return;
        }
        let now = Instant::now();
        self.steps += 1;
        if let Some(turn) = &mut self.turn {
            turn.step_ms.extend(turn.last.map(|last| (now - last).as_secs_f64() * 1e3));
            turn.last = Some(now);
            if now < turn.until || turn.step_ms.len() < LEAST {
                return;
            }
            let growth = status("VmHWM").zip(self.before).map(|(peak, before)| peak.saturating_sub(before));
            println!("{}", json!({ "step_ms": turn.step_ms, "peak_growth_bytes": growth }));
        } else if self.steps < WARMUP {
            return;
        }
        if let Some(hello) = self.hello.take() {
            println!("{hello}");
        }
        self.wait();
    }
}

impl Turns<'_> {
    /// Until the next line, or for good.
    fn wait(&mut self) {
        let mut line = String::new();
        let read = self.input.read_line(&mut line);
        let seconds = line.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (read, seconds) {
            (Ok(1..), Some(time)) => {
                self.turn = Some(Turn { until: Instant::now() + time, last: None, step_ms: Vec::new() })
            }
            _ => self.stop.request(),
        }
    }
}

/// Bytes resident now, after which Linux counts the peak anew; `None` on other systems.
fn resident_from_now_on() -> Option<u64> {
    let resident = status("VmRSS")?;
    // "5" forgets the peak, see proc(5)
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(resident)
}

/// A line of /proc/self/status in bytes.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
