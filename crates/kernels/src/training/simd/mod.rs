//! Vectors as values: a kernel is one generic function, compiled once per instruction set.
//!
//! A [`Simd`] is a proof that the processor has its instructions, so its methods are safe. It is made by [`run`] alone, inside a
//! function compiled with these instructions. Everything between there and a method must be inlined, or it is
//! compiled without them: whatever takes a `Simd` is `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use super::tasks;
use crate::Isa;
use crate::team::Team;

/// Lanes of the longest vector.
pub(super) const MAX_LANES: usize = 16;

/// One instruction set.
pub(super) trait Simd: Copy {
    /// Numbers of a vector.
    const LANES: usize;
    /// Sums that registers hold beside what they are made of.
    const TILE: usize;
    type V: Copy;

    fn splat(self, value: f32) -> Self::V;
    /// The first numbers of `from`, which has at least a vector of them.
    fn load(self, from: &[f32]) -> Self::V;
    /// Writes the first numbers of `to`, which has at least a vector of them.
    fn store(self, to: &mut [f32], vector: Self::V);
    /// As [`Simd::load`], of a slice shorter than a vector but not empty; other lanes are 0.
    fn load_part(self, from: &[f32]) -> Self::V;
    /// As [`Simd::store`], to a slice shorter than a vector but not empty.
    fn store_part(self, to: &mut [f32], vector: Self::V);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + sum`, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V;
    /// `a[0], b[0], a[1], b[1], ...`, two vectors.
    fn interleave(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// `yes` where `a > b`, else `no`, so also where one is NaN.
    fn pick(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `yes` where `a` is NaN, else `no`.
    fn pick_nan(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V;

    /// The first vector of `from`, or all of it where it is shorter; not empty.
    #[inline(always)]
    fn load_some(self, from: &[f32]) -> Self::V {
        if from.len() >= Self::LANES { self.load(from) } else { self.load_part(from) }
    }

    /// Writes the first vector of `to`, or all of it where it is shorter; not empty.
    #[inline(always)]
    fn store_some(self, to: &mut [f32], vector: Self::V) {
        if to.len() >= Self::LANES { self.store(to, vector) } else { self.store_part(to, vector) }
    }

    /// The numbers; those beyond a vector are 0.
    #[inline(always)]
    fn numbers(self, vector: Self::V) -> [f32; MAX_LANES] {
        let mut numbers = [0.0; MAX_LANES];
        self.store(&mut numbers, vector);
        numbers
    }

    /// The sum of all lanes, by halves: lane `i` and lane `i + half` until one is left.
    #[inline(always)]
    fn sum(self, vector: Self::V) -> f32 {
        let mut numbers = self.numbers(vector);
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                numbers[i] += numbers[i + half];
            }
            half /= 2;
        }
        numbers[0]
    }
}

/// Work in parts that may run in any order, on any thread.
pub(super) trait Kernel: Sync {
    /// Does part `task`. To be inlined, see the module.
    fn run<S: Simd>(&self, simd: S, task: usize);
}

/// The instruction set for activations of so many lanes.
///
/// # Panics
/// When this processor has none: the layout was made for another one.
pub(super) fn isa_of(lanes: usize) -> Isa {
    let fits = |isa: &Isa| isa.lanes() == lanes && isa.or_portable() == *isa && isa.runs_here();
    let found = Isa::COMPILED.iter().copied().find(fits);
    found.unwrap_or_else(|| panic!("no instruction set of this processor has {lanes} lanes"))
}

/// The instruction set for work that knows no lanes.
pub(super) fn any_isa() -> Isa {
    Isa::best().or_portable()
}

/// Runs `kernel` on every task in `0..count`, with the threads of `team`.
///
/// # Panics
/// When this processor lacks the instructions.
pub(super) fn run(team: &Team, isa: Isa, count: usize, kernel: &impl Kernel) {
    assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
    tasks(team, count, |task| match isa {
        // SAFETY: the CPU was asserted above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::part(kernel, task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::part(kernel, task) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => unsafe { neon::part(kernel, task) },
        // SAFETY: portable code runs everywhere.
        _ => unsafe { scalar::part(kernel, task) },
    });
}

/// Makes the [`Simd`] of one instruction set out of the names of its file under `isa`, and of `pick` and `pick_nan`.
macro_rules! simd {
    ($name:literal, $module:ident, $tile:literal tile, $($features:literal)?) => {
        use super::{Kernel, Simd};
        use crate::isa::$module as isa;

        #[doc = concat!("The proof that this processor has ", $name, ".")]
        #[derive(Clone, Copy)]
        pub(super) struct Proof(());

        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn part(kernel: &impl Kernel, task: usize) {
            kernel.run(Proof(()), task);
        }

        #[allow(unused_unsafe, reason = "what is portable needs no instructions")]
        impl Simd for Proof {
            const LANES: usize = isa::LANES;
            const TILE: usize = $tile;
            type V = isa::Vector;

            #[inline(always)]
            fn splat(self, value: f32) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { isa::splat(value) }
            }

            #[inline(always)]
            fn load(self, from: &[f32]) -> Self::V {
                let from = &from[..Self::LANES];
                // SAFETY: `self` proves the features, and a vector is there.
                unsafe { isa::load(from.as_ptr()) }
            }

            #[inline(always)]
            fn store(self, to: &mut [f32], vector: Self::V) {
                let to = &mut to[..Self::LANES];
                // SAFETY: `self` proves the features, and a vector is there.
                unsafe { isa::store(to.as_mut_ptr(), vector) }
            }

            #[inline(always)]
            fn load_part(self, from: &[f32]) -> Self::V {
                assert!((1..Self::LANES).contains(&from.len()), "part of a vector");
                // SAFETY: `self` proves the features, and as many numbers are there.
                unsafe { isa::load_tail(from.as_ptr(), isa::tail(from.len())) }
            }

            #[inline(always)]
            fn store_part(self, to: &mut [f32], vector: Self::V) {
                assert!((1..Self::LANES).contains(&to.len()), "part of a vector");
                // SAFETY: `self` proves the features, and as many numbers are there.
                unsafe { isa::store_tail(to.as_mut_ptr(), isa::tail(to.len()), vector) }
            }

            #[inline(always)]
            fn add(self, a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { isa::add(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: Self::V, b: Self::V) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { isa::mul(a, b) }
            }

            #[inline(always)]
            fn fma(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { isa::fma(a, b, sum) }
            }

            #[inline(always)]
            fn interleave(self, a: Self::V, b: Self::V) -> (Self::V, Self::V) {
                // SAFETY: `self` proves the features.
                unsafe { isa::interleave(a, b) }
            }

            #[inline(always)]
            fn pick(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { pick(a, b, yes, no) }
            }

            #[inline(always)]
            fn pick_nan(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V {
                // SAFETY: `self` proves the features.
                unsafe { pick_nan(a, yes, no) }
            }
        }
    };
}

use simd;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Output;

    struct Every<'a>(Output<'a>);

    impl Kernel for Every<'_> {
        #[inline(always)]
        fn run<S: Simd>(&self, s: S, _: usize) {
            // SAFETY: the only task.
            let out = unsafe { self.0.part(0, 5 * MAX_LANES) };
            let (a, part) = out.split_at_mut(MAX_LANES);
            let (one, two) = (s.splat(1.0), s.splat(2.0));
            let v = s.load(a);
            s.store(part, s.pick(v, s.splat(1.5), one, two));
            s.store(&mut part[MAX_LANES..], s.pick_nan(v, one, two));
            s.store_part(&mut part[2 * MAX_LANES..][..3], s.load_part(&a[1..3]));
            part[3 * MAX_LANES] = s.sum(s.splat(0.5));
        }
    }

    #[test]
    fn picks_treat_nan_as_not_larger_and_parts_touch_nothing_else() {
        for isa in Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here() && isa.or_portable() == *isa) {
            let mut out = [7.0; 5 * MAX_LANES];
            out[..4].copy_from_slice(&[1.0, f32::NAN, 2.0, f32::INFINITY]);
            run(&Team::new(1, false).unwrap(), isa, 1, &Every(Output::new(&mut out)));
            assert_eq!(out[MAX_LANES..][..4], [2.0, 2.0, 1.0, 1.0], "{isa:?}");
            assert_eq!(out[2 * MAX_LANES..][..4], [2.0, 1.0, 2.0, 2.0], "{isa:?}");
            assert!(out[3 * MAX_LANES].is_nan(), "{isa:?}");
            assert_eq!(out[3 * MAX_LANES + 1..][..3], [2.0, 0.0, 7.0], "{isa:?}");
            assert_eq!(out[4 * MAX_LANES], 0.5 * isa.lanes() as f32, "{isa:?}");
        }
    }
}
