//! Values made of candle's own ops that have a gradient of ours: for devices that the custom ops of this crate do not run on.
//!
//! candle's gradients are right for most compositions, but slow where a backward pass of its own ops is (convolution), and of
//! another choice where there is one (the slope of a kink, the winner among equals in a pool).

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};

/// Gradients of two arguments; `None` for one that has none.
pub(crate) type Gradients = (Option<Tensor>, Option<Tensor>);

/// `value`, for which `backward(a, b, g)` returns the gradients of `a` and `b` from the gradient `g` of the value.
///
/// * `value`: computed from `a` and `b`; its own graph is forgotten. It is copied once.
pub(crate) fn given(
    a: &Tensor,
    b: &Tensor,
    value: Tensor,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Gradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    let value = value.detach();
    if !a.track_op() && !b.track_op() {
        return Ok(value);
    }
    let value = if whole(value.layout()).is_ok() { value } else { value.force_contiguous()? };
    a.apply_op2(b, Given { value: Mutex::new(Some(value)), backward })
}

/// The gradient with respect to `arg`, unless nothing upstream of it is trained.
pub(crate) fn wanted(arg: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    if arg.track_op() { gradient().map(Some) } else { Ok(None) }
}

/// The shape of a tensor whose storage can be handed on as it is.
fn whole(layout: &Layout) -> Result<Shape> {
    match layout.contiguous_offsets() {
        Some((0, _)) => Ok(layout.shape().clone()),
        _ => bail!("expected a tensor of its own, found {layout:?}"),
    }
}

/// `(a, b) -> value`.
struct Given<F> {
    /// Taken when the op runs, so that the graph does not keep it beside its copy.
    value: Mutex<Option<Tensor>>,
    backward: F,
}

impl<F> Given<F> {
    fn take(&self) -> Result<Tensor> {
        match self.value.lock().ok().and_then(|mut value| value.take()) {
            Some(value) => Ok(value),
            None => bail!("a given value is handed on once"),
        }
    }
}

impl<F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Gradients> + Send + Sync> CustomOp2 for Given<F> {
    fn name(&self) -> &'static str {
        "given"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let value = self.take()?;
        let (storage, layout) = value.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("a value and its arguments lie on one device") };
        Ok((storage.clone(), whole(layout)?))
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let value = self.take()?;
        let (storage, layout) = value.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("a value and its arguments lie on one device") };
        Ok((storage.try_clone(layout)?, whole(layout)?))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, g: &Tensor) -> Result<Gradients> {
        (self.backward)(a, b, g)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_value_and_the_gradients_are_those_that_were_given() {
        let (a, b) = (Var::new(&[1f32, 2.0], &Device::Cpu).unwrap(), Var::new(&[3f32, 4.0], &Device::Cpu).unwrap());
        let value = Tensor::new(&[[0f32, 0.0], [7.0, 8.0]], &Device::Cpu).unwrap().get(1).unwrap();
        let y = given(&a, &b, value, |_, b, g| Ok((Some((g * b)?), None))).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [7.0, 8.0]);
        let grads = y.affine(10.0, 0.0).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [30.0, 40.0]);
        assert!(grads.get(&b).is_none());
    }
}
