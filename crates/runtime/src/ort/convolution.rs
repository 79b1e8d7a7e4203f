//! The smallest model worth asking a provider for: `y = Conv(x, w)`. Every provider runs it, and on CUDA it takes cuDNN.

/// The file: `x` has shape `[1, 2, 8, 8]`, `w` has `[2, 2, 3, 3]` and is 0.25 everywhere.
pub(super) fn bytes() -> Vec<u8> {
    let value = |name: &str, shape: [u8; 4]| {
        let dims = shape.map(|dim| message(1, &number(1, dim))).concat();
        let tensor = [number(1, 1), message(2, &dims)].concat();
        [message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat()
    };
    let node =
        [message(1, b"x"), message(1, b"w"), message(2, b"y"), message(3, b"conv"), message(4, b"Conv")].concat();
    let weight = 0.25f32.to_le_bytes().repeat(2 * 2 * 3 * 3);
    let dims = [2, 2, 3, 3].map(|dim| number(1, dim)).concat();
    let weight = [dims, number(2, 1), message(8, b"w"), message(9, &weight)].concat();
    let graph = [
        message(1, &node),
        message(2, b"probe"),
        message(5, &weight),
        message(11, &value("x", [1, 2, 8, 8])),
        message(12, &value("y", [1, 2, 6, 6])),
    ];
    [number(1, 8), message(7, &graph.concat()), message(8, &[message(1, b""), number(2, 13)].concat())].concat()
}

/// A protobuf field that is a number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A protobuf field that is text, bytes or a message of less than 16 KiB.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    let (low, high) = ((bytes.len() & 0x7f) as u8, (bytes.len() >> 7) as u8);
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [vec![field << 3 | 2], length, bytes.to_vec()].concat()
}
