//! A layer that runs through candle, for ops without a kernel of their own here.

use candle_core::{Result, Tensor, Var, bail};
use sentei_graph::{Node, NodeId};
use sentei_kernels::training::{Lanes, from_lanes, repeat_first, to_lanes};

use super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::profile::Part;
use crate::Net;
use crate::lower::{Lower, Step};

/// Runs one node as [`Net::forward`] does, in candle's layout.
pub(super) struct Bridge {
    id: NodeId,
    /// Position in the plan of the net, which dropout's randomness depends on.
    position: u64,
    node: Node,
    inputs: Vec<Input>,
    output: Vec<usize>,
    /// What the last forward pass left for the backward pass: the data inputs and the output.
    run: Option<(Vec<Var>, Tensor)>,
}

enum Input {
    /// The next map, of this shape.
    Map(Vec<usize>),
    Parameter(Trained),
    Constant(Tensor),
}

impl Bridge {
    /// * `shapes`: of every input of the node that is a map, and of the output, with the batch in front.
    pub fn new(
        net: &Net,
        (id, position, node): (NodeId, u64, &Node),
        shapes: impl Fn(sentei_graph::ValueId) -> Option<Vec<usize>>,
    ) -> Result<Bridge> {
        let input = |value: &sentei_graph::ValueId| {
            if let Some(shape) = shapes(*value) {
                return Ok(Input::Map(shape));
            }
            match net.var(net.graph().name(*value)) {
                Some(param) => Trained::new(&param.var).map(Input::Parameter),
                None => Ok(Input::Constant(net.constant_value(*value).clone())),
            }
        };
        let inputs = node.inputs.iter().map(input).collect::<Result<_>>()?;
        let Some(output) = shapes(node.output) else { bail!("the output of a node is a map") };
        Ok(Bridge { id, position, node: node.clone(), inputs, output, run: None })
    }
}

fn pixels(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

fn read(cx: &Context, shape: &[usize], map: &[f32]) -> Result<Tensor> {
    let mut values = vec![0.0; shape.iter().product()];
    from_lanes(cx.team, cx.lanes, pixels(shape), map, &mut values);
    Tensor::from_vec(values, shape, &candle_core::Device::Cpu)
}

fn write(cx: &Context, tensor: &Tensor, map: &mut [f32]) -> Result<()> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    to_lanes(cx.team, cx.lanes, pixels(tensor.dims()), &values, map);
    Ok(())
}

impl Layer for Bridge {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn trained(&self) -> Vec<&Trained> {
        let parameter = |input: &'_ Input| matches!(input, Input::Parameter(_));
        let found = self.inputs.iter().filter(|i| parameter(i));
        found.filter_map(|i| if let Input::Parameter(p) = i { Some(p) } else { None }).collect()
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        let run = || {
            let mut maps = inputs.iter();
            let mut vars = Vec::new();
            let mut values = Vec::new();
            for input in &self.inputs {
                values.push(match input {
                    Input::Constant(value) => value.clone(),
                    Input::Parameter(parameter) => parameter.value.as_tensor().clone(),
                    Input::Map(shape) => {
                        let Some(map) = maps.next() else { bail!("a map is missing") };
                        let var = Var::from_tensor(&read(cx, shape, map)?)?;
                        vars.push(var.clone());
                        var.as_tensor().clone()
                    }
                });
            }
            let rate = cx.net.dropout_rate(self.id);
            let mut step = Step::new(Some(cx.seed), self.position, rate, None);
            let y = self.node.op.lower(&values.iter().collect::<Vec<_>>(), &mut step)?;
            if y.dims() != self.output {
                bail!("expected an output of {:?}, found {:?}", self.output, y.dims());
            }
            write(cx, &y, output)?;
            repeat_first(cx.lanes, pixels(&self.output), output);
            Ok((vars, y))
        };
        self.run = Some(cx.profile.time(cx.row, Part::Forward, "candle", run)?);
        Ok(())
    }

    fn backward(&mut self, cx: &Context, _: Kept, gradient: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let Some((vars, y)) = self.run.take() else { bail!("a backward pass follows a forward pass") };
        cx.profile.time(cx.row, Part::InputGradient, "candle", || {
            let gradient = read(cx, &self.output, gradient)?;
            let grads = y.mul(&gradient)?.sum_all()?.backward()?;
            for (var, target) in vars.iter().zip(targets) {
                let found = grads.get(var.as_tensor());
                match target {
                    None => {}
                    Some(Target::Write(map)) => match found {
                        Some(found) => write(cx, found, map)?,
                        None => map.fill(0.0),
                    },
                    Some(Target::Add(map)) => {
                        let Some(found) = found else { continue };
                        let mut more = vec![0.0; map.len()];
                        write(cx, found, &mut more)?;
                        map.iter_mut().zip(more).for_each(|(old, more)| *old += more);
                    }
                }
            }
            for parameter in self.trained() {
                match grads.get(parameter.value.as_tensor()) {
                    Some(found) => parameter.gradient.set(found)?,
                    None => parameter.gradient.set(&parameter.gradient.as_tensor().zeros_like()?)?,
                }
            }
            Ok(())
        })
    }
}

/// Numbers of a map of `shape` in this layout.
pub(super) fn map_len(lanes: Lanes, shape: &[usize]) -> usize {
    lanes.len(pixels(shape))
}
