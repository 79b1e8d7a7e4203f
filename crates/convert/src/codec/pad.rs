//! `Pad`, mode `constant`: amounts are attributes before opset 11 and inputs since, with `axes` since 18.

use sentei_graph::Node;
use sentei_graph::ops::Pad;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let mode = call.text("mode").unwrap_or("constant");
    if mode != "constant" {
        return Err(call.refuse("attribute `mode`", "constant", mode));
    }
    let x = into.value(call, 0)?;
    let rank = into.shape(x).len();
    let (pads, value, axes) = if call.opset < 11 {
        (call.ints("pads").map(<[i64]>::to_vec), call.float("value"), None)
    } else {
        (into.int_list(call, 1)?, into.scalar(call, 2)?, into.int_list(call, 3)?)
    };
    let pads = pads.ok_or_else(|| call.refuse("pads", "a constant list", "nothing"))?;
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    call.axes(&axes, rank)?;
    let refuse = || call.refuse("pads", format!("{} amounts of at least 0", 2 * axes.len()), format!("{pads:?}"));
    if pads.len() != 2 * axes.len() {
        return Err(refuse());
    }
    let mut amounts = vec![(0, 0); rank];
    for (k, axis) in axes.iter().enumerate() {
        let amount = |v: i64| usize::try_from(v).ok().filter(|n| *n <= i32::MAX as usize).ok_or_else(refuse);
        amounts[call.axis(*axis, rank)?] = (amount(pads[k])?, amount(pads[k + axes.len()])?);
    }
    into.emit(call, Pad { amounts, value: value.unwrap_or(0.0) }, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Pad, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let before = op.amounts.iter().map(|a| a.0 as i64);
    let pads: Vec<i64> = before.chain(op.amounts.iter().map(|a| a.1 as i64)).collect();
    let pads = to.int64s(&pads);
    let value = to.scalar(op.value);
    to.push("Pad", &[&x, &pads, &value], &y, vec![]);
}
