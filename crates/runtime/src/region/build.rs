//! A net as a kernel region: every layer tuned and prepared, memory planned.

use sentei_kernels::region::{Region, RegionBuilder, ValueId};

use super::choice::Unfit;
use super::graph::Net;
use super::layout::lay_out;
use super::slabs;
use super::tune::Tuner;
use crate::engine::LayerKernel;

/// A region with what the facts of a session say about it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) region: Region,
    /// One per step of the region: operators of the file.
    pub(crate) ops: Vec<String>,
    /// One per layer with weights, in the order they run.
    pub(crate) kernels: Vec<LayerKernel>,
}

/// Builds the region of `net` for `threads` threads.
///
/// # Errors
/// [`Unfit`] when some layer has no kernel.
pub(crate) fn build(net: Net, tuner: &mut Tuner<'_>, threads: usize) -> Result<Built, Unfit> {
    let mut laid = lay_out(net);
    let tuned = laid.net.layers.iter().map(|layer| tuner.tune(layer, laid.input(layer), laid.output(layer)));
    let (mut layers, reasons): (Vec<_>, Vec<_>) = tuned
        .map(|tuned| tuned.map(|tuned| (tuned.layer, tuned.reason)))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .unzip();
    slabs::cut(&mut laid, &mut layers, threads);
    let mut builder = RegionBuilder::new();
    let mut ids: Vec<Option<ValueId>> = vec![None; laid.maps.len()];
    for input in &laid.net.inputs {
        ids[*input] = Some(builder.input(laid.maps[*input])?);
    }
    let (mut ops, mut kernels) = (Vec::new(), Vec::new());
    for ((layer, prepared), reason) in laid.net.layers.iter().zip(layers).zip(reasons) {
        if let Some(weights) = layer.weights() {
            kernels.push(LayerKernel {
                name: layer.name.clone(),
                op: layer.op.clone(),
                shape: weights.shape.clone(),
                kernel: prepared.kernel(),
                reason,
                nnz: weights.nonzeros() as u64,
                weight_bytes: prepared.weight_bytes() as u64,
            });
        }
        let made = "a net makes values before it reads them";
        let (x, residual) = (ids[layer.x].expect(made), layer.residual.map(|value| ids[value].expect(made)));
        ids[layer.y] = Some(builder.push(prepared, x, residual, layer.name.clone())?);
        ops.push(layer.op.clone());
    }
    for output in &laid.net.outputs {
        builder.output(ids[*output].expect("a net makes its outputs"))?;
    }
    Ok(Built { region: builder.build(threads)?, ops, kernels })
}
