//! Zeroes a random fraction of activations in training, identity otherwise. ONNX `Dropout`.

/// Zeroes a random fraction of activations in training, identity otherwise. ONNX `Dropout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Drop probability in training, in `[0, 1)`.
    pub rate: f32,
}
