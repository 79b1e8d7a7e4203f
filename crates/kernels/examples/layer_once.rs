//! Runs one convolution a given number of times, for whoever counts its instructions: `tools/neon-cost`.
//!
//! `layer_once INPUTS OUTPUTS KERNEL SIZE ZEROS f32|i8|int8 RUNS` says on its last line how many weights and pixels the layer has and
//! which kernel runs it, chosen as a runner without a plan does. With `int8` inputs are bytes too, zeros lie in words of four input
//! channels, and it is the words that are counted; with `i8` only weights are bytes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
use sentei_kernels::int8::Int8Conv;
use sentei_kernels::planes::Values;
use sentei_kernels::{Activation, Isa, LINE, Layer, Map};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [inputs, outputs, kernel, size, zeros, kind, runs] = &words[..] else {
        return Err("usage: layer_once INPUTS OUTPUTS KERNEL SIZE ZEROS f32|i8|int8 RUNS".into());
    };
    let (inputs, outputs, kernel, size) = (inputs.parse()?, outputs.parse()?, kernel.parse::<usize>()?, size.parse()?);
    let density = 1.0 - zeros.parse::<f64>()? / 100.0;
    let runs: usize = runs.parse()?;
    let pads = [kernel / 2; 4];
    let geometry = ConvGeometry { pads, ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2]) };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let weights = geometry.weights().ok_or("more weights than 32 bits count")? as u32;
    let (input, output) = (Map::aligned(inputs, size, size), Map::aligned(outputs, size, size));
    let isa = Isa::best();
    if kind == "int8" {
        let taps = kernel * kernel;
        let (words, per_output) = (weights as usize / 4, inputs / 4 * taps);
        let kept: Vec<bool> = (0..words).map(|_| rng.random_bool(density)).collect();
        let byte = |at: usize| {
            let (output, input, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
            if kept[output * per_output + input / 4 * taps + tap] { 1 + (at % 9) as i8 } else { 0 }
        };
        let bytes: Vec<i8> = (0..4 * words).map(byte).collect();
        let scales = vec![0.1; outputs];
        let conv = Int8Conv::prepare(isa, &geometry, input, output, &bytes, &scales, None, Activation::Relu)?;
        return run(&conv, runs, kept.iter().filter(|kept| **kept).count());
    }
    let positions: Vec<u32> = (0..weights).filter(|_| rng.random_bool(density)).collect();
    let (values, scales) = match &kind[..] {
        "f32" => (Values::F32(positions.iter().map(|_| rng.random_range(-1.0..1.0)).collect()), None),
        "i8" => (Values::I8(positions.iter().map(|_| rng.random_range(-9..9)).collect()), Some(vec![0.1; outputs])),
        other => return Err(format!("{other}: expected f32, i8 or int8").into()),
    };
    let choice = ConvChoice::guess(isa, &geometry, input, positions.len(), 1);
    let weights = ConvWeights { positions: Some(&positions), values: &values, scales: scales.as_deref(), bias: None };
    let conv = Conv::prepare(isa, &geometry, input, output, weights, Activation::Relu, choice)?;
    run(&conv, runs, positions.len())
}

/// Runs `layer` so many times and prints its line.
fn run(layer: &impl Layer, runs: usize, weights: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (input, output) = (layer.input(), layer.output());
    let (x, mut y) = (vec![0.5; input.len() + LINE], vec![0.0; output.len() + LINE]);
    let mut scratch = vec![0.0; layer.scratch_len()];
    let start_of = |memory: &[f32]| memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let (x_start, y_start) = (start_of(&x), start_of(&y));
    for _ in 0..runs {
        layer.run(&x[x_start..], &mut y[y_start..], None, &mut scratch);
    }
    println!("{weights} {} {}", output.pixels(), layer.kernel());
    Ok(())
}
