//! Runs one sparse convolution a given number of times, for whoever counts its instructions: `tools/neon-cost`.
//!
//! `layer_once INPUTS OUTPUTS KERNEL SIZE ZEROS f32|i8 RUNS` says on its last line how many weights and pixels the layer has and which
//! kernel runs it, chosen as a runner without a plan does.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
use sentei_kernels::planes::Values;
use sentei_kernels::{Activation, Isa, LINE, Layer, Map};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [inputs, outputs, kernel, size, zeros, kind, runs] = &words[..] else {
        return Err("usage: layer_once INPUTS OUTPUTS KERNEL SIZE ZEROS f32|i8 RUNS".into());
    };
    let (inputs, outputs, kernel, size) = (inputs.parse()?, outputs.parse()?, kernel.parse::<usize>()?, size.parse()?);
    let density = 1.0 - zeros.parse::<f64>()? / 100.0;
    let runs: usize = runs.parse()?;
    let pads = [kernel / 2; 4];
    let geometry = ConvGeometry { pads, ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2]) };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let weights = geometry.weights().ok_or("more weights than 32 bits count")? as u32;
    let positions: Vec<u32> = (0..weights).filter(|_| rng.random_bool(density)).collect();
    let (values, scales) = match &kind[..] {
        "f32" => (Values::F32(positions.iter().map(|_| rng.random_range(-1.0..1.0)).collect()), None),
        "i8" => (Values::I8(positions.iter().map(|_| rng.random_range(-9..9)).collect()), Some(vec![0.1; outputs])),
        other => return Err(format!("{other}: weights are f32 or i8").into()),
    };
    let (input, output) = (Map::aligned(inputs, size, size), Map::aligned(outputs, size, size));
    let isa = Isa::best();
    let choice = ConvChoice::guess(isa, &geometry, input, positions.len(), 1);
    let weights = ConvWeights { positions: Some(&positions), values: &values, scales: scales.as_deref(), bias: None };
    let conv = Conv::prepare(isa, &geometry, input, output, weights, Activation::Relu, choice)?;
    let (x, mut y) = (vec![0.5; input.len() + LINE], vec![0.0; output.len() + LINE]);
    let mut scratch = vec![0.0; conv.scratch_len()];
    let start_of = |memory: &[f32]| memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let (x_start, y_start) = (start_of(&x), start_of(&y));
    for _ in 0..runs {
        conv.run(&x[x_start..], &mut y[y_start..], None, &mut scratch);
    }
    println!("{} {} {}", positions.len(), output.pixels(), conv.kernel());
    Ok(())
}
