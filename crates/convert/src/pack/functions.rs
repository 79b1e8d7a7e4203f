//! The standard ONNX nodes that decode a packed tensor, as a local function or written out.
//!
//! No node has a data-dependent shape, so that runtimes fold the whole chain at load. Nibbles and bits are split by
//! lookup tables of `uint8`.

use sentei_kernels::packed::Encoding;

use super::DOMAIN;
use crate::export::OPSET;
use crate::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto, TensorProto, dtype};

/// The function that decodes an encoding.
pub(super) fn function_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Gap4 => "UnpackGap4",
        Encoding::Gap8 => "UnpackGap8",
        Encoding::Mask => "UnpackMask",
    }
}

/// The encoding that a function decodes.
pub(super) fn encoding_of(function: &str) -> Option<Encoding> {
    Encoding::ALL.into_iter().find(|e| function_name(*e) == function)
}

/// Names that the decode nodes read.
pub(super) struct Names<'a> {
    /// Fill value and non-zeros.
    pub values: &'a str,
    /// Gaps or mask.
    pub positions: &'a str,
    /// Shape of the result.
    pub shape: &'a str,
    /// Number of elements, `int64[1]`.
    pub elements: &'a str,
    /// Number of gap4 symbols, `int64[1]`; `None` when every nibble is one.
    pub count: Option<&'a str>,
    /// Name of the result.
    pub output: &'a str,
}

/// The constants that every decode chain shares.
pub(super) fn shared_constant(name: &str) -> TensorProto {
    let table = |width: usize, entry: fn(usize, usize) -> usize| {
        let bytes = (0..256).flat_map(|byte| (0..width).map(move |k| entry(byte, k) as u8)).collect();
        TensorProto::raw("", dtype::U8, &[256, width], bytes)
    };
    let number = |value: i32| TensorProto::raw("", dtype::I32, &[], value.to_le_bytes().to_vec());
    match name {
        "lut4" => table(2, |byte, k| (byte >> (4 * k)) & 15),
        "lut1" => table(8, |byte, k| (byte >> k) & 1),
        "m1" => TensorProto::int64s("", &[1], &[-1]),
        "z1" => TensorProto::int64s("", &[1], &[0]),
        // a true scalar: some runtimes refuse a list of one as the axis of CumSum
        "axis0" => TensorProto::int64s("", &[], &[0]),
        "esc4" => number(15),
        "esc8" => number(255),
        _ => number(1),
    }
}

/// The decode nodes; `inner` names intermediate values, `shared` names the constants of [`shared_constant`].
pub(super) fn nodes(
    encoding: Encoding,
    names: &Names,
    inner: impl Fn(&str) -> String,
    mut shared: impl FnMut(&'static str) -> String,
) -> Vec<NodeProto> {
    let mut list = Vec::new();
    let mut add = |op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>| {
        list.push(NodeProto { name: None, ..NodeProto::standard(op, inputs, output, attributes) });
        output.to_string()
    };
    let to = |code: i32| vec![AttributeProto::int("to", i64::from(code))];
    let axis0 = shared("axis0");
    let bytes = add("Cast", &[names.positions], &inner("a"), to(dtype::I32));
    if encoding == Encoding::Mask {
        let (lut, m1, z1) = (shared("lut1"), shared("m1"), shared("z1"));
        let bits = add("Gather", &[&lut, &bytes], &inner("b"), vec![]);
        let flat = add("Reshape", &[&bits, &m1], &inner("c"), vec![]);
        let cut = add("Slice", &[&flat, &z1, names.elements], &inner("d"), vec![]);
        let bit = add("Cast", &[&cut], &inner("e"), to(dtype::I32));
        let rank = add("CumSum", &[&bit, &axis0], &inner("f"), vec![]);
        let index = add("Mul", &[&rank, &bit], &inner("g"), vec![]);
        let flat = add("Gather", &[names.values, &index], &inner("h"), vec![]);
        add("Reshape", &[&flat, names.shape], names.output, vec![]);
        return list;
    }
    let symbols = if encoding == Encoding::Gap4 {
        let (lut, m1) = (shared("lut4"), shared("m1"));
        let nibbles = add("Gather", &[&lut, &bytes], &inner("b"), vec![]);
        let mut flat = add("Reshape", &[&nibbles, &m1], &inner("c"), vec![]);
        if let Some(count) = names.count {
            let z1 = shared("z1");
            flat = add("Slice", &[&flat, &z1, count], &inner("d"), vec![]);
        }
        add("Cast", &[&flat], &inner("e"), to(dtype::I32))
    } else {
        bytes
    };
    let skip = shared(if encoding == Encoding::Gap4 { "esc4" } else { "esc8" });
    let (one, z1) = (shared("one"), shared("z1"));
    let placed = add("Cast", &[&symbols], &inner("f"), to(dtype::BOOL));
    let hit = add("Cast", &[&placed], &inner("g"), to(dtype::I32));
    let step = add("Where", &[&placed, &symbols, &skip], &inner("h"), vec![]);
    let end = add("CumSum", &[&step, &axis0], &inner("i"), vec![]);
    let position = add("Sub", &[&end, &one], &inner("j"), vec![]);
    let rank = add("CumSum", &[&hit, &axis0], &inner("k"), vec![]);
    let index = add("Mul", &[&rank, &hit], &inner("l"), vec![]);
    let value = add("Gather", &[names.values, &index], &inner("m"), vec![]);
    let fill = add("Gather", &[names.values, &z1], &inner("o"), vec![]);
    let empty = add("Expand", &[&fill, names.elements], &inner("p"), vec![]);
    let flat = add("ScatterElements", &[&empty, &position, &value], &inner("q"), vec![]);
    add("Reshape", &[&flat, names.shape], names.output, vec![]);
    list
}

/// The local function `ai.sentei::Unpack*`.
pub(super) fn function(encoding: Encoding) -> FunctionProto {
    let gap4 = encoding == Encoding::Gap4;
    let names =
        Names { values: "v", positions: "s", shape: "t", elements: "n", count: gap4.then_some("u"), output: "w" };
    let unnamed = |op: &str, inputs: &[&str], output: &str, attributes| NodeProto {
        name: None,
        ..NodeProto::standard(op, inputs, output, attributes)
    };
    let mut wanted: Vec<&'static str> = Vec::new();
    let body = nodes(
        encoding,
        &names,
        |n| format!("_{n}"),
        |name| {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
            name.to_string()
        },
    );
    let constant = |name: &&'static str| {
        unnamed("Constant", &[], name, vec![AttributeProto::tensor("value", shared_constant(name))])
    };
    let mut node: Vec<NodeProto> = wanted.iter().map(constant).collect();
    node.push(unnamed("ReduceProd", &["t"], "n", vec![AttributeProto::int("keepdims", 1)]));
    if gap4 {
        node.push(unnamed("Constant", &[], "r", vec![AttributeProto::int_from("value_int", "count")]));
        node.push(unnamed("Reshape", &["r", "m1"], "u", vec![]));
    }
    node.extend(body);
    FunctionProto {
        name: Some(function_name(encoding).into()),
        domain: Some(DOMAIN.into()),
        input: ["v", "s", "t"].map(String::from).to_vec(),
        output: vec!["w".into()],
        attribute: if gap4 { vec!["count".into()] } else { vec![] },
        node,
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn tables_split_low_bits_first() {
        let lut4 = shared_constant("lut4").raw_data.unwrap();
        assert_eq!((lut4.len(), &lut4[2 * 0x5a..][..2]), (512, &[0xa, 0x5][..]));
        let lut1 = shared_constant("lut1").raw_data.unwrap();
        assert_eq!((lut1.len(), &lut1[8 * 0x03..][..8]), (2048, &[1, 1, 0, 0, 0, 0, 0, 0][..]));
    }

    #[test]
    fn no_shared_constant_is_asked_for_in_vain() {
        for encoding in Encoding::ALL {
            let body = function(encoding).node;
            let read: Vec<&String> = body.iter().flat_map(|n| &n.input).collect();
            let constants = body.iter().filter(|n| n.op_type.as_deref() == Some("Constant"));
            for constant in constants {
                assert!(read.contains(&&constant.output[0]), "{encoding:?}: {}", constant.output[0]);
            }
        }
    }

    #[test]
    fn the_three_functions_together_stay_below_five_kilobytes() {
        let total: usize = Encoding::ALL.iter().map(|e| function(*e).encoded_len()).sum();
        assert!(total < 5_000, "{total} bytes");
    }
}
