//! Putting a region together, value by value.

use std::sync::Arc;

use super::Region;
use super::plan::Plan;
use crate::{KernelError, Layer, Map};

/// What a step of a region reads or writes; belongs to the builder that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueId(pub(super) usize);

/// One layer of a region, in the order of running.
#[derive(Clone, Debug)]
pub struct Step {
    /// For reports, for example the name of the node in the model.
    pub name: String,
    /// What it computes.
    pub layer: Arc<dyn Layer>,
    /// Input of the layer.
    pub x: ValueId,
    /// Added before the activation.
    pub residual: Option<ValueId>,
    /// Its result.
    pub y: ValueId,
}

/// A value before memory is planned.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub map: Map,
    /// The value whose channels this one is some of, and the first element there.
    pub part_of: Option<(usize, usize)>,
}

/// Collects inputs, layers and outputs; [`RegionBuilder::build`] plans their memory.
#[derive(Clone, Debug, Default)]
pub struct RegionBuilder {
    pub(super) values: Vec<Value>,
    pub(super) inputs: Vec<usize>,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<usize>,
}

impl RegionBuilder {
    /// A region without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next input of the region; `map` is how the layers that read it want it to lie. [`Region::run`] takes it without gaps.
    ///
    /// # Errors
    /// [`KernelError::Zero`] for a map without pixels, [`KernelError::Value`] for one whose planes overlap.
    pub fn input(&mut self, map: Map) -> Result<ValueId, KernelError> {
        if map.channels == 0 || map.pixels() == 0 {
            return Err(KernelError::Zero { what: "size of an input" });
        }
        if !map.is_whole() || map.stride < map.pixels() {
            return Err(KernelError::Value { what: "a map in slabs, or with overlapping planes," });
        }
        self.inputs.push(self.values.len());
        Ok(self.value(map))
    }

    /// Runs `layer` on `x` after all that was pushed before, and returns its result.
    ///
    /// * `residual`: what the layer adds before its activation; lies like the result.
    ///
    /// # Errors
    /// [`KernelError::MapsDiffer`] when a value lies otherwise in memory than the layer expects, [`KernelError::Value`] when it is
    /// not of this region.
    pub fn push(
        &mut self,
        layer: Arc<dyn Layer>,
        x: ValueId,
        residual: Option<ValueId>,
        name: impl Into<String>,
    ) -> Result<ValueId, KernelError> {
        let name = name.into();
        let (input, output) = (layer.input(), layer.output());
        let reads = [Some(("input", x, input)), residual.map(|residual| ("residual", residual, output))];
        for (what, value, expected) in reads.into_iter().flatten() {
            let found = self.map(value)?;
            if !lie_alike(&expected, &found) {
                let (expected, found) = (Box::new(expected), Box::new(found));
                return Err(KernelError::MapsDiffer { step: name, what, expected, found });
            }
        }
        let y = self.value(output);
        self.steps.push(Step { name, layer, x, residual, y });
        Ok(y)
    }

    /// The channels of all `parts` one after another, without copying: what computes a part writes it straight into its place.
    ///
    /// # Errors
    /// [`KernelError::MapsDiffer`] when rows, columns or strides differ; [`KernelError::Concat`] when a part comes twice, lies in slabs or
    /// is already part of another concatenation; [`KernelError::Zero`] without parts.
    pub fn concat(&mut self, parts: &[ValueId], name: &str) -> Result<ValueId, KernelError> {
        let Some(first) = parts.first() else { return Err(KernelError::Zero { what: "number of parts" }) };
        let mut all = Map { channels: 0, ..self.map(*first)? };
        for (index, part) in parts.iter().enumerate() {
            let found = self.map(*part)?;
            let expected = Map { channels: found.channels, ..all };
            if found != expected {
                let (expected, found) = (Box::new(expected), Box::new(found));
                return Err(KernelError::MapsDiffer { step: name.into(), what: "part", expected, found });
            }
            let why = match self.values[part.0].part_of {
                Some(_) => "it is part of another",
                None if !found.is_whole() => "it lies in slabs",
                None if parts[..index].contains(part) => "it comes twice",
                None => {
                    all.channels += found.channels;
                    continue;
                }
            };
            return Err(KernelError::Concat { step: name.into(), value: part.0, why });
        }
        let whole = self.value(all);
        let mut start = 0;
        for part in parts {
            let value = &mut self.values[part.0];
            value.part_of = Some((whole.0, start));
            start += value.map.len();
        }
        Ok(whole)
    }

    /// Makes `value` the next output of the region; [`Region::run`] gives it without gaps.
    ///
    /// # Errors
    /// [`KernelError::Value`] when it is not of this region, or in slabs.
    pub fn output(&mut self, value: ValueId) -> Result<(), KernelError> {
        if !self.map(value)?.is_whole() {
            return Err(KernelError::Value { what: "a map in slabs" });
        }
        self.outputs.push(value.0);
        Ok(())
    }

    /// How `value` lies in memory.
    ///
    /// # Errors
    /// [`KernelError::Value`] when it is not of this region.
    pub fn map(&self, value: ValueId) -> Result<Map, KernelError> {
        self.values.get(value.0).map(|value| value.map).ok_or(KernelError::Value { what: "a value id" })
    }

    /// Plans memory and the shares of `threads` workers (0 counts as 1), and takes the arena.
    ///
    /// # Errors
    /// [`KernelError::Zero`] when there is no step or no output.
    pub fn build(self, threads: usize) -> Result<Region, KernelError> {
        if self.steps.is_empty() || self.outputs.is_empty() {
            return Err(KernelError::Zero { what: "number of steps or outputs" });
        }
        Ok(Region::new(Plan::new(self, threads.max(1))))
    }

    fn value(&mut self, map: Map) -> ValueId {
        self.values.push(Value { map, part_of: None });
        ValueId(self.values.len() - 1)
    }
}

/// Whether every element of one map lies where the other has it: a map without gaps may also be seen as a vector.
fn lie_alike(a: &Map, b: &Map) -> bool {
    a == b || (a.is_tight() && b.is_tight() && a.len() == b.len())
}
