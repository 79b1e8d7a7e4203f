//! What a step is made of.

use candle_core::{Result, Shape, Var};
use sentei_kernels::team::Team;
use sentei_kernels::training::Lanes;

use super::profile::Profile;
use crate::Net;
use crate::masks::Masks;

/// What every layer of a step works with.
pub(super) struct Context<'a> {
    pub team: &'a Team,
    pub lanes: Lanes,
    pub net: &'a Net,
    /// Seed of the pass.
    pub seed: u64,
    /// Whether gradients of removed weights are wanted, too.
    pub dense_gradients: bool,
    pub profile: &'a Profile,
    /// Position of the layer among the rows of the profile.
    pub row: usize,
}

/// Where a layer's output lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In memory of its own.
    Fresh,
    /// It is input 0 under another shape.
    Same,
}

/// Where the gradient of an input goes.
pub(super) enum Target<'a> {
    /// Written.
    Write(&'a mut [f32]),
    /// Added to what is there.
    Add(&'a mut [f32]),
}

/// The maps of the forward pass that a layer asked to keep; others are empty.
pub(super) struct Kept<'a> {
    pub inputs: Vec<&'a [f32]>,
    pub output: &'a [f32],
}

/// Which maps of the forward pass a layer needs for its gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub inputs: bool,
    pub output: bool,
}

/// A trained parameter and its gradient, which is written anew in every step: a number per value, or per kept one.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub value: Var,
    pub gradient: Var,
}

impl Trained {
    pub fn new(value: &Var) -> Result<Self> {
        // made of zeros, a gradient takes no memory before it is written
        let gradient = Var::zeros(value.shape(), value.dtype(), value.device())?;
        Ok(Trained { value: value.clone(), gradient })
    }

    /// Makes room for a gradient of this shape, if the one before had another.
    pub fn hold(&mut self, shape: impl Into<Shape>) -> Result<()> {
        let shape = shape.into();
        if *self.gradient.shape() != shape {
            self.gradient = Var::zeros(shape, self.value.dtype(), self.value.device())?;
        }
        Ok(())
    }
}

/// One node of the graph, or several that run as one.
pub(super) trait Layer {
    /// Where the output lies.
    fn placement(&self) -> Placement {
        Placement::Fresh
    }

    /// What [`Layer::backward`] reads.
    fn needs(&self) -> Needs;

    /// The input whose gradient the gradient of the output has become after [`Layer::backward`], if it is one.
    fn passes(&self) -> Option<usize> {
        None
    }

    /// Parameters whose gradients [`Layer::backward`] writes.
    fn trained(&self) -> Vec<&Trained>;

    /// Computes `output` from the maps among the inputs.
    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()>;

    /// Computes the gradients of parameters and, where there is a target, of inputs.
    ///
    /// * `gradient`: of the output; may be overwritten.
    fn backward(
        &mut self,
        cx: &Context,
        kept: Kept,
        gradient: &mut [f32],
        targets: &mut [Option<Target>],
    ) -> Result<()>;

    /// Prepares for the weights that `masks` leave.
    fn follow(&mut self, _masks: &Masks) {}
}
