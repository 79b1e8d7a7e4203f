//! A strided box of the input. ONNX `Slice` with constant bounds.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, countable, indices, output_shape, strides};
use crate::{Fact, Tensor};

/// A strided box of the input. ONNX `Slice` with constant bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// First index of each axis.
    pub starts: Vec<usize>,
    /// One past the last index of each axis; clamped to its length (`usize::MAX` = to the end).
    pub ends: Vec<usize>,
    /// Step of each axis, at least 1.
    pub steps: Vec<usize>,
}

impl OpSpec for Slice {
    const NAME: &'static str = "Slice";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("starts", Attribute::Counts(&mut self.starts)),
            ("ends", Attribute::Counts(&mut self.ends)),
            ("steps", Attribute::Counts(&mut self.steps)),
        ]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        if [&self.starts, &self.ends, &self.steps].iter().any(|list| list.len() != x.rank()) {
            return Err(attribute("starts", format!("starts, ends and steps need one number per axis of {x}")));
        }
        if self.steps.contains(&0) {
            return Err(attribute("steps", "must be at least 1"));
        }
        let length = |axis: usize| {
            let end = self.ends[axis].min(x.shape[axis]);
            end.saturating_sub(self.starts[axis]).div_ceil(self.steps[axis])
        };
        countable((0..x.rank()).map(length).collect())
    }

    fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow {
        let whole = |x: &Fact| {
            let channels = x.shape.get(1)?;
            Some(*self.starts.get(1)? == 0 && self.ends.get(1)? >= channels && *self.steps.get(1)? == 1)
        };
        if inputs.iter().all(|x| whole(x) == Some(true)) { ChannelFlow::Same } else { ChannelFlow::Blocks }
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
        let steps = strides(&x.shape);
        let source = |index: Vec<usize>| -> usize {
            index.iter().enumerate().map(|(axis, i)| (self.starts[axis] + i * self.steps[axis]) * steps[axis]).sum()
        };
        let data = indices(&shape).map(|index| x.data[source(index)]).collect();
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, flow, inferred};

    fn slice(starts: [usize; 2], ends: [usize; 2], steps: [usize; 2]) -> Slice {
        Slice { starts: starts.to_vec(), ends: ends.to_vec(), steps: steps.to_vec() }
    }

    #[test]
    fn steps_and_ends_past_the_axis_pick_the_box() {
        let y = slice([1, 0], [usize::MAX, 9], [1, 2]).eval(&[&counting([3, 3])]).unwrap();
        assert_eq!(y, Tensor::new([2, 2], vec![4.0, 6.0, 7.0, 9.0]));
    }

    #[test]
    fn a_start_past_the_end_gives_nothing() {
        assert_eq!(inferred(&slice([5, 0], [9, 3], [1, 1]), &[&[3, 3]]), Ok(vec![0, 3]));
    }

    #[test]
    fn a_zero_step_and_missing_axes_are_refused() {
        assert!(inferred(&slice([0, 0], [1, 1], [0, 1]), &[&[3, 3]]).is_err());
        assert!(inferred(&slice([0, 0], [1, 1], [1, 1]), &[&[3, 3, 3]]).is_err());
    }

    #[test]
    fn channels_are_followed_only_when_all_stay() {
        assert_eq!(flow(&slice([1, 0], [2, 3], [1, 1]), &[&[3, 3]]), ChannelFlow::Same);
        assert_eq!(flow(&slice([0, 1], [3, 3], [1, 1]), &[&[3, 3]]), ChannelFlow::Blocks);
    }
}
