//! Mean over a window, 2-D. ONNX `AveragePool`; `ceil_mode` is resolved into `pads` on import.

use super::window::windows;
use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, countable, image, output_shape};
use crate::{Fact, Tensor};

/// Mean over a window, 2-D. ONNX `AveragePool`; `ceil_mode` is resolved into `pads` on import.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Whether padded positions count in the divisor.
    pub count_include_pad: bool,
}

impl Default for AveragePool {
    fn default() -> Self {
        AveragePool { kernel: [1, 1], stride: [1, 1], pads: [0; 4], count_include_pad: false }
    }
}

impl OpSpec for AveragePool {
    const NAME: &'static str = "AveragePool";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("kernel", Attribute::Fixed(&mut self.kernel)),
            ("stride", Attribute::Fixed(&mut self.stride)),
            ("pad", Attribute::Fixed(&mut self.pads)),
            ("count_include_pad", Attribute::Flag(&mut self.count_include_pad)),
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
                let (mut sum, mut count) = (0.0f64, 0usize);
                for y in (0..self.kernel[0]).filter_map(|t| down.source(oy, t, h)) {
                    for x_at in (0..self.kernel[1]).filter_map(|t| right.source(ox, t, w)) {
                        sum += f64::from(x.data[(plane * h + y) * w + x_at]);
                        count += 1;
                    }
                }
                let divisor = if self.count_include_pad { self.kernel[0] * self.kernel[1] } else { count };
                data.push((sum / divisor as f64) as f32);
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
    fn the_divisor_counts_the_padding_only_when_asked() {
        let x = Tensor::full([1, 1, 3, 3], 9.0);
        let mut pool = AveragePool { kernel: [3, 3], stride: [2, 2], pads: [1; 4], count_include_pad: false };
        assert_eq!(pool.eval(&[&x]), Ok(Tensor::full([1, 1, 2, 2], 9.0)));
        pool.count_include_pad = true;
        assert_eq!(pool.eval(&[&x]), Ok(Tensor::full([1, 1, 2, 2], 4.0)));
    }

    #[test]
    fn windows_are_averaged_per_channel() {
        let pool = AveragePool { kernel: [1, 2], stride: [1, 2], ..AveragePool::default() };
        let y = pool.eval(&[&counting([1, 2, 1, 5])]).unwrap();
        assert_eq!(y, Tensor::new([1, 2, 1, 2], vec![1.5, 3.5, 6.5, 8.5]));
    }

    #[test]
    fn padding_as_large_as_the_window_is_refused() {
        let pool = AveragePool { kernel: [2, 2], pads: [0, 2, 0, 0], ..AveragePool::default() };
        assert!(inferred(&pool, &[&[1, 1, 3, 3]]).is_err());
    }
}
