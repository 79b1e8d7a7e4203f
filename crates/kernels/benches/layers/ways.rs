//! Every way to run a layer here: the one place of the bench that knows how layers are prepared.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights, TinyConv};
use sentei_kernels::dense::{DenseChoice, DenseConv};
use sentei_kernels::depthwise::DepthwiseConv;
use sentei_kernels::elementwise::Elementwise;
use sentei_kernels::gemv::{DenseLinear, GEMV, LinearValues, SparseLinear};
use sentei_kernels::planes::Values;
use sentei_kernels::pool::{GlobalAverage, Pool, PoolKind};
use sentei_kernels::{Activation, Isa, Layer, Map};

use crate::cases::Shape;

/// A layer made ready for one instruction set.
pub struct Way {
    pub isa: Isa,
    pub layer: Box<dyn Layer>,
    /// It wants something to add.
    pub residual: bool,
}

/// Where the non-zeros of a layer are, and what: as numbers, and as bytes.
struct Nonzeros {
    positions: Vec<u32>,
    dense: bool,
    floats: Vec<f32>,
    bytes: Vec<i8>,
}

impl Nonzeros {
    fn random(weights: usize, zeros: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let positions: Vec<u32> = (0..weights as u32).filter(|_| rng.random_range(0..100) >= zeros).collect();
        let (floats, bytes) = (vec![0.5; positions.len()], vec![3; positions.len()]);
        Self { dense: zeros == 0, positions, floats, bytes }
    }
}

/// The ways to run `shape` with `zeros` per cent of its weights missing, on every instruction set of `isas`.
pub fn ways(shape: &Shape, zeros: u32, isas: &[Isa]) -> Vec<Way> {
    let nonzeros = Nonzeros::random(shape.weights(), zeros);
    let map = Map::aligned;
    let out = |g: &ConvGeometry| map(g.out_channels, g.out_height(), g.out_width());
    let mut ways = Vec::new();
    for isa in isas.iter().copied() {
        let mut residual = false;
        let layers: Vec<Box<dyn Layer>> = match shape {
            Shape::Conv(g) if g.groups > 1 => {
                let input = map(g.in_channels, g.in_height, g.in_width);
                let conv = DepthwiseConv::prepare(isa, g, input, out(g), &nonzeros.floats, None, Activation::Relu);
                vec![Box::new(conv.expect("valid layer"))]
            }
            Shape::Conv(g) => convs(isa, g, &nonzeros),
            Shape::Linear { inputs, outputs } => linears(isa, *inputs, *outputs, &nonzeros),
            Shape::MaxPool(g) => {
                let input = map(g.in_channels, g.in_height, g.in_width);
                vec![Box::new(Pool::prepare(isa, PoolKind::Max, g, input, out(g)).expect("valid layer"))]
            }
            Shape::Mean { channels, size } => {
                let input = map(*channels, *size, *size);
                vec![Box::new(GlobalAverage::prepare(isa, input, map(*channels, 1, 1)).expect("valid layer"))]
            }
            Shape::Add { channels, size } => {
                residual = true;
                let map = map(*channels, *size, *size);
                vec![Box::new(Elementwise::add(isa, map, map, Activation::Relu).expect("valid layer"))]
            }
        };
        ways.extend(layers.into_iter().map(|layer| Way { isa, layer, residual }));
    }
    ways
}

fn convs(isa: Isa, geometry: &ConvGeometry, nonzeros: &Nonzeros) -> Vec<Box<dyn Layer>> {
    let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
    let output = Map::aligned(geometry.out_channels, geometry.out_height(), geometry.out_width());
    let act = Activation::Relu;
    let tiny = |weights: ConvWeights<'_>| -> Option<Box<dyn Layer>> {
        let fits = TinyConv::fits(isa, geometry, weights.positions.is_none());
        fits.then(|| Box::new(TinyConv::prepare(isa, geometry, input, output, weights, act).expect("valid layer")) as _)
    };
    if nonzeros.dense {
        let values = Values::F32(nonzeros.floats.clone());
        let all = ConvWeights { positions: None, values: &values, scales: None, bias: None };
        let prepare = |choice| -> Box<dyn Layer> {
            let conv = DenseConv::prepare(isa, geometry, input, output, &nonzeros.floats, None, act, choice);
            Box::new(conv.expect("valid layer"))
        };
        return DenseChoice::candidates(isa, geometry).into_iter().map(prepare).chain(tiny(all)).collect();
    }
    let scales = vec![0.01; geometry.out_channels];
    let numbers = (Values::F32(nonzeros.floats.clone()), None);
    let bytes = (Values::I8(nonzeros.bytes.clone()), Some(&scales[..]));
    let prepare = |(values, scales)| {
        let choice = ConvChoice::guess(isa, geometry, input, nonzeros.positions.len(), 1);
        let weights = ConvWeights { positions: Some(&nonzeros.positions), values: &values, scales, bias: None };
        let conv = Conv::prepare(isa, geometry, input, output, weights, act, choice).expect("valid layer");
        let conv: Box<dyn Layer> = Box::new(conv);
        std::iter::once(conv).chain(tiny(weights)).collect::<Vec<_>>()
    };
    [numbers, bytes].map(prepare).into_iter().flatten().collect()
}

fn linears(isa: Isa, inputs: usize, outputs: usize, nonzeros: &Nonzeros) -> Vec<Box<dyn Layer>> {
    let scales = vec![0.01; outputs];
    let kinds = [LinearValues::F32(&nonzeros.floats), LinearValues::I8 { values: &nonzeros.bytes, scales: &scales }];
    let mut layers: Vec<Box<dyn Layer>> = Vec::new();
    for values in kinds {
        if nonzeros.dense {
            let layer = DenseLinear::prepare(isa, outputs, inputs, values, None).expect("valid layer");
            layers.push(Box::new(layer.with_activation(Activation::Relu)));
            continue;
        }
        for kernel in GEMV.iter().filter(|kernel| kernel.isa == isa) {
            let layer = SparseLinear::from_values(kernel, outputs, inputs, &nonzeros.positions, values, None);
            layers.push(Box::new(layer.expect("valid layer").with_activation(Activation::Relu)));
        }
    }
    layers
}
