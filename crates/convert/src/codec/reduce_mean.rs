//! `ReduceMean` over height and width, read as GlobalAveragePool (and Flatten without `keepdims`).

use sentei_graph::ops::{Flatten, GlobalAveragePool};

use crate::ConvertError;
use crate::call::Call;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let axes = if call.opset < 18 { call.ints("axes").map(<[i64]>::to_vec) } else { into.int_list(call, 1)? };
    let rank = into.shape(x).len();
    let over = call.axes(&axes.unwrap_or_default(), rank)?;
    if rank != 4 || over != [2, 3] {
        return Err(call.refuse("axes", "height and width of [N, C, H, W]", format!("{over:?} of {rank} axes")));
    }
    if call.int("keepdims").unwrap_or(1) != 0 {
        into.emit(call, GlobalAveragePool, &[x])?;
    } else {
        let name = into.fresh(&format!("{}.pooled", call.output()));
        let pooled = into.emit_as(&name, GlobalAveragePool, &[x])?;
        into.emit(call, Flatten { axis: 1 }, &[pooled])?;
    }
    Ok(())
}
