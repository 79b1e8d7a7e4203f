//! Small steps that all architectures share: a layer appended, its weights drawn.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_graph::ops::{BatchNorm, Conv, Gemm, Relu};
use sentei_graph::{Fact, Graph, GraphError, Op, Tensor, ValueId};

use crate::Spec;

/// A graph under construction and the value that the next layer reads.
pub struct Builder {
    graph: Graph,
    seed: u64,
    /// The value that the next layer reads.
    pub at: ValueId,
    channels: usize,
}

impl Builder {
    /// A graph with the input `image` `[1, C, H, W]` and nothing else.
    ///
    /// # Errors
    /// None in practice: the graph is empty, so no name can clash.
    pub fn new(spec: &Spec) -> Result<Self, GraphError> {
        let mut graph = Graph::new();
        let at = graph.add_input("image", Fact::new([1, spec.channels, spec.height, spec.width]))?;
        Ok(Builder { graph, seed: spec.seed, at, channels: spec.channels })
    }

    /// Channels of the value at [`Builder::at`] as far as convolutions set them.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Goes back to an earlier value with that many channels, to start a branch.
    pub fn branch_from(&mut self, at: ValueId, channels: usize) {
        self.at = at;
        self.channels = channels;
    }

    /// Appends a node reading the current value (and `others`), and moves on to its output.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn node(&mut self, name: &str, op: impl Into<Op>, others: &[ValueId]) -> Result<&mut Self, GraphError> {
        let inputs: Vec<ValueId> = [self.at].iter().chain(others).copied().collect();
        self.at = self.graph.add_node(name, op, &inputs)?;
        Ok(self)
    }

    /// Appends a square convolution without bias; `same` padding of `kernel / 2`.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn conv(
        &mut self,
        name: &str,
        out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Result<&mut Self, GraphError> {
        let shape = [out, self.channels / groups, kernel, kernel];
        let weight = self.weight(&format!("{name}.weight"), &shape)?;
        let pad = kernel / 2;
        let op = Conv { stride: [stride; 2], pads: [pad; 4], dilation: [1, 1], groups };
        self.node(name, op, &[weight])?;
        self.channels = out;
        Ok(self)
    }

    /// Appends an unpadded convolution of stride 1 with bias.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn conv_valid(&mut self, name: &str, out: usize, kernel: usize) -> Result<&mut Self, GraphError> {
        let weight = self.weight(&format!("{name}.weight"), &[out, self.channels, kernel, kernel])?;
        let bias = self.graph.add_initializer(&format!("{name}.bias"), Tensor::full([out], 0.0))?;
        let op = Conv { stride: [1, 1], pads: [0; 4], dilation: [1, 1], groups: 1 };
        self.node(name, op, &[weight, bias])?;
        self.channels = out;
        Ok(self)
    }

    /// Appends a batch norm over the current channels.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn batch_norm(&mut self, name: &str) -> Result<&mut Self, GraphError> {
        let mut constant = |part: &str, value: f32| {
            self.graph.add_initializer(&format!("{name}.{part}"), Tensor::full([self.channels], value))
        };
        let parameters =
            [constant("gamma", 1.0)?, constant("beta", 0.0)?, constant("mean", 0.0)?, constant("var", 1.0)?];
        self.node(name, BatchNorm { epsilon: 1e-5, momentum: 0.9 }, &parameters)
    }

    /// Convolution, batch norm, ReLU.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when a name is taken.
    pub fn conv_bn_relu(
        &mut self,
        name: &str,
        out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Result<&mut Self, GraphError> {
        self.conv(name, out, kernel, stride, groups)?.batch_norm(&format!("{name}.bn"))?.node(
            &format!("{name}.relu"),
            Relu,
            &[],
        )
    }

    /// Appends a fully connected layer with bias; `inputs` is the length of the current feature vector.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn linear(&mut self, name: &str, inputs: usize, out: usize) -> Result<&mut Self, GraphError> {
        let weight = self.weight(&format!("{name}.weight"), &[out, inputs])?;
        let bias = self.graph.add_initializer(&format!("{name}.bias"), Tensor::full([out], 0.0))?;
        self.node(name, Gemm, &[weight, bias])
    }

    /// Shape of the current value.
    ///
    /// # Errors
    /// [`GraphError::Node`] when a layer does not fit its input.
    pub fn shape(&self) -> Result<Vec<usize>, GraphError> {
        Ok(self.graph.facts()?[&self.at].shape.clone())
    }

    /// Ends the graph at the current value.
    pub fn finish(mut self) -> Graph {
        self.graph.add_output(self.at);
        self.graph
    }

    /// He et al. 2015 initialisation: uniform with variance `2 / fan_in`.
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<ValueId, GraphError> {
        let fan_in: usize = shape[1..].iter().product();
        let bound = (6.0 / fan_in as f32).sqrt();
        let mut rng = stream(self.seed, name);
        let data = (0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect();
        self.graph.add_initializer(name, Tensor::new(shape, data))
    }
}

/// The random stream of one layer: the key is the seed and the FNV-1a hash of the layer's name.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
