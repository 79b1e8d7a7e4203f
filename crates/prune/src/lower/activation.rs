//! Activations made of straight pieces: forward and gradient in one pass each, instead of candle's masks and comparisons.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

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
    pub fn apply(self, x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
        self.apply_in_place(out);
    }

    /// `values[i] = f(values[i])`.
    pub fn apply_in_place(self, values: &mut [f32]) {
        let all = values.iter_mut();
        match self {
            // `0 * x` would make -0 of a negative number and NaN of an infinite one.
            Piecewise::Leaky { alpha: 0.0 } => all.for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Piecewise::Leaky { alpha } => all.for_each(|v| *v = if *v < 0.0 { alpha * *v } else { *v }),
            Piecewise::Clip { min, max } => all.for_each(|v| *v = clip(*v, min, max)),
            Piecewise::HardSigmoid { alpha, beta } => all.for_each(|v| *v = clip(alpha * *v + beta, 0.0, 1.0)),
        }
    }

    /// `out[i] = f'(x[i]) * g[i]`.
    pub fn pull_back(self, x: &[f32], g: &[f32], out: &mut [f32]) {
        let all = out.iter_mut().zip(x.iter().zip(g));
        match self {
            Piecewise::Leaky { alpha } => {
                all.for_each(|(o, (x, g))| *o = if *x > 0.0 { *g } else { alpha * g });
            }
            Piecewise::Clip { min, max } => {
                all.for_each(|(o, (x, g))| *o = if *x > min && *x < max { *g } else { 0.0 });
            }
            Piecewise::HardSigmoid { alpha, beta } => all.for_each(|(o, (x, g))| {
                let inner = alpha * x + beta;
                *o = if inner > 0.0 && inner < 1.0 { alpha * g } else { 0.0 };
            }),
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

/// `min` wins over `max` when they cross, as in ONNX; NaN stays.
fn clip(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// The activation of `x`, any shape.
pub(crate) fn piecewise(x: &Tensor, f: Piecewise) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Activate(f));
    }
    match f {
        Piecewise::Leaky { alpha: 0.0 } => x.relu(),
        Piecewise::Leaky { alpha } => x.relu()? - x.neg()?.relu()?.affine(f64::from(alpha), 0.0)?,
        Piecewise::Clip { min, max } => x.clamp(min, max),
        Piecewise::HardSigmoid { alpha, beta } => x.affine(f64::from(alpha), f64::from(beta))?.clamp(0f32, 1f32),
    }
}

struct Activate(Piecewise);
/// `(x, g) -> f'(x) g`; linear in `g`, and `f'' = 0` almost everywhere.
struct PullBack(Piecewise);

/// The values of a contiguous f32 tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "piecewise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, lx)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| self.0.apply(x, y));
        Ok((CpuStorage::F32(y), lx.shape().clone()))
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
        let (x, g) = (floats(x, lx)?, floats(g, lg)?);
        let mut out = vec![0.0; x.len()];
        let inputs = x.par_chunks(CHUNK).zip(g.par_chunks(CHUNK));
        out.par_chunks_mut(CHUNK).zip(inputs).for_each(|(out, (x, g))| self.0.pull_back(x, g, out));
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, gg: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.apply_op2(&gg.contiguous()?, PullBack(self.0))?)))
    }
}
