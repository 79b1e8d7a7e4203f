//! All weights of a fully connected layer, features side by side.
//!
//! With one pixel per map a weight has few products, so adding the lanes of its vector of sums would cost more than they do. Here
//! a vector holds one image's features instead, and a sum of each lane is a sum of its own: lanes follow each other so
//! that what the halves add is there when it is due ([`super`] has the order, and the bits are the same).

use std::ops::Range;

use super::dense::Tiles;
use super::kernels::{Kernels, kernels_of};
use super::panels::{Products, Turn};
use super::scratch::Pool;
use crate::Isa;
use crate::gemv::Lines;
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes, Output, tasks};

/// The weight gradient of a layer whose maps are one pixel and whose kernel is one tap.
#[derive(Debug)]
pub(super) struct OnePixel {
    isa: Isa,
    geometry: ConvGeometry,
    lanes: Lanes,
    scratch: Pool<Scratch>,
}

/// What a task needs.
#[derive(Debug)]
struct Scratch {
    /// The features of a panel: `[lane, in the order of sums][block][feature]`.
    panel: Lines<f32>,
    /// Sums of some lanes of a tile, `[halving][output][feature]`.
    waiting: Lines<f32>,
}

impl OnePixel {
    /// Prepares a layer, if it is one of those; `lanes` are those of `isa`.
    pub fn new(isa: Isa, geometry: ConvGeometry, lanes: Lanes) -> Option<Self> {
        let g = &geometry;
        let fits = g.groups == 1 && [g.input, g.output, g.kernel] == [[1, 1]; 3] && g.pads == [0, 0];
        let (outputs, vectors) = kernels_of(isa).panel;
        let features = vectors.min(g.in_channels.div_ceil(lanes.lanes)) * lanes.lanes;
        let halvings = lanes.lanes.ilog2() as usize;
        let scratch = move || Scratch {
            panel: Lines::zeros(lanes.len(features)),
            waiting: Lines::zeros(halvings * outputs * vectors * lanes.lanes),
        };
        fits.then(|| Self { isa, geometry, lanes, scratch: Pool::new(g.weights(), scratch) })
    }

    /// See [`super::WeightGradient::run`], which has checked lengths and processor.
    pub fn run(&self, team: &Team, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        let (g, kernels) = (&self.geometry, kernels_of(self.isa));
        let vectors = g.in_channels.div_ceil(kernels.lanes);
        // as many for each thread; of a layer with few features the outputs are shared out instead
        let panels = vectors.div_ceil(kernels.panel.1).next_multiple_of(team.threads()).min(vectors);
        let panels = Tiles { len: vectors, count: panels };
        let parts = if panels.count < team.threads() { team.threads() } else { 1 };
        let high = Tiles::new(g.out_channels, kernels.panel.0);
        let gw = Output::new(gw);
        tasks(team, panels.count * parts, |task| {
            let (panel, part) = (task / parts, task % parts);
            let tiles = part * high.count / parts..(part + 1) * high.count / parts;
            self.run_panel(&kernels, panels.get(panel), tiles.map(|tile| high.get(tile)), x, gy, gw);
        });
    }

    /// Computes the weights of some outputs behind some vectors of features.
    fn run_panel(
        &self,
        kernels: &Kernels,
        vectors: Range<usize>,
        outputs: impl Iterator<Item = Range<usize>>,
        x: &[f32],
        gy: &[f32],
        gw: Output<'_>,
    ) {
        let (g, lanes, blocks) = (&self.geometry, kernels.lanes, self.lanes.blocks());
        let features = vectors.start * lanes..(vectors.end * lanes).min(g.in_channels);
        let row = vectors.len() * lanes;
        let mut scratch = self.scratch.take();
        let Scratch { panel, waiting } = &mut *scratch;
        let panel = &mut panel.as_mut_slice()[..lanes * blocks * row];
        let waiting = waiting.as_mut_slice();
        for block in 0..blocks {
            for (at, first) in features.clone().step_by(lanes).enumerate() {
                let turn = Turn { features: (features.end - first).min(lanes), lane: blocks * row };
                let x = &x[(block * g.in_channels + first) * lanes..][..turn.features * lanes];
                let to = &mut panel[block * row + at * lanes..];
                assert!(to.len() >= (lanes - 1) * turn.lane + lanes, "a panel too small for a block");
                // SAFETY: the processor was asserted in `run` of the layer; `x` has these features, and `to` was asserted to
                // hold a vector for every lane.
                unsafe { (kernels.turn)(turn, x.as_ptr(), to.as_mut_ptr()) };
            }
        }
        for outputs in outputs {
            let products = Products {
                outputs: outputs.len(),
                vectors: vectors.len(),
                last: features.len() - (vectors.len() - 1) * lanes,
                blocks,
                gy_block: g.out_channels * lanes,
                gw_output: g.in_channels,
            };
            let gy = if blocks == 0 { gy } else { &gy[outputs.start * lanes..] };
            let last = (outputs.end - 1) * g.in_channels + features.start;
            let (gw, _) = (gw.at(outputs.start * g.in_channels + features.start), gw.at(last + features.len()));
            // SAFETY: the processor and the length of `gy` were asserted in `run` of the layer: it has all blocks of these
            // outputs. The panel was filled with as many blocks and vectors; sums of the largest tile have room to wait. The last
            // weight was found to exist, and no other task has these features of these outputs.
            unsafe { (kernels.products)(&products, gy.as_ptr(), panel.as_ptr(), waiting.as_mut_ptr(), gw) };
        }
    }
}
