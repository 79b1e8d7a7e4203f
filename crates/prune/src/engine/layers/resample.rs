//! Cutting out and padding.

use candle_core::Result;
use sentei_graph::Op;
use sentei_kernels::training::Resample as Kernel;

use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::gradient;

/// A cut-out of a map, or a map with a constant around it.
pub(super) struct Resample {
    kernel: Kernel,
    /// What lies outside the input.
    value: f32,
}

impl Resample {
    /// What `op` does to images, if it is a cut-out or a pad that leaves the batch alone.
    ///
    /// * `input`, `output`: shapes, batch included.
    pub fn of(op: &Op, input: &[usize], output: &[usize]) -> Option<Resample> {
        let (&[_, ref input @ ..], &[_, ref output @ ..]) = (input, output) else { return None };
        let (input, output) = (input.try_into().ok()?, output.try_into().ok()?);
        let (start, step, value) = match op {
            Op::Slice(op) if op.starts.first() == Some(&0) && op.steps.first() == Some(&1) => {
                let start: Vec<isize> =
                    op.starts[1..].iter().map(|s| isize::try_from(*s).ok()).collect::<Option<_>>()?;
                (start, op.steps[1..].to_vec(), 0.0)
            }
            Op::Pad(op) if op.amounts.first() == Some(&(0, 0)) => {
                let before = op.amounts[1..].iter().map(|(before, _)| isize::try_from(*before).ok().map(|b| -b));
                (before.collect::<Option<_>>()?, vec![1; 3], op.value)
            }
            _ => return None,
        };
        let (start, step) = (start.try_into().ok()?, step.try_into().ok()?);
        Some(Resample { kernel: Kernel { input, output, start, step }, value })
    }
}

impl Layer for Resample {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], y: &mut [f32]) -> Result<()> {
        let work = || self.kernel.forward(cx.team, cx.lanes, self.value, inputs[0], y);
        cx.profile.time(cx.row, Part::Forward, "", work);
        Ok(())
    }

    fn backward(&mut self, cx: &Context, _: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        let work = || self.kernel.backward(cx.team, cx.lanes, gy, gradient(target));
        cx.profile.time(cx.row, Part::InputGradient, "", work);
        Ok(())
    }
}
