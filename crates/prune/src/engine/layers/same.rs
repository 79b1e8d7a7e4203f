//! Another shape of the same numbers: flatten, reshape, identity.

use candle_core::Result;

use super::super::layer::{Context, Kept, Layer, Needs, Placement, Target, Trained};

/// A map that another value names, too. Nothing is computed: the numbers of an image keep their order.
pub(super) struct Same;

impl Layer for Same {
    fn placement(&self) -> Placement {
        Placement::Same
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn trained(&self) -> Vec<&Trained> {
        Vec::new()
    }

    fn forward(&mut self, _: &Context, _: &[&[f32]], _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn backward(&mut self, _: &Context, _: Kept, _: &mut [f32], _: &mut [Option<Target>]) -> Result<()> {
        Ok(())
    }
}
