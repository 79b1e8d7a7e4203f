//! `MatMul`; a feature batch times a constant matrix is read as Gemm, with a following bias `Add`.

use sentei_graph::Node;
use sentei_graph::ops::{Gemm, MatMul};

use super::gemm::transposed;
use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let constant = into.constant(call, 1)?.and_then(|c| c.to_tensor());
    let (2, Some(weight)) = (into.shape(x).len(), constant.filter(|w| w.shape.len() == 2)) else {
        let other = into.value(call, 1)?;
        into.emit(call, MatMul, &[x, other])?;
        return Ok(());
    };
    let weight = transposed(call, weight)?;
    let outputs = weight.shape[0];
    let weight = into.initializer(call.input(1).unwrap_or("weight"), weight)?;
    if let Some((add, name, bias)) = into.bias_ahead(call, outputs, 2)? {
        let bias = into.initializer(&name, bias)?;
        into.absorb(&add);
        into.emit(&add, Gemm, &[x, weight, bias])?;
    } else {
        into.emit(call, Gemm, &[x, weight])?;
    }
    Ok(())
}

pub(super) fn export(_op: &MatMul, to: &mut Exporter, node: &Node) {
    to.node("MatMul", node, vec![]);
}
