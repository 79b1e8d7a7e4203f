//! Activations that a kernel applies while the result is still in registers.

/// What happens to `bias + sum + residual` before it is stored. NaN passes through every one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Stored as it is.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`; ReLU6 is `min: 0, max: 6`.
    Clip {
        /// Lower bound; `-inf` for none.
        min: f32,
        /// Upper bound; `+inf` for none. Wins where it is below `min`.
        max: f32,
    },
    /// `x * clip(x / 6 + 1/2, 0, 1)`, as ONNX `HardSwish`.
    HardSwish,
}

impl Activation {
    /// The activation of one number.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => clip(x, 0.0, f32::INFINITY),
            Self::Clip { min, max } => clip(x, min, max),
            Self::HardSwish => x * clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
        }
    }

    /// Lower and upper bound, where it is no more than those.
    pub(crate) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Self::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Clip { min, max } => Some((min, max)),
            Self::HardSwish => None,
        }
    }
}

/// Comparisons in the order of the vector instructions: NaN fails both and is kept.
#[inline]
fn clip(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_checked_by_hand() {
        let relu6 = Activation::Clip { min: 0.0, max: 6.0 };
        let rows = [(-4.0, 0.0, 0.0, 0.0), (1.5, 1.5, 1.5, 1.125), (7.0, 7.0, 6.0, 7.0)];
        for (x, relu, clipped, swish) in rows {
            assert_eq!(Activation::None.apply(x), x);
            assert_eq!(Activation::Relu.apply(x), relu);
            assert_eq!(relu6.apply(x), clipped);
            assert_eq!(Activation::HardSwish.apply(x), swish);
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        let all = [Activation::None, Activation::Relu, Activation::Clip { min: 0.0, max: 6.0 }, Activation::HardSwish];
        for activation in all {
            assert!(activation.apply(f32::NAN).is_nan());
        }
    }
}
