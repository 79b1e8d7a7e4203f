//! What one node of tract's typed graph is as a layer of a region, or that it is none.
//!
//! After typing, a convolution is `Conv(x, weight, bias)`; a Gemm or MatMul is an `EinSum` with an optional `Add` of a
//! constant; ReLU and Clip are `Max` and `Min` with a constant; a global average is a `Reduce` and a `Div`.

use std::sync::Arc;

use sentei_kernels::Activation;
use sentei_kernels::conv::ConvGeometry;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode, StridedSlice};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min};
use tract_onnx::tract_core::ops::nn::{DataFormat, HardSwish, Reduce, Reducer};

use super::constant::{constant, constant_f32, is_bin, per_column};
use super::find::Graph;
use crate::region::{Kind, Pool, Shape, named};

/// Nodes that are one layer, or that only give a value another shape.
#[derive(Debug)]
pub(super) struct Step {
    /// In the order they run; what all but the last give is read by the next alone.
    pub(super) nodes: Vec<usize>,
    pub(super) x: OutletId,
    pub(super) residual: Option<OutletId>,
    /// `None`: the same elements in the same order.
    pub(super) layer: Option<(Kind, Activation)>,
    /// Operators of the file that are covered.
    pub(super) op: &'static str,
}

impl Step {
    fn new(node: &TypedNode, op: &'static str, kind: Kind) -> Self {
        let (nodes, layer) = (vec![node.id], Some((kind, Activation::None)));
        Self { nodes, x: node.inputs[0], residual: None, layer, op }
    }

    /// The outlet that the result replaces.
    pub(super) fn y(&self) -> OutletId {
        OutletId::new(*self.nodes.last().expect("a step has at least one node"), 0)
    }
}

/// What `node` is, together with nodes behind it that mean nothing alone.
pub(super) fn step_at(graph: &Graph<'_>, node: &TypedNode) -> Option<Step> {
    let op = &node.op;
    let step = if let Some(conv) = op.downcast_ref::<Conv>() {
        conv_step(graph, node, conv)?
    } else if let Some(einsum) = op.downcast_ref::<EinSum>() {
        linear_step(graph, node, einsum)?
    } else if let Some(pool) = op.downcast_ref::<MaxPool>() {
        let indices = node.outputs.get(1).is_some_and(|output| !output.successors.is_empty());
        let window = window(graph, node, &pool.pool_spec).filter(|_| !indices)?;
        Step::new(node, "MaxPool", Kind::Pool { pool: Pool::Max, window })
    } else if let Some(pool) = op.downcast_ref::<SumPool>() {
        average_step(graph, node, pool)?
    } else if let Some(reduce) = op.downcast_ref::<Reduce>() {
        global_average_step(graph, node, reduce)?
    } else if let Some(bin) = op.downcast_ref::<TypedBinOp>() {
        elementwise_step(graph, node, bin)?
    } else if op.downcast_ref::<ElementWiseOp>().is_some_and(|op| op.0.is::<HardSwish>()) {
        activation(graph, node, node.inputs[0], "HardSwish", Activation::HardSwish)?
    } else if let Some(axis) = op.downcast_ref::<AxisOp>() {
        alias(node).filter(|_| keeps_order(axis, &graph.dims(node.inputs[0])))?
    } else if op.is::<Identity>() {
        alias(node)?
    } else {
        shortcut_step(graph, node)?
    };
    let outside: Vec<OutletId> = std::iter::once(step.x).chain(step.residual).chain([step.y()]).collect();
    let known = outside.iter().all(|outlet| graph.shape(*outlet).is_some());
    let reads = outside[..outside.len() - 1].iter().all(|outlet| graph.varies(*outlet));
    (known && reads).then_some(step)
}

fn alias(node: &TypedNode) -> Option<Step> {
    Some(Step { nodes: vec![node.id], x: *node.inputs.first()?, residual: None, layer: None, op: "Reshape" })
}

/// Whether elements keep their order; moving an axis of one element changes none.
fn keeps_order(op: &AxisOp, dims: &[usize]) -> bool {
    let AxisOp::Move(from, to) = op else { return true };
    let mut axes: Vec<usize> = (0..dims.len()).collect();
    if *from >= axes.len() || *to >= axes.len() {
        return false;
    }
    let axis = axes.remove(*from);
    axes.insert(*to, axis);
    axes.retain(|axis| dims[*axis] != 1);
    axes.is_sorted()
}

fn conv_step(graph: &Graph<'_>, node: &TypedNode, conv: &Conv) -> Option<Step> {
    let [_, weight, bias] = node.inputs[..] else { return None };
    if conv.kernel_fmt != KernelFormat::OIHW || conv.q_params.is_some() {
        return None;
    }
    let geometry = ConvGeometry { groups: conv.group, ..window(graph, node, &conv.pool_spec)? };
    let outputs = geometry.out_channels;
    let bias = match constant_f32(graph.model, bias)? {
        bias if bias.len() == outputs => bias,
        bias if bias.len() == 1 => vec![bias[0]; outputs],
        _ => return None,
    };
    let weights = graph.weights(weight, Some(bias))?;
    let shape = [outputs, geometry.in_channels / geometry.groups.max(1), geometry.kernel[0], geometry.kernel[1]];
    if weights.shape != shape || geometry.validate().is_err() {
        return None;
    }
    Some(Step::new(node, "Conv", Kind::Conv { geometry, weights: Arc::new(weights) }))
}

/// Sizes of a window that moves over a map of `[batch, channels, rows, columns]`; one filter per channel.
fn window(graph: &Graph<'_>, node: &TypedNode, spec: &PoolSpec) -> Option<ConvGeometry> {
    let &[_, in_channels, height, width] = &graph.dims(node.inputs[0])[..] else { return None };
    if spec.data_format != DataFormat::NCHW {
        return None;
    }
    let padding = spec.computed_padding(&[height, width]);
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values).ok();
    let geometry = ConvGeometry {
        stride: pair(&spec.strides())?,
        dilation: pair(&spec.dilations())?,
        pads: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
        groups: in_channels,
        ..ConvGeometry::new(in_channels, [height, width], spec.output_channels, pair(&spec.kernel_shape)?)
    };
    let tract_output = [padding[0].convoluted, padding[1].convoluted];
    (tract_output == [geometry.out_height(), geometry.out_width()]).then_some(geometry)
}

fn average_step(graph: &Graph<'_>, node: &TypedNode, pool: &SumPool) -> Option<Step> {
    let window = window(graph, node, &pool.pool_spec).filter(|_| pool.normalize)?;
    let counted_pads = match &pool.pool_spec.padding {
        _ if !pool.count_include_pad => [0; 4],
        // what rounding up adds beyond the padding of the file does not count
        PaddingSpec::ExplicitOnnxPool(before, after, _) => [&before[..], &after[..]].concat().try_into().ok()?,
        _ => window.pads,
    };
    let pool = Pool::Average { counted_pads };
    Some(Step::new(node, "AveragePool", Kind::Pool { pool, window }))
}

fn global_average_step(graph: &Graph<'_>, node: &TypedNode, reduce: &Reduce) -> Option<Step> {
    let &[_, channels, height, width] = &graph.dims(node.inputs[0])[..] else { return None };
    if reduce.reducer != Reducer::Sum || reduce.axes[..] != [2, 3] {
        return None;
    }
    let (next, slot) = graph.sole_reader(OutletId::new(node.id, 0))?;
    let divisor = next.inputs.get(1).and_then(|divisor| constant_f32(graph.model, *divisor))?;
    if slot != 0 || !is_bin::<Div>(next) || divisor != [(height * width) as f32] {
        return None;
    }
    let step = Step::new(node, "GlobalAveragePool", Kind::GlobalAverage { input: Shape::new(channels, height, width) });
    Some(Step { nodes: vec![node.id, next.id], ..step })
}

fn linear_step(graph: &Graph<'_>, node: &TypedNode, einsum: &EinSum) -> Option<Step> {
    let [x, weight] = node.inputs[..] else { return None };
    if einsum.q_params.is_some() || einsum.operating_dt != f32::datum_type() || graph.dims(x).len() != 2 {
        return None;
    }
    let (inputs, outputs) = einsum.axes.to_strs();
    let axes = |text: &str| <[char; 2]>::try_from(text.chars().collect::<Vec<_>>()).ok();
    let ([m, k], w, [out_m, n]) = (axes(&inputs[0])?, axes(&inputs[1])?, axes(&outputs[0])?);
    let transposed = match w {
        [first, second] if [first, second] == [n, k] => false,
        [first, second] if [first, second] == [k, n] => true,
        _ => return None,
    };
    if m != out_m || m == n || m == k || n == k {
        return None;
    }
    let mut nodes = vec![node.id];
    let rows = graph.dims(OutletId::new(node.id, 0)).get(1).copied()?;
    let mut bias = None;
    if let Some((next, slot)) = graph.sole_reader(OutletId::new(node.id, 0))
        && is_bin::<Add>(next)
        && graph.dims(OutletId::new(next.id, 0)) == graph.dims(OutletId::new(node.id, 0))
        && let Some(numbers) = constant_f32(graph.model, next.inputs[1 - slot])
        && per_column(graph.model, next.inputs[1 - slot], rows)
    {
        bias = Some(if numbers.len() == 1 { vec![numbers[0]; rows] } else { numbers });
        nodes.push(next.id);
    }
    let weights = graph.weights(weight, bias)?;
    let &[first, second] = &weights.shape[..] else { return None };
    let (weights, shape) =
        if transposed { (weights.transposed(), [second, first]) } else { (weights, [first, second]) };
    let [outputs, cols] = shape;
    if outputs != rows || graph.dims(x)[1] != cols {
        return None;
    }
    let step = Step::new(node, "Gemm", Kind::Linear { rows, cols, weights: Arc::new(weights) });
    Some(Step { nodes, ..step })
}

fn elementwise_step(graph: &Graph<'_>, node: &TypedNode, bin: &TypedBinOp) -> Option<Step> {
    let [a, b] = node.inputs[..] else { return None };
    if bin.1.is_some_and(|kind| kind != f32::datum_type()) {
        return None;
    }
    if is_bin::<Add>(node) && graph.varies(a) && graph.varies(b) && graph.dims(a) == graph.dims(b) {
        let kind = Kind::Add { shape: graph.shape(OutletId::new(node.id, 0))? };
        return Some(Step { residual: Some(b), ..Step::new(node, "Add", kind) });
    }
    let (x, other) = if graph.varies(a) { (a, b) } else { (b, a) };
    let &[bound] = &constant_f32(graph.model, other)?[..] else { return None };
    if bound.is_nan() {
        return None;
    }
    if is_bin::<Max>(node) {
        let name = if bound == 0.0 { "Relu" } else { "Clip" };
        return activation(graph, node, x, name, named(bound, f32::INFINITY));
    }
    if is_bin::<Min>(node) {
        return activation(graph, node, x, "Clip", named(f32::NEG_INFINITY, bound));
    }
    None
}

fn activation(
    graph: &Graph<'_>,
    node: &TypedNode,
    x: OutletId,
    op: &'static str,
    activation: Activation,
) -> Option<Step> {
    let y = OutletId::new(node.id, 0);
    let kind = Kind::Copy { shape: graph.shape(y)? };
    // a constant of higher rank would change the shape
    let same = graph.dims(x) == graph.dims(y);
    same.then(|| Step { nodes: vec![node.id], x, residual: None, layer: Some((kind, activation)), op })
}

/// Rows and columns taken at a step, or channels of zeros added, as ResNets for CIFAR do beside their blocks.
fn shortcut_step(graph: &Graph<'_>, node: &TypedNode) -> Option<Step> {
    let &[batch, channels, height, width] = &graph.dims(*node.inputs.first()?)[..] else { return None };
    let input = Shape::new(channels, height, width);
    let (op, kind) = if let Some(pad) = node.op_as::<Pad>() {
        let PadMode::Constant(value) = &pad.mode else { return None };
        let [none, (before, after), above, beside] = pad.pads[..] else { return None };
        let zero = value.cast_to_scalar::<f32>().ok()? == 0.0;
        if !zero || [none, above, beside] != [(0, 0); 3] {
            return None;
        }
        ("Pad", Kind::Shortcut { input, step: 1, before, after })
    } else {
        let step = strided(graph, node, node.op_as::<StridedSlice>()?, [batch, channels, height, width])?;
        ("Slice", Kind::Shortcut { input, step, before: 0, after: 0 })
    };
    Some(Step::new(node, op, kind))
}

/// The common step over rows and columns of a slice that leaves everything else whole.
fn strided(graph: &Graph<'_>, node: &TypedNode, slice: &StridedSlice, dims: [usize; 4]) -> Option<usize> {
    let integers = |input: usize| -> Option<Vec<i64>> {
        let tensor = constant(graph.model, *node.inputs.get(input)?)?.cast_to::<i64>().ok()?.into_owned();
        Some(tensor.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec())
    };
    let (begin, end) = (constant(graph.model, *node.inputs.get(1)?)?, constant(graph.model, *node.inputs.get(2)?)?);
    let strides: Vec<i32> = match slice.optional_steps_input {
        Some(input) => integers(input)?.into_iter().map(|step| step as i32).collect(),
        None => vec![1; dims.len()],
    };
    let axes: Vec<i64> = match slice.optional_axes_input {
        Some(input) => integers(input)?,
        None => (0..dims.len() as i64).collect(),
    };
    if slice.shrink_axis_mask != 0 {
        return None;
    }
    let mut steps = [1; 2];
    for (at, axis) in axes.into_iter().enumerate() {
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        let dim = dims.get(axis)?.to_dim();
        let taken = slice.prepare_one_dim(at, &dim, &begin, &end, &strides).ok()?;
        if taken.begin != 0.to_dim() || taken.end != dim {
            return None;
        }
        match (axis, usize::try_from(taken.stride).ok()?) {
            (_, 1) => {}
            (2 | 3, stride) => steps[axis - 2] = stride,
            _ => return None,
        }
    }
    (steps[0] == steps[1] && steps[0] > 0).then_some(steps[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_an_axis_of_one_element_keeps_the_order() {
        assert!(keeps_order(&AxisOp::Move(1, 3), &[1, 1, 4, 5]));
        assert!(keeps_order(&AxisOp::Move(2, 1), &[1, 4, 1, 5]));
        assert!(!keeps_order(&AxisOp::Move(1, 3), &[1, 3, 4, 5]));
        assert!(keeps_order(&AxisOp::Add(2), &[3, 4]));
    }
}
