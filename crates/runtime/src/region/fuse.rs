//! Takes sums and activations into the layer before them, so that they cost no pass over memory of their own.

use sentei_kernels::Activation;

use super::graph::{Kind, Layer, Net};

/// Fuses until nothing is left to fuse.
pub(crate) fn fuse(net: &mut Net) {
    while fuse_one(net) {}
}

fn fuse_one(net: &mut Net) -> bool {
    let (uses, makers) = (net.uses(), net.makers());
    // the layer that makes `value`, if only one reader would miss it
    let sole_maker = |value: usize| makers[value].filter(|_| uses[value] == 1);
    for at in 0..net.layers.len() {
        let layer = &net.layers[at];
        let fused = match &layer.kind {
            Kind::Copy { .. } => sole_maker(layer.x).is_some_and(|maker| take_activation(net, maker, at)),
            Kind::Add { .. } => {
                let operands = [Some(layer.x), layer.residual].map(|value| value.and_then(sole_maker));
                // the later one: the other operand exists by then wherever it is made
                let mut makers: Vec<usize> = operands.into_iter().flatten().collect();
                makers.sort_unstable();
                makers.into_iter().rev().any(|maker| take_sum(net, maker, at))
            }
            Kind::Shortcut { .. } => sole_maker(layer.x).is_some_and(|maker| join_shortcuts(net, maker, at)),
            _ => false,
        };
        if fused {
            return true;
        }
    }
    false
}

/// Lets layer `maker` apply the activation of the copy at `at`.
fn take_activation(net: &mut Net, maker: usize, at: usize) -> bool {
    let follower = net.layers[at].clone();
    let layer = &mut net.layers[maker];
    let can = matches!(layer.kind, Kind::Conv { .. } | Kind::Linear { .. } | Kind::Add { .. } | Kind::Copy { .. });
    let Some(both) = then(layer.activation, follower.activation) else { return false };
    if !can || layer.output() != follower.output() {
        return false;
    }
    if both != layer.activation {
        // two activations are one clip; its bounds are what counts
        layer.op = match (layer.activation, layer.op.rsplit_once('+')) {
            (Activation::None, _) => format!("{}+{}", layer.op, follower.op),
            (_, Some((start, _))) => format!("{start}+Clip"),
            (_, None) => "Clip".into(),
        };
    }
    layer.activation = both;
    layer.y = follower.y;
    net.layers.remove(at);
    true
}

/// Lets the convolution `maker` add what the sum at `at` adds to its result; it then runs in the place of the sum.
fn take_sum(net: &mut Net, maker: usize, at: usize) -> bool {
    let (conv, sum) = (&net.layers[maker], &net.layers[at]);
    let fits = matches!(conv.kind, Kind::Conv { .. })
        && conv.residual.is_none()
        && conv.activation == Activation::None
        && conv.output() == sum.output();
    if !fits {
        return false;
    }
    let residual = if conv.y == sum.x { sum.residual } else { Some(sum.x) };
    let op = format!("{}+{}", conv.op, sum.op);
    let (activation, y) = (sum.activation, sum.y);
    net.layers[at] = Layer { residual, op, activation, y, ..conv.clone() };
    net.layers.remove(maker);
    true
}

/// Makes one shortcut of two in a row.
fn join_shortcuts(net: &mut Net, maker: usize, at: usize) -> bool {
    let (first, second) = (&net.layers[maker], &net.layers[at]);
    let Kind::Shortcut { input, step, before, after } = first.kind else { return false };
    let Kind::Shortcut { step: by, before: more_before, after: more_after, .. } = second.kind else { return false };
    if first.output() != second.input() || first.activation != Activation::None {
        return false;
    }
    let step = step * by;
    let kind = Kind::Shortcut { input, step, before: before + more_before, after: after + more_after };
    let (activation, y) = (second.activation, second.y);
    let op = format!("{}+{}", first.op, second.op);
    let joined = Layer { kind, op, activation, y, ..first.clone() };
    net.layers[maker] = joined;
    net.layers.remove(at);
    true
}

/// One activation that does what `first` and then `second` do.
fn then(first: Activation, second: Activation) -> Option<Activation> {
    let bounds = |activation| match activation {
        Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Clip { min, max } => Some((min, max)),
        Activation::HardSwish => None,
    };
    match (first, second) {
        (Activation::None, only) | (only, Activation::None) => Some(only),
        _ => {
            let ((low, high), (min, max)) = (bounds(first)?, bounds(second)?);
            // what leaves the first lies in [min(low, high), high]; the upper bound wins in both
            let clip = |x: f32| x.max(min).min(max);
            Some(named(clip(low.min(high)), clip(high)))
        }
    }
}

/// The activation that keeps numbers between two bounds.
pub(crate) fn named(min: f32, max: f32) -> Activation {
    match (min, max) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
        (0.0, f32::INFINITY) => Activation::Relu,
        _ => Activation::Clip { min, max },
    }
}

#[cfg(test)]
mod tests {
    use sentei_kernels::conv::ConvGeometry;

    use super::*;
    use crate::region::graph::{Shape, Value};
    use crate::region::weights::Weights;

    const SHAPE: Shape = Shape { channels: 2, height: 3, width: 3 };

    struct Draft(Net);

    impl Draft {
        fn new() -> Self {
            Self(Net { values: vec![SHAPE], inputs: vec![0], ..Net::default() })
        }

        fn push(&mut self, op: &str, kind: Kind, x: Value, residual: Option<Value>, activation: Activation) -> Value {
            let mut layer =
                Layer { name: op.to_lowercase(), op: op.into(), kind, x, residual, y: self.0.values.len(), activation };
            layer.y = self.0.value(layer.output());
            self.0.layers.push(layer);
            self.0.values.len() - 1
        }

        fn conv(&mut self, x: Value) -> Value {
            let weights = Weights::dense(vec![2, 2, 1, 1], vec![1.0; 4], None).into();
            let geometry = ConvGeometry::new(2, [3, 3], 2, [1, 1]);
            self.push("Conv", Kind::Conv { geometry, weights }, x, None, Activation::None)
        }

        fn act(&mut self, op: &str, x: Value, activation: Activation) -> Value {
            self.push(op, Kind::Copy { shape: SHAPE }, x, None, activation)
        }

        fn add(&mut self, a: Value, b: Value) -> Value {
            self.push("Add", Kind::Add { shape: SHAPE }, a, Some(b), Activation::None)
        }

        fn fused(mut self, output: Value) -> Net {
            self.0.outputs.push(output);
            assert_eq!(self.0.fault(), None);
            fuse(&mut self.0);
            assert_eq!(self.0.fault(), None);
            self.0
        }
    }

    #[test]
    fn a_residual_block_becomes_its_convolutions() {
        let mut net = Draft::new();
        let a = net.conv(0);
        let a = net.act("Relu", a, Activation::Relu);
        let b = net.conv(a);
        let sum = net.add(b, 0);
        let y = net.act("Relu", sum, Activation::Relu);
        let net = net.fused(y);
        assert_eq!(net.text(), "v2 = Conv+Relu(v0) [2, 3, 3]\nv5 = Conv+Add+Relu(v2, v0) [2, 3, 3]\n");
    }

    #[test]
    fn of_two_convolutions_the_later_one_adds() {
        for swapped in [false, true] {
            let mut net = Draft::new();
            let (a, b) = (net.conv(0), net.conv(0));
            let y = if swapped { net.add(b, a) } else { net.add(a, b) };
            let net = net.fused(y);
            assert_eq!(net.text(), "v1 = Conv(v0) [2, 3, 3]\nv3 = Conv+Add(v0, v1) [2, 3, 3]\n");
        }
    }

    #[test]
    fn what_somebody_else_reads_is_not_fused_away() {
        let mut net = Draft::new();
        let a = net.conv(0);
        let b = net.act("Relu", a, Activation::Relu);
        let y = net.add(a, b);
        // both stay: the sum reads the convolution before and after its activation
        assert_eq!(net.fused(y).layers.len(), 3);
        let mut net = Draft::new();
        let a = net.conv(0);
        let y = net.add(a, a);
        assert_eq!(net.fused(y).layers.len(), 2);
    }

    #[test]
    fn bounds_in_a_row_are_one_clip() {
        let mut net = Draft::new();
        let a = net.conv(0);
        let a = net.act("Relu", a, Activation::Relu);
        let y = net.act("Clip", a, Activation::Clip { min: f32::NEG_INFINITY, max: 6.0 });
        let net = net.fused(y);
        assert_eq!(net.text(), "v3 = Conv+Clip(v0) [2, 3, 3]\n");
        assert_eq!(net.layers[0].activation, Activation::Clip { min: 0.0, max: 6.0 });
    }

    #[test]
    fn activations_compose_as_they_run() {
        let clip = |min, max| Activation::Clip { min, max };
        let all = [Activation::None, Activation::Relu, clip(-1.0, 2.0), clip(3.0, 1.0), clip(0.5, f32::INFINITY)];
        for first in all {
            for second in all {
                let both = then(first, second).unwrap();
                for x in [-5.0, -1.0, -0.25, 0.0, 0.75, 1.5, 2.5, 9.0] {
                    assert_eq!(both.apply(x), second.apply(first.apply(x)), "{first:?} then {second:?} of {x}");
                }
            }
        }
        assert_eq!(then(Activation::HardSwish, Activation::Relu), None);
    }

    #[test]
    fn a_slice_and_a_pad_are_one_shortcut() {
        let mut net = Draft::new();
        let half = Kind::Shortcut { input: SHAPE, step: 2, before: 0, after: 0 };
        let a = net.push("Slice", half, 0, None, Activation::None);
        let pad = Kind::Shortcut { input: Shape::new(2, 2, 2), step: 1, before: 1, after: 1 };
        let y = net.push("Pad", pad, a, None, Activation::None);
        let net = net.fused(y);
        assert_eq!(net.text(), "v2 = Slice+Pad(v0) [4, 2, 2]\n");
    }
}
