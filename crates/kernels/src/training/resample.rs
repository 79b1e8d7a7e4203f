//! Cutting out and padding: every output is one input, or a constant.

use super::tasks::{Output, tasks};
use super::{Gradient, Lanes};
use crate::team::Team;

/// Channel, row and column `start + step * o` of the input become channel, row and column `o` of the output; what lies outside
/// is a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resample {
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Those of the output.
    pub output: [usize; 3],
    /// Where output 0 comes from, before the input where it is negative.
    pub start: [isize; 3],
    /// Steps in the input, at least 1.
    pub step: [usize; 3],
}

impl Resample {
    /// The input of output `o` along `axis`.
    fn source(&self, axis: usize, o: usize) -> Option<usize> {
        let at = self.start[axis] + (o * self.step[axis]) as isize;
        usize::try_from(at).ok().filter(|at| *at < self.input[axis])
    }

    /// The output that comes from input `i` along `axis`.
    fn target(&self, axis: usize, i: usize) -> Option<usize> {
        let ahead = usize::try_from(i as isize - self.start[axis]).ok()?;
        let o = ahead / self.step[axis];
        (ahead.is_multiple_of(self.step[axis]) && o < self.output[axis]).then_some(o)
    }

    fn check(&self, lanes: Lanes, input: usize, output: usize) {
        assert_eq!(input, lanes.len(self.input.iter().product()), "the input of a cut-out has another length");
        assert_eq!(output, lanes.len(self.output.iter().product()), "the output of a cut-out has another length");
        assert!(self.step.iter().all(|step| *step > 0), "a cut-out steps by at least 1");
    }

    /// Writes `y`; `value` is what lies outside.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn forward(&self, team: &Team, lanes: Lanes, value: f32, x: &[f32], y: &mut [f32]) {
        self.check(lanes, x.len(), y.len());
        let pick = |to: &mut [f32], from: Option<&[f32]>| match from {
            Some(from) => to.copy_from_slice(from),
            None => to.fill(value),
        };
        walk(team, lanes, [self.output, self.input], |axis, o| self.source(axis, o), x, y, pick);
    }

    /// The gradient of [`Resample::forward`].
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn backward(&self, team: &Team, lanes: Lanes, gy: &[f32], gx: Gradient<'_>) {
        self.check(lanes, gx.values.len(), gy.len());
        let add = gx.accumulate;
        let pick = |to: &mut [f32], from: Option<&[f32]>| match from {
            Some(from) if add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
            Some(from) => to.copy_from_slice(from),
            None if add => {}
            None => to.fill(0.0),
        };
        walk(team, lanes, [self.input, self.output], |axis, i| self.target(axis, i), gy, gx.values, pick);
    }
}

/// Calls `pick` for every pixel of `to` with the pixel of `from` that `of` names along each axis.
fn walk(
    team: &Team,
    lanes: Lanes,
    [[channels, height, width], [of_channels, of_height, of_width]]: [[usize; 3]; 2],
    of: impl Fn(usize, usize) -> Option<usize> + Sync,
    from: &[f32],
    to: &mut [f32],
    pick: impl Fn(&mut [f32], Option<&[f32]>) + Sync,
) {
    let (plane, to) = (height * width * lanes.lanes, Output::new(to));
    tasks(team, lanes.blocks() * channels, |task| {
        let (block, channel) = (task / channels, task % channels);
        // SAFETY: this plane belongs to this task alone.
        let to = unsafe { to.part(task * plane, plane) };
        let from_plane = of(0, channel).map(|channel| (block * of_channels + channel) * of_height * of_width);
        for (row, to) in to.chunks_exact_mut((width * lanes.lanes).max(1)).enumerate() {
            let line = from_plane.zip(of(1, row)).map(|(plane, row)| plane + row * of_width);
            for (column, to) in to.chunks_exact_mut(lanes.lanes).enumerate() {
                let pixel = line.zip(of(2, column)).map(|(line, column)| (line + column) * lanes.lanes);
                pick(to, pixel.map(|at| &from[at..][..lanes.lanes]));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// The definition, pixel by pixel, and its adjoint by the same pairs.
    fn pairs(r: &Resample) -> Vec<(usize, Option<usize>)> {
        let mut found = Vec::new();
        for c in 0..r.output[0] {
            for y in 0..r.output[1] {
                for x in 0..r.output[2] {
                    let out = [c, y, x];
                    let at = [0, 1, 2].map(|a| r.start[a] + (out[a] * r.step[a]) as isize);
                    let inside = at.iter().zip(r.input).all(|(at, len)| (0..len as isize).contains(at));
                    let flat = || ((at[0] as usize * r.input[1]) + at[1] as usize) * r.input[2] + at[2] as usize;
                    found.push(((c * r.output[1] + y) * r.output[2] + x, inside.then(flat)));
                }
            }
        }
        found
    }

    #[test]
    fn cut_outs_and_pads_follow_the_definition_on_every_number_of_threads() {
        let cases = [
            Resample { input: [3, 5, 6], output: [3, 3, 3], start: [0, 0, 0], step: [1, 2, 2] },
            Resample { input: [3, 4, 4], output: [7, 4, 4], start: [-2, 0, 0], step: [1, 1, 1] },
            Resample { input: [2, 4, 3], output: [1, 5, 6], start: [1, -1, -2], step: [1, 1, 1] },
            Resample { input: [5, 1, 1], output: [2, 1, 1], start: [1, 0, 0], step: [3, 1, 1] },
        ];
        let lanes = Lanes::new(Isa::best(), 2 * Isa::best().lanes() - 1);
        for r in cases {
            let lens = [r.input, r.output].map(|l| l.iter().product::<usize>());
            let x: Vec<f32> = (0..lanes.len(lens[0])).map(|i| i as f32 + 1.0).collect();
            let gy: Vec<f32> = (0..lanes.len(lens[1])).map(|i| i as f32 * 0.5 + 1.0).collect();
            for threads in 1..4 {
                let team = Team::new(threads, false).unwrap();
                let (mut y, mut gx) = (vec![9.0; gy.len()], vec![9.0; x.len()]);
                r.forward(&team, lanes, 0.25, &x, &mut y);
                r.backward(&team, lanes, &gy, Gradient::write(&mut gx));
                let mut added = vec![1.0; x.len()];
                r.backward(&team, lanes, &gy, Gradient::add(&mut added));
                let mut expected = vec![0.0; x.len()];
                for block in 0..lanes.blocks() {
                    for ((o, i), lane) in pairs(&r).into_iter().flat_map(|p| (0..lanes.lanes).map(move |l| (p, l))) {
                        let out = (block * lens[1] + o) * lanes.lanes + lane;
                        let source = i.map(|i| (block * lens[0] + i) * lanes.lanes + lane);
                        assert_eq!(y[out], source.map_or(0.25, |at| x[at]), "{r:?}");
                        source.into_iter().for_each(|at| expected[at] = gy[out]);
                    }
                }
                assert_eq!(gx, expected, "{r:?}");
                assert!(added.iter().zip(&expected).all(|(a, e)| *a == e + 1.0), "{r:?}");
            }
        }
    }
}
