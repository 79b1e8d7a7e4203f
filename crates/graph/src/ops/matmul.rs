//! Matrix product over the last two axes; the leading axes are equal or absent on the right. ONNX `MatMul`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, countable, misfit, output_shape};
use crate::{Fact, Tensor};

/// Matrix product over the last two axes; the leading axes are equal or absent on the right. ONNX `MatMul`.
///
/// A constant right side counts as data: `passes::MatMulToGemm` turns a layer in this form into the one that is pruned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatMul;

impl OpSpec for MatMul {
    const NAME: &'static str = "MatMul";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [a, b] = arity(inputs)?;
        let (Some((batch, [rows, inner])), Some((other, [taken, columns]))) = (split(a), split(b)) else {
            return Err(misfit(if a.rank() < 2 { 0 } else { 1 }, "at least 2 axes", if a.rank() < 2 { a } else { b }));
        };
        if taken != inner || !(other.is_empty() || other == batch) {
            return Err(misfit(1, format!("[.., {inner}, columns] to multiply {a}"), b));
        }
        countable([batch, &[*rows, *columns]].concat())
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Blocks
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, inputs: &[&Fact]) -> u64 {
        let (Ok(output), [a, _]) = (self.infer(inputs), inputs) else { return 0 };
        let inner = a.shape.last().map_or(0, |d| *d as u64);
        output.shape.iter().fold(inner, |n, d| n.saturating_mul(*d as u64))
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let [a, b] = arity(inputs)?;
        let [rows, columns] = [shape[shape.len() - 2], shape[shape.len() - 1]];
        let inner = a.shape[a.shape.len() - 1];
        let batches: usize = shape[..shape.len() - 2].iter().product();
        let mut data = Vec::with_capacity(shape.iter().product());
        for batch in 0..batches {
            let a = &a.data[batch * rows * inner..];
            let b = if b.shape.len() == 2 { &b.data[..] } else { &b.data[batch * inner * columns..] };
            for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                let products = (0..inner).map(|i| f64::from(a[r * inner + i]) * f64::from(b[i * columns + c]));
                data.push(products.sum::<f64>() as f32);
            }
        }
        Ok(Tensor { shape, data })
    }
}

/// Leading axes, and the last two.
fn split(fact: &Fact) -> Option<(&[usize], &[usize; 2])> {
    fact.shape.split_last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn one_matrix_on_the_right_serves_every_batch() {
        let right = Tensor::new([2, 1], vec![1.0, 10.0]);
        let y = MatMul.eval(&[&counting([3, 1, 2]), &right]).unwrap();
        assert_eq!(y, Tensor::new([3, 1, 1], vec![21.0, 43.0, 65.0]));
        assert_eq!(MatMul.macs(&[&Fact::new([3, 1, 2]), &right.fact()]), 6);
    }

    #[test]
    fn batches_on_both_sides_go_together() {
        let right = Tensor::new([2, 2, 1], vec![1.0, 0.0, 0.0, 1.0]);
        let y = MatMul.eval(&[&counting([2, 1, 2]), &right]).unwrap();
        assert_eq!(y, Tensor::new([2, 1, 1], vec![1.0, 4.0]));
    }

    #[test]
    fn vectors_and_unequal_inner_lengths_are_refused() {
        assert!(inferred(&MatMul, &[&[3], &[3, 2]]).is_err());
        assert!(inferred(&MatMul, &[&[2, 3], &[3]]).is_err());
        assert!(inferred(&MatMul, &[&[2, 3], &[2, 3]]).is_err());
        assert!(inferred(&MatMul, &[&[2, 2, 3], &[3, 3, 2]]).is_err());
    }
}
