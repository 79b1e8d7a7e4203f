//! 2-D convolution; inputs x `[N, C, H, W]`, weight `[O, C/groups, kh, kw]`, optional bias `[O]`. ONNX `Conv`; 1-D and `auto_pad` are resolved on import.

use super::window::windows;
use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity_or_more, attribute, countable, image, misfit, output_shape};
use crate::{Fact, Tensor};

/// 2-D convolution; inputs x `[N, C, H, W]`, weight `[O, C/groups, kh, kw]`, optional bias `[O]`. ONNX `Conv`; 1-D and `auto_pad` are resolved on import.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between kernel taps, down and right.
    pub dilation: [usize; 2],
    /// Number of groups; `groups == C` is depthwise.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Conv { stride: [1, 1], pads: [0; 4], dilation: [1, 1], groups: 1 }
    }
}

impl OpSpec for Conv {
    const NAME: &'static str = "Conv";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("stride", Attribute::Fixed(&mut self.stride)),
            ("pad", Attribute::Fixed(&mut self.pads)),
            ("dilation", Attribute::Fixed(&mut self.dilation)),
            ("groups", Attribute::Count(&mut self.groups)),
        ]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let ([x, weight], bias) = arity_or_more(inputs)?;
        let [n, channels, h, w] = image(0, x)?;
        let [outputs, per_group, kh, kw] =
            weight.shape.as_slice().try_into().map_err(|_| misfit(1, "[out, in/groups, kh, kw]", weight))?;
        if self.groups == 0 || channels % self.groups != 0 || outputs % self.groups != 0 {
            let why = format!("{} does not divide {channels} input and {outputs} output channels", self.groups);
            return Err(attribute("groups", why));
        }
        if per_group != channels / self.groups {
            return Err(misfit(1, format!("{} input channels per group", channels / self.groups), weight));
        }
        if let Some(bias) = bias.filter(|b| b.shape != [outputs]) {
            return Err(misfit(2, format!("f32[{outputs}]"), bias));
        }
        let [down, right] = windows([kh, kw], self.stride, self.dilation, self.pads);
        countable(vec![n, outputs, down.positions(h, x)?, right.positions(w, x)?])
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Mixes { groups: self.groups }
    }

    fn role(&self, index: usize) -> Role {
        match index {
            1 => Role::Weight,
            2 => Role::Bias,
            _ => Role::Data,
        }
    }

    fn macs(&self, inputs: &[&Fact]) -> u64 {
        let Ok(output) = self.infer(inputs) else { return 0 };
        let per_output: u64 = inputs[1].shape[1..].iter().map(|d| *d as u64).product();
        output.shape.iter().fold(per_output, |n, d| n.saturating_mul(*d as u64))
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let ([x, weight], bias) = arity_or_more(inputs)?;
        let [_, outputs, oh, ow] = [shape[0], shape[1], shape[2], shape[3]];
        let [channels, h, w] = [x.shape[1], x.shape[2], x.shape[3]];
        let [per_group, kh, kw] = [weight.shape[1], weight.shape[2], weight.shape[3]];
        let [down, right] = windows([kh, kw], self.stride, self.dilation, self.pads);
        let mut data = Vec::with_capacity(shape.iter().product());
        for (n, o) in (0..shape[0]).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
            let mut sums = vec![bias.map_or(0.0, |b| f64::from(b.data[o])); oh * ow];
            let group = o / (outputs / self.groups);
            for (c, ty, tx) in taps(per_group, kh, kw) {
                let tap = f64::from(weight.data[((o * per_group + c) * kh + ty) * kw + tx]);
                let plane = n * channels + group * per_group + c;
                for (oy, y) in (0..oh).filter_map(|oy| Some((oy, down.source(oy, ty, h)?))) {
                    for (ox, x_at) in (0..ow).filter_map(|ox| Some((ox, right.source(ox, tx, w)?))) {
                        sums[oy * ow + ox] += tap * f64::from(x.data[(plane * h + y) * w + x_at]);
                    }
                }
            }
            data.extend(sums.into_iter().map(|s| s as f32));
        }
        Ok(Tensor { shape, data })
    }
}

/// Every position of one filter: input channel, row, column.
fn taps(channels: usize, kh: usize, kw: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..channels).flat_map(move |c| (0..kh).flat_map(move |y| (0..kw).map(move |x| (c, y, x))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn a_filter_slides_over_a_padded_image() {
        let weight = Tensor::new([1, 1, 2, 2], vec![1.0, 10.0, 100.0, 1000.0]);
        let conv = Conv { pads: [1, 0, 0, 1], ..Conv::default() };
        let y = conv.eval(&[&counting([1, 1, 2, 2]), &weight]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 2, 2], vec![2100.0, 200.0, 4321.0, 402.0]));
    }

    #[test]
    fn stride_and_dilation_pick_the_taps() {
        let weight = Tensor::new([1, 1, 1, 2], vec![1.0, 10.0]);
        let conv = Conv { stride: [1, 2], dilation: [1, 3], ..Conv::default() };
        let y = conv.eval(&[&counting([1, 1, 1, 7]), &weight]).unwrap();
        assert_eq!(y, Tensor::new([1, 1, 1, 2], vec![41.0, 63.0]));
    }

    #[test]
    fn groups_do_not_see_each_other_and_bias_is_added() {
        let weight = Tensor::new([4, 1, 1, 1], vec![1.0, 2.0, 3.0, 4.0]);
        let bias = Tensor::new([4], vec![0.5, 0.0, 0.0, 0.0]);
        let conv = Conv { groups: 2, ..Conv::default() };
        let y = conv.eval(&[&counting([2, 2, 1, 1]), &weight, &bias]).unwrap();
        assert_eq!(y.data, [1.5, 2.0, 6.0, 8.0, 3.5, 6.0, 12.0, 16.0]);
        assert_eq!(conv.macs(&[&Fact::new([2, 2, 1, 1]), &weight.fact(), &bias.fact()]), 8);
    }

    #[test]
    fn multiply_adds_count_positions_times_filter() {
        let conv = Conv { pads: [1; 4], stride: [2, 2], ..Conv::default() };
        let [x, weight] = [Fact::new([2, 3, 7, 5]), Fact::new([4, 3, 3, 3])];
        assert_eq!(conv.macs(&[&x, &weight]), 2 * 4 * 4 * 3 * 27);
    }

    #[test]
    fn odd_attributes_are_refused_by_name() {
        let refused = |conv: Conv| inferred(&conv, &[&[1, 4, 5, 5], &[6, 2, 3, 3]]).unwrap_err().to_string();
        let fits = Conv { groups: 2, ..Conv::default() };
        assert_eq!(inferred(&fits, &[&[1, 4, 5, 5], &[6, 2, 3, 3]]), Ok(vec![1, 6, 3, 3]));
        assert!(refused(Conv { groups: 0, ..fits.clone() }).starts_with("attribute `groups`"));
        assert!(refused(Conv { groups: 4, ..fits.clone() }).starts_with("attribute `groups`"));
        assert!(refused(Conv { groups: 1, ..fits.clone() }).starts_with("input 1"));
        assert!(refused(Conv { dilation: [3, 1], ..fits.clone() }).contains("spans 7 of only 5"));
        assert!(refused(Conv { pads: [usize::MAX, 0, 1, 0], ..fits }).starts_with("attribute `pad`"));
    }
}
