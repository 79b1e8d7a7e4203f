//! The part of the ONNX protobuf schema that is read or written here, as plain `prost` messages.
//!
//! Field numbers are those of the public schema (proto2). Fields that are not listed are skipped on reading.

use prost::Message;

/// Element types of [`TensorProto::data_type`].
pub mod dtype {
    /// `float`.
    pub const F32: i32 = 1;
    /// `uint8_t`.
    pub const U8: i32 = 2;
    /// `int8_t`.
    pub const I8: i32 = 3;
    /// `uint16_t`.
    pub const U16: i32 = 4;
    /// `int16_t`.
    pub const I16: i32 = 5;
    /// `int32_t`.
    pub const I32: i32 = 6;
    /// `int64_t`.
    pub const I64: i32 = 7;
    /// `bool`.
    pub const BOOL: i32 = 9;
    /// IEEE half precision.
    pub const F16: i32 = 10;
    /// `double`.
    pub const F64: i32 = 11;
    /// `uint32_t`.
    pub const U32: i32 = 12;
    /// `uint64_t`.
    pub const U64: i32 = 13;
    /// Brain float.
    pub const BF16: i32 = 16;

    /// The name used in messages.
    pub fn name(code: i32) -> String {
        let known = match code {
            F32 => "float",
            U8 => "uint8",
            I8 => "int8",
            U16 => "uint16",
            I16 => "int16",
            I32 => "int32",
            I64 => "int64",
            8 => "string",
            BOOL => "bool",
            F16 => "float16",
            F64 => "double",
            U32 => "uint32",
            U64 => "uint64",
            BF16 => "bfloat16",
            other => return format!("type {other}"),
        };
        known.to_string()
    }
}

/// Discriminators of [`AttributeProto::kind`].
pub mod attribute_kind {
    /// `f`.
    pub const FLOAT: i32 = 1;
    /// `i`.
    pub const INT: i32 = 2;
    /// `t`.
    pub const TENSOR: i32 = 4;
    /// `ints`.
    pub const INTS: i32 = 7;
}

/// A whole file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the container format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// Tool that wrote the file.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Its version.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets in use.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Free text.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Model-local functions.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// Nodes, constants and signatures.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Nodes in topological order.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the graph.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Inputs; before IR 4 the constants are listed here too.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of inner values, when the writer knew them.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Constants in coordinate form; not read, but noticed.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

/// A constant in coordinate form.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The stored values; their name is the name of the constant.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
}

/// One operation.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the values read; empty = optional input left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values computed.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name of the node.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// Operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Operator set; empty = the standard one.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
}

/// A named constant of a node.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Float value.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// Integer value.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Text value.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// Tensor value.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// List of floats.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// List of integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Which of the fields counts, see [`attribute_kind`].
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
    /// Inside a function: the attribute of the function whose value this one takes.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Axis lengths.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, see [`dtype`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Elements of `float`.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integer types up to 32 bits and the bits of the 16-bit floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of `int64`.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Little-endian elements of any type.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    /// Elements of `double`.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of `uint32` and `uint64`.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Where the elements are, when they are in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 = in another file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

/// Name and type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub kind: Option<TypeProto>,
}

/// Type of a value; only tensors are read.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Set for tensors.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// See [`dtype`].
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Absent = unknown rank.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// Shape with possibly unknown lengths.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// One entry per axis.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// Length of one axis: a number, a name, or nothing.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// Known length.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// Name of an unknown length.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// One operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Empty = standard.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// A pair of texts.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StringStringEntryProto {
    /// Key.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// Value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// A model-local function.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// Operator it defines.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Formal inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Formal outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of attributes without a default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Body.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// Operator sets of the body.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Operator set it belongs to.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
}

impl NodeProto {
    /// A node of the standard operator set whose name is the name of its output.
    pub fn standard(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> Self {
        NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.to_string()],
            name: Some(output.to_string()),
            op_type: Some(op.to_string()),
            attribute,
            domain: None,
        }
    }

    /// What the node is called in messages: its name, else its first output.
    pub fn label(&self) -> &str {
        match self.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => self.output.first().map_or("", String::as_str),
        }
    }

    /// Whether the operator is one of the standard set.
    pub fn is_standard(&self) -> bool {
        matches!(self.domain.as_deref(), None | Some("" | "ai.onnx"))
    }
}

impl AttributeProto {
    /// An integer attribute.
    pub fn int(name: &str, value: i64) -> Self {
        AttributeProto { i: Some(value), ..Self::named(name, attribute_kind::INT) }
    }

    /// A float attribute.
    pub fn float(name: &str, value: f32) -> Self {
        AttributeProto { f: Some(value), ..Self::named(name, attribute_kind::FLOAT) }
    }

    /// A list of integers.
    pub fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        let ints = values.into_iter().map(|v| v as i64).collect();
        AttributeProto { ints, ..Self::named(name, attribute_kind::INTS) }
    }

    /// A tensor attribute.
    pub fn tensor(name: &str, value: TensorProto) -> Self {
        AttributeProto { t: Some(value), ..Self::named(name, attribute_kind::TENSOR) }
    }

    /// An integer attribute of a function body that takes the value of the function's attribute `source`.
    pub fn int_from(name: &str, source: &str) -> Self {
        AttributeProto { ref_attr_name: Some(source.to_string()), ..Self::named(name, attribute_kind::INT) }
    }

    fn named(name: &str, kind: i32) -> Self {
        AttributeProto { name: Some(name.to_string()), kind: Some(kind), ..Default::default() }
    }
}

impl TensorProto {
    /// A constant with little-endian bytes.
    pub fn raw(name: &str, data_type: i32, dims: &[usize], bytes: Vec<u8>) -> Self {
        TensorProto {
            name: (!name.is_empty()).then(|| name.to_string()),
            data_type: Some(data_type),
            dims: dims.iter().map(|d| *d as i64).collect(),
            raw_data: Some(bytes),
            ..Default::default()
        }
    }

    /// A `float` constant.
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        Self::raw(name, dtype::F32, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// An `int64` constant.
    pub fn int64s(name: &str, dims: &[usize], values: &[i64]) -> Self {
        Self::raw(name, dtype::I64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

impl ValueInfoProto {
    /// A tensor of floats; `None` is a symbolic length called `N`.
    pub fn floats(name: &str, shape: impl IntoIterator<Item = Option<usize>>) -> Self {
        let axis = |length: Option<usize>| DimensionProto {
            dim_value: length.map(|n| n as i64),
            dim_param: length.is_none().then(|| "N".to_string()),
        };
        let shape = TensorShapeProto { dim: shape.into_iter().map(axis).collect() };
        let kind = TensorTypeProto { elem_type: Some(dtype::F32), shape: Some(shape) };
        ValueInfoProto { name: Some(name.to_string()), kind: Some(TypeProto { tensor_type: Some(kind) }) }
    }

    /// Element type and axis lengths (`None` = unknown), when this is a tensor of known rank.
    pub fn tensor(&self) -> Option<(i32, Vec<Option<usize>>)> {
        let tensor = self.kind.as_ref()?.tensor_type.as_ref()?;
        let length = |d: &DimensionProto| d.dim_value.and_then(|v| usize::try_from(v).ok()).filter(|v| *v > 0);
        let dims = tensor.shape.as_ref()?.dim.iter().map(length).collect();
        Some((tensor.elem_type.unwrap_or(0), dims))
    }
}

impl ModelProto {
    /// Version of the standard operator set, 1 when the file names none.
    pub fn opset(&self) -> i64 {
        let standard = |o: &&OperatorSetIdProto| matches!(o.domain.as_deref(), None | Some("" | "ai.onnx"));
        self.opset_import.iter().find(standard).and_then(|o| o.version).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_encodes_to_the_bytes_of_the_public_schema() {
        let node = NodeProto::standard("Relu", &["x"], "y", vec![AttributeProto::int("k", 3)]);
        let expected = [
            0x0a, 1, b'x', 0x12, 1, b'y', 0x1a, 1, b'y', 0x22, 4, b'R', b'e', b'l',
            b'u', // input, output, name, op
            0x2a, 8, 0x0a, 1, b'k', 0x18, 3, 0xa0, 0x01, 2, // attribute: name, i, type
        ];
        assert_eq!(node.encode_to_vec(), expected);
    }

    #[test]
    fn packed_and_unpacked_integer_lists_read_the_same() {
        let unpacked = [0x40, 1, 0x40, 2];
        let packed = [0x42, 2, 1, 2];
        let read = |bytes: &[u8]| AttributeProto::decode(bytes).unwrap().ints;
        assert_eq!((read(&unpacked), read(&packed)), (vec![1, 2], vec![1, 2]));
    }
}
