//! Activations made of straight pieces: forward and gradient in one pass each, instead of candle's masks and comparisons.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::given::given;

/// An activation of straight pieces. At a corner the slope is that of the flatter side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Piecewise {
    /// `x` where `x > 0`, else `alpha * x`; ReLU for `alpha == 0`.
    Leaky {
        /// Slope on the negative side.
        alpha: f32,
    },
    /// `min(max(x, min), max)`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
}

/// Elements that one task takes.
pub(super) const CHUNK: usize = 1 << 14;

impl Piecewise {
    /// `out[i] = f(x[i])`.
    pub fn apply<T: WithDType>(self, x: &[T], out: &mut [T]) {
        out.copy_from_slice(x);
        self.apply_in_place(out);
    }

    /// `values[i] = f(values[i])`.
    pub fn apply_in_place<T: WithDType>(self, values: &mut [T]) {
        let all = values.iter_mut();
        let (zero, one) = (T::zero(), T::one());
        match self {
            // `0 * x` would make -0 of a negative number and NaN of an infinite one.
            Piecewise::Leaky { alpha: 0.0 } => all.for_each(|v| *v = if *v < zero { zero } else { *v }),
            Piecewise::Leaky { alpha } => {
                let alpha = exactly::<T>(alpha);
                all.for_each(|v| *v = if *v < zero { alpha * *v } else { *v });
            }
            Piecewise::Clip { min, max } => {
                let (min, max) = (exactly(min), exactly(max));
                all.for_each(|v| *v = clip(*v, min, max));
            }
            Piecewise::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (exactly::<T>(alpha), exactly::<T>(beta));
                all.for_each(|v| *v = clip(alpha * *v + beta, zero, one));
            }
        }
    }

    /// `out[i] = f'(x[i]) * g[i]`.
    pub fn pull_back<T: WithDType>(self, x: &[T], g: &[T], out: &mut [T]) {
        let all = out.iter_mut().zip(x.iter().zip(g));
        let (zero, one) = (T::zero(), T::one());
        match self {
            Piecewise::Leaky { alpha } => {
                let alpha = exactly::<T>(alpha);
                all.for_each(|(o, (x, g))| *o = if *x > zero { *g } else { alpha * *g });
            }
            Piecewise::Clip { min, max } => {
                let (min, max) = (exactly::<T>(min), exactly::<T>(max));
                all.for_each(|(o, (x, g))| *o = if *x > min && *x < max { *g } else { zero });
            }
            Piecewise::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (exactly::<T>(alpha), exactly::<T>(beta));
                all.for_each(|(o, (x, g))| {
                    let inner = alpha * *x + beta;
                    *o = if inner > zero && inner < one { alpha * *g } else { zero };
                });
            }
        }
    }

    /// Whether the slope at `x` can be read off `f(x)`, by [`Piecewise::pull_back`] with `f(x)` in place of `x`.
    pub fn slope_shows_in_output(self) -> bool {
        match self {
            Piecewise::Leaky { alpha } => alpha >= 0.0,
            Piecewise::Clip { .. } => true,
            Piecewise::HardSigmoid { .. } => false,
        }
    }
}

/// `max` wins over `min` when they cross, as in ONNX; NaN stays.
fn clip<T: PartialOrd>(x: T, min: T, max: T) -> T {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// An attribute as a number of the precision at work.
fn exactly<T: WithDType>(attribute: f32) -> T {
    T::from_f64(f64::from(attribute))
}

/// The activation of `x`, any shape.
pub(crate) fn piecewise(x: &Tensor, f: Piecewise) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Activate(f));
    }
    elsewhere(x, f)
}

/// [`Activate`] in candle's own ops, with the slope of [`PullBack`] at the kinks.
fn elsewhere(x: &Tensor, f: Piecewise) -> Result<Tensor> {
    let v = x.detach();
    let value = match f {
        Piecewise::Leaky { alpha: 0.0 } => v.relu()?,
        Piecewise::Leaky { alpha } => (v.relu()? - v.neg()?.relu()?.affine(f64::from(alpha), 0.0)?)?,
        Piecewise::Clip { min, max } => v.clamp(min, max)?,
        Piecewise::HardSigmoid { alpha, beta } => v.affine(f64::from(alpha), f64::from(beta))?.clamp(0f32, 1f32)?,
    };
    given(x, x, value, move |x, _, g| Ok((Some((slope(&x.detach(), f)? * g)?), None)))
}

/// `f'(x) dx`, like `x`; the slope is a constant to the gradient, because `f''` is zero almost everywhere.
pub(crate) fn piecewise_tangent(x: &Tensor, dx: &Tensor, f: Piecewise) -> Result<Tensor> {
    let x = x.detach();
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(&dx.contiguous()?, PullBack(f));
    }
    slope(&x, f)? * dx
}

/// `f'(x)` in candle's own ops.
fn slope(x: &Tensor, f: Piecewise) -> Result<Tensor> {
    let inside = |low: f64, high: f64| -> Result<Tensor> { x.gt(low)?.mul(&x.lt(high)?)?.to_dtype(x.dtype()) };
    match f {
        Piecewise::Leaky { alpha } => {
            let alpha = f64::from(alpha);
            x.gt(0.0)?.to_dtype(x.dtype())?.affine(1.0 - alpha, alpha)
        }
        Piecewise::Clip { min, max } => inside(min.into(), max.into()),
        Piecewise::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            let ends = [-beta / alpha, (1.0 - beta) / alpha];
            inside(ends[0].min(ends[1]), ends[0].max(ends[1]))?.affine(alpha, 0.0)
        }
    }
}

struct Activate(Piecewise);
/// `(x, g) -> f'(x) g`; linear in `g`, and `f'' = 0` almost everywhere.
struct PullBack(Piecewise);

/// The values of a contiguous tensor.
pub(super) fn floats<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}");
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "piecewise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(f: Piecewise, x: &[T]) -> CpuStorage {
            let mut y = vec![T::zero(); x.len()];
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f.apply(x, y));
            T::to_cpu_storage_owned(y)
        }
        let y = match x {
            CpuStorage::F64(_) => run::<f64>(self.0, floats(x, lx)?),
            _ => run::<f32>(self.0, floats(x, lx)?),
        };
        Ok((y, lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2(&g.contiguous()?, PullBack(self.0)).map(Some)
    }
}

impl CustomOp2 for PullBack {
    fn name(&self) -> &'static str {
        "piecewise-gradient"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, g: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(f: Piecewise, x: &[T], g: &[T]) -> CpuStorage {
            let mut out = vec![T::zero(); x.len()];
            let inputs = x.par_chunks(CHUNK).zip(g.par_chunks(CHUNK));
            out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (x, g))| f.pull_back(x, g, out));
            T::to_cpu_storage_owned(out)
        }
        let out = match x {
            CpuStorage::F64(_) => run::<f64>(self.0, floats(x, lx)?, floats(g, lg)?),
            _ => run::<f32>(self.0, floats(x, lx)?, floats(g, lg)?),
        };
        Ok((out, lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, gg: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.apply_op2(&gg.contiguous()?, PullBack(self.0))?)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_slope_of_other_devices_is_that_of_the_custom_op() {
        let x = [-3.0f32, -0.8, -0.5, -0.2, 0.0, 0.1, 0.4, 0.7, 0.9, 4.0];
        let x = Var::new(&x, &Device::Cpu).unwrap();
        let ones = x.ones_like().unwrap();
        for f in [
            Piecewise::Leaky { alpha: 0.0 },
            Piecewise::Leaky { alpha: 0.1 },
            Piecewise::Clip { min: -0.5, max: 0.7 },
            Piecewise::HardSigmoid { alpha: 0.7, beta: 0.4 },
            Piecewise::HardSigmoid { alpha: -0.5, beta: 0.5 },
        ] {
            let ours: Vec<f32> = piecewise_tangent(&x, &ones, f).unwrap().to_vec1().unwrap();
            let y = elsewhere(&x, f).unwrap();
            assert_eq!(y.to_vec1::<f32>().unwrap(), piecewise(&x, f).unwrap().to_vec1::<f32>().unwrap(), "{f:?}");
            let grads = y.sum_all().unwrap().backward().unwrap();
            let candles: Vec<f32> = grads.get(&x).unwrap().to_vec1().unwrap();
            assert!(ours.iter().zip(&candles).all(|(a, b)| (a - b).abs() < 1e-6), "{f:?}: {candles:?} is not {ours:?}");
            assert!(ours.iter().any(|v| *v != ours[0]), "{f:?} has two slopes");
        }
    }
}
