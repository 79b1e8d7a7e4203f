use super::*;

fn found(text: &str) -> Vec<Block> {
    blocks(&Graph::parse(text).unwrap()).unwrap()
}

const OPTION_A: &str = "x = input f32[1,2,4,4]
    stem = Conv(x, w0[2,2,3,3]) pad=1
    a = Relu(stem)
    c1 = Conv(a, w1[2,2,3,3]) pad=1
    n1 = BatchNorm(c1, g[2], b[2], m[2], v[2])
    s1 = Add(n1, a)
    r1 = Relu(s1)
    c2 = Conv(r1, w2[4,2,3,3]) pad=1 stride=2
    every = Slice(r1) starts=0,0,0,0 ends=end,end,end,end steps=1,1,2,2
    fill = Pad(every) amounts=0:0,1:1,0:0,0:0
    s2 = Add(fill, c2)
    r2 = Relu(s2)
    c3 = Conv(r2, w3[4,4,3,3]) pad=1
    s3 = Add(c3, r2)
    y = Relu(s3)";

#[test]
fn blocks_come_in_order_with_their_shortcut_size_and_reason() {
    let all = found(OPTION_A);
    let names: Vec<&str> = all.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["s1", "s2", "s3"]);
    assert_eq!(all[0].kind, BlockKind::Residual(Shortcut::Identity));
    assert_eq!(all[1].kind, BlockKind::Residual(Shortcut::Plain));
    assert_eq!((all[0].parameters, all[0].macs), (2 * 2 * 9 + 4, 2 * 2 * 9 * 16));
    assert_eq!((all[0].branch.len(), all[0].shortcut.len(), all[1].shortcut.len()), (2, 0, 2));
    assert!(matches!(all[1].obstacle, Some(Obstacle::Shape { .. })));
    assert_eq!(all.iter().map(Block::is_removable).collect::<Vec<_>>(), [true, false, true]);
    // The first block of the first stage keeps its shape and may go by hand, but no ranking chooses it.
    assert_eq!(all.iter().map(Block::is_candidate).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_projection_keeps_its_block_even_where_shapes_agree() {
    let all = found(
        "x = input f32[1,2,4,4]
         c = Conv(x, w[2,2,3,3]) pad=1
         p = Conv(x, q[2,2,1,1])
         n = BatchNorm(p, g[2], b[2], m[2], v[2])
         s = Add(n, c)
         y = Relu(s)",
    );
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].obstacle, Some(Obstacle::Shortcut(Shortcut::Projection)));
    assert_eq!(all[0].parameters, 2 * 2 * 9 + 2 * 2 + 4, "the projection belongs to the block");
}

#[test]
fn gates_inside_a_branch_belong_to_it() {
    let all = found(
        "x = input f32[1,2,4,4]
         c = Conv(x, w[2,2,3,3]) pad=1
         p = GlobalAveragePool(c)
         f = Conv(p, u[2,2,1,1])
         g = Sigmoid(f)
         m = Mul(c, g)
         s = Add(m, x)
         y = Relu(s)",
    );
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].branch.len(), 5);
    assert!(all[0].is_removable());
}

#[test]
fn values_read_from_within_and_outputs_keep_a_block() {
    let all = found(
        "x = input f32[1,2,4,4]
         c = Conv(x, w[2,2,3,3]) pad=1
         d = Conv(c, v[2,2,3,3]) pad=1
         s = Add(d, x)
         t = Mul(s, c)
         e = Conv(t, u[2,2,3,3]) pad=1
         y = Add(e, t)",
    );
    assert_eq!(all[0].obstacle, Some(Obstacle::Read { value: "c".into() }));
    assert_eq!(all[1].obstacle, Some(Obstacle::Output));
}

#[test]
fn sums_that_are_no_residual_are_no_blocks() {
    let all = found(
        "x = input f32[1,2,4,4]
         a = Conv(x, w[2,2,3,3]) pad=1
         b = Conv(x, v[2,2,3,3]) pad=1
         two_equal_branches = Add(a, b)
         bias = Add(two_equal_branches, k[2,1,1])
         double = Add(bias, bias)
         c = Sigmoid(double)
         y = Add(c, double)",
    );
    assert!(all.iter().all(|b| b.kind == BlockKind::Chain), "{all:?}");
    assert_eq!(all.len(), 2, "without a residual block the convolutions are the units");
}

#[test]
fn links_of_a_chain_are_removable_where_nothing_changes_shape() {
    let all = found(
        "x = input f32[1,3,8,8]
         a = Conv(x, w[4,3,3,3]) pad=1
         n = BatchNorm(a, g[4], b[4], m[4], v[4])
         r = Relu(n)
         c = Conv(r, u[4,4,3,3]) pad=1
         d = Relu(c)
         p = MaxPool(d) kernel=2 stride=2
         e = Conv(p, t[4,4,3,3], h[4]) pad=1
         f = Conv(e, q[4,4,3,3])
         y = GlobalAveragePool(f)",
    );
    let names: Vec<&str> = all.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["r", "d", "e", "f"]);
    assert_eq!(all.iter().map(Block::is_candidate).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(all[2].parameters, 4 * 4 * 9 + 4);
}

#[test]
fn a_block_around_blocks_counts_beside_them_and_both_can_go() {
    let nested = "x = input f32[1,2,4,4]
        a = Conv(x, w[2,2,3,3]) pad=1
        b = Conv(a, v[2,2,3,3]) pad=1
        inner = Add(a, b)
        outer = Add(inner, x)
        y = Relu(outer)";
    assert_eq!(found(nested).len(), 2);
    let gone = crate::passes::remove_blocks(Graph::parse(nested).unwrap(), &[0, 1]).unwrap().graph;
    assert_eq!(gone.to_text(), "x = input f32[1,2,4,4]\ny = Relu(x)\n");
}
