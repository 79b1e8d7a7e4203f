//! The layers of a step, one file per kind.

mod choice;
mod conv;
mod depthwise;
mod norm;
mod pointwise;
mod pool;
mod resample;
mod same;

use std::collections::HashMap;

use candle_core::{Result, Var, bail};
use sentei_graph::ops::Conv as ConvOp;
use sentei_graph::{Op, ValueId};
use sentei_kernels::Isa;
use sentei_kernels::training::{ConvGeometry, Curve, Gradient, Lanes, Piecewise, Planes, PoolGeometry};

use super::bridge::Bridge;
use super::layer::{Layer, Target, Trained};
use super::plan::Part;
use crate::lower;
use crate::{Net, net::Planned};
use resample::Resample;

type Shapes = HashMap<ValueId, Vec<usize>>;

/// The layer that computes `part`.
///
/// * `shapes`: of all maps so far and of the output, batch included.
pub(super) fn layer(net: &Net, part: &Part, shapes: &Shapes, (isa, lanes): (Isa, Lanes)) -> Result<Box<dyn Layer>> {
    let planned = &net.plan()[part.position];
    let inputs = &planned.node.inputs;
    let planes = |value: ValueId| planes(lanes, shapes.get(&value)?);
    let maps = inputs.iter().filter(|value| shapes.contains_key(value)).count();
    let parameter = |index: usize| trained(net, inputs[index]);
    let activation = part.activation.and_then(piecewise);
    let cut = || Resample::of(&planned.node.op, &shapes[&inputs[0]], &shapes[&part.output]);
    let alone = part.activation.is_none() && !part.residual;
    Ok(match (&planned.node.op, planes(inputs[0]), planes(part.output)) {
        (Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_), ..) if maps == 1 => Box::new(same::Same),
        (Op::Conv(conv), Some(_), Some(_)) if maps == 1 && alone && is_parameter(net, inputs[1]) => {
            let geometry = geometry(conv, net, planned, shapes);
            let (weight, bias) = (parameter(1)?, inputs.get(2).map(|_| parameter(2)).transpose()?);
            match geometry.is_depthwise() {
                true => Box::new(depthwise::Depthwise::new(isa, geometry, weight, bias)?),
                false => Box::new(conv::Conv::new((isa, lanes), geometry, net.graph().name(inputs[1]), weight, bias)?),
            }
        }
        (Op::Gemm(_), Some(x), Some(y)) if maps == 1 && alone && x.pixels == 1 && is_parameter(net, inputs[1]) => {
            let bias = inputs.get(2).map(|_| parameter(2)).transpose()?;
            let geometry = fully_connected(x.channels, y.channels);
            Box::new(conv::Conv::new((isa, lanes), geometry, net.graph().name(inputs[1]), parameter(1)?, bias)?)
        }
        (Op::BatchNorm(op), Some(planes), _) if maps == 1 && (activation.is_some() || part.activation.is_none()) => {
            let running = [3, 4].map(|index| net.buffer(net.graph().name(inputs[index])).cloned());
            let [Some(mean), Some(variance)] = running else { bail!("a batch norm without running statistics") };
            let f = (activation.unwrap_or_default(), part.residual);
            let parameters = [parameter(1)?, parameter(2)?];
            Box::new(norm::Norm::new(planes, parameters, [mean, variance], [op.epsilon, op.momentum], f))
        }
        (Op::Add(_), ..) if maps == 2 && shapes[&inputs[0]] == shapes[&inputs[1]] => {
            match (part.activation, activation) {
                (Some(_), None) => bail!("an activation joined a sum that cannot compute it"),
                _ => Box::new(pointwise::Sum(activation.unwrap_or_default())),
            }
        }
        (Op::Mul(_), ..) if maps == 2 && factors(shapes, inputs).is_some() => {
            let factors = factors(shapes, inputs).unwrap_or_default();
            let Some(planes) = planes(inputs[1 - factors]) else { bail!("a factor without a map") };
            Box::new(pointwise::Factors { planes, factors, spare: Vec::new() })
        }
        (Op::MaxPool(op), Some(x), Some(_)) if shapes[&inputs[0]].len() == 4 => {
            let sizes = window(shapes, inputs[0], part.output);
            let geometry = pool::geometry(x.channels, sizes, op.kernel, op.stride, op.pads);
            Box::new(pool::Pool { geometry, kind: pool::Kind::Max })
        }
        (Op::AveragePool(op), Some(x), Some(_)) if shapes[&inputs[0]].len() == 4 => {
            let sizes = window(shapes, inputs[0], part.output);
            let geometry = pool::geometry(x.channels, sizes, op.kernel, op.stride, op.pads);
            Box::new(pool::Pool { geometry, kind: pool::Kind::Average { count_padding: op.count_include_pad } })
        }
        (Op::GlobalAveragePool(_), Some(x), _) => {
            let geometry = PoolGeometry::global(x.channels, [x.pixels, 1]);
            Box::new(pool::Pool { geometry, kind: pool::Kind::Average { count_padding: false } })
        }
        (Op::Slice(_) | Op::Pad(_), Some(_), _) if cut().is_some() => {
            Box::new(cut().ok_or_else(|| candle_core::Error::Msg("a cut-out of other axes".into()))?)
        }
        (op, ..) if maps == 1 && curve(op).is_some() => Box::new(pointwise::Curved(curve(op).unwrap_or(Curve::Silu))),
        (op, ..) if maps == 1 && bent(op).is_some() => Box::new(pointwise::Bent(bent(op).unwrap_or_default())),
        _ if alone => {
            let node = (planned.id, part.position as u64, &planned.node);
            Box::new(Bridge::new(net, node, |value| shapes.get(&value).cloned())?)
        }
        (op, ..) => bail!("{} was joined with a node that it cannot compute", op.name()),
    })
}

fn is_parameter(net: &Net, value: ValueId) -> bool {
    net.var(net.graph().name(value)).is_some()
}

fn trained(net: &Net, value: ValueId) -> Result<Trained> {
    let name = net.graph().name(value);
    match net.var(name) {
        Some(parameter) => Trained::new(&parameter.var),
        // Constants of the graph are neither moved nor masked; their gradient goes nowhere.
        None => Trained::new(&Var::from_tensor(net.constant_value(value))?),
    }
}

fn planes(lanes: Lanes, shape: &[usize]) -> Option<Planes> {
    match shape {
        [_, channels, pixels @ ..] => Some(Planes { lanes, channels: *channels, pixels: pixels.iter().product() }),
        _ => None,
    }
}

/// The input of a product of two maps that holds one number per image and channel of the other.
fn factors(shapes: &Shapes, inputs: &[ValueId]) -> Option<usize> {
    let shape = |index: usize| shapes[&inputs[index]].as_slice();
    let fits = |factors: &[usize], map: &[usize]| {
        factors.len() == 4 && map.len() == 4 && factors[..2] == map[..2] && factors[2..] == [1, 1] && factors != map
    };
    [1, 0].into_iter().find(|index| fits(shape(*index), shape(1 - *index)))
}

/// Height and width before and after.
fn window(shapes: &Shapes, input: ValueId, output: ValueId) -> [[usize; 2]; 2] {
    [input, output].map(|value| [shapes[&value][2], shapes[&value][3]])
}

fn geometry(op: &ConvOp, net: &Net, planned: &Planned, shapes: &Shapes) -> ConvGeometry {
    let [input, output] = window(shapes, planned.node.inputs[0], planned.node.output);
    let weight = net.constant_value(planned.node.inputs[1]).dims();
    ConvGeometry {
        groups: op.groups,
        in_channels: shapes[&planned.node.inputs[0]][1],
        out_channels: weight[0],
        input,
        output,
        kernel: [weight[2], weight[3]],
        stride: op.stride,
        pads: [op.pads[0], op.pads[1]],
        dilation: op.dilation,
    }
}

fn fully_connected(in_channels: usize, out_channels: usize) -> ConvGeometry {
    let one = [1, 1];
    ConvGeometry {
        groups: 1,
        in_channels,
        out_channels,
        input: one,
        output: one,
        kernel: one,
        stride: one,
        pads: [0, 0],
        dilation: one,
    }
}

/// The same activation for the kernels; those whose slope does not show in the output are [`Curve`]s.
fn piecewise(f: lower::Piecewise) -> Option<Piecewise> {
    match f {
        lower::Piecewise::Leaky { alpha } => Some(Piecewise::Leaky { alpha }),
        lower::Piecewise::Clip { min, max } => Some(Piecewise::Clip { min, max }),
        lower::Piecewise::HardSigmoid { .. } => None,
    }
}

fn bent(op: &Op) -> Option<Piecewise> {
    lower::as_piecewise(op).and_then(piecewise).filter(|f| f.slope_shows_in_output())
}

fn curve(op: &Op) -> Option<Curve> {
    match op {
        Op::HardSigmoid(op) => Some(Curve::HardSigmoid { alpha: op.alpha, beta: op.beta }),
        Op::HardSwish(_) => Some(Curve::HardSwish),
        Op::Sigmoid(_) => Some(Curve::Sigmoid),
        Op::Silu(_) => Some(Curve::Silu),
        _ => None,
    }
}

/// A target as the kernels take it.
fn gradient<'a>(target: &'a mut Target<'_>) -> Gradient<'a> {
    match target {
        Target::Write(map) => Gradient::write(map),
        Target::Add(map) => Gradient::add(map),
    }
}
