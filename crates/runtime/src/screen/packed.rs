//! `ai.sentei::Unpack*` calls: from the operands in the file to a [`Packed`] chunk.

use half::f16;
use sentei_kernels::packed::{Encoding, Packed, PackedError, Values};

use super::tensor::{Tensor, dtype};
use super::wire::Fields;
use super::{Constants, Node};
use crate::error::RuntimeError;

/// Domain of the packed operators.
const DOMAIN: &str = "ai.sentei";

/// Whether a node makes a packed weight.
pub(super) fn is_unpack(node: &Node<'_>) -> bool {
    node.domain == DOMAIN && encoding(node.op).is_some()
}

/// Whether some constants carry the names that the parts of a packed weight have.
pub(super) fn has_parts(constants: &Constants<'_>) -> bool {
    constants.keys().filter_map(|name| name.strip_suffix(".values")).any(|weight| {
        let has = |part: &str| constants.contains_key(format!("{weight}.{part}").as_str());
        has("shape") && (has("gaps") || has("mask"))
    })
}

fn encoding(op: &str) -> Option<Encoding> {
    Some(match op {
        "UnpackGap4" => Encoding::Gap4,
        "UnpackGap8" => Encoding::Gap8,
        "UnpackMask" => Encoding::Mask,
        _ => return None,
    })
}

/// Reads the operands; what they say is checked by [`Packed::validate`] afterwards.
pub(super) fn read(node: &Node<'_>, constants: &Constants<'_>) -> Result<Packed, RuntimeError> {
    let name = node.outputs.first().copied().unwrap_or_default();
    let wrong = |what: String| RuntimeError::Malformed(format!("packed weight `{name}`: {what}"));
    let [values, positions, shape] = node.inputs[..] else {
        return Err(wrong(format!("{} inputs, expected values, positions and shape", node.inputs.len())));
    };
    let constant =
        |input: &str| constants.get(input).ok_or_else(|| wrong(format!("input `{input}` is not an initializer")));
    let (values, positions, shape) = (constant(values)?, constant(positions)?, constant(shape)?);

    let shape: Option<Vec<usize>> =
        shape.int64s().and_then(|dims| dims.iter().map(|dim| usize::try_from(*dim).ok()).collect());
    let shape = shape.ok_or_else(|| wrong("the shape is not a list of int64 numbers >= 0".into()))?;
    if positions.dtype != dtype::UINT8 || positions.dims.len() != 1 || positions.dims[0] != positions.raw.len() as u64 {
        return Err(wrong("the positions are not a list of uint8 in raw form".into()));
    }
    let encoding = encoding(node.op).expect("only unpack nodes are read");
    let symbols = match encoding {
        Encoding::Gap4 => count(node)?.ok_or_else(|| wrong("attribute `count` is missing".into()))?,
        Encoding::Gap8 | Encoding::Mask => positions.raw.len(),
    };
    let values = read_values(values).ok_or_else(|| {
        wrong("the values are not a list of float, float16 or int8 in raw form that starts with +0".into())
    })?;
    Ok(Packed { shape, encoding, positions: positions.raw.to_vec(), symbols, values, scales: None })
}

fn count(node: &Node<'_>) -> Result<Option<usize>, RuntimeError> {
    for attribute in &node.attributes {
        let (mut is_count, mut number) = (false, None);
        for field in Fields(attribute) {
            match field? {
                (1, value) => is_count = value.text()? == "count",
                (3, value) => number = usize::try_from(value.int()?).ok(),
                _ => {}
            }
        }
        if is_count {
            return Ok(number);
        }
    }
    Ok(None)
}

/// The values without the fill value that leads them.
fn read_values(tensor: &Tensor<'_>) -> Option<Values> {
    if tensor.dims.len() != 1 {
        return None;
    }
    let width = match tensor.dtype {
        dtype::FLOAT => 4,
        dtype::FLOAT16 => 2,
        dtype::INT8 => 1,
        _ => return None,
    };
    let (fill, rest) = tensor.raw.split_at_checked(width)?;
    if fill.iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(match width {
        4 => Values::F32(words(rest, f32::from_le_bytes)),
        2 => Values::F16(words(rest, f16::from_le_bytes)),
        _ => Values::I8(rest.iter().map(|byte| *byte as i8).collect()),
    })
}

fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|chunk| read(chunk.try_into().expect("a chunk has N bytes"))).collect()
}

/// The error of a packed weight that broke a rule of the format.
pub(super) fn refused(name: &str, error: &PackedError, byte_budget: u64) -> RuntimeError {
    match error {
        PackedError::Budget { needed, .. } => {
            RuntimeError::too_many_bytes(format!("decoding packed weight `{name}`"), *needed, byte_budget)
        }
        error => RuntimeError::Malformed(format!("packed weight `{name}`: {error}")),
    }
}
