//! One ONNX node as its importer sees it: attributes with defaults, and errors that name it.

use crate::ConvertError;
use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// A node with its position in the file and the operator set it is read under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The node.
    pub node: &'a NodeProto,
    /// Its index among the nodes.
    pub index: usize,
    /// Version of the standard operator set.
    pub opset: i64,
}

impl<'a> Call<'a> {
    /// Operator.
    pub fn op(&self) -> &'a str {
        self.node.op_type.as_deref().unwrap_or("")
    }

    /// Name of input `index`, unless it is left out.
    pub fn input(&self, index: usize) -> Option<&'a str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Name of the first output.
    pub fn output(&self) -> &'a str {
        self.node.output.first().map_or("", String::as_str)
    }

    /// An error about this node.
    pub fn refuse(&self, what: &str, expected: impl Into<String>, found: impl ToString) -> ConvertError {
        ConvertError::Node {
            node: self.node.label().to_string(),
            op: self.op().to_string(),
            what: what.to_string(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|a| a.i)
    }

    /// A flag, off when absent.
    pub fn flag(&self, name: &str) -> bool {
        self.int(name).unwrap_or(0) != 0
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).and_then(|a| a.f)
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name).map(|a| a.floats.as_slice())
    }

    /// A text attribute.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.attribute(name).and_then(|a| a.s.as_deref()).and_then(|s| std::str::from_utf8(s).ok())
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    /// A list of `N` lengths, `default` when absent.
    pub fn sizes<const N: usize>(&self, name: &str, default: usize) -> Result<[usize; N], ConvertError> {
        let Some(values) = self.ints(name) else { return Ok([default; N]) };
        let refuse = || self.refuse(&format!("attribute `{name}`"), format!("{N} lengths"), format!("{values:?}"));
        let lengths: Option<Vec<usize>> =
            values.iter().map(|v| usize::try_from(*v).ok().filter(|n| *n <= i32::MAX as usize)).collect();
        lengths.and_then(|v| v.try_into().ok()).ok_or_else(refuse)
    }

    /// As [`Call::sizes`], each at least 1.
    pub fn steps<const N: usize>(&self, name: &str) -> Result<[usize; N], ConvertError> {
        let steps = self.sizes(name, 1)?;
        if steps.contains(&0) {
            return Err(self.refuse(&format!("attribute `{name}`"), "lengths of at least 1", format!("{steps:?}")));
        }
        Ok(steps)
    }

    /// An axis counted from the front; negative ones count from the back of `rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, ConvertError> {
        let front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        let axis_in_range = front.and_then(|a| usize::try_from(a).ok()).filter(|a| *a < rank);
        axis_in_range.ok_or_else(|| self.refuse("axis", format!("within rank {rank}"), axis))
    }

    /// As [`Call::axis`] for a list; sorted, each once.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, ConvertError> {
        let mut list = axes.iter().map(|a| self.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
        list.sort_unstable();
        if list.windows(2).any(|w| w[0] == w[1]) {
            return Err(self.refuse("axes", "each axis once", format!("{axes:?}")));
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_axes_count_from_the_back_and_the_error_names_the_node() {
        let node = NodeProto::standard("Softmax", &["x"], "y", vec![]);
        let call = Call { node: &node, index: 0, opset: 13 };
        assert_eq!(call.axis(-1, 4).unwrap(), 3);
        assert!(call.axis(i64::MIN, 4).is_err());
        let text = call.axis(4, 4).unwrap_err().to_string();
        assert_eq!(text, "node `y` (Softmax): axis: expected within rank 4, found 4");
        assert!(call.axes(&[1, -3], 4).is_err());
    }
}
