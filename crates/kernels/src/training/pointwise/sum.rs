//! Sums of two maps, with an activation behind them.

use super::super::Output;
use super::super::gradient::{Gradient, Sink};
use super::super::planes::fits;
use super::super::simd::{Kernel, Simd, any_isa, run};
use super::{Bend, Piecewise, TASK, part, with_bend};
use crate::team::Team;

/// `y = f(a + b)`.
///
/// # Panics
/// When the lengths differ.
pub fn add(team: &Team, f: Piecewise, [a, b]: [&[f32]; 2], y: &mut [f32]) {
    fits("the second summand", b.len(), a.len());
    fits("the sum", y.len(), a.len());
    let y = Output::new(y);
    with_bend!(f, f => run(team, any_isa(), a.len().div_ceil(TASK), &Add { f, a, b, y }));
}

/// The gradients of [`add`], both `f'(y) * gy`.
///
/// # Panics
/// When the lengths differ, or the slope of `f` does not show in `y`.
pub fn add_backward(team: &Team, f: Piecewise, y: &[f32], gy: &[f32], [ga, gb]: [Gradient<'_>; 2]) {
    assert!(f.slope_shows_in_output(), "the slope of {f:?} does not show in its output");
    fits("the gradient of a sum", gy.len(), y.len());
    let to = [ga.sink("the gradient of a summand", y.len()), gb.sink("the gradient of a summand", y.len())];
    with_bend!(f, f => run(team, any_isa(), y.len().div_ceil(TASK), &AddBackward { f, y, gy, to }));
}

/// `to += from`.
///
/// # Panics
/// When the lengths differ.
pub fn add_assign(team: &Team, to: &mut [f32], from: &[f32]) {
    fits("what is added", from.len(), to.len());
    run(team, any_isa(), from.len().div_ceil(TASK), &AddAssign { from, to: Output::new(to) });
}

struct Add<'a, F> {
    f: F,
    a: &'a [f32],
    b: &'a [f32],
    y: Output<'a>,
}

impl<F: Bend> Kernel for Add<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (from, to) = part(self.a.len(), task);
        // SAFETY: this part belongs to this task alone.
        let y = unsafe { self.y.part(from, to - from) };
        let inputs = self.a[from..to].chunks(S::LANES).zip(self.b[from..to].chunks(S::LANES));
        for (y, (a, b)) in y.chunks_mut(S::LANES).zip(inputs) {
            s.store_some(y, self.f.value(s, s.add(s.load_some(a), s.load_some(b))));
        }
    }
}

struct AddBackward<'a, F> {
    f: F,
    y: &'a [f32],
    gy: &'a [f32],
    to: [Sink<'a>; 2],
}

impl<F: Bend> Kernel for AddBackward<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (from, to) = part(self.y.len(), task);
        // SAFETY: this part of both belongs to this task alone.
        let (ga, gb) = unsafe { (self.to[0].to.part(from, to - from), self.to[1].to.part(from, to - from)) };
        let outputs = ga.chunks_mut(S::LANES).zip(gb.chunks_mut(S::LANES));
        let inputs = self.y[from..to].chunks(S::LANES).zip(self.gy[from..to].chunks(S::LANES));
        for ((ga, gb), (y, gy)) in outputs.zip(inputs) {
            let g = self.f.pull(s, s.load_some(y), s.load_some(gy));
            self.to[0].put(s, ga, g);
            self.to[1].put(s, gb, g);
        }
    }
}

struct AddAssign<'a> {
    to: Output<'a>,
    from: &'a [f32],
}

impl Kernel for AddAssign<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (from, end) = part(self.from.len(), task);
        // SAFETY: this part belongs to this task alone.
        let to = unsafe { self.to.part(from, end - from) };
        for (to, from) in to.chunks_mut(S::LANES).zip(self.from[from..end].chunks(S::LANES)) {
            s.store_some(to, s.add(s.load_some(to), s.load_some(from)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::piecewise::tests::{EACH, plain};
    use super::*;
    use crate::training::testing::{noise, threads};

    #[test]
    fn both_summands_get_the_gradient_of_the_sum_behind_the_activation() {
        for (f, len) in EACH.iter().flat_map(|f| [1, 37, TASK + 5].map(|len| (*f, len))) {
            let (a, b, gy) = (noise(len, 1), noise(len, 2), noise(len, 3));
            for team in threads() {
                let (mut y, mut ga, mut gb) = (vec![9.0; len], vec![9.0; len], vec![2.0; len]);
                add(&team, f, [&a, &b], &mut y);
                add_backward(&team, f, &y, &gy, [Gradient::write(&mut ga), Gradient::add(&mut gb)]);
                let mut sum = a.clone();
                add_assign(&team, &mut sum, &b);
                for i in 0..len {
                    let (value, slope) = plain(f, a[i] + b[i]);
                    assert_eq!((sum[i], y[i]), (a[i] + b[i], value), "{f:?}");
                    assert_eq!((ga[i], gb[i]), (slope * gy[i], 2.0 + slope * gy[i]), "{f:?}");
                }
            }
        }
    }
}
