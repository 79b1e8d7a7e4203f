//! Largest value in a window, 2-D; padding never wins. ONNX `MaxPool`; `ceil_mode` is resolved into `pads` on import.

use super::window::windows;
use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, countable, image, output_shape};
use crate::{Fact, Tensor};

/// Largest value in a window, 2-D; padding never wins. ONNX `MaxPool`; `ceil_mode` is resolved into `pads` on import.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
}

impl Default for MaxPool {
    fn default() -> Self {
        MaxPool { kernel: [1, 1], stride: [1, 1], pads: [0; 4] }
    }
}

impl OpSpec for MaxPool {
    const NAME: &'static str = "MaxPool";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("kernel", Attribute::Fixed(&mut self.kernel)),
            ("stride", Attribute::Fixed(&mut self.stride)),
            ("pad", Attribute::Fixed(&mut self.pads)),
        ]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        let [n, c, h, w] = image(0, x)?;
        let [down, right] = windows(self.kernel, self.stride, [1, 1], self.pads);
        down.check_pool()?;
        right.check_pool()?;
        countable(vec![n, c, down.positions(h, x)?, right.positions(w, x)?])
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Same
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
        let (h, w) = (x.shape[2], x.shape[3]);
        let [down, right] = windows(self.kernel, self.stride, [1, 1], self.pads);
        let mut data = Vec::with_capacity(shape.iter().product());
        for plane in 0..shape[0] * shape[1] {
            for (oy, ox) in (0..shape[2]).flat_map(|oy| (0..shape[3]).map(move |ox| (oy, ox))) {
                let mut largest = f32::NEG_INFINITY;
                for y in (0..self.kernel[0]).filter_map(|t| down.source(oy, t, h)) {
                    for x_at in (0..self.kernel[1]).filter_map(|t| right.source(ox, t, w)) {
                        largest = largest.max(x.data[(plane * h + y) * w + x_at]);
                    }
                }
                data.push(largest);
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
    fn padding_never_wins() {
        let x = Tensor::new([1, 1, 1, 3], vec![-3.0, -2.0, -1.0]);
        let pool = MaxPool { kernel: [1, 2], stride: [1, 2], pads: [0, 1, 0, 0] };
        assert_eq!(pool.eval(&[&x]), Ok(Tensor::new([1, 1, 1, 2], vec![-3.0, -1.0])));
    }

    #[test]
    fn a_remainder_that_no_window_covers_is_left_out() {
        let pool = MaxPool { kernel: [2, 2], stride: [2, 2], pads: [0; 4] };
        let y = pool.eval(&[&counting([1, 1, 3, 5])]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 1, 2], vec![7.0, 9.0]));
    }

    #[test]
    fn a_zero_stride_is_refused() {
        let pool = MaxPool { stride: [0, 1], ..MaxPool::default() };
        let error = inferred(&pool, &[&[1, 1, 3, 3]]).unwrap_err();
        assert_eq!(error.to_string(), "attribute `stride`: must be at least 1");
    }
}
