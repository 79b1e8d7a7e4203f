//! A dense `f32` array and the fact (shape) known about a value before it is computed.

use std::fmt;

/// What is known about a value without running the graph: its shape. Every value is `f32`.
///
/// Axis 0 is the batch; image values are `[N, C, H, W]`, feature values `[N, C]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Length of each axis, outermost first.
    pub shape: Vec<usize>,
}

impl Fact {
    /// A fact from anything that lists axis lengths.
    pub fn new(shape: impl Into<Vec<usize>>) -> Self {
        Fact { shape: shape.into() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements, or `None` when the product overflows.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f32[")?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        write!(f, "]")
    }
}

/// A dense `f32` array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Length of each axis, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values; as many as the product of `shape`, or none where a graph was told to forget them.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of the given shape and values.
    ///
    /// # Panics
    /// When `data.len()` is not the product of `shape`: that is a bug of the caller.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(Some(data.len()), Fact::new(shape.clone()).elements(), "tensor data does not fill shape {shape:?}");
        Tensor { shape, data }
    }

    /// A tensor with every element equal to `value`.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Self {
        let shape = shape.into();
        let len = shape.iter().product();
        Tensor { shape, data: vec![value; len] }
    }

    /// The fact of this tensor.
    pub fn fact(&self) -> Fact {
        Fact::new(self.shape.clone())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of elements that are neither `+0` nor `-0`.
    pub fn nonzero(&self) -> usize {
        self.data.iter().filter(|v| **v != 0.0).count()
    }
}
