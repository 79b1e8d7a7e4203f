//! `Reshape` with a constant target; a leading batch length is kept as `0`, so that the batch may change.

use sentei_graph::Node;
use sentei_graph::ops::Reshape;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::shapes::resolve_reshape;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let target = match into.int_list(call, 1)? {
        Some(target) => target,
        None => call.ints("shape").map(<[i64]>::to_vec).ok_or_else(|| call.refuse("shape", "a list", "nothing"))?,
    };
    let input = into.shape(x).to_vec();
    let resolved = resolve_reshape(call, &input, &target)?;
    let shape = batched(&input, &resolved, target, into.batch());
    into.emit(call, Reshape { shape }, &[x])?;
    Ok(())
}

/// The target with its first entry as `0` when it is the batch that the input has too.
pub(super) fn batched(input: &[usize], resolved: &[usize], mut target: Vec<i64>, batch: Option<usize>) -> Vec<i64> {
    let carries = |shape: &[usize]| shape.first().copied() == batch && batch.is_some();
    if carries(input) && carries(resolved) && target.first().is_some_and(|t| *t > 0) {
        target[0] = 0;
    }
    target
}

pub(super) fn export(op: &Reshape, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let target = to.int64s(&op.shape);
    to.push("Reshape", &[&x, &target], &y, vec![]);
}
