//! Max, average and global average pooling.

use candle_core::Result;
use sentei_kernels::training::{PoolGeometry, average_pool, average_pool_backward, max_pool, max_pool_backward};

use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::gradient;

/// What a window gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its largest value.
    Max,
    /// The mean of it, or of what of it lies in the input.
    Average { count_padding: bool },
}

/// A pool.
pub(super) struct Pool {
    pub geometry: PoolGeometry,
    pub kind: Kind,
}

/// * `sizes`: height and width before and after.
pub(super) fn geometry(
    channels: usize,
    [input, output]: [[usize; 2]; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
) -> PoolGeometry {
    PoolGeometry { channels, input, output, kernel, stride, pads: [pads[0], pads[1]] }
}

impl Layer for Pool {
    fn needs(&self) -> Needs {
        Needs { inputs: self.kind == Kind::Max, output: false }
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], y: &mut [f32]) -> Result<()> {
        cx.profile.time(cx.row, Part::Forward, "", || match self.kind {
            Kind::Max => max_pool(cx.team, cx.lanes, self.geometry, inputs[0], y),
            Kind::Average { count_padding } => {
                average_pool(cx.team, cx.lanes, self.geometry, count_padding, inputs[0], y);
            }
        });
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        let gx = gradient(target);
        cx.profile.time(cx.row, Part::InputGradient, "", || match self.kind {
            Kind::Max => max_pool_backward(cx.team, cx.lanes, self.geometry, kept.inputs[0], gy, gx),
            Kind::Average { count_padding } => {
                average_pool_backward(cx.team, cx.lanes, self.geometry, count_padding, gy, gx);
            }
        });
        Ok(())
    }
}
