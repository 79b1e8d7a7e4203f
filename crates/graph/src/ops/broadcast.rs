//! Numpy broadcasting of two operands, shared by `Add` and `Mul`.

use super::{ChannelFlow, OpError, arity, countable, indices, misfit, strides};
use crate::{Fact, Tensor};

/// The axis of an operand of rank `rank` that lines up with `axis` of an output of rank `output_rank`.
pub(crate) fn aligned_axis(rank: usize, output_rank: usize, axis: usize) -> Option<usize> {
    (rank + axis).checked_sub(output_rank)
}

/// Shape of the output: axes are aligned from the back, and a length of 1 stretches.
pub(super) fn infer(inputs: &[&Fact]) -> Result<Fact, OpError> {
    let [a, b] = arity(inputs)?;
    let rank = a.rank().max(b.rank());
    let length = |fact: &Fact, axis| aligned_axis(fact.rank(), rank, axis).map_or(1, |i| fact.shape[i]);
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        shape.push(match (length(a, axis), length(b, axis)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(misfit(1, format!("a shape that broadcasts with {a}"), b)),
        });
    }
    countable(shape)
}

/// `f(a, b)` of every pair of elements.
pub(super) fn eval(inputs: &[&Tensor], f: impl Fn(f32, f32) -> f32) -> Result<Tensor, OpError> {
    let [a, b] = arity(inputs)?;
    let shape = infer(&[&a.fact(), &b.fact()])?.shape;
    let (a_steps, b_steps) = (steps(a, shape.len()), steps(b, shape.len()));
    let at = |index: &[usize], steps: &[usize]| index.iter().zip(steps).map(|(i, s)| i * s).sum::<usize>();
    let data = indices(&shape).map(|i| f(a.data[at(&i, &a_steps)], b.data[at(&i, &b_steps)])).collect();
    Ok(Tensor { shape, data })
}

/// Strides of an operand seen with the output's rank: 0 along stretched axes.
fn steps(operand: &Tensor, rank: usize) -> Vec<usize> {
    let own = strides(&operand.shape);
    let step = |axis| match aligned_axis(operand.shape.len(), rank, axis) {
        Some(i) if operand.shape[i] != 1 => own[i],
        _ => 0,
    };
    (0..rank).map(step).collect()
}

/// `Same` unless an operand with several values has one channel where the output has many.
pub(super) fn channel_flow(inputs: &[&Fact]) -> ChannelFlow {
    let Ok(output) = infer(inputs) else { return ChannelFlow::Blocks };
    if output.rank() < 2 {
        return ChannelFlow::Blocks;
    }
    let follows = |fact: &&Fact| match aligned_axis(fact.rank(), output.rank(), 1) {
        Some(axis) => fact.shape[axis] == output.shape[1] || fact.elements() == Some(1),
        None => true,
    };
    if inputs.iter().all(follows) { ChannelFlow::Same } else { ChannelFlow::Blocks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::counting;

    #[test]
    fn lengths_of_one_stretch_on_either_side() {
        let row = counting([1, 3]);
        let column = Tensor::new([2, 1], vec![10.0, 20.0]);
        let y = eval(&[&row, &column], |a, b| a + b).unwrap();
        assert_eq!(y, Tensor::new([2, 3], vec![11.0, 12.0, 13.0, 21.0, 22.0, 23.0]));
    }

    #[test]
    fn a_scalar_meets_any_shape() {
        let y = eval(&[&Tensor::new([], vec![2.0]), &counting([1, 3, 1])], |a, b| a * b).unwrap();
        assert_eq!(y, Tensor::new([1, 3, 1], vec![2.0, 4.0, 6.0]));
    }

    #[test]
    fn unequal_lengths_are_refused() {
        let error = infer(&[&Fact::new([2, 3]), &Fact::new([2])]).unwrap_err();
        assert_eq!(error.to_string(), "input 1: expected a shape that broadcasts with f32[2,3], found f32[2]");
    }

    #[test]
    fn an_operand_with_one_channel_of_many_values_blocks() {
        let image = Fact::new([1, 3, 5, 5]);
        assert_eq!(channel_flow(&[&image, &Fact::new([1, 3, 1, 1])]), ChannelFlow::Same);
        assert_eq!(channel_flow(&[&image, &Fact::new([3, 1, 1])]), ChannelFlow::Same);
        assert_eq!(channel_flow(&[&image, &Fact::new([1])]), ChannelFlow::Same);
        assert_eq!(channel_flow(&[&image, &Fact::new([1, 1, 5, 5])]), ChannelFlow::Blocks);
    }
}
