//! Inputs one after the other along `axis`. ONNX `Concat`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, axis_of, countable, misfit, output_shape};
use crate::{Fact, Tensor};

/// Inputs one after the other along `axis`. ONNX `Concat`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// Axis, counted from the front.
    pub axis: usize,
}

impl Default for Concat {
    fn default() -> Self {
        Concat { axis: 1 }
    }
}

impl OpSpec for Concat {
    const NAME: &'static str = "Concat";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("axis", Attribute::Count(&mut self.axis))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [first, rest @ ..] = inputs else {
            return Err(OpError::Arity { expected: "at least 1", found: 0 });
        };
        let axis = axis_of(self.axis, first)?;
        let mut shape = first.shape.clone();
        for (i, other) in rest.iter().enumerate() {
            let fits = other.rank() == shape.len() && (0..shape.len()).all(|a| a == axis || other.shape[a] == shape[a]);
            if !fits {
                return Err(misfit(i + 1, format!("{first} except along axis {axis}"), other));
            }
            shape[axis] = shape[axis]
                .checked_add(other.shape[axis])
                .ok_or_else(|| misfit(i + 1, "a length that can be added", other))?;
        }
        countable(shape)
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        if self.axis == 1 { ChannelFlow::Concatenates } else { ChannelFlow::Same }
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let outer: usize = shape[..self.axis].iter().product();
        let mut data = Vec::with_capacity(shape.iter().product());
        for block in 0..outer {
            for x in inputs {
                let run = x.len() / outer;
                data.extend_from_slice(&x.data[block * run..(block + 1) * run]);
            }
        }
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn inputs_follow_one_another_along_the_axis() {
        let [a, b] = [counting([2, 1, 2]), Tensor::full([2, 2, 2], 9.0)];
        let y = Concat { axis: 1 }.eval(&[&a, &b]).unwrap();
        assert_eq!(y.shape, [2, 3, 2]);
        assert_eq!(y.data, [1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 3.0, 4.0, 9.0, 9.0, 9.0, 9.0]);
    }

    #[test]
    fn other_axes_must_agree_and_the_axis_must_exist() {
        assert!(inferred(&Concat { axis: 1 }, &[&[1, 2, 3], &[1, 2, 4]]).is_err());
        assert!(inferred(&Concat { axis: 3 }, &[&[1, 2, 3]]).is_err());
        assert!(inferred(&Concat { axis: 0 }, &[]).is_err());
    }
}
