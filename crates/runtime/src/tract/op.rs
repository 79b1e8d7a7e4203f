//! The operator that tract gets from here: a whole region of layers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sentei_kernels::region::Region;
use sentei_kernels::team::Team;
use tract_onnx::tract_core::internal::*;

use crate::engine::NodeTime;

/// Bytes that tensors are aligned to, so that kernels use them where they are.
pub(super) const ALIGNMENT: usize = 64;

/// A region as one node; its inputs and outputs are `[batch, ..]` and are computed image by image.
#[derive(Clone, Debug)]
pub(super) struct RegionOp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    region: Mutex<Region>,
    team: Arc<Team>,
    batch: usize,
    /// Shape of every output of the node.
    shapes: Vec<TVec<usize>>,
    /// Output of the region behind every output of the node; several may be the same numbers in different shapes.
    outputs: Vec<usize>,
    /// Operators of the file, one entry per step.
    ops: Vec<String>,
    weight_bytes: u64,
    arena_bytes: u64,
}

impl RegionOp {
    pub(super) fn new(
        region: Region,
        team: Arc<Team>,
        ops: Vec<String>,
        batch: usize,
        outputs: Vec<(usize, TVec<usize>)>,
    ) -> Self {
        let (outputs, shapes) = outputs.into_iter().unzip();
        let weight_bytes = region.weight_bytes() as u64;
        let arena_bytes = (region.arena_bytes() + region.scratch_bytes()) as u64;
        let region = Mutex::new(region);
        Self { shared: Arc::new(Shared { region, team, batch, shapes, outputs, ops, weight_bytes, arena_bytes }) }
    }

    /// Bytes of all weights in kernel form.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.shared.weight_bytes
    }

    /// Bytes of values between layers and of the scratch memory of kernels.
    pub(super) fn arena_bytes(&self) -> u64 {
        self.shared.arena_bytes
    }

    /// As `eval`, with the time of every layer.
    pub(super) fn eval_timed(&self, inputs: TVec<TValue>) -> TractResult<(TVec<TValue>, Vec<NodeTime>)> {
        let mut times: Vec<Duration> = Vec::new();
        let outputs = self.eval_with(&inputs, |region, x, y, team| {
            let round = region.profile(x, y, team, 1);
            times.resize(round.len(), Duration::ZERO);
            times.iter_mut().zip(round).for_each(|(sum, time)| *sum += time);
        })?;
        let region = self.shared.region.lock().unwrap_or_else(PoisonError::into_inner);
        let node = |((step, op), time): ((&sentei_kernels::region::Step, &String), &Duration)| NodeTime {
            name: step.name.clone(),
            op: op.clone(),
            time_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        };
        let nodes = region.steps().iter().zip(&self.shared.ops).zip(&times).map(node).collect();
        Ok((outputs, nodes))
    }

    fn eval_with(
        &self,
        inputs: &[TValue],
        mut run: impl FnMut(&mut Region, &[&[f32]], &mut [&mut [f32]], &Team),
    ) -> TractResult<TVec<TValue>> {
        let Shared { region, team, batch, shapes, outputs, .. } = &*self.shared;
        // a panic elsewhere leaves only numbers behind that the next run overwrites
        let mut region = region.lock().unwrap_or_else(PoisonError::into_inner);
        let x: TVec<&[f32]> =
            inputs.iter().map(|value| value.try_as_plain_ram()?.as_slice::<f32>()).collect::<TractResult<_>>()?;
        let first_of = |output: usize| outputs.iter().position(|known| *known == output);
        let distinct = outputs.iter().max().map_or(0, |last| last + 1);
        let mut results: TVec<Tensor> = tvec!();
        for output in 0..distinct {
            let shape = &shapes[first_of(output).context("every output of a region is one of the node")?];
            results.push(Tensor::zero_aligned::<f32>(shape, ALIGNMENT)?);
        }
        {
            let mut plain = results.iter_mut().map(Tensor::try_as_plain_ram_mut).collect::<TractResult<TVec<_>>>()?;
            let mut y: TVec<&mut [f32]> =
                plain.iter_mut().map(|plain| plain.as_slice_mut::<f32>()).collect::<TractResult<_>>()?;
            for image in 0..*batch {
                let of_image = |len: usize| image * (len / batch)..(image + 1) * (len / batch);
                let x: TVec<&[f32]> = x.iter().map(|x| &x[of_image(x.len())]).collect();
                let mut y: TVec<&mut [f32]> = y
                    .iter_mut()
                    .map(|y| {
                        let range = of_image(y.len());
                        &mut y[range]
                    })
                    .collect();
                run(&mut region, &x, &mut y, team);
            }
        }
        if outputs.len() == distinct && outputs.iter().copied().eq(0..distinct) {
            return Ok(results.into_iter().map(IntoTValue::into_tvalue).collect());
        }
        let reshaped = |(output, shape): (&usize, &TVec<usize>)| -> TractResult<TValue> {
            let mut tensor = results[*output].clone();
            tensor.set_shape(shape)?;
            Ok(tensor.into_tvalue())
        };
        outputs.iter().zip(shapes).map(reshaped).collect()
    }
}

impl PartialEq for RegionOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for RegionOp {}

impl Op for RegionOp {
    fn name(&self) -> StaticName {
        "Region".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} layers", self.shared.ops.len())])
    }

    op_as_typed_op!();
}

impl EvalOp for RegionOp {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.eval_with(&inputs, Region::run)
    }
}

impl TypedOp for RegionOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.shared.shapes.iter().map(f32::fact).collect())
    }

    as_op!();
}
