//! Activations, sums and factors per channel, where no batch norm takes them in.

use candle_core::Result;
use sentei_kernels::training::{
    Curve, Gradient, Piecewise, Planes, activate, activate_backward, add, add_assign, curve, curve_backward,
    scale_channels, scale_channels_backward,
};

use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::gradient;

/// An activation of straight pieces whose slope shows in its output.
pub(super) struct Bent(pub Piecewise);

impl Layer for Bent {
    fn needs(&self) -> Needs {
        Needs { inputs: false, output: true }
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        cx.profile.time(cx.row, Part::Forward, "", || activate(cx.team, self.0, inputs[0], output));
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        let work = || activate_backward(cx.team, self.0, kept.output, gy, gradient(target));
        cx.profile.time(cx.row, Part::InputGradient, "", work);
        Ok(())
    }
}

/// Any other activation.
pub(super) struct Curved(pub Curve);

impl Layer for Curved {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        cx.profile.time(cx.row, Part::Forward, "", || curve(cx.team, self.0, inputs[0], output));
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let Some(Some(target)) = targets.first_mut() else { return Ok(()) };
        let work = || curve_backward(cx.team, self.0, kept.inputs[0], gy, gradient(target));
        cx.profile.time(cx.row, Part::InputGradient, "", work);
        Ok(())
    }
}

/// The sum of two maps of one shape, and an activation whose slope shows in its output.
pub(super) struct Sum(pub Piecewise);

impl Layer for Sum {
    fn needs(&self) -> Needs {
        Needs { inputs: false, output: self.0 != Piecewise::None }
    }

    fn passes(&self) -> Option<usize> {
        (self.0 == Piecewise::None).then_some(0)
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        cx.profile.time(cx.row, Part::Forward, "", || add(cx.team, self.0, [inputs[0], inputs[1]], output));
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let bent = self.0 != Piecewise::None;
        cx.profile.time(cx.row, Part::InputGradient, "", || {
            for target in targets.iter_mut().flatten() {
                match target {
                    _ if bent => activate_backward(cx.team, self.0, kept.output, gy, gradient(target)),
                    Target::Write(gx) => activate(cx.team, Piecewise::None, gy, gx),
                    Target::Add(gx) => add_assign(cx.team, gx, gy),
                }
            }
        });
        Ok(())
    }
}

/// A map times one factor per image and channel.
pub(super) struct Factors {
    pub planes: Planes,
    /// Which input holds the factors.
    pub factors: usize,
    /// Room for a gradient that nobody asked for.
    pub spare: Vec<f32>,
}

impl Layer for Factors {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        let (x, factors) = (inputs[1 - self.factors], inputs[self.factors]);
        cx.profile.time(cx.row, Part::Forward, "", || scale_channels(cx.team, self.planes, x, factors, output));
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let maps = [kept.inputs[1 - self.factors], kept.inputs[self.factors]];
        let [first, second] = targets else { candle_core::bail!("a product has two inputs") };
        let ordered = if self.factors == 1 { [first, second] } else { [second, first] };
        let [map, factors] = ordered;
        if map.is_none() || factors.is_none() {
            self.spare.resize(maps[0].len() + maps[1].len(), 0.0);
        }
        let room = maps[0].len().min(self.spare.len());
        let (for_map, for_factors) = self.spare.split_at_mut(room);
        let targets = [
            map.as_mut().map_or(Gradient::write(for_map), gradient),
            factors.as_mut().map_or(Gradient::write(for_factors), gradient),
        ];
        let work = || scale_channels_backward(cx.team, self.planes, maps, gy, targets);
        cx.profile.time(cx.row, Part::InputGradient, "", work);
        Ok(())
    }
}
