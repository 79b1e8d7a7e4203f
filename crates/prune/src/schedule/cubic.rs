//! The cubic sparsity ramp.

/// Cubic sparsity ramp: fast while weights are redundant, slow near the target.
///
/// `s(t) = s_f + (s_i - s_f) * (1 - (t - t0) / span)^3`, held at `s_i` before and at `s_f` after.
///
/// Source: Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), eq. 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cubic {
    /// Sparsity `s_i` at the start, in `[0, 1)`.
    pub from: f64,
    /// Sparsity `s_f` at the end, in `[0, 1)`.
    pub to: f64,
    /// First step `t0` of the ramp.
    pub start: u64,
    /// Steps from start to end.
    pub span: u64,
}

impl Cubic {
    /// Sparsity at `step`.
    pub fn sparsity(&self, step: u64) -> f64 {
        if step >= self.start + self.span {
            return self.to;
        }
        if step <= self.start {
            return self.from;
        }
        let done = (step - self.start) as f64 / self.span as f64;
        self.to + (self.from - self.to) * (1.0 - done).powi(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitude_oracle_7_ends_midpoint_slope_and_monotony() {
        let ramp = Cubic { from: 0.2, to: 0.9, start: 100, span: 1000 };
        assert_eq!((ramp.sparsity(0), ramp.sparsity(100)), (0.2, 0.2));
        assert_eq!((ramp.sparsity(1100), ramp.sparsity(9999)), (0.9, 0.9));
        assert!((ramp.sparsity(600) - (0.9 - (0.9 - 0.2) / 8.0)).abs() < 1e-12);
        assert!((0..2000).all(|t| ramp.sparsity(t) <= ramp.sparsity(t + 1)));
        let slope = ramp.sparsity(1100) - ramp.sparsity(1099);
        assert!(slope < 1e-8, "the derivative at the end is 0, found {slope}");
        assert_eq!(Cubic { span: 0, ..ramp }.sparsity(100), 0.9);
    }
}
