//! `Gemm`, normalised to a weight `[out, in]`: `alpha`, `beta` and `transB` go into the constants.

use sentei_graph::ops::Gemm;
use sentei_graph::{Node, Tensor};

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    if call.flag("transA") {
        return Err(call.refuse("attribute `transA`", "0", 1));
    }
    let x = into.value(call, 0)?;
    let Some(weight) = into.constant(call, 1)?.and_then(|c| c.to_tensor()) else {
        return Err(call.refuse("input 1", "a constant float weight", "a computed one"));
    };
    let mut weight = if call.flag("transB") { matrix(call, weight)? } else { transposed(call, weight)? };
    scale(&mut weight, call.float("alpha").unwrap_or(1.0));
    let outputs = weight.shape[0];
    let name = call.input(1).unwrap_or("weight");
    let weight = into.initializer(name, weight)?;
    if let Some(name) = call.input(2) {
        let Some(bias) = into.constant(call, 2)?.and_then(|c| c.to_tensor()) else {
            return Err(call.refuse("input 2", "a constant float bias", "a computed one"));
        };
        let found = format!("{:?}", bias.shape);
        let mut bias = row(bias, outputs).ok_or_else(|| call.refuse("input 2", format!("[{outputs}]"), found))?;
        scale(&mut bias, call.float("beta").unwrap_or(1.0));
        let bias = into.initializer(name, bias)?;
        into.emit(call, Gemm, &[x, weight, bias])?;
    } else if let Some((add, name, bias)) = into.bias_ahead(call, outputs, 2)? {
        let bias = into.initializer(&name, bias)?;
        into.absorb(&add);
        into.emit(&add, Gemm, &[x, weight, bias])?;
    } else {
        into.emit(call, Gemm, &[x, weight])?;
    }
    Ok(())
}

fn matrix(call: &Call, tensor: Tensor) -> Result<Tensor, ConvertError> {
    match tensor.shape[..] {
        [_, _] => Ok(tensor),
        _ => Err(call.refuse("input 1", "a matrix", format!("{:?}", tensor.shape))),
    }
}

/// `[in, out]` to `[out, in]`.
pub(super) fn transposed(call: &Call, tensor: Tensor) -> Result<Tensor, ConvertError> {
    let tensor = matrix(call, tensor)?;
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let data = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| tensor.data[r * columns + c]);
    Ok(Tensor { shape: vec![columns, rows], data: data.collect() })
}

fn scale(tensor: &mut Tensor, by: f32) {
    if by != 1.0 {
        tensor.data.iter_mut().for_each(|v| *v *= by);
    }
}

/// A bias of one number per output, from `[out]`, `[1, out]` or a single number.
fn row(bias: Tensor, outputs: usize) -> Option<Tensor> {
    let single = bias.data.len() == 1 && bias.shape.len() <= 2;
    match bias.shape[..] {
        [n] | [1, n] if n == outputs => Some(Tensor { shape: vec![outputs], data: bias.data }),
        _ if single => Some(Tensor::full([outputs], bias.data[0])),
        _ => None,
    }
}

pub(super) fn export(_op: &Gemm, to: &mut Exporter, node: &Node) {
    to.node("Gemm", node, vec![AttributeProto::int("transB", 1)]);
}
