//! 2-D convolution and fully connected layers with gradients.
//!
//! On the CPU three custom ops do the work: forward, input gradient and weight gradient. Each is linear in both arguments and
//! its derivatives are the other two, so the set is closed under differentiation. Results do not depend on thread timing nor on
//! the number of threads: work is cut by shape alone and every sum has a fixed order.
//! Other devices, and double precision, run products of candle's behind the same functions.

use candle_core::{DType, Result, Tensor, bail};

mod columns;
mod dense;
mod depthwise;
pub(crate) mod gathered;
mod ops;

use ops::{AddBias, Forward};
pub(crate) use ops::{channel_sum, lane_sum};

use crate::given::{given, wanted};

/// How a kernel slides: attributes of `Conv` that no tensor carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between taps, down and right.
    pub dilation: [usize; 2],
}

/// Every length of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub groups: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub window: Window,
}

impl Geometry {
    /// The geometry of `x` `[N, C, H, W]` with `weight` `[O, C / groups, kh, kw]`.
    pub fn new(x: &[usize], weight: &[usize], window: Window, groups: usize) -> Result<Geometry> {
        let (&[batch, in_channels, h, w], &[out_channels, per_group, kh, kw]) = (x, weight) else {
            bail!("a convolution takes [N, C, H, W] and [O, C/groups, kh, kw], found {x:?} and {weight:?}");
        };
        if groups == 0 || per_group * groups != in_channels || out_channels % groups != 0 {
            bail!("weight {weight:?} does not fit {in_channels} channels in {groups} groups");
        }
        let Window { stride, pads, dilation } = window;
        let positions = |axis: usize, length: usize, kernel: usize| {
            let span = kernel.saturating_sub(1) * dilation[axis] + 1;
            let padded = length + pads[axis] + pads[axis + 2];
            if kernel == 0 || stride[axis] == 0 || padded < span {
                bail!("a window of {span} does not fit {padded} padded positions");
            }
            Ok((padded - span) / stride[axis] + 1)
        };
        let output = [positions(0, h, kh)?, positions(1, w, kw)?];
        Ok(Geometry { batch, groups, in_channels, out_channels, input: [h, w], output, kernel: [kh, kw], window })
    }

    fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.in_channels, self.input[0], self.input[1]]
    }

    fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.group_in(), self.kernel[0], self.kernel[1]]
    }

    fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.output[0], self.output[1]]
    }

    /// Pixels of one input plane.
    fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of one output plane.
    fn out_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Input channels per group.
    fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels per group.
    fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Weights behind one output channel: the rows of the patch matrix.
    fn patch(&self) -> usize {
        self.group_in() * self.kernel[0] * self.kernel[1]
    }

    /// Whether each group has one input channel.
    fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups > 1
    }

    /// Whether the patch matrix is the input itself: one tap, no padding, no step.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.window.pads == [0; 4] && self.window.stride == [1, 1]
    }

    /// Whether the kernel covers the input once, so that the convolution is a matrix product.
    fn is_linear(&self) -> bool {
        let covers = self.kernel == self.input && self.window.pads == [0; 4] && self.groups == 1;
        covers && (self.window.dilation == [1, 1] || self.input == [1, 1])
    }
}

/// Whether `x` is in the place and the precision that the custom ops of this module and of batch norm are made for.
pub(crate) fn has_custom_ops(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `x` `[N, C, H, W]` convolved with `weight` `[O, C / groups, kh, kw]`, plus `bias` `[O]`.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    groups: usize,
) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), weight.dims(), window, groups)?;
    let y = if !has_custom_ops(x) {
        gathered::conv2d(x, weight, geometry)?
    } else {
        x.contiguous()?.apply_op2(&weight.contiguous()?, Forward(geometry))?
    };
    bias.map_or(Ok(y.clone()), |bias| add_bias(&y, bias))
}

/// `y` `[N, C, ..]` plus `bias` `[C]` along axis 1.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if has_custom_ops(y) {
        return y.contiguous()?.apply_op2(&bias.contiguous()?, AddBias);
    }
    let mut shape = vec![1; y.rank()];
    shape[1] = y.dim(1)?;
    let value = y.detach().broadcast_add(&bias.detach().reshape(shape)?)?;
    given(y, bias, value, |y, bias, g| Ok((wanted(y, || Ok(g.clone()))?, wanted(bias, || channel_sum(g))?)))
}

/// `x W^T + bias` for `x` `[N, F]`, `weight` `[O, F]`, `bias` `[O]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, features), (out, _)) = (x.dims2()?, weight.dims2()?);
    let window = Window { stride: [1, 1], pads: [0; 4], dilation: [1, 1] };
    let (x, weight) = (x.reshape((rows, features, 1, 1))?, weight.reshape((out, (), 1, 1))?);
    conv2d(&x, &weight, bias, window, 1)?.reshape((rows, out))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    const WINDOWS: [(Window, [usize; 4], usize); 4] = [
        (Window { stride: [2, 1], pads: [1, 0, 2, 1], dilation: [1, 2] }, [6, 3, 3, 2], 1),
        (Window { stride: [1, 1], pads: [1, 1, 1, 1], dilation: [1, 1] }, [6, 1, 3, 3], 3),
        (Window { stride: [1, 2], pads: [0, 2, 1, 0], dilation: [2, 1] }, [3, 3, 2, 3], 1),
        (Window { stride: [2, 2], pads: [1, 0, 0, 1], dilation: [1, 1] }, [3, 1, 3, 3], 3),
    ];

    fn noise(shape: &[usize], salt: f32) -> Var {
        let count: usize = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|i| ((i as f32 * 0.731 + salt).sin() * 43.7).fract()).collect();
        Var::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn inner(a: &Tensor, b: &Tensor) -> Tensor {
        (a * b).unwrap().sum_all().unwrap()
    }

    fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        for (a, b) in values(a).iter().zip(values(b)) {
            assert!((a - b).abs() <= 200.0 * f32::EPSILON * b.abs().max(1.0), "{a} is not {b}");
        }
    }

    /// For the trilinear form `f(x, w, v) = <conv(x, w), v>`, each of the three ops is the gradient of `f` in one argument, so
    /// the gradient of any of them is again one of the three.
    #[test]
    fn the_three_ops_are_closed_under_differentiation() {
        for (window, weight, groups) in WINDOWS {
            let (x, w) = (noise(&[9, 3, 7, 6], 0.1), noise(&weight, 0.2));
            let geometry = Geometry::new(x.dims(), w.dims(), window, groups).unwrap();
            let v = noise(&geometry.output_shape(), 0.3);
            let forward = |x: &Tensor, w: &Tensor| x.apply_op2(w, Forward(geometry)).unwrap();
            let to_x = |v: &Tensor, w: &Tensor| v.apply_op2(w, ops::InputGradient(geometry)).unwrap();
            let to_w = |x: &Tensor, v: &Tensor| x.apply_op2(v, ops::WeightGradient(geometry)).unwrap();
            let (y, gx, gw) = (forward(&x, &w), to_x(&v, &w), to_w(&x, &v));
            let forms = [inner(&y, &v), inner(&gx, &x), inner(&gw, &w)];
            for form in forms {
                let grads = form.backward().unwrap();
                close(grads.get(x.as_tensor()).unwrap(), &gx);
                close(grads.get(w.as_tensor()).unwrap(), &gw);
                close(grads.get(v.as_tensor()).unwrap(), &y);
            }
        }
    }

    #[test]
    fn results_are_the_same_bits_on_any_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut bits = Vec::new();
                for (window, weight, groups) in WINDOWS {
                    let (x, w, b) = (noise(&[21, 3, 17, 16], 0.4), noise(&weight, 0.5), noise(&weight[..1], 0.6));
                    let y = conv2d(&x, &w, Some(&b), window, groups).unwrap();
                    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                    for t in [&y, grads.get(&x).unwrap(), grads.get(&w).unwrap(), grads.get(&b).unwrap()] {
                        bits.extend(values(t).into_iter().map(f32::to_bits));
                    }
                }
                bits
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn the_path_of_other_devices_agrees_with_the_custom_ops() {
        for (window, weight, groups) in WINDOWS {
            let (x, w) = (noise(&[2, 3, 7, 6], 0.1), noise(&weight, 0.2));
            let geometry = Geometry::new(x.dims(), w.dims(), window, groups).unwrap();
            let ours = conv2d(&x, &w, None, window, groups).unwrap();
            let candles = gathered::conv2d(&x, &w, geometry).unwrap();
            close(&candles, &ours);
            let v = noise(&geometry.output_shape(), 0.3).as_detached_tensor();
            let (ours, candles) = (inner(&ours, &v).backward().unwrap(), inner(&candles, &v).backward().unwrap());
            close(candles.get(&x).unwrap(), ours.get(&x).unwrap());
            close(candles.get(&w).unwrap(), ours.get(&w).unwrap());
        }
    }

    #[test]
    fn inputs_that_nothing_trains_cost_no_gradient() {
        let (window, weight, groups) = WINDOWS[0];
        let (x, w) = (noise(&[2, 3, 7, 6], 0.1).as_detached_tensor(), noise(&weight, 0.2));
        let grads = conv2d(&x, &w, None, window, groups).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_none() && grads.get(&w).is_some());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let window = Window { stride: [1, 1], pads: [0; 4], dilation: [1, 1] };
        for (x, w, groups) in [
            (vec![1, 3, 5, 5], vec![4, 2, 3, 3], 1),
            (vec![1, 3, 5, 5], vec![4, 1, 3, 3], 3),
            (vec![1, 3, 2, 5], vec![4, 3, 3, 3], 1),
            (vec![1, 3, 5], vec![4, 3, 3, 3], 1),
            (vec![1, 3, 5, 5], vec![4, 3, 3, 3], 0),
        ] {
            assert!(Geometry::new(&x, &w, window, groups).is_err(), "{x:?} {w:?} {groups}");
        }
    }
}
