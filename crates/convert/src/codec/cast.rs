//! `Cast` of an activation to `float`, which every activation is already.

use sentei_graph::ops::Identity;

use crate::ConvertError;
use crate::call::Call;
use crate::import::Importer;
use crate::proto::dtype;

pub(super) fn import<'a>(into: &mut Importer<'a>, call: &Call<'a>) -> Result<(), ConvertError> {
    let to = call.int("to").unwrap_or(0) as i32;
    if to != dtype::F32 {
        return Err(call.refuse("attribute `to`", "float", dtype::name(to)));
    }
    let x = into.value(call, 0)?;
    into.emit(call, Identity, &[x])?;
    Ok(())
}
