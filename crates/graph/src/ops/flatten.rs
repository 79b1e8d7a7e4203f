//! `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`. ONNX `Flatten`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, countable, misfit, output_shape};
use crate::{Fact, Tensor};

/// `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`. ONNX `Flatten`.
#[derive(Clone, Debug, PartialEq)]
pub struct Flatten {
    /// First axis of the second group, counted from the front.
    pub axis: usize,
}

impl Default for Flatten {
    fn default() -> Self {
        Flatten { axis: 1 }
    }
}

impl OpSpec for Flatten {
    const NAME: &'static str = "Flatten";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("axis", Attribute::Count(&mut self.axis))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        if self.axis > x.rank() {
            return Err(attribute("axis", format!("{} is outside {x}", self.axis)));
        }
        let (front, back) = x.shape.split_at(self.axis);
        let count = |lengths: &[usize]| Fact::new(lengths).elements().ok_or_else(|| misfit(0, "fewer elements", x));
        countable(vec![count(front)?, count(back)?])
    }

    fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow {
        match inputs {
            [x] if self.axis == 1 && x.rank() >= 2 => ChannelFlow::Spreads { factor: x.shape[2..].iter().product() },
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

    #[test]
    fn channels_become_runs_of_pixels() {
        let y = Flatten { axis: 1 }.eval(&[&counting([2, 3, 1, 2])]).unwrap();
        assert_eq!(y, counting([2, 6]));
        assert_eq!(flow(&Flatten { axis: 1 }, &[&[2, 3, 1, 2]]), ChannelFlow::Spreads { factor: 2 });
        assert_eq!(flow(&Flatten { axis: 2 }, &[&[2, 3, 1, 2]]), ChannelFlow::Blocks);
    }

    #[test]
    fn an_axis_at_either_end_leaves_one_group_empty() {
        assert_eq!(inferred(&Flatten { axis: 0 }, &[&[2, 3]]), Ok(vec![1, 6]));
        assert_eq!(inferred(&Flatten { axis: 2 }, &[&[2, 3]]), Ok(vec![6, 1]));
        assert!(inferred(&Flatten { axis: 3 }, &[&[2, 3]]).is_err());
    }
}
