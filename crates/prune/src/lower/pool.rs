//! Pooling with any stride and any padding, with gradients: candle's own gradient needs windows that do not overlap, and its
//! pools know no padding.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::activation::floats;
use crate::conv::{self, Window, gathered};

/// Every length of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    planes: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
}

impl Geometry {
    /// The pool of `x` `[N, C, H, W]`; `pads` is top, left, bottom, right.
    pub fn new(x: &Tensor, kernel: [usize; 2], stride: [usize; 2], pads: [usize; 4]) -> Result<Geometry> {
        let (batch, channels, height, width) = x.dims4()?;
        let input = [height, width];
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + pads[axis] + pads[axis + 2];
            if kernel[axis] == 0 || stride[axis] == 0 || padded < kernel[axis] {
                bail!("a window of {kernel:?} with step {stride:?} does not fit {input:?} with padding {pads:?}");
            }
            output[axis] = (padded - kernel[axis]) / stride[axis] + 1;
        }
        Ok(Geometry { planes: [batch, channels], input, output, kernel, stride, pads })
    }

    fn shape(&self, plane: [usize; 2]) -> Shape {
        (self.planes[0], self.planes[1], plane[0], plane[1]).into()
    }

    /// The input positions `first..last` that output position `o` covers along `axis`.
    fn span(&self, axis: usize, o: usize) -> (usize, usize) {
        let start = o * self.stride[axis];
        let first = start.saturating_sub(self.pads[axis]);
        let last = (start + self.kernel[axis]).saturating_sub(self.pads[axis]).min(self.input[axis]);
        (first.min(last), last)
    }

    /// Calls `each(output pixel, rows, columns)` for every window, clipped to the input.
    fn windows(&self, mut each: impl FnMut(usize, (usize, usize), (usize, usize))) {
        for oy in 0..self.output[0] {
            let rows = self.span(0, oy);
            for ox in 0..self.output[1] {
                each(oy * self.output[1] + ox, rows, self.span(1, ox));
            }
        }
    }

    /// Index of the first largest value of each window; `None` for a window that lies in the padding.
    fn winners<T: WithDType>(&self, x: &[T], mut each: impl FnMut(usize, Option<usize>)) {
        self.windows(|o, rows, columns| {
            let mut best: Option<usize> = None;
            for y in rows.0..rows.1 {
                for i in y * self.input[1] + columns.0..y * self.input[1] + columns.1 {
                    let wins = best.is_none_or(|b| x[i] > x[b] || (is_nan(x[i]) && !is_nan(x[b])));
                    best = if wins { Some(i) } else { best };
                }
            }
            each(o, best);
        });
    }

    /// Runs `each` on every pair of an output-like plane and the input-like plane under it, planes in parallel.
    fn per_plane<T: Send>(&self, out: &mut [T], out_plane: [usize; 2], each: impl Fn(usize, &mut [T]) + Sync) {
        let length = (out_plane[0] * out_plane[1]).max(1);
        out.par_chunks_mut(length).with_min_len(4).enumerate().for_each(|(plane, out)| each(plane, out));
    }
}

#[allow(clippy::eq_op, reason = "only NaN differs from itself, and no trait at hand says it better")]
fn is_nan<T: PartialEq>(v: T) -> bool {
    v != v
}

/// Plane `index` of `all`, of `lengths`.
fn plane<T>(all: &[T], index: usize, lengths: [usize; 2]) -> &[T] {
    &all[index * lengths[0] * lengths[1]..][..lengths[0] * lengths[1]]
}

/// Largest value of each window.
pub(super) fn max(x: &Tensor, g: Geometry) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Max(g));
    }
    pick(&x.detach(), x, g)
}

/// `dx` where [`max`] finds the largest `x`, `[N, C, oh, ow]`; linear in `dx`, with the places a constant to the gradient.
pub(super) fn max_tangent(x: &Tensor, dx: &Tensor, g: Geometry) -> Result<Tensor> {
    let x = x.detach();
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(&dx.contiguous()?, MaxPick(g));
    }
    pick(&x, dx, g)
}

/// [`MaxPick`] in candle's own ops.
fn pick(x: &Tensor, dx: &Tensor, g: Geometry) -> Result<Tensor> {
    let (x, dx) = (pad(x, &g, f32::MIN)?, pad(dx, &g, 0.0)?);
    let mut taps = taps(&x, &g)?.into_iter().zip(taps(&dx, &g)?);
    let (mut best, mut picked) = taps.next().expect("a kernel has at least one tap");
    for (value, tangent) in taps {
        let wins = value.gt(&best)?;
        picked = wins.where_cond(&tangent, &picked)?;
        best = wins.where_cond(&value, &best)?;
    }
    Ok(picked)
}

/// Mean of each window, over the whole kernel or over what lies inside the input.
pub(super) fn average(x: &Tensor, g: Geometry, count_padding: bool) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Average { g, count_padding });
    }
    average_elsewhere(x, g, count_padding)
}

/// [`Average`] in candle's own ops: a sum, or a depthwise convolution with ones where windows are smaller than the input.
fn average_elsewhere(x: &Tensor, g: Geometry, count_padding: bool) -> Result<Tensor> {
    let [batch, channels] = g.planes;
    if g.kernel == g.input && g.pads == [0; 4] {
        let share = 1.0 / (g.input[0] * g.input[1]).max(1) as f64;
        let mean = x.reshape((batch, channels, ()))?.sum(2)?.affine(share, 0.0)?;
        return mean.reshape((batch, channels, 1, 1));
    }
    let ones = Tensor::ones((channels, 1, g.kernel[0], g.kernel[1]), x.dtype(), x.device())?;
    let window = Window { stride: g.stride, pads: g.pads, dilation: [1, 1] };
    let sum = gathered::conv2d(x, &ones, conv::Geometry::new(x.dims(), ones.dims(), window, channels)?)?;
    let mut shares = vec![0.0; g.output[0] * g.output[1]];
    g.windows(|o, rows, columns| shares[o] = share::<f64>(&g, count_padding, rows, columns));
    let shares = Tensor::from_vec(shares, (1, 1, g.output[0], g.output[1]), x.device())?;
    sum.broadcast_mul(&shares.to_dtype(x.dtype())?)
}

fn share<T: WithDType>(g: &Geometry, count_padding: bool, rows: (usize, usize), columns: (usize, usize)) -> T {
    let inside = (rows.1 - rows.0) * (columns.1 - columns.0);
    let count = if count_padding { g.kernel[0] * g.kernel[1] } else { inside };
    if count == 0 { T::zero() } else { T::one() / T::from_f64(count as f64) }
}

/// `x` with the padding, and with enough after it that every tap can be cut out as whole steps.
fn pad(x: &Tensor, g: &Geometry, value: f32) -> Result<Tensor> {
    let mut y = x.clone();
    for axis in 0..2 {
        let needed = g.kernel[axis] - 1 + g.output[axis] * g.stride[axis];
        let after = needed.saturating_sub(g.pads[axis] + g.input[axis]);
        let filler = |length: usize, y: &Tensor| -> Result<Tensor> {
            let mut shape = y.dims().to_vec();
            shape[axis + 2] = length;
            Tensor::full(value, shape, x.device())?.contiguous()?.to_dtype(x.dtype())
        };
        y = Tensor::cat(&[&filler(g.pads[axis], &y)?, &y, &filler(after, &y)?], axis + 2)?;
    }
    Ok(y)
}

/// For every tap of the kernel, what it sees of the padded `x`, like the output.
fn taps(x: &Tensor, g: &Geometry) -> Result<Vec<Tensor>> {
    let mut all = Vec::with_capacity(g.kernel[0] * g.kernel[1]);
    let ([batch, channels], [oh, ow], [down, right]) = (g.planes, g.output, g.stride);
    for ky in 0..g.kernel[0] {
        for kx in 0..g.kernel[1] {
            let cut = x.narrow(2, ky, oh * down)?.narrow(3, kx, ow * right)?.contiguous()?;
            let cut = cut.reshape((batch, channels, oh, down, ow, right))?;
            all.push(cut.narrow(3, 0, 1)?.narrow(5, 0, 1)?.contiguous()?.reshape((batch, channels, oh, ow))?);
        }
    }
    Ok(all)
}

/// `x -> y`.
struct Max(Geometry);
/// `(x, g of y) -> g at the winners`, zero elsewhere.
struct MaxScatter(Geometry);
/// `(x, v like x) -> v at the winners`, like `y`: the adjoint of [`MaxScatter`] in its second argument.
struct MaxPick(Geometry);

impl CustomOp1 for Max {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(g: &Geometry, x: &[T]) -> CpuStorage {
            let mut y = vec![T::zero(); g.shape(g.output).elem_count()];
            g.per_plane(&mut y, g.output, |p, y| {
                let x = plane(x, p, g.input);
                g.winners(x, |o, best| y[o] = best.map_or(T::from_f64(f64::NEG_INFINITY), |i| x[i]));
            });
            T::to_cpu_storage_owned(y)
        }
        let y = match x {
            CpuStorage::F64(_) => run::<f64>(&self.0, floats(x, lx)?),
            _ => run::<f32>(&self.0, floats(x, lx)?),
        };
        Ok((y, self.0.shape(self.0.output)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2(&gy.contiguous()?, MaxScatter(self.0)).map(Some)
    }
}

impl CustomOp2 for MaxScatter {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, gy: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(g: &Geometry, x: &[T], gy: &[T]) -> CpuStorage {
            let mut gx = vec![T::zero(); x.len()];
            g.per_plane(&mut gx, g.input, |p, gx| {
                let gy = plane(gy, p, g.output);
                g.winners(plane(x, p, g.input), |o, best| {
                    if let Some(i) = best {
                        gx[i] += gy[o];
                    }
                });
            });
            T::to_cpu_storage_owned(gx)
        }
        let gx = match x {
            CpuStorage::F64(_) => run::<f64>(&self.0, floats(x, lx)?, floats(gy, lg)?),
            _ => run::<f32>(&self.0, floats(x, lx)?, floats(gy, lg)?),
        };
        Ok((gx, self.0.shape(self.0.input)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, gg: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.apply_op2(&gg.contiguous()?, MaxPick(self.0))?)))
    }
}

impl CustomOp2 for MaxPick {
    fn name(&self) -> &'static str {
        "max-pool-pick"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, v: &CpuStorage, lv: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(g: &Geometry, x: &[T], v: &[T]) -> CpuStorage {
            let mut y = vec![T::zero(); g.shape(g.output).elem_count()];
            g.per_plane(&mut y, g.output, |p, y| {
                let v = plane(v, p, g.input);
                g.winners(plane(x, p, g.input), |o, best| y[o] = best.map_or(T::zero(), |i| v[i]));
            });
            T::to_cpu_storage_owned(y)
        }
        let y = match x {
            CpuStorage::F64(_) => run::<f64>(&self.0, floats(x, lx)?, floats(v, lv)?),
            _ => run::<f32>(&self.0, floats(x, lx)?, floats(v, lv)?),
        };
        Ok((y, self.0.shape(self.0.output)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, gy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.apply_op2(&gy.contiguous()?, MaxScatter(self.0))?)))
    }
}

/// `x -> y`, linear.
struct Average {
    g: Geometry,
    count_padding: bool,
}
/// The adjoint of [`Average`].
struct Spread {
    g: Geometry,
    count_padding: bool,
}

impl CustomOp1 for Average {
    fn name(&self) -> &'static str {
        "average-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(g: &Geometry, count_padding: bool, x: &[T]) -> CpuStorage {
            let add = |values: &[T]| values.iter().fold(T::zero(), |a, v| a + *v);
            let mut y = vec![T::zero(); g.shape(g.output).elem_count()];
            g.per_plane(&mut y, g.output, |p, y| {
                let x = plane(x, p, g.input);
                g.windows(|o, rows, columns| {
                    let line = |r: usize| &x[r * g.input[1]..][columns.0..columns.1];
                    let sum = (rows.0..rows.1).fold(T::zero(), |sum, r| sum + add(line(r)));
                    y[o] = sum * share(g, count_padding, rows, columns);
                });
            });
            T::to_cpu_storage_owned(y)
        }
        let y = match x {
            CpuStorage::F64(_) => run::<f64>(&self.g, self.count_padding, floats(x, lx)?),
            _ => run::<f32>(&self.g, self.count_padding, floats(x, lx)?),
        };
        Ok((y, self.g.shape(self.g.output)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gy: &Tensor) -> Result<Option<Tensor>> {
        gy.contiguous()?.apply_op1(Spread { g: self.g, count_padding: self.count_padding }).map(Some)
    }
}

impl CustomOp1 for Spread {
    fn name(&self) -> &'static str {
        "average-pool-gradient"
    }

    fn cpu_fwd(&self, gy: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(g: &Geometry, count_padding: bool, gy: &[T]) -> CpuStorage {
            let mut gx = vec![T::zero(); g.shape(g.input).elem_count()];
            g.per_plane(&mut gx, g.input, |p, gx| {
                let gy = plane(gy, p, g.output);
                g.windows(|o, rows, columns| {
                    let part = gy[o] * share(g, count_padding, rows, columns);
                    for r in rows.0..rows.1 {
                        gx[r * g.input[1]..][columns.0..columns.1].iter_mut().for_each(|v| *v += part);
                    }
                });
            });
            T::to_cpu_storage_owned(gx)
        }
        let gx = match gy {
            CpuStorage::F64(_) => run::<f64>(&self.g, self.count_padding, floats(gy, lg)?),
            _ => run::<f32>(&self.g, self.count_padding, floats(gy, lg)?),
        };
        Ok((gx, self.g.shape(self.g.input)))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gg: &Tensor) -> Result<Option<Tensor>> {
        gg.contiguous()?.apply_op1(Average { g: self.g, count_padding: self.count_padding }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::testing::noise;

    fn random(shape: (usize, usize, usize, usize), name: &str) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        // Few values, so that windows have ties.
        let data: Vec<f32> = (0..count).map(|i| (noise(name, i) * 4.0).round()).collect();
        Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn other_devices_pick_the_same_places_ties_included() {
        for (kernel, stride, pads) in
            [([2, 2], [2, 2], [0; 4]), ([3, 2], [2, 1], [1, 0, 1, 1]), ([3, 3], [1, 3], [1; 4])]
        {
            for dtype in [DType::F32, DType::F64] {
                let x = random((2, 3, 7, 9), "x").to_dtype(dtype).unwrap();
                let places: Vec<f32> = (0..2 * 3 * 7 * 9).map(|i| i as f32).collect();
                let places = Tensor::from_vec(places, x.shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let g = Geometry::new(&x, kernel, stride, pads).unwrap();
                let flat = |t: Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
                let ours = flat(max_tangent(&x, &places, g).unwrap());
                assert_eq!(flat(pick(&x, &places, g).unwrap()), ours, "{kernel:?} {dtype:?}");
                let values = flat(x.clone());
                let picked: Vec<f64> = ours.iter().map(|i| values[*i as usize]).collect();
                assert_eq!(flat(max(&x, g).unwrap()), picked, "{kernel:?} {dtype:?}");
            }
        }
    }

    #[test]
    fn other_devices_give_every_gradient_to_the_first_winner() {
        let x = Var::from_tensor(&random((2, 3, 7, 9), "x")).unwrap();
        let g = Geometry::new(&x, [3, 2], [2, 1], [1, 0, 1, 1]).unwrap();
        let weights = Tensor::rand(0f32, 1.0, g.shape(g.output), &Device::Cpu).unwrap();
        let gradient = |y: Tensor| {
            let grads = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (ours, other) = (gradient(max(&x, g).unwrap()), gradient(pick(&x.as_detached_tensor(), &x, g).unwrap()));
        assert!(ours.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-5), "{other:?} is not {ours:?}");
        assert!(ours.contains(&0.0));
    }

    #[test]
    fn other_devices_have_the_same_means_and_gradients() {
        let x = Var::from_tensor(&random((2, 3, 7, 9), "x")).unwrap();
        for (kernel, stride, pads) in [
            ([7, 9], [1, 1], [0; 4]),
            ([2, 2], [2, 2], [0; 4]),
            ([3, 2], [2, 1], [1, 0, 1, 1]),
            ([7, 9], [1, 1], [1; 4]),
        ] {
            let g = Geometry::new(&x, kernel, stride, pads).unwrap();
            for count_padding in [false, true] {
                let both = |y: Tensor| {
                    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    [flat(&y), flat(grads.get(&x).unwrap())].concat()
                };
                let ours = both(average(&x, g, count_padding).unwrap());
                let other = both(average_elsewhere(&x, g, count_padding).unwrap());
                assert_eq!(ours.len(), other.len());
                assert!(ours.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-5), "{kernel:?}: {other:?}, {ours:?}");
            }
        }
    }
}
