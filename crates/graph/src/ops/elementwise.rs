//! Ops that treat every element alone: the output has the shape of the only input.

use super::{OpError, arity};
use crate::{Fact, Tensor};

/// Shape of the only input.
pub(super) fn infer(inputs: &[&Fact]) -> Result<Fact, OpError> {
    let [x] = arity(inputs)?;
    super::countable(x.shape.clone())
}

/// `f` of every element of the only input.
pub(super) fn eval(inputs: &[&Tensor], f: impl Fn(f32) -> f32) -> Result<Tensor, OpError> {
    let [x] = arity(inputs)?;
    Ok(Tensor { shape: x.shape.clone(), data: x.data.iter().map(|v| f(*v)).collect() })
}

/// `1 / (1 + exp(-x))` without overflow on either side.
pub(super) fn sigmoid(x: f32) -> f32 {
    let x = f64::from(x);
    let e = (-x.abs()).exp();
    (if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_saturates_without_nan() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert!((sigmoid(2.0) + sigmoid(-2.0) - 1.0).abs() <= f32::EPSILON);
    }
}
