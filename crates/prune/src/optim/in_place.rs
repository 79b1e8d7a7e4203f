//! Runs an update on the memory of a variable, without a copy on the CPU.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var};
use sentei_graph::Mask;

use crate::PruneError;

/// Calls `body` once with the values of `var`, to be changed, and those of `grad`.
///
/// On another device than the CPU both travel to the host and the weights back.
pub(crate) fn update(
    var: &Var,
    grad: &Tensor,
    body: impl FnOnce(&mut [f32], &[f32]),
) -> std::result::Result<(), PruneError> {
    if var.device().is_cpu() {
        return Ok(var.inplace_op2(&grad.contiguous()?, &Update(RefCell::new(Some(body))))?);
    }
    let mut weights = var.flatten_all()?.to_vec1::<f32>()?;
    body(&mut weights, &grad.flatten_all()?.to_vec1::<f32>()?);
    Ok(var.set(&Tensor::from_vec(weights, var.shape(), var.device())?)?)
}

/// Writes `+0.0` to the masked values of `var`.
pub(crate) fn apply_mask(var: &Var, keep: &Mask) -> std::result::Result<(), PruneError> {
    edit(var, |weights| keep.apply(weights))
}

/// Calls `body` once with the values of `var`, to be changed.
pub(crate) fn edit(var: &Var, body: impl FnOnce(&mut [f32])) -> std::result::Result<(), PruneError> {
    if var.device().is_cpu() {
        return Ok(var.inplace_op1(&Edit(RefCell::new(Some(body))))?);
    }
    let mut weights = var.flatten_all()?.to_vec1::<f32>()?;
    body(&mut weights);
    Ok(var.set(&Tensor::from_vec(weights, var.shape(), var.device())?)?)
}

/// Takes its closure out when run: candle hands operations over by shared reference.
struct Update<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32], &[f32])> InplaceOp2 for Update<F> {
    fn name(&self) -> &'static str {
        "optimiser-update"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let grad = &grad.as_slice::<f32>()?[range(grad_layout)?];
        let body = self.0.borrow_mut().take().expect("an operation runs once");
        body(floats(weights, layout)?, grad);
        Ok(())
    }
}

/// As [`Update`], without a gradient.
struct Edit<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "optimiser-edit"
    }

    fn cpu_fwd(&self, weights: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let body = self.0.borrow_mut().take().expect("an operation runs once");
        body(floats(weights, layout)?);
        Ok(())
    }
}

fn floats<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[range(layout)?]),
        _ => candle_core::bail!("weights and gradients are f32"),
    }
}

fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => candle_core::bail!("weights and gradients are contiguous"),
    }
}
