//! The two operators that tract gets from here: layers that hold packed weights and run the sparse kernels.

use std::sync::{Arc, Mutex, PoisonError};

use sentei_kernels::Activation;
use sentei_kernels::conv::SparseConv;
use sentei_kernels::gemv::SparseLinear;
use tract_onnx::tract_core::internal::*;

/// Scratch memory that all sparse convolutions of one session use in turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch(Arc<Mutex<Vec<f32>>>);

impl Scratch {
    /// Makes room for `elements`.
    pub(super) fn reserve(&self, elements: usize) {
        self.with(elements, |_| ());
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64 * 4
    }

    fn with<T>(&self, elements: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
        // a panic elsewhere leaves only numbers behind that the next layer overwrites
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < elements {
            memory.resize(elements, 0.0);
        }
        f(&mut memory[..elements])
    }
}

/// `act(conv(x) + bias [+ residual])` on `[batch, channels, rows, columns]`.
#[derive(Clone, Debug)]
pub(super) struct ConvOp {
    pub(super) conv: Arc<SparseConv>,
    pub(super) activation: Activation,
    pub(super) scratch: Scratch,
}

impl PartialEq for ConvOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.conv, &other.conv) && self.activation == other.activation
    }
}

impl Eq for ConvOp {}

impl Op for ConvOp {
    fn name(&self) -> StaticName {
        "SparseConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} non-zeros, {}", self.conv.nnz(), self.conv.kernel_name())])
    }

    op_as_typed_op!();
}

impl EvalOp for ConvOp {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let geometry = self.conv.geometry();
        let x = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        let residual = inputs.get(1).map(|value| value.try_as_plain_ram()?.as_slice::<f32>()).transpose()?;
        let (in_len, out_len) = (geometry.in_len(), geometry.out_len());
        let batch = x.len() / in_len;
        ensure!(x.len() == batch * in_len, "input of {} numbers, expected images of {in_len}", x.len());
        ensure!(residual.is_none_or(|residual| residual.len() == batch * out_len), "residual length");
        let shape = [batch, geometry.out_channels, geometry.out_height(), geometry.out_width()];
        let mut y = Tensor::zero::<f32>(&shape)?;
        {
            let mut plain = y.try_as_plain_ram_mut()?;
            let y = plain.as_slice_mut::<f32>()?;
            self.scratch.with(self.conv.scratch_len(), |scratch| {
                for (image, (x, y)) in x.chunks_exact(in_len).zip(y.chunks_exact_mut(out_len)).enumerate() {
                    let residual = residual.map(|residual| &residual[image * out_len..][..out_len]);
                    self.conv.run(x, y, residual, self.activation, scratch);
                }
            });
        }
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for ConvOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let geometry = self.conv.geometry();
        let batch = inputs[0].shape[0].clone();
        let image = [geometry.out_channels, geometry.out_height(), geometry.out_width()];
        Ok(tvec!(f32::fact(std::iter::once(batch).chain(image.iter().map(|dim| dim.to_dim())).collect::<TVec<TDim>>())))
    }

    as_op!();
}

/// `act(x W^T + bias)` on `[batch, columns]`.
#[derive(Clone, Debug)]
pub(super) struct LinearOp {
    pub(super) linear: Arc<SparseLinear>,
    pub(super) activation: Activation,
}

impl PartialEq for LinearOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.linear, &other.linear) && self.activation == other.activation
    }
}

impl Eq for LinearOp {}

impl Op for LinearOp {
    fn name(&self) -> StaticName {
        "SparseLinear".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} non-zeros, {}", self.linear.nnz(), self.linear.kernel_name())])
    }

    op_as_typed_op!();
}

impl EvalOp for LinearOp {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        let batch = x.len() / self.linear.cols();
        ensure!(x.len() == batch * self.linear.cols(), "input of {} numbers", x.len());
        let mut y = Tensor::zero::<f32>(&[batch, self.linear.rows()])?;
        self.linear.run(x, y.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?, self.activation);
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for LinearOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([inputs[0].shape[0].clone(), self.linear.rows().to_dim()])))
    }

    as_op!();
}
