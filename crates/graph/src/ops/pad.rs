//! Constant padding on every axis. ONNX `Pad`, mode `constant`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, countable, indices, output_shape, strides};
use crate::{Fact, Tensor};

/// Constant padding on every axis. ONNX `Pad`, mode `constant`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pad {
    /// Elements added before and after each axis.
    pub amounts: Vec<(usize, usize)>,
    /// The value added.
    pub value: f32,
}

impl OpSpec for Pad {
    const NAME: &'static str = "Pad";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("amounts", Attribute::Pairs(&mut self.amounts)), ("value", Attribute::Real(&mut self.value))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        if self.amounts.len() != x.rank() {
            return Err(attribute("amounts", format!("{} pairs for {x}", self.amounts.len())));
        }
        let padded = |(d, (before, after)): (&usize, &(usize, usize))| d.checked_add(*before)?.checked_add(*after);
        let shape: Option<Vec<usize>> = x.shape.iter().zip(&self.amounts).map(padded).collect();
        countable(shape.ok_or_else(|| attribute("amounts", "overflows"))?)
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        if matches!(self.amounts.get(1), Some((0, 0))) { ChannelFlow::Same } else { ChannelFlow::Blocks }
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
        let steps = strides(&shape);
        let mut data = vec![self.value; shape.iter().product()];
        for (index, v) in indices(&x.shape).zip(&x.data) {
            let at = index.iter().zip(&self.amounts).zip(&steps).map(|((i, (before, _)), s)| (i + before) * s);
            data[at.sum::<usize>()] = *v;
        }
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn each_axis_grows_on_its_own() {
        let pad = Pad { amounts: vec![(0, 0), (1, 2)], value: 7.0 };
        let y = pad.eval(&[&counting([2, 1])]).unwrap();
        assert_eq!(y, Tensor::new([2, 4], vec![7.0, 1.0, 7.0, 7.0, 7.0, 2.0, 7.0, 7.0]));
    }

    #[test]
    fn amounts_must_cover_every_axis_and_not_overflow() {
        assert!(inferred(&Pad::default(), &[&[2]]).is_err());
        assert!(inferred(&Pad { amounts: vec![(usize::MAX, 1)], value: 0.0 }, &[&[2]]).is_err());
        assert!(inferred(&Pad { amounts: vec![(1 << 40, 0)], value: 0.0 }, &[&[2]]).is_err());
    }
}
