//! `HardSigmoid`; `x * HardSigmoid(x)` with slope 1/6 and offset 1/2 is read as HardSwish.

use sentei_graph::Node;
use sentei_graph::ops::{HardSigmoid, HardSwish};

use super::sigmoid::gates;
use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;
use crate::proto::AttributeProto;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let op = HardSigmoid { alpha: call.float("alpha").unwrap_or(0.2), beta: call.float("beta").unwrap_or(0.5) };
    let swish = (op.alpha - 1.0 / 6.0).abs() < f32::EPSILON && op.beta == 0.5;
    let gate = into.sole_reader(call, "Mul").filter(|mul| swish && gates(call, mul));
    if let Some(mul) = gate {
        into.absorb(&mul);
        into.emit(&mul, HardSwish, &[x])?;
    } else {
        into.emit(call, op, &[x])?;
    }
    Ok(())
}

pub(super) fn export(op: &HardSigmoid, to: &mut Exporter, node: &Node) {
    let attributes = vec![AttributeProto::float("alpha", op.alpha), AttributeProto::float("beta", op.beta)];
    to.node("HardSigmoid", node, attributes);
}
