//! What one core can do: multiply-adds on registers alone, enough of them in flight to hide their latency.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sentei_kernels::Isa;

/// Multiply-adds per call and accumulator.
const STEPS: usize = 20_000;
/// Long enough for the clock to settle under wide vectors.
const TIME: Duration = Duration::from_millis(100);

/// GFLOP/s (a multiply-add is two) of one core with the multiply-adds of `isa`, which must run here. None for portable
/// code, whose vectors are the compiler's choice.
pub fn gflops(isa: Isa) -> Option<f64> {
    assert!(isa.runs_here(), "{} does not run here", isa.name());
    let (lanes, run): (usize, fn() -> f32) = match isa {
        // SAFETY: `runs_here` was asserted above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => (16 * x86::ACCUMULATORS, || unsafe { x86::avx512() }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (8 * x86::ACCUMULATORS, || unsafe { x86::avx2() }),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => (4 * neon::ACCUMULATORS, neon::run),
        _ => return None,
    };
    let begin = Instant::now();
    let mut best = Duration::MAX;
    while begin.elapsed() < TIME {
        let start = Instant::now();
        black_box(run());
        best = best.min(start.elapsed());
    }
    Some(2.0 * (lanes * STEPS) as f64 / best.as_secs_f64() / 1e9)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Two units of latency 4 need 8; with the two factors they stay in 16 registers.
    pub const ACCUMULATORS: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub fn avx512() -> f32 {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
        let mut sums = [b; ACCUMULATORS];
        for _ in 0..super::STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2() -> f32 {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [b; ACCUMULATORS];
        for _ in 0..super::STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(_mm256_setzero_ps(), |total, sum| _mm256_add_ps(total, sum));
        _mm256_cvtss_f32(total)
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// Four units of latency 4 need 16; with the two factors they stay in 32 registers.
    pub const ACCUMULATORS: usize = 24;

    pub fn run() -> f32 {
        // SAFETY: the caller asserted that NEON runs here.
        unsafe {
            let (a, b) = (vdupq_n_f32(black_box(0.5)), vdupq_n_f32(black_box(1.0)));
            let mut sums = [b; ACCUMULATORS];
            for _ in 0..super::STEPS {
                for sum in &mut sums {
                    *sum = vfmaq_f32(b, *sum, a);
                }
            }
            sums.into_iter().map(|sum| vaddvq_f32(sum)).sum()
        }
    }
}
