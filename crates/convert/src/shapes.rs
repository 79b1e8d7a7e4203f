//! Shape rules of ONNX: targets of Reshape, bounds of Slice, broadcasting.

use crate::ConvertError;
use crate::call::Call;
use crate::constant::Constant;

/// `Shape` of a value, with the `start` and `end` of opset 15.
pub(crate) fn shape(call: &Call, of: &[usize]) -> Constant {
    let rank = of.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(call.int("start").unwrap_or(0)), clamp(call.int("end").unwrap_or(rank)));
    let list: Vec<i64> = of.get(start..end).unwrap_or(&[]).iter().map(|d| *d as i64).collect();
    Constant::ints(vec![list.len()], list)
}

/// Integers of a constant input.
pub(crate) fn int_list(call: &Call, index: usize, c: &Constant) -> Result<Vec<i64>, ConvertError> {
    let found = || call.refuse(&format!("input {index}"), "integers", c.describe());
    c.as_ints().map(<[i64]>::to_vec).ok_or_else(found)
}

/// Axis lengths from integers, none negative.
pub(crate) fn lengths(call: &Call, dims: &[i64]) -> Result<Vec<usize>, ConvertError> {
    let list: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    list.ok_or_else(|| call.refuse("shape", "lengths of at least 0", format!("{dims:?}")))
}

/// The shape `Reshape` gives, with its `0` and `-1` resolved.
pub(crate) fn resolve_reshape(call: &Call, input: &[usize], target: &[i64]) -> Result<Vec<usize>, ConvertError> {
    let refuse = || call.refuse("shape", format!("one that holds the elements of {input:?}"), format!("{target:?}"));
    let keep_zero = call.flag("allowzero");
    let total = input.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(refuse)?;
    let mut shape = Vec::with_capacity(target.len());
    for (i, d) in target.iter().enumerate() {
        shape.push(match *d {
            0 if !keep_zero => *input.get(i).ok_or_else(refuse)?,
            -1 => 1,
            d => usize::try_from(d).map_err(|_| refuse())?,
        });
    }
    let known = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(refuse)?;
    let free: Vec<usize> = (0..target.len()).filter(|i| target[*i] == -1).collect();
    match free[..] {
        [] if known == total => {}
        [i] if known > 0 && total % known == 0 => shape[i] = total / known,
        _ => return Err(refuse()),
    }
    Ok(shape)
}

/// Shape without the axes of length 1 that `Squeeze` names, or without any of them.
pub(crate) fn squeezed(call: &Call, input: &[usize], axes: Option<Vec<i64>>) -> Result<Vec<usize>, ConvertError> {
    let gone = match axes {
        Some(axes) => call.axes(&axes, input.len())?,
        None => (0..input.len()).filter(|a| input[*a] == 1).collect(),
    };
    if let Some(axis) = gone.iter().find(|a| input[**a] != 1) {
        return Err(call.refuse(&format!("axis {axis}"), "length 1", input[*axis]));
    }
    Ok((0..input.len()).filter(|a| !gone.contains(a)).map(|a| input[a]).collect())
}

/// Shape with the axes of length 1 that `Unsqueeze` names.
pub(crate) fn unsqueezed(call: &Call, input: &[usize], axes: Option<Vec<i64>>) -> Result<Vec<usize>, ConvertError> {
    let axes = axes.ok_or_else(|| call.refuse("axes", "a list", "nothing"))?;
    let rank = input.len() + axes.len();
    let added = call.axes(&axes, rank)?;
    let mut rest = input.iter();
    Ok((0..rank).map(|a| if added.contains(&a) { 1 } else { *rest.next().expect("rank = input + added") }).collect())
}

/// Axis order of `Transpose`; reversed when the attribute is absent.
pub(crate) fn permutation(call: &Call, rank: usize) -> Result<Vec<usize>, ConvertError> {
    let Some(perm) = call.ints("perm").filter(|p| !p.is_empty()) else { return Ok((0..rank).rev().collect()) };
    let order = perm.iter().map(|a| call.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(call.refuse("attribute `perm`", format!("a permutation of {rank} axes"), format!("{perm:?}")));
    }
    Ok(order)
}

/// What `Slice` takes along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceAxis {
    /// First index.
    pub start: i64,
    /// One past the last index, in the direction of `step`.
    pub end: i64,
    /// Not 0.
    pub step: i64,
}

impl SliceAxis {
    /// Number of indices taken.
    pub fn len(&self) -> usize {
        let span = if self.step > 0 { self.end - self.start } else { self.start - self.end };
        if span <= 0 { 0 } else { (span as u64).div_ceil(self.step.unsigned_abs()) as usize }
    }
}

/// Bounds of `Slice` on every axis, clamped as ONNX says. `list(i)` gives input `i` (opset 10 and later).
pub(crate) fn slice_plan(
    call: &Call,
    shape: &[usize],
    list: impl Fn(usize) -> Result<Option<Vec<i64>>, ConvertError>,
) -> Result<Vec<SliceAxis>, ConvertError> {
    let from_attributes = call.opset < 10;
    let get = |i: usize, name: &str| {
        if from_attributes { Ok(call.ints(name).map(<[i64]>::to_vec)) } else { list(i) }
    };
    let need = |v: Option<Vec<i64>>, what: &str| v.ok_or_else(|| call.refuse(what, "a constant list", "nothing"));
    let starts = need(get(1, "starts")?, "starts")?;
    let ends = need(get(2, "ends")?, "ends")?;
    let axes = get(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if from_attributes { None } else { list(4)? }.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(call.refuse("bounds", "lists of one length", format!("{starts:?} {ends:?} {axes:?} {steps:?}")));
    }
    let mut plan: Vec<SliceAxis> = shape.iter().map(|d| SliceAxis { start: 0, end: *d as i64, step: 1 }).collect();
    call.axes(&axes, shape.len())?;
    for (k, axis) in axes.iter().enumerate() {
        let axis = call.axis(*axis, shape.len())?;
        let length = shape[axis] as i64;
        let step = steps[k];
        if step == 0 || step == i64::MIN {
            return Err(call.refuse("steps", "not 0", step));
        }
        let wrap = |v: i64| if v < 0 { v.saturating_add(length) } else { v };
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let start = if step > 0 { wrap(starts[k]).clamp(0, length) } else { wrap(starts[k]).clamp(-1, high) };
        plan[axis] = SliceAxis { start, end: wrap(ends[k]).clamp(low, high), step };
    }
    Ok(plan)
}

/// Shape after numpy broadcasting.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() >= rank { s[i + s.len() - rank] } else { 1 };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Elements between neighbours along each axis.
pub(crate) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Strides of `shape` seen through the broadcast shape `to`: 0 where an axis is repeated.
pub(crate) fn broadcast_strides(shape: &[usize], to: &[usize]) -> Vec<usize> {
    let dense = dense_strides(shape);
    let missing = to.len() - shape.len();
    let stride = |i: usize| if i < missing || shape[i - missing] == 1 { 0 } else { dense[i - missing] };
    (0..to.len()).map(stride).collect()
}

/// Flat source index of output element `i`.
pub(crate) fn source(mut i: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut at = 0;
    for axis in (0..shape.len()).rev() {
        at += (i % shape[axis]) * strides[axis];
        i /= shape[axis];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::NodeProto;

    fn with<T>(op: &str, f: impl Fn(&Call) -> T) -> T {
        let node = NodeProto::standard(op, &[], "y", vec![]);
        f(&Call { node: &node, index: 0, opset: 17 })
    }

    #[test]
    fn reshape_copies_zeros_and_fills_one_free_axis() {
        let reshape = |target: &[i64]| with("Reshape", |call| resolve_reshape(call, &[2, 3, 4], target));
        assert_eq!(reshape(&[0, -1]).unwrap(), [2, 12]);
        assert_eq!(reshape(&[4, 0, 2]).unwrap(), [4, 3, 2]);
        for wrong in [&[5, -1][..], &[-1, -1], &[2, 3, 5], &[0, 0, 0, 0], &[-2, 12], &[i64::MAX, i64::MAX]] {
            assert!(reshape(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn slice_bounds_are_clamped_in_the_direction_of_the_step() {
        let plan = |start: i64, end: i64, step: i64| {
            let lists = [vec![], vec![start], vec![end], vec![0], vec![step]];
            with("Slice", |call| {
                slice_plan(call, &[5], |i| Ok(Some(lists[i].clone()))).map(|p| (p[0].start, p[0].len()))
            })
        };
        assert_eq!(plan(1, i64::MAX, 2).unwrap(), (1, 2));
        assert_eq!(plan(-2, 100, 1).unwrap(), (3, 2));
        assert_eq!(plan(-1, i64::MIN, -1).unwrap(), (4, 5));
        assert_eq!(plan(4, 1, 1).unwrap().1, 0);
        assert!(plan(0, 1, 0).is_err());
    }
}
