//! Same elements, new shape. ONNX `Reshape` with a constant shape.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, countable, misfit, output_shape};
use crate::{Fact, Tensor};

/// Same elements, new shape. ONNX `Reshape` with a constant shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reshape {
    /// Target lengths: `0` copies the input axis of that position, one `-1` takes the rest. Importers write `0` for the batch.
    pub shape: Vec<i64>,
}

impl OpSpec for Reshape {
    const NAME: &'static str = "Reshape";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("shape", Attribute::Signed(&mut self.shape))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        let total = x.elements().ok_or_else(|| misfit(0, "fewer elements", x))?;
        let mut shape = Vec::with_capacity(self.shape.len());
        let mut rest = None;
        for (axis, length) in self.shape.iter().enumerate() {
            shape.push(match *length {
                0 => *x.shape.get(axis).ok_or_else(|| attribute("shape", format!("0 copies axis {axis} of {x}")))?,
                -1 if rest.is_none() => {
                    rest = Some(axis);
                    1
                }
                -1 => return Err(attribute("shape", "only one length may be -1")),
                n => usize::try_from(n).map_err(|_| attribute("shape", format!("{n} is no length")))?,
            });
        }
        let known = countable(shape.clone())?.elements().unwrap_or(0);
        if let Some(axis) = rest.filter(|_| known > 0) {
            shape[axis] = total / known;
        }
        match countable(shape)? {
            fact if fact.elements() == Some(total) => Ok(fact),
            fact => Err(attribute("shape", format!("{x} does not fill {fact}"))),
        }
    }

    fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow {
        let ([x], Ok(output)) = (inputs, self.infer(inputs)) else { return ChannelFlow::Blocks };
        match (x.shape.as_slice(), output.shape.as_slice()) {
            ([n, c, ..], [m, d, ..]) if n == m && c == d => ChannelFlow::Same,
            ([n, _, pixels @ ..], [m, _]) if n == m => ChannelFlow::Spreads { factor: pixels.iter().product() },
            _ => ChannelFlow::Blocks,
        }
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let [x] = arity(inputs)?;
        Ok(Tensor { shape, data: x.data.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, flow, inferred};

    fn to(shape: &[i64]) -> Reshape {
        Reshape { shape: shape.to_vec() }
    }

    #[test]
    fn zero_copies_and_minus_one_takes_the_rest() {
        let y = to(&[0, -1]).eval(&[&counting([2, 3, 1, 2])]).unwrap();
        assert_eq!(y, counting([2, 6]));
        assert_eq!(inferred(&to(&[-1]), &[&[2, 0]]), Ok(vec![0]));
        assert_eq!(inferred(&to(&[]), &[&[1, 1]]), Ok(vec![]));
    }

    #[test]
    fn shapes_that_cannot_be_filled_are_refused() {
        for bad in [&[0, 0, 0][..], &[-1, -1], &[4, -1], &[5], &[-2], &[i64::MAX, i64::MAX, -1]] {
            assert!(inferred(&to(bad), &[&[2, 3]]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn channels_are_followed_when_batch_and_channels_stay() {
        assert_eq!(flow(&to(&[0, 3, -1]), &[&[2, 3, 4, 5]]), ChannelFlow::Same);
        assert_eq!(flow(&to(&[0, -1]), &[&[2, 3, 4, 5]]), ChannelFlow::Spreads { factor: 20 });
        assert_eq!(flow(&to(&[0, 15, 4]), &[&[2, 3, 4, 5]]), ChannelFlow::Blocks);
        assert_eq!(flow(&to(&[-1]), &[&[2, 3]]), ChannelFlow::Blocks);
    }
}
