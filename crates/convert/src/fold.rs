//! Evaluates nodes whose inputs are all constants: shape arithmetic, dequantised and reshaped weights.
//!
//! Everything computed is charged to the byte budget of the import first, so that a few bytes cannot ask for gigabytes.

use half::f16;
use sentei_kernels::packed::ByteBudget;

use crate::ConvertError;
use crate::call::Call;
use crate::constant::{Constant, Data, Origin, TensorReader};
use crate::proto::dtype;
use crate::shapes::{
    SliceAxis, broadcast_shape, broadcast_strides, dense_strides, int_list, lengths, permutation, resolve_reshape,
    shape, slice_plan, source, squeezed, unsqueezed,
};

/// Operators that [`fold`] evaluates.
pub(crate) const FOLDED: &[&str] = &[
    "Add",
    "Cast",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "DequantizeLinear",
    "Div",
    "Equal",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Identity",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Range",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// What folding needs beside the node.
pub(crate) struct Folder<'a> {
    /// Reads tensor attributes.
    pub reader: &'a TensorReader,
    /// Bytes that may still be computed.
    pub budget: &'a mut ByteBudget,
}

impl Folder<'_> {
    /// The output of `call`; `inputs` are in the order of the node, `None` = left out.
    pub fn fold(&mut self, call: &Call, inputs: &[Option<&Constant>]) -> Result<Constant, ConvertError> {
        let need = |i: usize| {
            let found = inputs.get(i).copied().flatten();
            found.ok_or_else(|| call.refuse(&format!("input {i}"), "a constant", "nothing"))
        };
        let mut result = match call.op() {
            "Constant" => constant(call, self.reader)?,
            "Identity" => self.same(call, need(0)?)?,
            "Cast" => {
                let x = self.same(call, need(0)?)?;
                cast(call, x, call.int("to").unwrap_or(0) as i32)?
            }
            "Shape" => shape(call, &need(0)?.shape),
            "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" | "Equal" => self.arithmetic(call, need(0)?, need(1)?)?,
            "Neg" | "Floor" | "Sqrt" => unary(call, self.same(call, need(0)?)?)?,
            "Concat" => {
                let parts = (0..inputs.len()).map(need).collect::<Result<Vec<_>, _>>()?;
                self.concat(call, &parts)?
            }
            "Gather" => self.gather(call, need(0)?, need(1)?)?,
            "Reshape" => {
                let target = match inputs.get(1).copied().flatten() {
                    Some(target) => int_list(call, 1, target)?,
                    None => call.ints("shape").unwrap_or(&[]).to_vec(),
                };
                let x = self.same(call, need(0)?)?;
                let shape = resolve_reshape(call, &x.shape, &target)?;
                Constant { shape, ..x }
            }
            "Flatten" => {
                let x = self.same(call, need(0)?)?;
                let axis = call.int("axis").unwrap_or(1);
                let axis = if axis == x.shape.len() as i64 { x.shape.len() } else { call.axis(axis, x.shape.len())? };
                let (rows, columns) = (x.shape[..axis].iter().product(), x.shape[axis..].iter().product());
                Constant { shape: vec![rows, columns], ..x }
            }
            "Squeeze" | "Unsqueeze" => {
                let axes = match inputs.get(1).copied().flatten() {
                    Some(axes) => Some(int_list(call, 1, axes)?),
                    None => call.ints("axes").map(<[i64]>::to_vec),
                };
                let x = self.same(call, need(0)?)?;
                let squeeze = call.op() == "Squeeze";
                let shape = if squeeze { squeezed(call, &x.shape, axes)? } else { unsqueezed(call, &x.shape, axes)? };
                Constant { shape, ..x }
            }
            "Transpose" => self.transpose(call, need(0)?)?,
            "Slice" => {
                let x = need(0)?;
                let plan = slice_plan(call, &x.shape, |i| match inputs.get(i).copied().flatten() {
                    Some(c) => int_list(call, i, c).map(Some),
                    None => Ok(None),
                })?;
                self.slice(call, x, &plan)?
            }
            "ConstantOfShape" => {
                let dims = int_list(call, 0, need(0)?)?;
                let shape = lengths(call, &dims)?;
                let value = match call.tensor("value") {
                    Some(tensor) => self.reader.read(tensor)?,
                    None => Constant::floats(vec![1], vec![0.0]),
                };
                self.broadcast_to(call, &Constant { shape: vec![1; shape.len()], ..value }, shape)?
            }
            "Expand" => {
                let x = need(0)?;
                let wanted = lengths(call, &int_list(call, 1, need(1)?)?)?;
                let shape = broadcast_shape(&x.shape, &wanted)
                    .ok_or_else(|| call.refuse("shapes", "shapes that broadcast", format!("{wanted:?}")))?;
                self.broadcast_to(call, x, shape)?
            }
            "Range" => self.range(call, need(0)?, need(1)?, need(2)?)?,
            "Where" => self.select(call, need(0)?, need(1)?, need(2)?)?,
            "ReduceProd" => reduce_prod(call, need(0)?)?,
            "DequantizeLinear" => self.dequantize(call, need(0)?, need(1)?, inputs.get(2).copied().flatten())?,
            other => return Err(call.refuse("operator", "one that can be folded", other)),
        };
        let parts = inputs.iter().flatten().filter(|_| call.op() != "Shape");
        let mut origin = Origin { bytes: result.origin.bytes * u64::from(call.op() == "Constant"), encoding: None };
        for part in parts {
            origin.bytes = origin.bytes.saturating_add(part.origin.bytes);
            origin.encoding = origin.encoding.or(part.origin.encoding);
        }
        result.origin = origin;
        Ok(result)
    }

    fn charge(&mut self, call: &Call, elements: Option<usize>) -> Result<usize, ConvertError> {
        let elements = elements.filter(|n| *n <= i32::MAX as usize);
        let elements = elements.ok_or_else(|| call.refuse("result", "at most 2^31-1 elements", "more"))?;
        let (needed, limit) = (elements as u64 * 8, self.budget.left());
        let what = format!("constant `{}`", call.output());
        self.budget.charge(needed).map_err(|_| ConvertError::Limit { what, needed, limit })?;
        Ok(elements)
    }

    fn same(&mut self, call: &Call, x: &Constant) -> Result<Constant, ConvertError> {
        self.charge(call, Some(x.len()))?;
        Ok(x.clone())
    }

    /// Picks elements of `x`: `index(i)` is the flat source of output element `i`.
    fn pick(
        &mut self,
        call: &Call,
        x: &Constant,
        shape: Vec<usize>,
        index: impl Fn(usize) -> usize,
    ) -> Result<Constant, ConvertError> {
        let n = self.charge(call, shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)))?;
        let data = match &x.data {
            Data::Float(v) => Data::Float((0..n).map(|i| v[index(i)]).collect()),
            Data::Int(v) => Data::Int((0..n).map(|i| v[index(i)]).collect()),
        };
        Ok(Constant { dtype: x.dtype, shape, data, origin: Origin::default() })
    }

    fn broadcast_to(&mut self, call: &Call, x: &Constant, shape: Vec<usize>) -> Result<Constant, ConvertError> {
        let strides = broadcast_strides(&x.shape, &shape);
        self.pick(call, x, shape.clone(), |i| source(i, &shape, &strides))
    }

    fn pair(&mut self, call: &Call, a: &Constant, b: &Constant) -> Result<(Constant, Constant), ConvertError> {
        let shape = broadcast_shape(&a.shape, &b.shape).ok_or_else(|| {
            call.refuse("inputs", "shapes that broadcast", format!("{} and {}", a.describe(), b.describe()))
        })?;
        Ok((self.broadcast_to(call, a, shape.clone())?, self.broadcast_to(call, b, shape)?))
    }

    fn arithmetic(&mut self, call: &Call, a: &Constant, b: &Constant) -> Result<Constant, ConvertError> {
        let (a, b) = self.pair(call, a, b)?;
        let op = call.op();
        let overflow = || call.refuse("integers", "no overflow and no division by zero", "one");
        let dtype = if op == "Equal" { dtype::BOOL } else { a.dtype };
        let data = match (a.data, b.data) {
            (Data::Float(a), Data::Float(b)) => {
                let each = a.iter().zip(&b);
                match op {
                    "Add" => Data::Float(each.map(|(a, b)| a + b).collect()),
                    "Sub" => Data::Float(each.map(|(a, b)| a - b).collect()),
                    "Mul" => Data::Float(each.map(|(a, b)| a * b).collect()),
                    "Div" => Data::Float(each.map(|(a, b)| a / b).collect()),
                    "Min" => Data::Float(each.map(|(a, b)| a.min(*b)).collect()),
                    "Max" => Data::Float(each.map(|(a, b)| a.max(*b)).collect()),
                    _ => Data::Int(each.map(|(a, b)| i64::from(a == b)).collect()),
                }
            }
            (Data::Int(a), Data::Int(b)) => {
                let each = a.iter().zip(&b).map(|(a, b)| match op {
                    "Add" => a.checked_add(*b),
                    "Sub" => a.checked_sub(*b),
                    "Mul" => a.checked_mul(*b),
                    "Div" => a.checked_div(*b),
                    "Min" => Some(*a.min(b)),
                    "Max" => Some(*a.max(b)),
                    _ => Some(i64::from(a == b)),
                });
                Data::Int(each.collect::<Option<Vec<_>>>().ok_or_else(overflow)?)
            }
            _ => return Err(call.refuse("inputs", "one element type", "integers and floats")),
        };
        Ok(Constant { dtype, shape: a.shape, data, origin: Origin::default() })
    }

    fn concat(&mut self, call: &Call, parts: &[&Constant]) -> Result<Constant, ConvertError> {
        let first = parts.first().ok_or_else(|| call.refuse("inputs", "at least one", "none"))?;
        let axis = call.axis(call.int("axis").unwrap_or(0), first.shape.len())?;
        let fits = |p: &&&Constant| {
            p.shape.len() == first.shape.len()
                && p.shape.iter().zip(&first.shape).enumerate().all(|(i, (a, b))| i == axis || a == b)
                && matches!((&p.data, &first.data), (Data::Float(_), Data::Float(_)) | (Data::Int(_), Data::Int(_)))
        };
        if let Some(odd) = parts.iter().find(|p| !fits(p)) {
            return Err(call.refuse("inputs", format!("parts like {}", first.describe()), odd.describe()));
        }
        self.charge(call, parts.iter().try_fold(0usize, |n, p| n.checked_add(p.len())))?;
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        let chunk = |p: &Constant| p.shape[axis..].iter().product::<usize>();
        let data = match &first.data {
            Data::Float(_) => Data::Float(
                (0..outer)
                    .flat_map(|o| parts.iter().map(move |p| (o, p)))
                    .flat_map(|(o, p)| match &p.data {
                        Data::Float(v) => v[o * chunk(p)..(o + 1) * chunk(p)].iter().copied(),
                        Data::Int(_) => [].iter().copied(),
                    })
                    .collect(),
            ),
            Data::Int(_) => Data::Int(
                (0..outer)
                    .flat_map(|o| parts.iter().map(move |p| (o, p)))
                    .flat_map(|(o, p)| match &p.data {
                        Data::Int(v) => v[o * chunk(p)..(o + 1) * chunk(p)].iter().copied(),
                        Data::Float(_) => [].iter().copied(),
                    })
                    .collect(),
            ),
        };
        Ok(Constant { dtype: first.dtype, shape, data, origin: Origin::default() })
    }

    fn gather(&mut self, call: &Call, x: &Constant, indices: &Constant) -> Result<Constant, ConvertError> {
        let axis = call.axis(call.int("axis").unwrap_or(0), x.shape.len())?;
        let length = x.shape[axis] as i64;
        let list = int_list(call, 1, indices)?;
        let wrapped: Vec<usize> = list
            .iter()
            .map(|i| if *i < 0 { i.saturating_add(length) } else { *i })
            .map(|i| usize::try_from(i).ok().filter(|i| *i < x.shape[axis]))
            .collect::<Option<_>>()
            .ok_or_else(|| call.refuse("indices", format!("within {length}"), format!("{list:?}")))?;
        let inner: usize = x.shape[axis + 1..].iter().product();
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(&indices.shape);
        shape.extend(&x.shape[axis + 1..]);
        let (k, axis_len) = (wrapped.len().max(1), x.shape[axis]);
        let inner_len = inner.max(1);
        self.pick(call, x, shape, |i| {
            let (outer, rest) = (i / (k * inner_len), i % (k * inner_len));
            (outer * axis_len + wrapped[rest / inner_len]) * inner + rest % inner_len
        })
    }

    fn transpose(&mut self, call: &Call, x: &Constant) -> Result<Constant, ConvertError> {
        let order = permutation(call, x.shape.len())?;
        let shape: Vec<usize> = order.iter().map(|a| x.shape[*a]).collect();
        let dense = dense_strides(&x.shape);
        let strides: Vec<usize> = order.iter().map(|a| dense[*a]).collect();
        self.pick(call, x, shape.clone(), |i| source(i, &shape, &strides))
    }

    fn slice(&mut self, call: &Call, x: &Constant, plan: &[SliceAxis]) -> Result<Constant, ConvertError> {
        let shape: Vec<usize> = plan.iter().map(SliceAxis::len).collect();
        let dense = dense_strides(&x.shape);
        self.pick(call, x, shape.clone(), |mut i| {
            let mut at = 0;
            for axis in (0..shape.len()).rev() {
                let k = i % shape[axis];
                i /= shape[axis];
                at += (plan[axis].start + plan[axis].step * k as i64) as usize * dense[axis];
            }
            at
        })
    }

    fn range(&mut self, call: &Call, a: &Constant, b: &Constant, step: &Constant) -> Result<Constant, ConvertError> {
        let one = |i: usize, c: &Constant| match c.as_ints() {
            Some([v]) => Ok(*v),
            _ => Err(call.refuse(&format!("input {i}"), "one integer", c.describe())),
        };
        let (from, to, step) = (one(0, a)?, one(1, b)?, one(2, step)?);
        if step == 0 {
            return Err(call.refuse("step", "not 0", 0));
        }
        let count = ((i128::from(to) - i128::from(from)) as f64 / step as f64).ceil().max(0.0);
        let n = self.charge(call, (count <= i32::MAX as f64).then_some(count as usize))?;
        let list = (0..n as i64).map(|i| from.wrapping_add(step.wrapping_mul(i))).collect();
        Ok(Constant::ints(vec![n], list))
    }

    fn select(&mut self, call: &Call, c: &Constant, a: &Constant, b: &Constant) -> Result<Constant, ConvertError> {
        let (a, b) = self.pair(call, a, b)?;
        let (c, a) = self.pair(call, c, &a)?;
        let b = self.broadcast_to(call, &b, a.shape.clone())?;
        let take = int_list(call, 0, &c)?;
        let data = match (a.data, b.data) {
            (Data::Float(a), Data::Float(b)) => Data::Float(
                take.iter().zip(a.iter().zip(&b)).map(|(c, (a, b))| if *c != 0 { *a } else { *b }).collect(),
            ),
            (Data::Int(a), Data::Int(b)) => {
                Data::Int(take.iter().zip(a.iter().zip(&b)).map(|(c, (a, b))| if *c != 0 { *a } else { *b }).collect())
            }
            _ => return Err(call.refuse("inputs", "one element type", "integers and floats")),
        };
        Ok(Constant { dtype: a.dtype, shape: a.shape, data, origin: Origin::default() })
    }

    fn dequantize(
        &mut self,
        call: &Call,
        x: &Constant,
        scale: &Constant,
        zero: Option<&Constant>,
    ) -> Result<Constant, ConvertError> {
        if call.int("block_size").unwrap_or(0) != 0 {
            return Err(call.refuse("attribute `block_size`", "0", "blocks"));
        }
        let Data::Float(scales) = &scale.data else {
            return Err(call.refuse("scale", "floats", scale.describe()));
        };
        let q = int_list(call, 0, x)?;
        let zeros = match zero {
            Some(zero) => int_list(call, 2, zero)?,
            None => vec![0; scales.len()],
        };
        let (rows, inner) = if scales.len() == 1 {
            (1, q.len().max(1))
        } else {
            let axis = call.axis(call.int("axis").unwrap_or(1), x.shape.len())?;
            (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>().max(1))
        };
        if scales.len() != rows || zeros.len() != rows {
            let found = format!("{} scales, {} zero points", scales.len(), zeros.len());
            return Err(call.refuse("scale", format!("{rows} of each"), found));
        }
        let n = self.charge(call, Some(q.len()))?;
        let at = |i: usize| (i / inner) % rows;
        let data = (0..n).map(|i| q[i].wrapping_sub(zeros[at(i)]) as f32 * scales[at(i)]).collect();
        Ok(Constant::floats(x.shape.clone(), data))
    }
}

fn constant(call: &Call, reader: &TensorReader) -> Result<Constant, ConvertError> {
    if let Some(tensor) = call.tensor("value") {
        return reader.read(tensor);
    }
    if let Some(v) = call.float("value_float") {
        return Ok(Constant::floats(vec![], vec![v]));
    }
    if let Some(v) = call.int("value_int") {
        return Ok(Constant::ints(vec![], vec![v]));
    }
    if let Some(v) = call.floats("value_floats").filter(|v| !v.is_empty()) {
        return Ok(Constant::floats(vec![v.len()], v.to_vec()));
    }
    match call.ints("value_ints") {
        Some(v) => Ok(Constant::ints(vec![v.len()], v.to_vec())),
        None => Err(call.refuse("attribute `value`", "a tensor, float or integer", "none of them")),
    }
}

fn cast(call: &Call, x: Constant, to: i32) -> Result<Constant, ConvertError> {
    let data = match (to, x.data) {
        (dtype::F32 | dtype::F64, Data::Float(v)) => Data::Float(v),
        (dtype::F32 | dtype::F64, Data::Int(v)) => Data::Float(v.iter().map(|v| *v as f32).collect()),
        (dtype::F16, Data::Float(v)) => Data::Float(v.iter().map(|v| f16::from_f32(*v).to_f32()).collect()),
        (dtype::F16, Data::Int(v)) => Data::Float(v.iter().map(|v| f16::from_f32(*v as f32).to_f32()).collect()),
        (dtype::BOOL, Data::Float(v)) => Data::Int(v.iter().map(|v| i64::from(*v != 0.0)).collect()),
        (dtype::BOOL, Data::Int(v)) => Data::Int(v.iter().map(|v| i64::from(*v != 0)).collect()),
        (to, data) => {
            let wide: Vec<i64> = match data {
                Data::Float(v) => v.iter().map(|v| *v as i64).collect(),
                Data::Int(v) => v,
            };
            let narrow: fn(i64) -> i64 = match to {
                dtype::I8 => |v| i64::from(v as i8),
                dtype::U8 => |v| i64::from(v as u8),
                dtype::I16 => |v| i64::from(v as i16),
                dtype::U16 => |v| i64::from(v as u16),
                dtype::I32 => |v| i64::from(v as i32),
                dtype::U32 => |v| i64::from(v as u32),
                dtype::I64 | dtype::U64 => |v| v,
                other => return Err(call.refuse("attribute `to`", "a number type", dtype::name(other))),
            };
            Data::Int(wide.into_iter().map(narrow).collect())
        }
    };
    Ok(Constant { dtype: to, data, ..x })
}

fn unary(call: &Call, x: Constant) -> Result<Constant, ConvertError> {
    let data = match (call.op(), x.data) {
        ("Neg", Data::Float(v)) => Data::Float(v.iter().map(|v| -v).collect()),
        ("Neg", Data::Int(v)) => Data::Int(v.iter().map(|v| v.wrapping_neg()).collect()),
        ("Floor", Data::Float(v)) => Data::Float(v.iter().map(|v| v.floor()).collect()),
        ("Sqrt", Data::Float(v)) => Data::Float(v.iter().map(|v| v.sqrt()).collect()),
        _ => return Err(call.refuse("input 0", "floats", dtype::name(x.dtype))),
    };
    Ok(Constant { data, ..x })
}

fn reduce_prod(call: &Call, x: &Constant) -> Result<Constant, ConvertError> {
    let overflow = || call.refuse("product", "no overflow", format!("{:?}", x.shape));
    let product = int_list(call, 0, x)?.iter().try_fold(1i64, |n, v| n.checked_mul(*v)).ok_or_else(overflow)?;
    let shape = if call.int("keepdims").unwrap_or(1) != 0 { vec![1; x.shape.len()] } else { vec![] };
    Ok(Constant::ints(shape, vec![product]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, NodeProto, TensorProto};

    fn run(op: &str, attributes: Vec<AttributeProto>, inputs: &[Constant]) -> Result<Constant, ConvertError> {
        let reader = TensorReader { directory: None, max_bytes: 0 };
        let mut budget = ByteBudget::new(1 << 16);
        let node = NodeProto::standard(op, &[], "y", attributes);
        let call = Call { node: &node, index: 0, opset: 17 };
        let inputs: Vec<_> = inputs.iter().map(Some).collect();
        Folder { reader: &reader, budget: &mut budget }.fold(&call, &inputs)
    }

    fn list(values: &[i64]) -> Constant {
        Constant::ints(vec![values.len()], values.to_vec())
    }

    fn ints(c: Result<Constant, ConvertError>) -> Vec<i64> {
        c.unwrap().as_ints().unwrap().to_vec()
    }

    #[test]
    fn the_shape_arithmetic_of_an_exported_pad_folds_to_its_amounts() {
        // PyTorch writes pads in reverse pair order: [0,0,0,0,8,8] -> reshape, reverse, transpose, flatten.
        let zeros = run(
            "ConstantOfShape",
            vec![AttributeProto::tensor("value", TensorProto::int64s("", &[1], &[0]))],
            &[list(&[2])],
        );
        let long =
            run("Concat", vec![AttributeProto::int("axis", 0)], &[list(&[0, 0, 0, 0, 8, 8]), zeros.unwrap()]).unwrap();
        let pairs = run("Reshape", vec![], &[long, list(&[-1, 2])]).unwrap();
        let back = run("Slice", vec![], &[pairs, list(&[-1]), list(&[-i64::MAX]), list(&[0]), list(&[-1])]).unwrap();
        let turned = run("Transpose", vec![AttributeProto::ints("perm", [1, 0])], &[back]).unwrap();
        assert_eq!(ints(run("Reshape", vec![], &[turned, list(&[-1])])), [0, 8, 0, 0, 0, 8, 0, 0]);
    }

    #[test]
    fn quantised_weights_fold_to_floats_per_channel() {
        let q = Constant { dtype: dtype::I8, ..Constant::ints(vec![2, 2], vec![10, -10, 3, 4]) };
        let scale = Constant::floats(vec![2], vec![0.5, 2.0]);
        let zero = Constant::ints(vec![2], vec![0, 1]);
        let w = run("DequantizeLinear", vec![AttributeProto::int("axis", 0)], &[q, scale, zero]).unwrap();
        assert_eq!(w.data, Data::Float(vec![5.0, -5.0, 4.0, 6.0]));
    }

    #[test]
    fn gather_concat_and_broadcast_follow_numpy() {
        let m = Constant::ints(vec![2, 3], vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(
            ints(run("Gather", vec![AttributeProto::int("axis", 1)], &[m.clone(), list(&[-1, 0])])),
            [3, 1, 6, 4]
        );
        assert_eq!(
            ints(run("Concat", vec![AttributeProto::int("axis", 1)], &[m.clone(), m.clone()])),
            [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]
        );
        let column = Constant::ints(vec![2, 1], vec![10, 20]);
        assert_eq!(ints(run("Add", vec![], &[m, column])), [11, 12, 13, 24, 25, 26]);
        assert_eq!(ints(run("Range", vec![], &[list(&[7]), list(&[0]), list(&[-3])])), [7, 4, 1]);
    }

    #[test]
    fn bombs_and_nonsense_are_refused_before_allocation() {
        let limit = |r: Result<Constant, ConvertError>| matches!(r, Err(ConvertError::Limit { .. }));
        assert!(limit(run("ConstantOfShape", vec![], &[list(&[1 << 28])])));
        assert!(limit(run("Expand", vec![], &[list(&[1]), list(&[1 << 28])])));
        assert!(limit(run("Range", vec![], &[list(&[0]), list(&[1 << 28]), list(&[1])])));
        assert!(run("ConstantOfShape", vec![], &[list(&[i64::MAX, i64::MAX])]).is_err());
        assert!(run("Div", vec![], &[list(&[1]), list(&[0])]).is_err());
        assert!(run("Gather", vec![], &[list(&[1]), list(&[1])]).is_err());
        assert!(run("Range", vec![], &[list(&[0]), list(&[1]), list(&[0])]).is_err());
    }
}
