//! `Sub`: a constant is added with its sign changed; a computed subtrahend is multiplied by -1 first. Both exact.

use sentei_graph::Tensor;
use sentei_graph::ops::{Add, Mul};

use crate::ConvertError;
use crate::call::Call;
use crate::import::Importer;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let a = into.value(call, 0)?;
    let subtrahend = into.constant(call, 1)?.and_then(|c| c.to_tensor());
    let negated = if let Some(Tensor { shape, data }) = subtrahend {
        let name = into.fresh(&format!("{}.neg", call.input(1).unwrap_or("")));
        into.initializer(&name, Tensor { shape, data: data.iter().map(|v| -v).collect() })?
    } else {
        let b = into.value(call, 1)?;
        let minus_one = into.initializer("minus_one", Tensor::full([1], -1.0))?;
        let name = into.fresh(&format!("{}.neg", call.output()));
        into.emit_as(&name, Mul, &[b, minus_one])?
    };
    into.emit(call, Add, &[a, negated])?;
    Ok(())
}
