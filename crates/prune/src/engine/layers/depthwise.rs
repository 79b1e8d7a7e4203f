//! Depthwise convolution: few weights, all of them multiplied.

use candle_core::Result;
use sentei_kernels::Isa;
use sentei_kernels::training::{ConvGeometry, Depthwise as Kernel, Planes, bias_gradient};

use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::conv::with;
use super::gradient;
use crate::optim::in_place;

/// One input channel per group.
pub(super) struct Depthwise {
    geometry: ConvGeometry,
    kernel: Kernel,
    weight: Trained,
    bias: Option<Trained>,
}

impl Depthwise {
    /// # Errors
    /// When no kernel takes the geometry.
    pub fn new(isa: Isa, geometry: ConvGeometry, weight: Trained, bias: Option<Trained>) -> Result<Depthwise> {
        let kernel = Kernel::new(isa, geometry).map_err(candle_core::Error::wrap)?;
        Ok(Depthwise { geometry, kernel, weight, bias })
    }
}

impl Layer for Depthwise {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn trained(&self) -> Vec<&Trained> {
        std::iter::once(&self.weight).chain(&self.bias).collect()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], y: &mut [f32]) -> Result<()> {
        let mut run = |bias: Option<&[f32]>| {
            with(self.weight.value.as_tensor(), |w| {
                cx.profile.time(cx.row, Part::Forward, "depthwise", || {
                    self.kernel.forward(cx.team, cx.lanes.batch, inputs[0], w, bias, y);
                });
            })
        };
        match &self.bias {
            None => run(None),
            Some(bias) => with(bias.value.as_tensor(), |bias| run(Some(bias)))?,
        }
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let (x, batch, error) = (kept.inputs[0], cx.lanes.batch, candle_core::Error::wrap);
        in_place::edit(&self.weight.gradient, |gw| {
            cx.profile.time(cx.row, Part::WeightGradient, "depthwise", || {
                self.kernel.weight_gradient(cx.team, batch, x, gy, gw);
            });
        })
        .map_err(error)?;
        if let Some(bias) = &self.bias {
            let (channels, pixels) = (self.geometry.out_channels, self.geometry.out_plane());
            let planes = Planes { lanes: cx.lanes, channels, pixels };
            in_place::edit(&bias.gradient, |gb| bias_gradient(cx.team, planes, gy, gb)).map_err(error)?;
        }
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        with(self.weight.value.as_tensor(), |w| {
            cx.profile.time(cx.row, Part::InputGradient, "depthwise", || {
                self.kernel.input_gradient(cx.team, batch, gy, w, gradient(target));
            });
        })
    }
}
