//! `Squeeze` and `Unsqueeze` of an activation, read as Flatten or Reshape.

use sentei_graph::ops::{Flatten, Reshape};

use super::reshape::batched;
use crate::ConvertError;
use crate::call::Call;
use crate::shapes::{squeezed, unsqueezed};
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let x = into.value(call, 0)?;
    let axes = match into.int_list(call, 1)? {
        Some(axes) => Some(axes),
        None => call.ints("axes").map(<[i64]>::to_vec),
    };
    let input = into.shape(x).to_vec();
    let squeeze = call.op() == "Squeeze";
    let shape = if squeeze { squeezed(call, &input, axes)? } else { unsqueezed(call, &input, axes)? };
    if matches!((&input[..], &shape[..]), ([n, c, 1, 1], [m, d]) if n == m && c == d) {
        into.emit(call, Flatten { axis: 1 }, &[x])?;
    } else {
        let target = shape.iter().map(|d| *d as i64).collect();
        let target = batched(&input, &shape, target, into.batch());
        into.emit(call, Reshape { shape: target }, &[x])?;
    }
    Ok(())
}
