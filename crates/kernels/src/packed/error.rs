//! What can be wrong with a packed tensor; the caller adds the tensor's name.

/// A packed tensor that breaks a rule of the format, or that is larger than allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PackedError {
    /// A dimension of the shape is zero.
    #[error("dimension {axis} of shape {shape:?} is zero")]
    ZeroDim {
        /// The whole shape.
        shape: Vec<usize>,
        /// Axis of the zero.
        axis: usize,
    },
    /// The shape has more elements than the format can address.
    #[error("shape {shape:?} has more than 2^31-1 elements")]
    TooManyElements {
        /// The whole shape.
        shape: Vec<usize>,
    },
    /// Decoding would use more bytes than the budget has left.
    #[error("decoded tensor needs {needed} bytes, {left} are left of the decoding budget")]
    Budget {
        /// Bytes asked for.
        needed: u64,
        /// Bytes the budget still had.
        left: u64,
    },
    /// The position stream has the wrong number of bytes.
    #[error("{encoding} positions hold {found} bytes, expected {expected}")]
    PositionBytes {
        /// Encoding name.
        encoding: &'static str,
        /// Bytes the symbol count or the shape asks for.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The unused high nibble or the unused mask bits at the end are not zero.
    #[error("{encoding} positions end in padding bits that are not zero")]
    Padding {
        /// Encoding name.
        encoding: &'static str,
    },
    /// A gap leads past the last element.
    #[error("symbol {symbol} leads to element {position}, the tensor has {elements}")]
    PastEnd {
        /// Index of the symbol in the stream.
        symbol: usize,
        /// Where it leads.
        position: u64,
        /// Elements of the tensor.
        elements: usize,
    },
    /// The last gap symbol is a skip, which places nothing.
    #[error("the gap stream ends in a skip symbol")]
    TrailingSkip,
    /// Positions and values do not pair up.
    #[error("positions place {placed} values, {stored} are stored")]
    ValueCount {
        /// Values the position stream places.
        placed: usize,
        /// Values present.
        stored: usize,
    },
    /// A stored value is zero, so the tensor would have two encodings.
    #[error("stored value {index} is zero")]
    StoredZero {
        /// Index among the stored values.
        index: usize,
    },
    /// A stored value is NaN or infinite.
    #[error("stored value {index} is not finite")]
    NotFinite {
        /// Index among the stored values.
        index: usize,
    },
    /// Scales beside values that are not int8.
    #[error("scales are given for {dtype} values, only i8 values have scales")]
    ScalesWithout8Bit {
        /// Name of the value type.
        dtype: &'static str,
    },
    /// Not one scale per row of axis 0.
    #[error("{found} scales for {expected} rows of axis 0")]
    ScaleCount {
        /// Rows of axis 0.
        expected: usize,
        /// Scales found.
        found: usize,
    },
    /// A scale is not positive, not finite, or so large that a value overflows.
    #[error("scale {index} is {value}, expected a finite number > 0 that no int8 value overflows")]
    Scale {
        /// Row of axis 0.
        index: usize,
        /// The scale.
        value: f32,
    },
    /// Positions handed to the encoder are not strictly increasing.
    #[error("position {position} at index {index} does not follow {previous}")]
    Unsorted {
        /// Index in the list of positions.
        index: usize,
        /// The position before it.
        previous: u32,
        /// The position that breaks the order.
        position: u32,
    },
    /// A position handed to the encoder lies outside the tensor.
    #[error("position {position} lies outside the {elements} elements of the tensor")]
    Outside {
        /// The position.
        position: u32,
        /// Elements of the tensor.
        elements: usize,
    },
}
