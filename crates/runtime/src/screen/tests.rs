use super::*;

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A protobuf field that holds bytes.
fn field(number: usize, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len()), bytes.to_vec()].concat()
}

fn tensor(name: &str, dims: &[u8], dtype: u8, raw: &[u8]) -> Vec<u8> {
    let header = [field(8, name.as_bytes()), field(1, dims), vec![16, dtype]].concat();
    [header, field(9, raw)].concat()
}

fn node(op: &str, domain: &str, inputs: &[&str], output: &str, extra: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
    let names = [field(2, output.as_bytes()), field(4, op.as_bytes()), field(7, domain.as_bytes())].concat();
    [inputs, names, extra.to_vec()].concat()
}

fn model(nodes: &[Vec<u8>], initializers: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(1, node)).collect();
    let initializers: Vec<u8> = initializers.iter().flat_map(|tensor| field(5, tensor)).collect();
    field(7, &[nodes, initializers].concat())
}

fn int64s(name: &str, numbers: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    tensor(name, &[numbers.len() as u8], 7, &raw)
}

fn floats(name: &str, numbers: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    tensor(name, &[numbers.len() as u8], 1, &raw)
}

/// A model with one gap8 weight.
fn gap8(values: &[f32], gaps: &[u8], shape: &[i64]) -> Vec<u8> {
    let call = node("UnpackGap8", "ai.sentei", &["v", "g", "s"], "w", &[]);
    model(&[call], &[floats("v", values), tensor("g", &[gaps.len() as u8], 2, gaps), int64s("s", shape)])
}

fn refusal(bytes: &[u8]) -> RuntimeError {
    screen(bytes, 1 << 20).unwrap_err()
}

#[test]
fn a_good_packed_weight_is_found_under_the_name_of_its_value() {
    let found = screen(&gap8(&[0.0, 5.0, 7.0], &[2, 3], &[2, 3]), 1 << 20).unwrap();
    assert!(!found.packed_inline);
    let dense = found.packed["w"].to_dense(&mut ByteBudget::default()).unwrap();
    assert_eq!(dense, [0.0, 5.0, 0.0, 0.0, 7.0, 0.0]);
}

#[test]
fn a_weight_packed_inline_is_told_by_the_names_of_its_parts() {
    let parts = |names: [&str; 3]| {
        let [values, positions, shape] = names;
        [floats(values, &[0.0, 5.0]), tensor(positions, &[1], 2, &[2]), int64s(shape, &[2, 3])]
    };
    let inline = |parts: &[Vec<u8>]| screen(&model(&[], parts), 1 << 20).unwrap().packed_inline;
    assert!(inline(&parts(["w.values", "w.gaps", "w.shape"])) && inline(&parts(["w.values", "w.mask", "w.shape"])));
    assert!(!inline(&parts(["w.values", "v.gaps", "w.shape"])) && !inline(&parts(["w.values", "w.gaps", "s"])));
    let call = node("UnpackGap8", "ai.sentei", &["w.values", "w.gaps", "w.shape"], "w", &[]);
    let called = model(&[call], &parts(["w.values", "w.gaps", "w.shape"]));
    assert!(!screen(&called, 1 << 20).unwrap().packed_inline);
}

#[test]
fn broken_packed_weights_are_refused_by_name() {
    type Case = (&'static [f32], &'static [u8], &'static [i64], &'static str);
    let cases: &[Case] = &[
        (&[0.0, 5.0], &[7], &[2, 3], "leads to element 6"),
        (&[0.0, 5.0, 7.0], &[2], &[2, 3], "2 are stored"),
        (&[0.0], &[2], &[2, 3], "place 1 values"),
        (&[0.0, 5.0], &[2, 0], &[2, 300], "ends in a skip"),
        (&[1.0, 5.0], &[2], &[2, 3], "starts with +0"),
        (&[-0.0, 5.0], &[2], &[2, 3], "starts with +0"),
        (&[0.0, f32::NAN], &[2], &[2, 3], "not finite"),
        (&[0.0, 0.0], &[2], &[2, 3], "is zero"),
        (&[0.0, 5.0], &[2], &[2, 0], "is zero"),
        (&[0.0, 5.0], &[2], &[2, -3], "int64 numbers >= 0"),
        (&[0.0, 5.0], &[2], &[1 << 40, 1 << 40], "2^31-1"),
    ];
    for (values, gaps, shape, words) in cases {
        let error = refusal(&gap8(values, gaps, shape));
        assert!(matches!(error, RuntimeError::Malformed(_)), "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains("`w`"), "{error} lacks {words}");
    }
}

#[test]
fn a_shape_bomb_is_a_limit_and_names_the_flag() {
    let error = refusal(&gap8(&[0.0, 5.0], &[2], &[16384, 16384, 2]));
    assert_eq!(error.exit_code(), 6);
    assert!(error.to_string().contains("`w`") && error.to_string().contains("--byte-budget"), "{error}");
}

#[test]
fn many_small_weights_share_one_budget() {
    let call = |output: &str| node("UnpackGap8", "ai.sentei", &["v", "g", "s"], output, &[]);
    let parts = [floats("v", &[0.0, 5.0]), tensor("g", &[1], 2, &[2]), int64s("s", &[100, 100])];
    let two = model(&[call("a"), call("b")], &parts);
    assert!(screen(&two, 80_000).is_ok());
    assert_eq!(screen(&two, 79_999).unwrap_err().exit_code(), 6);
}

#[test]
fn operators_that_take_a_shape_cannot_ask_for_more_than_the_budget() {
    for (op, inputs) in [("Expand", &["x", "s"][..]), ("ConstantOfShape", &["s"]), ("Reshape", &["x", "s"])] {
        let bomb = model(&[node(op, "", inputs, "y", &[])], &[int64s("s", &[1 << 30, 1 << 30, 1 << 30])]);
        assert_eq!(refusal(&bomb).exit_code(), 6, "{op}");
        let fine = model(&[node(op, "", inputs, "y", &[])], &[int64s("s", &[-1, 512])]);
        assert!(screen(&fine, 1 << 20).is_ok(), "{op}");
    }
    // the shape may hide in a Constant node
    let attribute = field(5, &[field(1, b"value"), field(5, &int64s("", &[1 << 40]))].concat());
    let hidden = [node("Constant", "", &[], "s", &attribute), node("Expand", "", &["x", "s"], "y", &[])];
    assert_eq!(refusal(&model(&hidden, &[])).exit_code(), 6);
}

#[test]
fn a_packed_weight_must_lie_in_the_open() {
    let call = node("UnpackGap8", "ai.sentei", &["v", "g", "s"], "w", &[]);
    let graph = field(1, &call);
    let inner = node("If", "", &["c"], "y", &field(5, &field(6, &graph)));
    assert!(refusal(&model(&[inner], &[])).to_string().contains("sub-graph"));
    let function = [model(&[], &[]), field(25, &field(7, &call))];
    assert!(refusal(&function.concat()).to_string().contains("function"));
}

#[test]
fn graphs_of_graphs_end_somewhere() {
    let mut graph = Vec::new();
    for _ in 0..20 {
        graph = field(1, &node("If", "", &["c"], "y", &field(5, &field(6, &graph))));
    }
    assert!(refusal(&field(7, &graph)).to_string().contains("nested"));
}

#[test]
fn nothing_and_two_graphs_are_no_model() {
    assert!(refusal(&[]).to_string().contains("0 graphs"));
    assert!(refusal(&[model(&[], &[]), model(&[], &[])].concat()).to_string().contains("2 graphs"));
}
