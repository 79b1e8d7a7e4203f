//! The text form of a graph: one line per input or node, so that a rewrite can be stated as before and after.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ops::{AttributeError, Op, Role};
use crate::{Fact, Graph, GraphError, Node, Tensor, ValueId};

/// Text that is no graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TextError {
    /// Line of the text, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: TextErrorKind,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TextErrorKind {
    /// The line has none of the known forms.
    #[error("expected {expected}, found `{found}`")]
    Syntax {
        /// What would fit.
        expected: &'static str,
        /// The text found.
        found: String,
    },
    /// No op has this name.
    #[error("no op is called `{0}`")]
    UnknownOp(String),
    /// The op has no such attribute.
    #[error("{op} has no attribute `{name}`; it has: {known}")]
    UnknownAttribute {
        /// Name of the op.
        op: &'static str,
        /// Name found.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// An attribute's value cannot be read.
    #[error("attribute `{name}`: {source}")]
    Attribute {
        /// Name of the attribute.
        name: String,
        /// What is wrong with its value.
        source: AttributeError,
    },
    /// A name that is neither defined nor given a shape.
    #[error("`{0}` is not defined above and states no shape")]
    Unknown(String),
    /// The graph refuses what the line says.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Graph {
    /// The graph that `text` describes.
    ///
    /// One line per input, node and list of outputs:
    ///
    /// ```text
    /// x = input f32[1,3,8,8]
    /// a = Conv(x, w[4,3,3,3], b[4]=0.5) pad=1 stride=2,1
    /// y = Relu(a)
    /// output y
    /// ```
    ///
    /// A constant states its shape where it is first read. `=0.5` (all equal) or `=[1,2,3]` states its values;
    /// otherwise they follow from its name and role. Attributes left out have their default; without an `output` line
    /// the last node is the output; `#` starts a comment.
    ///
    /// # Errors
    /// [`TextError`] with the line, or with the last line when the finished graph is not valid.
    pub fn parse(text: &str) -> Result<Graph, TextError> {
        let mut graph = Graph::new();
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                last = index + 1;
                add_line(&mut graph, line).map_err(|why| TextError { line: last, why })?;
            }
        }
        if graph.outputs.is_empty() {
            graph.outputs.extend(graph.nodes.last().map(|n| n.output));
        }
        graph.check().map_err(|why| TextError { line: last, why: why.into() })?;
        Ok(graph)
    }

    /// The graph as text: structure, shapes and attributes that differ from their default, but no values.
    ///
    /// Names that contain white space or one of `,()[]=#` print as they are, and then do not parse back.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut shown = std::collections::HashSet::new();
        for (id, fact) in &self.inputs {
            text += &format!("{} = input {fact}\n", self.name(*id));
        }
        for node in &self.nodes {
            let inputs: Vec<String> = node
                .inputs
                .iter()
                .map(|id| match self.initializer(*id) {
                    Some(tensor) if shown.insert(*id) => self.name(*id).to_string() + &brackets(&tensor.shape),
                    _ => self.name(*id).to_string(),
                })
                .collect();
            let (name, op) = (self.name(node.output), node.op.name());
            text += &format!("{name} = {op}({}){}\n", inputs.join(", "), attributes_text(&node.op));
        }
        let default = self.nodes.last().map(|n| n.output);
        if self.outputs.len() != 1 || self.outputs.first().copied() != default {
            let names = self.outputs.iter().map(|id| match self.initializer(*id) {
                Some(tensor) if shown.insert(*id) => self.name(*id).to_string() + &brackets(&tensor.shape),
                _ => self.name(*id).to_string(),
            });
            text += &format!("output {}\n", names.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

fn brackets(shape: &[usize]) -> String {
    Fact::new(shape).to_string().replacen("f32", "", 1)
}

fn attributes_text(op: &Op) -> String {
    let mut op = op.clone();
    let mut plain = Op::by_name(op.name()).expect("every op is found by its own name");
    let pairs = op.attributes().into_iter().zip(plain.attributes());
    let shown = pairs.filter(|((_, own), (_, default))| own != default);
    shown.map(|((name, own), _)| format!(" {name}={}", own.text())).collect()
}

fn syntax(expected: &'static str, found: &str) -> TextErrorKind {
    TextErrorKind::Syntax { expected, found: found.to_string() }
}

fn add_line(graph: &mut Graph, line: &str) -> Result<(), TextErrorKind> {
    if let Some(names) = line.strip_prefix("output ").filter(|rest| !rest.trim_start().starts_with('=')) {
        let names = split_arguments(names);
        if names.is_empty() {
            return Err(syntax("names after `output`", line));
        }
        for name in names {
            let value = value_of(graph, name, Role::Data)?;
            graph.add_output(value);
        }
        return Ok(());
    }
    let (name, rest) = line.split_once('=').ok_or_else(|| syntax("`name = ...` or `output name`", line))?;
    let (name, rest) = (plain_name(name.trim())?, rest.trim());
    if let Some(shape) = rest.strip_prefix("input ") {
        let shape = shape.trim();
        let inner = shape.strip_prefix("f32[").and_then(|s| s.strip_suffix(']'));
        graph.add_input(name, Fact::new(lengths(inner.ok_or_else(|| syntax("f32[lengths]", shape))?)?))?;
        return Ok(());
    }
    let (op, rest) = rest.split_once('(').ok_or_else(|| syntax("`Op(inputs) attributes`", rest))?;
    let (arguments, attributes) = rest.rsplit_once(')').ok_or_else(|| syntax("a closing parenthesis", rest))?;
    let mut op = Op::by_name(op.trim()).ok_or_else(|| TextErrorKind::UnknownOp(op.trim().to_string()))?;
    for attribute in attributes.split_whitespace() {
        read_attribute(&mut op, attribute)?;
    }
    let mut inputs = Vec::new();
    for (i, argument) in split_arguments(arguments).into_iter().enumerate() {
        inputs.push(value_of(graph, argument, op.role(i))?);
    }
    let output = graph.add_value(name)?;
    graph.nodes.push(Node { op, inputs, output });
    Ok(())
}

fn read_attribute(op: &mut Op, text: &str) -> Result<(), TextErrorKind> {
    let op_name = op.name();
    let (name, value) = text.split_once('=').ok_or_else(|| syntax("`attribute=value`", text))?;
    let mut attributes = op.attributes();
    let known = attributes.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let (_, attribute) = attributes
        .iter_mut()
        .find(|(n, _)| *n == name)
        .ok_or_else(|| TextErrorKind::UnknownAttribute { op: op_name, name: name.to_string(), known })?;
    attribute.read(value).map_err(|source| TextErrorKind::Attribute { name: name.to_string(), source })
}

/// Splits at commas outside brackets.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let at_top = |c: char| {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    };
    text.split(at_top).map(str::trim).filter(|a| !a.is_empty()).collect()
}

fn plain_name(name: &str) -> Result<&str, TextErrorKind> {
    let plain = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || ",()[]=".contains(c));
    if plain { Ok(name) } else { Err(syntax("a name", name)) }
}

fn lengths(text: &str) -> Result<Vec<usize>, TextErrorKind> {
    let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
    let shape: Vec<usize> = items.map(|t| t.parse().map_err(|_| syntax("lengths", text))).collect::<Result<_, _>>()?;
    const MOST_ELEMENTS: usize = 1 << 28;
    match Fact::new(shape.clone()).elements() {
        Some(n) if n <= MOST_ELEMENTS => Ok(shape),
        _ => Err(syntax("a shape of at most 2^28 elements", text)),
    }
}

/// A defined value, or a constant that states its shape here.
fn value_of(graph: &mut Graph, text: &str, role: Role) -> Result<ValueId, TextErrorKind> {
    let Some((name, rest)) = text.split_once('[') else {
        return graph.value(text).ok_or_else(|| TextErrorKind::Unknown(text.to_string()));
    };
    let name = plain_name(name)?;
    let (shape, values) = rest.split_once(']').ok_or_else(|| syntax("`name[lengths]`", text))?;
    let fact = Fact::new(lengths(shape)?);
    let tensor = match values.trim().strip_prefix('=') {
        None if values.trim().is_empty() => drawn(name, fact, role),
        None => return Err(syntax("`=values` or nothing after the shape", values)),
        Some(values) => stated(values.trim(), fact)?,
    };
    Ok(graph.add_initializer(name, tensor)?)
}

fn stated(text: &str, fact: Fact) -> Result<Tensor, TextErrorKind> {
    let number = |t: &str| t.trim().parse::<f32>().map_err(|_| syntax("a number", t));
    let Some(list) = text.strip_prefix('[') else { return Ok(Tensor::full(fact.shape, number(text)?)) };
    let list = list.strip_suffix(']').ok_or_else(|| syntax("`[numbers]`", text))?;
    let data: Vec<f32> = list.split(',').map(number).collect::<Result<_, _>>()?;
    if fact.elements() != Some(data.len()) {
        return Err(syntax("as many numbers as the shape holds", text));
    }
    Ok(Tensor { shape: fact.shape, data })
}

/// Values that depend on nothing but name, shape and role; sized so that activations stay near 1.
fn drawn(name: &str, fact: Fact, role: Role) -> Tensor {
    // FNV-1a: any fixed hash will do, the standard library's is not fixed.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let fan_in = fact.shape.iter().skip(1).product::<usize>().max(1) as f32;
    let (low, high) = match role {
        Role::Weight => (-(3.0 / fan_in).sqrt(), (3.0 / fan_in).sqrt()),
        Role::Scale | Role::RunningVariance => (0.5, 1.5),
        Role::Bias | Role::Shift | Role::RunningMean => (-0.5, 0.5),
        Role::Data => (-1.0, 1.0),
    };
    let count = fact.elements().expect("lengths() bounds the number of elements");
    Tensor { shape: fact.shape, data: (0..count).map(|_| draws.random_range(low..high)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = "x = input f32[1,3,8,8]
z = input f32[2]
a = Conv(x, w[4,3,3,3], b[4]) stride=2,1 pad=1,0,2,0 groups=1
c = BatchNorm(a, gamma[4], beta[4], mean[4], var[4]) eps=0.001
d = Clip(c) min=0 max=6
p = Pad(d) amounts=0:0,0:0,1:1,1:1 value=-inf
q = MaxPool(p) kernel=3 stride=2
s = Slice(q) starts=0,0,0,0 ends=1,4,end,end steps=1,1,1,2
e = Add(s, offset[4,1,1])
f = Add(e, offset)
r = Reshape(f) shape=0,-1
output r, z, unread[1]
";

    #[test]
    fn text_survives_parsing_except_for_defaults() {
        let graph = Graph::parse(EVERYTHING).unwrap();
        let printed = graph.to_text();
        assert_eq!(printed, EVERYTHING.replace(" groups=1", ""));
        assert_eq!(Graph::parse(&printed).unwrap(), graph);
    }

    #[test]
    fn the_last_node_is_the_output_when_none_is_named() {
        let graph = Graph::parse("x = input f32[1,2]\na = Relu(x)\n\n# the end\noutput = Sigmoid(a)").unwrap();
        assert_eq!(graph.outputs(), [graph.value("output").unwrap()]);
        assert_eq!(graph.to_text().lines().last(), Some("output = Sigmoid(a)"));
    }

    #[test]
    fn stated_values_are_taken_and_drawn_ones_depend_on_the_name_alone() {
        let parsed = |text: &str| Graph::parse(&format!("x = input f32[1,2]\ny = Gemm(x, {text})")).unwrap();
        let constant = |graph: &Graph, name: &str| graph.initializer(graph.value(name).unwrap()).unwrap().clone();
        let graph = parsed("w[3,2], b[3]=[1,-2.5,3e-1]");
        assert_eq!(constant(&graph, "b").data, [1.0, -2.5, 0.3]);
        assert_eq!(constant(&graph, "w"), constant(&parsed("w[3,2]"), "w"));
        assert_ne!(constant(&graph, "w").data, constant(&parsed("v[3,2]"), "v").data);
        assert_eq!(constant(&parsed("w[3,2]=0.5"), "w"), Tensor::full([3, 2], 0.5));
    }

    #[test]
    fn drawn_variances_are_positive() {
        let graph = Graph::parse("x = input f32[1,64]\ny = BatchNorm(x, g[64], b[64], m[64], v[64])").unwrap();
        let variance = graph.initializer(graph.value("v").unwrap()).unwrap();
        assert!(variance.data.iter().all(|v| *v > 0.0));
    }

    #[test]
    fn errors_name_the_line_and_what_would_fit() {
        let cases = [
            ("x = input f32[1,2]\ny = Gru(x)", "line 2: no op is called `Gru`"),
            ("x = input f32[1,2]\n\ny = Relu(a)", "line 3: `a` is not defined above and states no shape"),
            ("x = input f32[1,2]\ny = Clip(x) low=1", "line 2: Clip has no attribute `low`; it has: min, max"),
            ("x = input f32[1,2]\ny = Clip(x) min=a", "line 2: attribute `min`: expected a number, found `a`"),
            ("x = input i8[1]", "line 1: expected f32[lengths], found `i8[1]`"),
            ("nonsense", "line 1: expected `name = ...` or `output name`, found `nonsense`"),
            ("x = input f32[1]\nx = Relu(x)", "line 2: value `x` is defined twice"),
        ];
        for (text, message) in cases {
            assert_eq!(Graph::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn hostile_text_is_refused_without_a_panic() {
        for text in [
            "=",
            "x =",
            "x = input f32[",
            "x = input f32[99999999999,99999999999]",
            "output",
            "output ,",
            "y = Relu(",
            "y = Relu)(",
            "y = Relu([2])",
            "y = Relu(a[2)",
            "y = Relu(a]2[)",
            "y = Relu(a[2]=)",
            "y = Relu(a[2]=[)",
            "y = Add(a[2], a[2])",
            "y = Reshape(a[2]) shape=-9223372036854775808",
        ] {
            let parsed = Graph::parse(text);
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
