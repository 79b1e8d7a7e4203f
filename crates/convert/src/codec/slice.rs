//! `Slice` with constant bounds: attributes before opset 10, inputs since. Only forward steps.

use sentei_graph::Node;
use sentei_graph::ops::Slice;

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::shapes::slice_plan;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let lists = (0..5).map(|i| if i == 0 || call.opset < 10 { Ok(None) } else { into.int_list(call, i) });
    let lists = lists.collect::<Result<Vec<_>, _>>()?;
    let shape = into.shape(x).to_vec();
    let plan = slice_plan(call, &shape, |i| Ok(lists[i].clone()))?;
    if let Some(back) = plan.iter().find(|axis| axis.step < 0) {
        return Err(call.refuse("steps", "at least 1", back.step));
    }
    let whole = |i: usize| plan[i].end >= shape[i] as i64;
    let op = Slice {
        starts: plan.iter().map(|axis| axis.start as usize).collect(),
        ends: (0..plan.len()).map(|i| if whole(i) { usize::MAX } else { plan[i].end as usize }).collect(),
        steps: plan.iter().map(|axis| axis.step as usize).collect(),
    };
    into.emit(call, op, &[x])?;
    Ok(())
}

pub(super) fn export(op: &Slice, to: &mut Exporter, node: &Node) {
    let (x, y) = (to.name(node.inputs[0]), to.name(node.output));
    let all = (0, usize::MAX, 1);
    let axes: Vec<usize> =
        (0..op.starts.len()).filter(|i| (op.starts[*i], op.ends[*i], op.steps[*i]) != all).collect();
    let pick = |list: &[usize]| axes.iter().map(|i| i64::try_from(list[*i]).unwrap_or(i64::MAX)).collect::<Vec<_>>();
    let starts = to.int64s(&pick(&op.starts));
    let ends = to.int64s(&pick(&op.ends));
    let steps = to.int64s(&pick(&op.steps));
    let axes = to.int64s(&axes.iter().map(|a| *a as i64).collect::<Vec<_>>());
    to.push("Slice", &[&x, &starts, &ends, &axes, &steps], &y, vec![]);
}
