//! How each op is read from and written to ONNX. One op, one file, the same name as in `sentei_graph::ops`.
//!
//! Operators without an op of their own (`Sub`, `Div`, `Cast`, `ReduceMean`, `Squeeze`) are read into others.

use sentei_graph::{Node, Op};

use crate::ConvertError;
use crate::call::Call;
use crate::export::Exporter;
use crate::import::Importer;

/// Reads one node into the graph.
pub(crate) type ImportFn = for<'a> fn(&mut Importer<'a>, &Call<'a>) -> Result<(), ConvertError>;

macro_rules! codecs {
    (ops: $($module:ident :: $op:ident = $onnx:literal),* $(,)?; read only: $($extra:ident = $name:literal),* $(,)?) => {
        $(mod $module;)*
        $(mod $extra;)*

        /// The importer of an ONNX operator.
        pub(crate) fn importer(op_type: &str) -> Option<ImportFn> {
            match op_type {
                $($onnx => Some($module::import),)*
                $($name => Some($extra::import),)*
                "Unsqueeze" => Some(squeeze::import),
                _ => None,
            }
        }

        /// Writes one node of the graph.
        pub(crate) fn export(to: &mut Exporter, node: &Node) {
            match &node.op { $(Op::$op(op) => $module::export(op, to, node),)* }
        }
    };
}

mod window;

codecs! {
    ops:
    add::Add = "Add",
    average_pool::AveragePool = "AveragePool",
    batch_norm::BatchNorm = "BatchNormalization",
    clip::Clip = "Clip",
    concat::Concat = "Concat",
    conv::Conv = "Conv",
    dropout::Dropout = "Dropout",
    flatten::Flatten = "Flatten",
    gemm::Gemm = "Gemm",
    global_average_pool::GlobalAveragePool = "GlobalAveragePool",
    hard_sigmoid::HardSigmoid = "HardSigmoid",
    hard_swish::HardSwish = "HardSwish",
    identity::Identity = "Identity",
    leaky_relu::LeakyRelu = "LeakyRelu",
    matmul::MatMul = "MatMul",
    max_pool::MaxPool = "MaxPool",
    mul::Mul = "Mul",
    pad::Pad = "Pad",
    relu::Relu = "Relu",
    reshape::Reshape = "Reshape",
    sigmoid::Sigmoid = "Sigmoid",
    silu::Silu = "Swish",
    slice::Slice = "Slice",
    softmax::Softmax = "Softmax",
    transpose::Transpose = "Transpose";
    read only:
    cast = "Cast",
    div = "Div",
    reduce_mean = "ReduceMean",
    squeeze = "Squeeze",
    sub = "Sub",
}

#[cfg(test)]
mod tests;
