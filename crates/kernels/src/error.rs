//! Why a layer cannot be prepared for the kernels, or layers not be joined to a region.

use crate::Map;

/// A geometry or weight list that does not describe a layer; found while preparing, never while running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A size, stride or dilation that must be at least 1 is 0.
    #[error("{what} is 0, expected at least 1")]
    Zero {
        /// Which field.
        what: &'static str,
    },
    /// Channels do not divide into the groups.
    #[error("{channels} {what} do not divide into {groups} groups")]
    Groups {
        /// `input channels` or `output channels`.
        what: &'static str,
        /// How many there are.
        channels: usize,
        /// Number of groups.
        groups: usize,
    },
    /// The dilated kernel is larger than the padded input.
    #[error("kernel of {extent} {axis} does not fit into the padded input of {available}")]
    KernelTooLarge {
        /// `rows` or `columns`.
        axis: &'static str,
        /// Extent of the dilated kernel.
        extent: usize,
        /// Extent of the padded input.
        available: usize,
    },
    /// A kernel for some layers only was asked for another.
    #[error("{what} has to be {expected}")]
    Unfit {
        /// What was to be prepared.
        what: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A plane or weight would need more than 32-bit offsets.
    #[error("{what} has more elements than 32-bit offsets can address")]
    TooLarge {
        /// Which buffer.
        what: &'static str,
    },
    /// The layer is valid, but not for this kernel.
    #[error("no kernel takes {what}")]
    NoKernel {
        /// What it cannot take.
        what: &'static str,
    },
    /// A weight index lies outside the weight tensor.
    #[error("weight index {index} lies outside the {len} weights of the layer")]
    IndexOutside {
        /// The index.
        index: u32,
        /// Weights of the dense layer.
        len: usize,
    },
    /// Weight indices are not strictly increasing.
    #[error("weight index {index} does not follow {previous}, expected row-major order")]
    IndexOrder {
        /// The index before it.
        previous: u32,
        /// The index that breaks the order.
        index: u32,
    },
    /// Not one bias per output.
    #[error("{found} bias values for {expected} outputs")]
    BiasLength {
        /// Outputs of the layer.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// A feature map is not what the layer reads or writes.
    #[error("{what} map is {found:?}, expected {expected:?} with a stride of at least that")]
    Map {
        /// `input` or `output`.
        what: &'static str,
        /// Sizes of the layer.
        expected: Map,
        /// The map given.
        found: Map,
    },
    /// Not one value per weight that exists.
    #[error("{found} weight values for {expected} weights")]
    ValueCount {
        /// Weights that exist.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// Bytes without one scale per output, or scales without bytes.
    #[error("{found} weight scales, expected {expected}")]
    ScaleCount {
        /// Outputs of the layer for bytes, else 0.
        expected: usize,
        /// Scales found.
        found: usize,
    },
    /// What a step of a region reads does not lie as its layer expects.
    #[error("step `{step}` expects {what} {expected:?}, found {found:?}")]
    MapsDiffer {
        /// Name of the step.
        step: String,
        /// `input`, `residual` or `part`.
        what: &'static str,
        /// Map of the layer.
        expected: Box<Map>,
        /// Map of the value.
        found: Box<Map>,
    },
    /// A value cannot be a part of a concatenation.
    #[error("value {value} cannot be a part of `{step}`: {why}")]
    Concat {
        /// Name of the concatenation.
        step: String,
        /// Number of the value.
        value: usize,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A value of another region, or planes that overlap.
    #[error("{what} does not describe a value of this region")]
    Value {
        /// Which argument.
        what: &'static str,
    },
}
