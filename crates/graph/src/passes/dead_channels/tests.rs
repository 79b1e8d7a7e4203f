use super::*;
use crate::passes::testing::{assert_same_numbers, assert_same_text};
use crate::passes::{Rewritten, apply};

/// The graph with all weights into (`true`) or out of (`false`) some channels of a constant set to zero.
fn with_zeros(text: &str, zeros: &[(&str, bool, &[usize])]) -> Graph {
    let mut graph = Graph::parse(text).unwrap();
    for (name, incoming, channels) in zeros {
        let id = graph.value(name).unwrap();
        let mut tensor = graph.initializer(id).unwrap().clone();
        let (rows, columns) = (tensor.shape[0], tensor.shape.get(1).copied().unwrap_or(1));
        let run = tensor.len() / rows / columns;
        for (i, w) in tensor.data.iter_mut().enumerate() {
            let (o, c) = (i / run / columns, i / run % columns);
            if channels.contains(if *incoming { &o } else { &c }) {
                *w = 0.0;
            }
        }
        graph.set_initializer(id, tensor);
    }
    graph
}

fn shrunk(before: &Graph) -> Rewritten {
    let rewritten = apply(before.clone(), &[&DropDeadChannels]).unwrap();
    assert_same_numbers(before, &rewritten.graph);
    assert_eq!(apply(rewritten.graph.clone(), &[&DropDeadChannels]).unwrap().steps, [], "removal is idempotent");
    rewritten
}

#[track_caller]
fn check(before: &str, zeros: &[(&str, bool, &[usize])], after: &str) {
    let rewritten = shrunk(&with_zeros(before, zeros));
    assert_same_text(&rewritten.graph, after);
}

#[track_caller]
fn check_unchanged(before: &str, zeros: &[(&str, bool, &[usize])]) {
    assert_eq!(shrunk(&with_zeros(before, zeros)).steps, []);
}

const MLP: &str = "x = input f32[2,3]
    a = Gemm(x, w[5,3], b[5])
    r = Relu(a)
    y = Gemm(r, v[2,5])";

// Each of these evaluates both graphs on random inputs and removes twice: see `check` and `shrunk`.
#[test]
fn magnitude_oracle_8_a_unit_without_incoming_weights_leaves_its_constant_in_the_next_bias() {
    check(
        MLP,
        &[("w", true, &[1, 4])],
        "x = input f32[2,3]
         a = Gemm(x, w'[3,3], b'[3])
         r = Relu(a)
         y = Gemm(r, v'[2,3], y.bias[2])",
    );
}

#[test]
fn a_unit_without_outgoing_weights_just_goes() {
    let rewritten = shrunk(&with_zeros(MLP, &[("v", false, &[0])]));
    assert_same_text(
        &rewritten.graph,
        "x = input f32[2,3]
         a = Gemm(x, w'[4,3], b'[4])
         r = Relu(a)
         y = Gemm(r, v'[2,4])",
    );
    assert_eq!(rewritten.steps[0].note, "a: 5 -> 4");
}

#[test]
fn a_layer_with_no_dead_unit_stays() {
    check_unchanged(MLP, &[]);
}

#[test]
fn the_last_unit_of_a_layer_stays_even_if_all_are_dead() {
    let rewritten = shrunk(&with_zeros(MLP, &[("w", true, &[0, 1, 2, 3, 4])]));
    assert_eq!(rewritten.steps[0].note, "a: 5 -> 1");
}

#[test]
fn removal_runs_through_several_layers_in_both_directions() {
    // Unit 0 of h2 has no outgoing weights; unit 1 of h1 fed only it, and channel 2 of x feeds unit 1 of h1 alone.
    let before = "x = input f32[2,3]
        h1 = Gemm(x, u[2,3], c[2]=[0.5,-0.25])
        r1 = Relu(h1)
        h2 = Gemm(r1, v[2,2]=[0.3,0.7,0.9,0])
        r2 = Sigmoid(h2)
        y = Gemm(r2, w[1,2]=[0,2])";
    check(
        before,
        &[],
        "x = input f32[2,3]
         h1 = Gemm(x, u'[1,3], c'[1])
         r1 = Relu(h1)
         h2 = Gemm(r1, v'[1,1])
         r2 = Sigmoid(h2)
         y = Gemm(r2, w'[1,1])",
    );
}

const CNN: &str = "x = input f32[1,2,6,6]
    a = Conv(x, w[4,2,3,3], wb[4]) pad=1
    n = BatchNorm(a, g[4], s[4], m[4], q[4])
    r = Silu(n)
    p = MaxPool(r) kernel=2 stride=2 pad=1
    y = Conv(p, v[3,4,2,2])";

#[test]
fn magnitude_oracle_8_constants_pass_through_batch_norm_activation_and_pooling() {
    check(
        CNN,
        &[("w", true, &[0, 3])],
        "x = input f32[1,2,6,6]
         a = Conv(x, w'[2,2,3,3], wb'[2]) pad=1
         n = BatchNorm(a, g'[2], s'[2], m'[2], q'[2])
         r = Silu(n)
         p = MaxPool(r) kernel=2 stride=2 pad=1
         y = Conv(p, v'[3,2,2,2], y.bias[3])",
    );
}

#[test]
fn a_zero_gamma_kills_a_channel_too() {
    let rewritten = shrunk(&with_zeros(CNN, &[("g", true, &[2])]));
    assert_eq!(rewritten.steps[0].note, "a: 4 -> 3");
}

#[test]
fn a_padded_reader_takes_only_a_zero() {
    let padded = CNN.replace("y = Conv(p, v[3,4,2,2])", "y = Conv(p, v[3,4,2,2]) pad=0,1,0,0");
    check_unchanged(&padded, &[("w", true, &[0, 3])]);
    let silent = padded.replace("s[4]", "s[4]=[-9,0.5,0.5,0.5]").replace("Silu", "Relu");
    let rewritten = shrunk(&with_zeros(&silent, &[("w", true, &[0])]));
    assert_eq!(rewritten.steps[0].note, "a: 4 -> 3");
}

#[test]
fn an_average_over_padding_takes_only_a_zero() {
    let with = |pool: &str| {
        let text = format!(
            "x = input f32[1,2,5,5]\na = Conv(x, w[3,2,1,1], b[3]=1)\np = AveragePool(a) kernel=2 pad=1{pool}\n
             y = Conv(p, v[2,3,1,1])"
        );
        shrunk(&with_zeros(&text, &[("w", true, &[1])])).steps.len()
    };
    assert_eq!(with(" count_include_pad=true"), 0);
    assert_eq!(with(""), 1);
}

const RESIDUAL: &str = "x = input f32[1,2,4,4]
    a = Conv(x, w[3,2,1,1], wb[3])
    b = Conv(x, v[3,2,1,1], vb[3])
    s = Add(a, b)
    r = Relu(s)
    y = Conv(r, u[2,3,1,1], ub[2])";

#[test]
fn a_residual_channel_goes_only_when_every_producer_is_dead() {
    check_unchanged(RESIDUAL, &[("w", true, &[0, 1]), ("v", true, &[2])]);
    check(
        RESIDUAL,
        &[("w", true, &[0, 1]), ("v", true, &[1, 2])],
        "x = input f32[1,2,4,4]
         a = Conv(x, w'[2,2,1,1], wb'[2])
         b = Conv(x, v'[2,2,1,1], vb'[2])
         s = Add(a, b)
         r = Relu(s)
         y = Conv(r, u'[2,2,1,1], ub'[2])",
    );
}

#[test]
fn a_residual_channel_that_nobody_reads_goes_from_every_producer() {
    let rewritten = shrunk(&with_zeros(RESIDUAL, &[("u", false, &[2])]));
    assert_eq!(rewritten.steps[0].note, "a: 3 -> 2, b: 3 -> 2");
}

#[test]
fn a_flattened_channel_takes_its_run_of_columns_along() {
    let text = |flatten: &str| {
        format!(
            "x = input f32[1,2,3,3]\na = Conv(x, w[3,2,2,2], b[3])\nr = Sigmoid(a)\nf = {flatten}\ny = Gemm(f, v[2,12])"
        )
    };
    let after = "x = input f32[1,2,3,3]
        a = Conv(x, w'[2,2,2,2], b'[2])
        r = Sigmoid(a)
        f = Flatten(r)
        y = Gemm(f, v'[2,8], y.bias[2])";
    for flatten in ["Flatten(r)", "Reshape(r) shape=0,-1", "Reshape(r) shape=-1,12"] {
        check(&text(flatten), &[("w", true, &[1])], after);
    }
}

#[test]
fn a_reshape_that_spells_out_channels_is_rewritten() {
    check(
        "x = input f32[1,2,3,3]
         a = Conv(x, w[3,2,2,2], b[3])
         r = Reshape(a) shape=1,3,4,1
         y = Conv(r, v[2,3,1,1])",
        &[("w", true, &[1])],
        "x = input f32[1,2,3,3]
         a = Conv(x, w'[2,2,2,2], b'[2])
         r = Reshape(a) shape=0,0,4,1
         y = Conv(r, v'[2,2,1,1], y.bias[2])",
    );
}

#[test]
fn concatenated_channels_keep_their_order() {
    check(
        "x = input f32[1,2,3,3]
         a = Conv(x, w[2,2,1,1], wb[2])
         b = Conv(x, v[3,2,1,1], vb[3])
         c = Concat(a, b)
         y = Conv(c, u[2,5,1,1])",
        &[("w", true, &[0]), ("v", true, &[1])],
        "x = input f32[1,2,3,3]
         a = Conv(x, w'[1,2,1,1], wb'[1])
         b = Conv(x, v'[2,2,1,1], vb'[2])
         c = Concat(a, b)
         y = Conv(c, u'[2,3,1,1], y.bias[2])",
    );
}

const DEPTHWISE: &str = "x = input f32[1,2,5,5]
    a = Conv(x, w[4,2,1,1])
    d = Conv(a, k[4,1,3,3], kb[4]=0.5) groups=4 pad=1
    r = Relu(d)
    y = Conv(r, v[3,4,1,1])";

#[test]
fn a_depthwise_channel_goes_with_its_input_channel() {
    check(
        DEPTHWISE,
        &[("w", true, &[0]), ("k", true, &[2])],
        "x = input f32[1,2,5,5]
         a = Conv(x, w'[2,2,1,1])
         d = Conv(a, k'[2,1,3,3], kb'[2]) groups=2 pad=1
         r = Relu(d)
         y = Conv(r, v'[3,2,1,1], y.bias[3])",
    );
}

#[test]
fn a_padded_depthwise_channel_of_a_constant_stays() {
    let biased = DEPTHWISE.replace("w[4,2,1,1])", "w[4,2,1,1], wb[4]=1)");
    check_unchanged(&biased, &[("w", true, &[0])]);
}

#[test]
fn a_wider_group_goes_as_a_whole() {
    let grouped = "x = input f32[1,2,5,5]
        a = Conv(x, w[4,2,1,1], wb[4])
        d = Conv(a, k[6,2,3,3]) groups=2
        y = Conv(d, v[3,6,1,1])";
    check_unchanged(grouped, &[("w", true, &[0]), ("k", true, &[0, 1])]);
    let rewritten = shrunk(&with_zeros(grouped, &[("k", true, &[0, 1, 2])]));
    assert_eq!(rewritten.steps[0].note, "a: 4 -> 2, d: 6 -> 3");
}

#[test]
fn operands_along_channels_are_cut_with_them() {
    check(
        "x = input f32[1,2,4,4]
         a = Conv(x, w[3,2,1,1])
         b = Mul(a, k[3,1,1])
         c = Add(b, t[1,3,1,1])
         e = Mul(c, z[1])
         g = GlobalAveragePool(e)
         y = Conv(g, v[2,3,1,1])",
        &[("w", true, &[1])],
        "x = input f32[1,2,4,4]
         a = Conv(x, w'[2,2,1,1])
         b = Mul(a, k'[2,1,1])
         c = Add(b, t'[1,2,1,1])
         e = Mul(c, z[1])
         g = GlobalAveragePool(e)
         y = Conv(g, v'[2,2,1,1], y.bias[2])",
    );
}

#[test]
fn a_gate_over_channels_is_followed() {
    // Squeeze and excitation: the pooled gate multiplies the channels it came from.
    let text = "x = input f32[1,2,4,4]
        a = Conv(x, w[3,2,1,1])
        p = GlobalAveragePool(a)
        e = Conv(p, q[3,3,1,1], qb[3])
        h = HardSigmoid(e)
        m = Mul(a, h)
        y = Conv(m, v[2,3,3,3]) pad=1";
    let rewritten = shrunk(&with_zeros(text, &[("w", true, &[1])]));
    assert_eq!(rewritten.steps[0].note, "a: 3 -> 2, e: 3 -> 2");
}

#[test]
fn channels_that_are_inputs_outputs_or_cannot_be_followed_stay() {
    check_unchanged("x = input f32[1,3,2,2]\ny = Conv(x, w[2,3,1,1])", &[("w", true, &[0]), ("w", false, &[1])]);
    check_unchanged(
        "x = input f32[1,3]\na = Gemm(x, w[3,3])\ns = Softmax(a)\ny = Gemm(s, v[2,3])",
        &[("w", true, &[0]), ("v", false, &[1])],
    );
}
