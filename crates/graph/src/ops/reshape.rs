//! Same elements, new shape. ONNX `Reshape` with a constant shape.

/// Same elements, new shape. ONNX `Reshape` with a constant shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// Target lengths: `0` copies the input axis of that position, one `-1` takes the rest. Importers write `0` for the batch.
    pub shape: Vec<i64>,
}
