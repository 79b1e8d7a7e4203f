//! `Sigmoid`; `x * Sigmoid(x)` is read as Silu.

use sentei_graph::Node;
use sentei_graph::ops::{Sigmoid, Silu};

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let gate = into.sole_reader(call, "Mul").filter(|mul| gates(call, mul));
    if let Some(mul) = gate {
        into.absorb(&mul);
        into.emit(&mul, Silu, &[x])?;
    } else {
        into.emit(call, Sigmoid, &[x])?;
    }
    Ok(())
}

/// Whether `mul` multiplies the input of `call` with its output.
pub(super) fn gates(call: &Call, mul: &Call) -> bool {
    let (x, gate) = (call.input(0), Some(call.output()));
    (mul.input(0) == x && mul.input(1) == gate) || (mul.input(0) == gate && mul.input(1) == x)
}

pub(super) fn export(_op: &Sigmoid, to: &mut Exporter, node: &Node) {
    to.node("Sigmoid", node, vec![]);
}
