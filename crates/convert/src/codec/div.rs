//! `Div` by a constant, read as `Mul` by its reciprocal: exact for powers of two, else within 1 ulp.

use sentei_graph::Tensor;
use sentei_graph::ops::Mul;

use crate::ConvertError;
use crate::call::Call;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let a = into.value(call, 0)?;
    let Some(Tensor { shape, data }) = into.constant(call, 1)?.and_then(|c| c.to_tensor()) else {
        return Err(call.refuse("input 1", "a constant divisor", "a computed one"));
    };
    if data.contains(&0.0) {
        return Err(call.refuse("input 1", "no zero", "one"));
    }
    let name = into.fresh(&format!("{}.reciprocal", call.input(1).unwrap_or("")));
    let factor = into.initializer(&name, Tensor { shape, data: data.iter().map(|v| 1.0 / v).collect() })?;
    into.emit(call, Mul, &[a, factor])?;
    Ok(())
}
