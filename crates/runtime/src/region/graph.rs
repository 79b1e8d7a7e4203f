//! A region as a list of layers: our own form between a model's graph and the kernels.
//!
//! Values are feature maps of one image. A value may be read in another shape than it was made in, as long as the order of
//! its elements stays; so flattening is no layer.

use std::sync::Arc;

use sentei_kernels::Activation;
use sentei_kernels::conv::ConvGeometry;

use super::weights::Weights;

/// Index into [`Net::values`].
pub(crate) type Value = usize;

/// Channels, rows and columns; a vector has one pixel per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Shape {
    pub(crate) fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    pub(crate) fn vector(len: usize) -> Self {
        Self::new(len, 1, 1)
    }

    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub(crate) fn len(&self) -> usize {
        self.channels * self.pixels()
    }
}

/// Layers in the order they run, and what they read and write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Net {
    /// Shape in which each value is made.
    pub(crate) values: Vec<Shape>,
    /// Values that come from outside.
    pub(crate) inputs: Vec<Value>,
    /// Values that are read outside; each once, none of them an input.
    pub(crate) outputs: Vec<Value>,
    pub(crate) layers: Vec<Layer>,
}

/// `y = act(kind(x) [+ residual])`.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Name of the node in the ONNX file.
    pub(crate) name: String,
    /// Operators of the file that are covered, for example `Conv+Add+Relu`.
    pub(crate) op: String,
    pub(crate) kind: Kind,
    pub(crate) x: Value,
    pub(crate) residual: Option<Value>,
    pub(crate) y: Value,
    pub(crate) activation: Activation,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Any number of groups; depthwise where every channel is its own.
    Conv { geometry: ConvGeometry, weights: Arc<Weights> },
    /// Weights are `[rows, cols]`.
    Linear { rows: usize, cols: usize, weights: Arc<Weights> },
    /// Windows as of a convolution with one filter per channel.
    Pool { pool: Pool, window: ConvGeometry },
    /// Mean of every plane.
    GlobalAverage { input: Shape },
    /// Sum of `x` and `residual`, which lie alike.
    Add { shape: Shape },
    /// Every `step`-th row and column of `x`, with channels of zeros before and after its own.
    Shortcut { input: Shape, step: usize, before: usize, after: usize },
    /// The same numbers: an activation alone, or another layout.
    Copy { shape: Shape },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pool {
    Max,
    /// Rows and columns of padding at the top, left, bottom and right that count as zeros of the mean.
    Average {
        counted_pads: [usize; 4],
    },
}

impl Layer {
    /// Shape in which it reads `x`.
    pub(crate) fn input(&self) -> Shape {
        match &self.kind {
            Kind::Conv { geometry: g, .. } | Kind::Pool { window: g, .. } => {
                Shape::new(g.in_channels, g.in_height, g.in_width)
            }
            Kind::Linear { cols, .. } => Shape::vector(*cols),
            Kind::GlobalAverage { input } | Kind::Shortcut { input, .. } => *input,
            Kind::Add { shape } | Kind::Copy { shape } => *shape,
        }
    }

    /// Shape in which it writes `y`, and reads the residual.
    pub(crate) fn output(&self) -> Shape {
        match &self.kind {
            Kind::Conv { geometry: g, .. } | Kind::Pool { window: g, .. } => {
                Shape::new(g.out_channels, g.out_height(), g.out_width())
            }
            Kind::Linear { rows, .. } => Shape::vector(*rows),
            Kind::GlobalAverage { input } => Shape::vector(input.channels),
            Kind::Add { shape } | Kind::Copy { shape } => *shape,
            Kind::Shortcut { input, step, before, after } => {
                Shape::new(before + input.channels + after, input.height.div_ceil(*step), input.width.div_ceil(*step))
            }
        }
    }

    /// Values it reads, with the shape in which it does.
    pub(crate) fn reads(&self) -> impl Iterator<Item = (Value, Shape)> + '_ {
        let residual = self.residual.map(|value| (value, self.output()));
        std::iter::once((self.x, self.input())).chain(residual)
    }

    /// Weights, where the layer has any.
    pub(crate) fn weights(&self) -> Option<&Arc<Weights>> {
        match &self.kind {
            Kind::Conv { weights, .. } | Kind::Linear { weights, .. } => Some(weights),
            _ => None,
        }
    }
}

impl Net {
    /// A new value.
    pub(crate) fn value(&mut self, shape: Shape) -> Value {
        self.values.push(shape);
        self.values.len() - 1
    }

    /// How often layers read each value; outputs count as one more.
    pub(crate) fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let reads = self.layers.iter().flat_map(|layer| layer.reads().map(|(value, _)| value));
        reads.chain(self.outputs.iter().copied()).for_each(|value| uses[value] += 1);
        uses
    }

    /// Index of the layer that makes each value.
    pub(crate) fn makers(&self) -> Vec<Option<usize>> {
        let mut makers = vec![None; self.values.len()];
        self.layers.iter().enumerate().for_each(|(at, layer)| makers[layer.y] = Some(at));
        makers
    }

    /// The first rule that the net breaks, if any: every value is made once and before it is read, all sizes fit.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut made = vec![false; self.values.len()];
        self.inputs.iter().for_each(|input| made[*input] = true);
        for layer in &self.layers {
            let name = &layer.name;
            for (value, shape) in layer.reads() {
                if !made[value] {
                    return Some(format!("`{name}` reads value {value} before it is made"));
                }
                if self.values[value].len() != shape.len() {
                    return Some(format!("`{name}` reads {shape:?} from {:?}", self.values[value]));
                }
            }
            if std::mem::replace(&mut made[layer.y], true) {
                return Some(format!("`{name}` makes value {} again", layer.y));
            }
            if self.values[layer.y] != layer.output() {
                return Some(format!("`{name}` makes {:?}, expected {:?}", layer.output(), self.values[layer.y]));
            }
            if matches!(layer.kind, Kind::Add { .. }) != layer.residual.is_some()
                && !matches!(layer.kind, Kind::Conv { .. })
            {
                return Some(format!("`{name}` cannot add a residual"));
            }
        }
        let wrong = |value: &&Value| !made[**value] || self.inputs.contains(value);
        self.outputs.iter().find(wrong).map(|value| format!("output {value} is an input or never made"))
    }

    /// One line per layer: `v2 = Conv+Relu(v0) [8, 5, 5]`.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        use std::fmt::Write as _;

        let mut text = String::new();
        for layer in &self.layers {
            let Shape { channels, height, width } = layer.output();
            let residual = layer.residual.map_or(String::new(), |value| format!(", v{value}"));
            let (y, op, x) = (layer.y, &layer.op, layer.x);
            writeln!(text, "v{y} = {op}(v{x}{residual}) [{channels}, {height}, {width}]").expect("a string grows");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(x: Value, y: Value, shape: Shape) -> Layer {
        let (name, op) = (format!("copy{y}"), "Copy".to_owned());
        Layer { name, op, kind: Kind::Copy { shape }, x, residual: None, y, activation: Activation::None }
    }

    #[test]
    fn values_are_made_once_and_before_they_are_read() {
        let shape = Shape::new(2, 3, 3);
        let net = |layers| Net { values: vec![shape; 3], inputs: vec![0], outputs: vec![2], layers };
        assert_eq!(net(vec![copy(0, 1, shape), copy(1, 2, shape)]).fault(), None);
        let fault = |layers| net(layers).fault().unwrap();
        assert!(fault(vec![copy(1, 2, shape), copy(0, 1, shape)]).contains("before it is made"));
        assert!(fault(vec![copy(0, 2, shape), copy(0, 2, shape)]).contains("again"));
        assert!(fault(vec![copy(0, 1, shape)]).contains("never made"));
        assert!(fault(vec![copy(0, 2, Shape::vector(17))]).contains("reads"));
    }

    #[test]
    fn a_value_is_read_in_any_shape_of_the_same_elements() {
        let (map, vector) = (Shape::new(2, 3, 3), Shape::vector(18));
        let mut net = Net { values: vec![map], inputs: vec![0], ..Net::default() };
        let y = net.value(vector);
        net.layers.push(copy(0, y, vector));
        net.outputs.push(y);
        assert_eq!((net.fault(), net.text().as_str()), (None, "v1 = Copy(v0) [18, 1, 1]\n"));
        assert_eq!((net.uses(), net.makers()), (vec![1, 1], vec![None, Some(0)]));
    }

    #[test]
    fn shortcuts_round_their_size_up() {
        let input = Shape::new(4, 5, 6);
        let kind = Kind::Shortcut { input, step: 2, before: 1, after: 3 };
        let layer = Layer { kind, ..copy(0, 1, input) };
        assert_eq!(layer.output(), Shape::new(8, 3, 3));
    }
}
