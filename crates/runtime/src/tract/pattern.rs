//! Finds the layer around a lifted weight in tract's typed graph, and what follows it that a kernel can take along.
//!
//! After typing, a convolution is `Conv(x, weight, bias)`; a Gemm or MatMul is an `EinSum` with an optional `Add` of a
//! constant; ReLU and Clip are `Max` and `Min` with a constant.

use sentei_kernels::Activation;
use sentei_kernels::conv::ConvGeometry;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Max, Min};
use tract_onnx::tract_core::ops::nn::{DataFormat, HardSwish};

/// A chain of nodes that one sparse kernel can replace.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    /// Nodes that disappear, in the order they run; the first reads the weight.
    pub(super) nodes: Vec<usize>,
    /// Activation input.
    pub(super) x: OutletId,
    /// Added before the activation.
    pub(super) residual: Option<OutletId>,
    /// One number per output, or none.
    pub(super) bias: Option<Vec<f32>>,
    pub(super) activation: Activation,
    /// Operators of the file that are covered, for example `Conv+Add+Relu`.
    pub(super) op: String,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Conv(ConvGeometry),
    /// `rows` outputs, `cols` inputs; `transposed` when the weight lies as `[cols, rows]`.
    Linear {
        rows: usize,
        cols: usize,
        transposed: bool,
    },
}

impl Layer {
    /// The outlet that the kernel's result replaces.
    pub(super) fn output(&self) -> OutletId {
        OutletId::new(*self.nodes.last().expect("a layer has at least one node"), 0)
    }
}

/// The layer whose weight operand is input `slot` of node `id`, if a sparse kernel can run it.
pub(super) fn layer_at(model: &TypedModel, id: usize, slot: usize) -> Option<Layer> {
    let node = model.node(id);
    let mut layer = if let Some(conv) = node.op_as::<Conv>() {
        conv_layer(model, node, conv, slot)?
    } else {
        linear_layer(model, node, node.op_as::<EinSum>()?, slot)?
    };
    fuse_following(model, &mut layer);
    Some(layer)
}

fn conv_layer(model: &TypedModel, node: &TypedNode, conv: &Conv, slot: usize) -> Option<Layer> {
    let [x, _, bias] = node.inputs[..] else { return None };
    let spec = &conv.pool_spec;
    let planar = spec.data_format == DataFormat::NCHW && conv.kernel_fmt == KernelFormat::OIHW;
    let fact = model.outlet_fact(x).ok()?;
    let &[_, in_channels, height, width] = fact.shape.as_concrete()? else { return None };
    if slot != 1 || !planar || conv.q_params.is_some() || fact.datum_type != f32::datum_type() {
        return None;
    }
    let padding = spec.computed_padding(&[height, width]);
    let pair = |values: &[usize]| <[usize; 2]>::try_from(values).ok();
    let geometry = ConvGeometry {
        stride: pair(&spec.strides())?,
        dilation: pair(&spec.dilations())?,
        pads: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
        groups: conv.group,
        ..ConvGeometry::new(in_channels, [height, width], spec.output_channels, pair(&spec.kernel_shape)?)
    };
    let tract_output = [padding[0].convoluted, padding[1].convoluted];
    if geometry.validate().is_err() || tract_output != [geometry.out_height(), geometry.out_width()] {
        return None;
    }
    let bias = match constant_f32(model, bias)? {
        bias if bias.len() == spec.output_channels => bias,
        bias if bias.len() == 1 => vec![bias[0]; spec.output_channels],
        _ => return None,
    };
    let (kind, op) = (Kind::Conv(geometry), "Conv".to_owned());
    Some(Layer { kind, nodes: vec![node.id], x, residual: None, bias: Some(bias), activation: Activation::None, op })
}

fn linear_layer(model: &TypedModel, node: &TypedNode, einsum: &EinSum, slot: usize) -> Option<Layer> {
    let [x, weight] = node.inputs[..] else { return None };
    if slot != 1 || einsum.q_params.is_some() || einsum.operating_dt != f32::datum_type() {
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
    let weight = model.outlet_fact(weight).ok()?;
    let &[first, second] = weight.shape.as_concrete()? else { return None };
    let (rows, cols) = if transposed { (second, first) } else { (first, second) };
    let (kind, op) = (Kind::Linear { rows, cols, transposed }, "Gemm".to_owned());
    let mut layer =
        Layer { kind, nodes: vec![node.id], x, residual: None, bias: None, activation: Activation::None, op };
    if let Some((next, other)) = following(model, &layer).filter(|(next, _)| is_bin::<Add>(next))
        && let Some(bias) = other.and_then(|other| constant_f32(model, other))
        && other.is_some_and(|other| per_column(model, other, rows))
    {
        layer.bias = Some(if bias.len() == 1 { vec![bias[0]; rows] } else { bias });
        layer.nodes.push(next.id);
    }
    Some(layer)
}

/// Whether a constant adds the same numbers to every sample of a `[batch, rows]` result.
fn per_column(model: &TypedModel, outlet: OutletId, rows: usize) -> bool {
    let shape = model.outlet_fact(outlet).ok().and_then(|fact| fact.shape.as_concrete().map(<[usize]>::to_vec));
    shape.is_some_and(|shape| match shape[..] {
        [] => true,
        [.., last] => (last == rows || last == 1) && shape.iter().product::<usize>() == last,
    })
}

fn fuse_following(model: &TypedModel, layer: &mut Layer) {
    if let (Kind::Conv(_), Some((next, Some(other)))) = (&layer.kind, following(model, layer))
        && is_bin::<Add>(next)
        && same_shape(model, layer.output(), other)
        && model.outlet_fact(other).is_ok_and(|fact| fact.konst.is_none())
    {
        layer.residual = Some(other);
        layer.nodes.push(next.id);
        layer.op += "+Add";
    }
    let Some((next, other)) = following(model, layer) else { return };
    let bound = |other: Option<OutletId>| match constant_f32(model, other?)?[..] {
        [bound] => Some(bound),
        _ => None,
    };
    let hard_swish = next.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<HardSwish>());
    if hard_swish {
        layer.activation = Activation::HardSwish;
        layer.op += "+HardSwish";
    } else if let (true, Some(max)) = (is_bin::<Min>(next), bound(other)) {
        layer.activation = Activation::Clip { min: f32::NEG_INFINITY, max };
        layer.op += "+Clip";
    } else if let (true, Some(min)) = (is_bin::<Max>(next), bound(other)) {
        layer.nodes.push(next.id);
        let above = following(model, layer).filter(|(next, _)| is_bin::<Min>(next));
        match above.and_then(|(next, other)| Some((next, bound(other)?))) {
            Some((above, max)) => {
                layer.nodes.push(above.id);
                layer.activation = Activation::Clip { min, max };
                layer.op += "+Clip";
            }
            None if min == 0.0 => {
                layer.activation = Activation::Relu;
                layer.op += "+Relu";
            }
            None => {
                layer.activation = Activation::Clip { min, max: f32::INFINITY };
                layer.op += "+Clip";
            }
        }
        return;
    } else {
        return;
    }
    layer.nodes.push(next.id);
}

/// The only reader of the layer's result, and its other operand if it has two.
fn following<'a>(model: &'a TypedModel, layer: &Layer) -> Option<(&'a TypedNode, Option<OutletId>)> {
    let output = layer.output();
    let [successor] = model.outlet_successors(output) else { return None };
    if model.outputs.contains(&output) {
        return None;
    }
    let next = model.node(successor.node);
    let out = (next.outputs.len() == 1).then_some(&next.outputs[0].fact)?;
    let same = out.shape == model.outlet_fact(output).ok()?.shape;
    match next.inputs[..] {
        [_] if same => Some((next, None)),
        [_, _] if same => Some((next, Some(next.inputs[1 - successor.slot]))),
        _ => None,
    }
}

fn is_bin<M: tract_onnx::tract_core::ops::binary::BinMiniOp>(node: &TypedNode) -> bool {
    node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<M>())
}

fn same_shape(model: &TypedModel, a: OutletId, b: OutletId) -> bool {
    let fact = |outlet| model.outlet_fact(outlet).ok();
    fact(a).zip(fact(b)).is_some_and(|(a, b)| a.shape == b.shape && a.datum_type == b.datum_type)
}

/// Casts, added axes and scalings between a constant and its reader, at most.
const MAX_CONSTANT_DEPTH: usize = 8;

/// The value of an outlet that depends on constants only.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    constant_below(model, outlet, MAX_CONSTANT_DEPTH)
}

fn constant_below(model: &TypedModel, outlet: OutletId, depth: usize) -> Option<Arc<Tensor>> {
    let fact = model.outlet_fact(outlet).ok()?;
    if let Some(value) = &fact.konst {
        return Some(Arc::clone(value));
    }
    let node = model.node(outlet.node);
    if depth == 0 || node.inputs.is_empty() {
        return None;
    }
    let inputs: Option<TVec<TValue>> =
        node.inputs.iter().map(|input| constant_below(model, *input, depth - 1).map(IntoTValue::into_tvalue)).collect();
    let outputs = node.op.eval_out_of_plan(inputs?).ok()??;
    Some(outputs.into_iter().nth(outlet.slot)?.into_arc_tensor())
}

fn constant_f32(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    let tensor = constant(model, outlet)?;
    if tensor.datum_type() != f32::datum_type() {
        return None;
    }
    Some(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
}
