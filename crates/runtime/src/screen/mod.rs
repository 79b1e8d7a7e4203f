//! A first look at untrusted bytes, before any engine sees them.
//!
//! Walks the protobuf in place. Every constant must have exactly the data that its shape asks for, every packed weight
//! must obey the format, and nothing may claim a size above the byte budget; so a bomb is refused while the memory in
//! use is still that of the file.

mod metadata;
mod packed;
mod tensor;
mod wire;

use std::collections::HashMap;

pub use metadata::metadata;

use sentei_kernels::packed::{ByteBudget, Packed};

use crate::error::RuntimeError;
use tensor::Tensor;
use wire::{Fields, Value};

/// Sub-graphs of sub-graphs deeper than this are refused.
const MAX_DEPTH: usize = 8;

/// What a file holds that concerns the engines.
#[derive(Debug, Default)]
pub(crate) struct Screened {
    /// The valid packed chunks, by the name of the value that their unpack node makes.
    pub(crate) packed: HashMap<String, Packed>,
    /// Some weight is packed with its decoding written out in standard operators, told by the names of its parts.
    pub(crate) packed_inline: bool,
}

/// Checks `bytes`, a whole `ModelProto`; decoded weights together may take `byte_budget`.
///
/// # Errors
/// [`RuntimeError::Malformed`] or [`RuntimeError::LimitExceeded`], naming the tensor.
pub(crate) fn screen(bytes: &[u8], byte_budget: u64) -> Result<Screened, RuntimeError> {
    let decoded = ByteBudget::new(byte_budget);
    let mut look = Look { byte_budget, decoded, found: Screened::default() };
    let mut graphs = 0;
    for field in Fields(bytes) {
        let (number, value) = field?;
        match number {
            7 => {
                graphs += 1;
                look.graph(value.bytes()?, 0, &Constants::new())?;
            }
            25 => look.function(value.bytes()?)?,
            _ => {}
        }
    }
    match graphs {
        1 => Ok(look.found),
        _ => Err(RuntimeError::Malformed(format!("{graphs} graphs, expected one"))),
    }
}

type Constants<'a> = HashMap<&'a str, Tensor<'a>>;

/// One node, borrowed from the file.
#[derive(Default)]
struct Node<'a> {
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    op: &'a str,
    domain: &'a str,
    attributes: Vec<&'a [u8]>,
}

struct Look {
    byte_budget: u64,
    decoded: ByteBudget,
    found: Screened,
}

impl Look {
    fn graph(&mut self, bytes: &[u8], depth: usize, outer: &Constants<'_>) -> Result<(), RuntimeError> {
        if depth > MAX_DEPTH {
            return Err(RuntimeError::Malformed(format!("graphs are nested more than {MAX_DEPTH} deep")));
        }
        let mut constants = outer.clone();
        let mut nodes = Vec::new();
        for field in Fields(bytes) {
            let (number, value) = field?;
            match number {
                1 => nodes.push(read_node(value.bytes()?)?),
                5 => {
                    let tensor = Tensor::read(value.bytes()?)?;
                    if constants.insert(tensor.name, tensor).is_some_and(|twin| depth == 0 && !twin.name.is_empty()) {
                        return Err(RuntimeError::Malformed("two initializers have the same name".into()));
                    }
                }
                11 => self.value_info(value.bytes()?)?,
                15 => self.sparse(value.bytes()?)?,
                _ => {}
            }
        }
        for node in &nodes {
            if let (Some(constant), Some(output)) = (constant_value(node)?, node.outputs.first()) {
                constants.insert(output, constant);
            }
        }
        self.found.packed_inline |= !nodes.iter().any(packed::is_unpack) && packed::has_parts(&constants);
        for node in &nodes {
            self.node(node, depth, &constants)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node<'_>, depth: usize, constants: &Constants<'_>) -> Result<(), RuntimeError> {
        if packed::is_unpack(node) {
            let name = node.outputs.first().copied().unwrap_or_default();
            if depth > 0 {
                return Err(RuntimeError::Malformed(format!("packed weight `{name}` lies in a sub-graph or function")));
            }
            let packed = packed::read(node, constants)?;
            packed.validate(&mut self.decoded).map_err(|error| packed::refused(name, &error, self.byte_budget))?;
            self.found.packed.insert(name.to_owned(), packed);
            return Ok(());
        }
        self.claimed_size(node, constants)?;
        for attribute in &node.attributes {
            for field in Fields(attribute) {
                match field? {
                    (5 | 10, value) => drop(Tensor::read(value.bytes()?)?),
                    (6 | 11, value @ Value::Bytes(_)) => self.graph(value.bytes()?, depth + 1, constants)?,
                    (22 | 23, value) => self.sparse(value.bytes()?)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A few bytes of shape can ask for any amount of memory: the operators that take one get looked at.
    fn claimed_size(&self, node: &Node<'_>, constants: &Constants<'_>) -> Result<(), RuntimeError> {
        let shape = match node.op {
            "ConstantOfShape" | "ReduceProd" => node.inputs.first(),
            "Expand" | "Reshape" | "Tile" => node.inputs.get(1),
            "Resize" => node.inputs.get(3),
            _ => None,
        };
        let Some(shape) = shape.and_then(|name| constants.get(name)).and_then(Tensor::int64s) else { return Ok(()) };
        let product = shape.iter().filter(|dim| **dim > 0).try_fold(4u64, |bytes, dim| bytes.checked_mul(*dim as u64));
        let bytes = product.unwrap_or(u64::MAX);
        if bytes > self.byte_budget {
            let what = format!("`{}` asks for shape {shape:?}", node.outputs.first().copied().unwrap_or(node.op));
            return Err(RuntimeError::too_many_bytes(what, bytes, self.byte_budget));
        }
        Ok(())
    }

    /// `SparseTensorProto`: runtimes expand it to its dense shape.
    fn sparse(&mut self, bytes: &[u8]) -> Result<(), RuntimeError> {
        let mut dims = Vec::new();
        for field in Fields(bytes) {
            match field? {
                (1 | 2, value) => drop(Tensor::read(value.bytes()?)?),
                (3, value) => value.ints(&mut dims)?,
                _ => {}
            }
        }
        let bytes = dims.iter().try_fold(4u64, |bytes, dim| bytes.checked_mul(u64::try_from(*dim).ok()?));
        let needed = bytes.unwrap_or(u64::MAX);
        let refuse = |_| RuntimeError::too_many_bytes("a sparse initializer", needed, self.byte_budget);
        self.decoded.charge(needed).map_err(refuse)
    }

    /// A model input whose declared shape alone is above the budget.
    fn value_info(&self, bytes: &[u8]) -> Result<(), RuntimeError> {
        let message = |bytes, wanted| -> Result<&[u8], RuntimeError> {
            let mut found: &[u8] = &[];
            for field in Fields(bytes) {
                if let (number, Value::Bytes(inner)) = field?
                    && number == wanted
                {
                    found = inner;
                }
            }
            Ok(found)
        };
        let shape = message(message(message(bytes, 2)?, 1)?, 2)?;
        let mut needed = 4u64;
        for dim in Fields(shape) {
            for field in Fields(dim?.1.bytes()?) {
                if let (1, value) = field? {
                    needed = needed.saturating_mul(u64::try_from(value.int()?.max(1)).unwrap_or(u64::MAX));
                }
            }
        }
        if needed > self.byte_budget {
            return Err(RuntimeError::too_many_bytes("a model input", needed, self.byte_budget));
        }
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), RuntimeError> {
        for field in Fields(bytes) {
            if let (7, value) = field? {
                self.node(&read_node(value.bytes()?)?, 1, &Constants::new())?;
            }
        }
        Ok(())
    }
}

fn read_node(bytes: &[u8]) -> Result<Node<'_>, RuntimeError> {
    let mut node = Node::default();
    for field in Fields(bytes) {
        let (number, value) = field?;
        match number {
            1 => node.inputs.push(value.text()?),
            2 => node.outputs.push(value.text()?),
            4 => node.op = value.text()?,
            5 => node.attributes.push(value.bytes()?),
            7 => node.domain = value.text()?,
            _ => {}
        }
    }
    Ok(node)
}

/// The tensor of a `Constant` node that has one.
fn constant_value<'a>(node: &Node<'a>) -> Result<Option<Tensor<'a>>, RuntimeError> {
    if node.op != "Constant" {
        return Ok(None);
    }
    for attribute in &node.attributes {
        for field in Fields(attribute) {
            if let (5, value) = field? {
                return Tensor::read(value.bytes()?).map(Some);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
