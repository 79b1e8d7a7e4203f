//! ONNX graphs with seeded weights, built op by op, for the tests of this crate.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use tract_onnx::prelude::{Framework, InferenceModelExt, TypedModel, onnx};

use crate::HostTensor;

/// A graph with one input, `input`.
pub(crate) struct Onnx {
    graph: GraphProto,
    input: Vec<usize>,
    /// Share of the weights that is not zero.
    density: f32,
}

/// An attribute of a node.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: values.to_vec(), r#type: 7, ..Default::default() }
}

/// An attribute of a node.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: 2, ..Default::default() }
}

impl Onnx {
    pub(crate) fn new(input: &[usize]) -> Self {
        let mut graph = GraphProto { name: "test".into(), ..Default::default() };
        graph.input.push(tensor_info("input", input));
        Self { graph, input: input.to_vec(), density: 0.3 }
    }

    pub(crate) fn batch(&self) -> usize {
        self.input[0]
    }

    pub(crate) fn noise(&self) -> HostTensor {
        HostTensor::noise(&self.input, 11)
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, vec![])
    }

    pub(crate) fn node_with(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}{}", op.to_lowercase(), self.graph.node.len());
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.into(),
            attribute,
            ..Default::default()
        });
        name
    }

    /// A constant of seeded numbers, of which `density` are not zero, scaled so that layers keep the size of their input.
    pub(crate) fn weight(&mut self, dims: &[usize], density: f32) -> String {
        let name = format!("w{}", self.graph.initializer.len());
        let seed = self.graph.initializer.len() as u64;
        let (values, chances) = (HostTensor::noise(dims, seed), HostTensor::noise(dims, seed + 1000));
        let inputs: usize = dims[1..].iter().product();
        let scale = (3.0 / (inputs as f32 * density).max(1.0)).sqrt();
        let keep = |(value, chance): (&f32, &f32)| if chance.abs() < density { value * scale } else { 0.0 };
        let float_data = values.data.iter().zip(&chances.data).map(keep).collect();
        self.initializer(&name, dims, DataType::Float, TensorProto { float_data, ..Default::default() });
        name
    }

    /// A constant of integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("i{}", self.graph.initializer.len());
        let tensor = TensorProto { int64_data: values.to_vec(), ..Default::default() };
        self.initializer(&name, &[values.len()], DataType::Int64, tensor);
        name
    }

    /// A constant number.
    pub(crate) fn number(&mut self, value: f32) -> String {
        let name = format!("n{}", self.graph.initializer.len());
        self.initializer(&name, &[], DataType::Float, TensorProto { float_data: vec![value], ..Default::default() });
        name
    }

    fn initializer(&mut self, name: &str, dims: &[usize], kind: DataType, tensor: TensorProto) {
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        self.graph.initializer.push(TensorProto { name: name.into(), dims, data_type: kind as i32, ..tensor });
    }

    /// A convolution with bias, `kernel` x `kernel`.
    pub(crate) fn conv(
        &mut self,
        x: &str,
        outputs: usize,
        inputs: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> String {
        self.grouped(x, outputs, inputs, kernel, stride, pad, 1)
    }

    #[allow(clippy::too_many_arguments, reason = "a convolution has that many numbers")]
    pub(crate) fn grouped(
        &mut self,
        x: &str,
        outputs: usize,
        inputs: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        groups: usize,
    ) -> String {
        let density = if groups == 1 { self.density } else { 1.0 };
        let weight = self.weight(&[outputs, inputs / groups, kernel, kernel], density);
        let bias = self.weight(&[outputs], 1.0);
        let (pad, stride) = (pad as i64, stride as i64);
        let attributes = vec![ints("pads", &[pad; 4]), ints("strides", &[stride; 2]), int("group", groups as i64)];
        self.node_with("Conv", &[x, &weight, &bias], attributes)
    }

    pub(crate) fn gemm(&mut self, x: &str, rows: usize, cols: usize) -> String {
        let weight = self.weight(&[rows, cols], self.density);
        let bias = self.weight(&[rows], 1.0);
        self.node_with("Gemm", &[x, &weight, &bias], vec![int("transB", 1)])
    }

    pub(crate) fn output(&mut self, name: &str) {
        self.graph.output.push(ValueInfoProto { name: name.into(), ..Default::default() });
    }

    /// The graph as a model file would have it.
    pub(crate) fn proto(&self) -> ModelProto {
        let opset = OperatorSetIdProto { version: 14, ..Default::default() };
        let graph = Some(self.graph.clone());
        ModelProto { ir_version: 8, opset_import: vec![opset], graph, ..Default::default() }
    }

    /// The graph as tract types it.
    pub(crate) fn typed(&self) -> TypedModel {
        onnx().model_for_proto_model(&self.proto()).unwrap().into_typed().unwrap()
    }

    /// Basic and projection blocks, an option-A shortcut, pooling, a classifier and a softmax.
    pub(crate) fn resnet(batch: usize) -> Self {
        let mut net = Self::new(&[batch, 3, 17, 17]);
        let x = net.conv("input", 16, 3, 7, 2, 3);
        let x = net.node("Relu", &[&x]);
        let x = net.node_with(
            "MaxPool",
            &[&x],
            vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])],
        );
        let x = net.block(&x, 16, 16, 1);
        let x = net.block(&x, 16, 24, 2);
        // option A: every second pixel, channels of zeros around
        let [starts, ends, axes, steps] =
            [[0, 0], [i64::MAX, i64::MAX], [2, 3], [2, 2]].map(|values| net.integers(&values));
        let half = net.node("Slice", &[&x, &starts, &ends, &axes, &steps]);
        let (pads, zero) = (net.integers(&[0, 4, 0, 0, 0, 4, 0, 0]), net.number(0.0));
        let beside = net.node("Pad", &[&half, &pads, &zero]);
        let a = net.conv(&x, 32, 24, 3, 2, 1);
        let sum = net.node("Add", &[&a, &beside]);
        let x = net.node("Relu", &[&sum]);
        let x = net.node("GlobalAveragePool", &[&x]);
        let x = net.node("Flatten", &[&x]);
        let y = net.gemm(&x, 10, 32);
        let y = net.node("Softmax", &[&y]);
        net.output(&y);
        net
    }

    fn block(&mut self, x: &str, inputs: usize, outputs: usize, stride: usize) -> String {
        let a = self.conv(x, outputs, inputs, 3, stride, 1);
        let a = self.node("Relu", &[&a]);
        let b = self.conv(&a, outputs, outputs, 3, 1, 1);
        let beside = if stride == 1 { x.to_owned() } else { self.conv(x, outputs, inputs, 1, stride, 0) };
        let sum = self.node("Add", &[&b, &beside]);
        self.node("Relu", &[&sum])
    }

    /// Inverted residuals with depthwise convolutions and ReLU6, hard swish, and a mean over axes at the end.
    pub(crate) fn mobilenet(batch: usize) -> Self {
        let mut net = Self::new(&[batch, 3, 15, 13]);
        let x = net.conv("input", 16, 3, 3, 2, 1);
        let x = net.relu6(&x);
        let a = net.conv(&x, 32, 16, 1, 1, 0);
        let a = net.relu6(&a);
        let a = net.grouped(&a, 32, 32, 3, 1, 1, 32);
        let a = net.relu6(&a);
        let a = net.conv(&a, 16, 32, 1, 1, 0);
        let x = net.node("Add", &[&x, &a]);
        let x = net.grouped(&x, 16, 16, 3, 2, 1, 16);
        let x = net.node("HardSwish", &[&x]);
        let x = net.conv(&x, 24, 16, 1, 1, 0);
        let x = net.node_with("ReduceMean", &[&x], vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
        let y = net.gemm(&x, 5, 24);
        net.output(&y);
        net
    }

    fn relu6(&mut self, x: &str) -> String {
        let (low, high) = (self.number(0.0), self.number(6.0));
        self.node("Clip", &[x, &low, &high])
    }

    /// Two convolutions with something between them that no region takes.
    pub(crate) fn interrupted() -> Self {
        let mut net = Self::new(&[1, 3, 6, 6]);
        let a = net.conv("input", 4, 3, 3, 1, 1);
        let a = net.node("Tanh", &[&a]);
        let y = net.conv(&a, 2, 4, 1, 1, 0);
        net.output(&y);
        net
    }

    /// Three fully connected layers behind a flattened image.
    pub(crate) fn mlp(batch: usize) -> Self {
        let mut net = Self::new(&[batch, 1, 9, 7]);
        let x = net.node("Flatten", &["input"]);
        let x = net.gemm(&x, 40, 63);
        let x = net.node("Relu", &[&x]);
        let x = net.gemm(&x, 21, 40);
        let x = net.node("Relu", &[&x]);
        let y = net.gemm(&x, 3, 21);
        net.output(&y);
        net
    }
}

fn tensor_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |dim: &usize| Dimension { value: Some(Dim::DimValue(*dim as i64)), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}
