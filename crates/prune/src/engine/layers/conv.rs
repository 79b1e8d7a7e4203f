//! Convolution and fully connected layers, dense and with weights left out.

use candle_core::{Result, Tensor};
use sentei_graph::Mask;
use sentei_kernels::Isa;
use sentei_kernels::training::{
    ConvGeometry, DenseConv, Lanes, Planes, SparseConv, SurvivingWeightGradient, WeightGradient, bias_gradient,
};

use super::super::floats;
use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::choice::Choice;
use crate::masks::Masks;
use crate::optim::in_place;

/// Above this share of weights that are left, leaving the others out gains nothing.
const DENSEST: f64 = 0.6;

/// Every weight takes part, or only those that a mask leaves; the results are the same bits. With a mask, the gradient of the
/// weights has one number per kept weight, in the order of the file, unless those of removed ones are asked for.
pub(super) struct Conv {
    name: String,
    geometry: ConvGeometry,
    isa: Isa,
    lanes: Lanes,
    weight: Trained,
    bias: Option<Trained>,
    dense: DenseConv,
    weight_gradient: WeightGradient,
    sparse: Option<Sparse>,
}

/// What runs when weights are left out, and whether it is faster.
struct Sparse {
    keep: Mask,
    conv: SparseConv,
    weight_gradient: SurvivingWeightGradient,
    /// Gradients of all weights, while the dense kernel computes them.
    all: Vec<f32>,
    forward: Choice,
    input_gradient: Choice,
    surviving: Choice,
}

impl Conv {
    /// * `name`: of the weight, as in masks.
    ///
    /// # Errors
    /// When no kernel takes the geometry.
    pub fn new(
        (isa, lanes): (Isa, Lanes),
        geometry: ConvGeometry,
        name: &str,
        weight: Trained,
        bias: Option<Trained>,
    ) -> Result<Conv> {
        let error = candle_core::Error::wrap;
        let dense = DenseConv::new(isa, geometry, lanes).map_err(error)?;
        let weight_gradient = WeightGradient::new(isa, geometry, lanes).map_err(error)?;
        Ok(Conv { name: name.into(), geometry, isa, lanes, weight, bias, dense, weight_gradient, sparse: None })
    }

    fn pixels(&self) -> usize {
        self.geometry.out_plane()
    }
}

/// Calls `work` with the numbers of `tensor`.
pub(super) fn with<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    Ok(work(floats(&storage, layout)?))
}

impl Layer for Conv {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn trained(&self) -> Vec<&Trained> {
        std::iter::once(&self.weight).chain(&self.bias).collect()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        let Conv { weight, bias, dense, sparse, .. } = self;
        let mut run = |bias: Option<&[f32]>| {
            with(weight.value.as_tensor(), |w| match sparse {
                None => {
                    let work = || dense.forward(cx.team, inputs[0], w, bias, output);
                    cx.profile.time(cx.row, Part::Forward, "dense", work);
                }
                Some(Sparse { conv, forward, .. }) => forward.run(|sparse| match sparse {
                    true => cx.profile.time(cx.row, Part::Forward, "sparse", || {
                        conv.forward(cx.team, inputs[0], w, bias, output);
                    }),
                    false => cx.profile.time(cx.row, Part::Forward, "dense", || {
                        dense.forward(cx.team, inputs[0], w, bias, output);
                    }),
                }),
            })
        };
        match bias {
            None => run(None),
            Some(bias) => with(bias.value.as_tensor(), |bias| run(Some(bias)))?,
        }
    }

    fn backward(
        &mut self,
        cx: &Context,
        kept: Kept,
        gradient: &mut [f32],
        targets: &mut [Option<Target>],
    ) -> Result<()> {
        let (x, pixels) = (kept.inputs[0], self.pixels());
        let Conv { weight, bias, dense, weight_gradient, sparse, geometry, .. } = self;
        let gy = &*gradient;
        let kept = sparse.as_mut().filter(|_| !cx.dense_gradients);
        match &kept {
            None => weight.hold(weight.value.shape().clone())?,
            Some(sparse) => weight.hold(sparse.weight_gradient.kept())?,
        }
        let dense_kernel = |gw: &mut [f32]| {
            cx.profile.time(cx.row, Part::WeightGradient, "dense", || weight_gradient.run(cx.team, x, gy, gw));
        };
        in_place::edit(&weight.gradient, |gw| match kept {
            None => dense_kernel(gw),
            Some(Sparse { keep, weight_gradient: surviving, all, surviving: choice, .. }) => {
                choice.run(|sparse| match sparse {
                    true => {
                        cx.profile.time(cx.row, Part::WeightGradient, "sparse", || surviving.run(cx.team, x, gy, gw));
                    }
                    false => {
                        all.resize(keep.len(), 0.0);
                        dense_kernel(all);
                        let of_kept = all.iter().zip(keep.bits()).filter(|(_, keep)| **keep);
                        gw.iter_mut().zip(of_kept).for_each(|(to, (value, _))| *to = *value);
                    }
                });
                if choice.settled() != Some(false) {
                    *all = Vec::new();
                }
            }
        })
        .map_err(candle_core::Error::wrap)?;
        if let Some(bias) = bias {
            let planes = Planes { lanes: cx.lanes, channels: geometry.out_channels, pixels };
            in_place::edit(&bias.gradient, |gb| bias_gradient(cx.team, planes, gy, gb))
                .map_err(candle_core::Error::wrap)?;
        }
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        let (gx, add) = match target {
            Target::Write(gx) => (gx, false),
            Target::Add(gx) => (gx, true),
        };
        with(weight.value.as_tensor(), |w| match sparse {
            None => {
                cx.profile.time(cx.row, Part::InputGradient, "dense", || dense.input_gradient(cx.team, gy, w, gx, add))
            }
            Some(Sparse { conv, input_gradient, .. }) => input_gradient.run(|sparse| match sparse {
                true => cx.profile.time(cx.row, Part::InputGradient, "sparse", || {
                    conv.input_gradient(cx.team, gy, w, gx, add);
                }),
                false => cx.profile.time(cx.row, Part::InputGradient, "dense", || {
                    dense.input_gradient(cx.team, gy, w, gx, add);
                }),
            }),
        })
    }

    fn follow(&mut self, masks: &Masks) {
        let mask = masks.get(&self.name).filter(|m| m.kept() as f64 <= DENSEST * m.len() as f64);
        let Some(mask) = mask else {
            self.sparse = None;
            return;
        };
        if self.sparse.as_ref().is_some_and(|sparse| sparse.keep == *mask) {
            return;
        }
        let (isa, geometry, lanes) = (self.isa, self.geometry, self.lanes);
        let conv = SparseConv::new(isa, geometry, lanes, mask.bits());
        let weight_gradient = SurvivingWeightGradient::new(isa, geometry, lanes, mask.bits());
        // What they refuse, as maps beyond their offsets, the dense kernels compute.
        self.sparse = conv.ok().zip(weight_gradient.ok()).map(|(conv, weight_gradient)| Sparse {
            keep: mask.clone(),
            conv,
            weight_gradient,
            all: Vec::new(),
            forward: Choice::default(),
            input_gradient: Choice::default(),
            surviving: Choice::default(),
        });
    }
}
