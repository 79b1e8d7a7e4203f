//! How the values of a net lie in memory: planes on cache lines where kernels profit, without gaps where something else
//! is asked for, and copies where both are.

use sentei_kernels::{Activation, Map};

use super::graph::{Kind, Layer, Net, Shape, Value};

/// A net in which every layer finds its values as it reads them.
#[derive(Clone, Debug)]
pub(crate) struct Laid {
    pub(crate) net: Net,
    /// One per value.
    pub(crate) maps: Vec<Map>,
}

impl Laid {
    /// How `layer` sees its input.
    pub(crate) fn input(&self, layer: &Layer) -> Map {
        seen(self.maps[layer.x], self.net.values[layer.x], layer.input())
    }

    /// How `layer` sees its output, and its residual.
    pub(crate) fn output(&self, layer: &Layer) -> Map {
        self.maps[layer.y]
    }
}

/// Chooses a map for every value and inserts the copies that this needs; few nets need any.
pub(crate) fn lay_out(mut net: Net) -> Laid {
    let mut maps = choose(&net);
    let layers = std::mem::take(&mut net.layers);
    for mut layer in layers {
        let input = layer.input();
        if net.values[layer.x] != input && !maps[layer.x].is_tight() {
            let wanted = tight(net.values[layer.x]);
            layer.x = copied(&mut net, &mut maps, &layer, layer.x, wanted);
        }
        if let Some(mut residual) = layer.residual {
            let wanted = maps[layer.y];
            if seen(maps[residual], net.values[residual], layer.output()) != wanted {
                if net.values[residual] != layer.output() && !maps[residual].is_tight() {
                    let tight = tight(net.values[residual]);
                    residual = copied(&mut net, &mut maps, &layer, residual, tight);
                }
                residual = copied(&mut net, &mut maps, &layer, residual, wanted);
            }
            layer.residual = Some(residual);
        }
        net.layers.push(layer);
    }
    Laid { net, maps }
}

/// Sums want their operands alike, so those are aligned; so is what kernels alone read. What is read in another shape, or
/// comes from outside or goes there, has no gaps.
fn choose(net: &Net) -> Vec<Map> {
    let mut summed = vec![false; net.values.len()];
    let mut reshaped = vec![false; net.values.len()];
    for layer in &net.layers {
        for (value, shape) in layer.reads() {
            reshaped[value] |= net.values[value] != shape;
        }
        if let Some(residual) = layer.residual {
            (summed[residual], summed[layer.y]) = (true, true);
        }
    }
    let outside = |value: &Value| net.inputs.contains(value) || net.outputs.contains(value);
    let map = |(value, shape): (Value, &Shape)| match summed[value] || !(reshaped[value] || outside(&value)) {
        true => Map::aligned(shape.channels, shape.height, shape.width),
        false => tight(*shape),
    };
    net.values.iter().enumerate().map(map).collect()
}

fn tight(shape: Shape) -> Map {
    Map::tight(shape.channels, shape.height, shape.width)
}

/// A map as a reader of another shape sees it.
fn seen(map: Map, made: Shape, read: Shape) -> Map {
    if made == read { map } else { tight(read) }
}

/// Copies `value` before `reader` runs, to lie as `wanted` says.
fn copied(net: &mut Net, maps: &mut Vec<Map>, reader: &Layer, value: Value, wanted: Map) -> Value {
    let shape = Shape::new(wanted.channels, wanted.height, wanted.width);
    let y = net.value(shape);
    maps.push(wanted);
    net.layers.push(Layer {
        name: format!("{}.copy", reader.name),
        op: "Copy".into(),
        kind: Kind::Copy { shape },
        x: value,
        residual: None,
        y,
        activation: Activation::None,
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: Shape = Shape { channels: 2, height: 3, width: 3 };

    fn layer(kind: Kind, x: Value, residual: Option<Value>, y: Value) -> Layer {
        Layer { name: format!("l{y}"), op: "L".into(), kind, x, residual, y, activation: Activation::None }
    }

    fn copy(x: Value, y: Value, shape: Shape) -> Layer {
        layer(Kind::Copy { shape }, x, None, y)
    }

    #[test]
    fn values_inside_are_aligned_and_those_at_the_border_have_no_gaps() {
        let layers = vec![copy(0, 1, MAP), copy(1, 2, MAP)];
        let laid = lay_out(Net { values: vec![MAP; 3], inputs: vec![0], outputs: vec![2], layers });
        assert_eq!(laid.maps.iter().map(|map| map.stride).collect::<Vec<_>>(), [9, 16, 9]);
        assert_eq!(laid.net.layers.len(), 2);
    }

    #[test]
    fn what_is_flattened_has_no_gaps() {
        let vector = Shape::vector(18);
        let values = vec![MAP, MAP, vector];
        let layers = vec![copy(0, 1, MAP), copy(1, 2, vector)];
        let laid = lay_out(Net { values, inputs: vec![0], outputs: vec![2], layers });
        assert_eq!((laid.maps[1].stride, laid.net.layers.len()), (9, 2));
        assert_eq!(laid.input(&laid.net.layers[1]), Map::tight(18, 1, 1));
    }

    #[test]
    fn operands_of_a_sum_lie_alike_and_a_flattened_sum_is_copied() {
        let vector = Shape::vector(18);
        let values = vec![MAP, MAP, MAP, vector];
        let layers = vec![copy(0, 1, MAP), layer(Kind::Add { shape: MAP }, 1, Some(0), 2), copy(2, 3, vector)];
        let laid = lay_out(Net { values, inputs: vec![0], outputs: vec![3], layers });
        assert_eq!((laid.net.fault(), laid.net.layers.len()), (None, 4));
        assert_eq!(laid.maps.iter().map(|map| map.stride).collect::<Vec<_>>(), [16, 16, 16, 1, 9]);
        let reader = &laid.net.layers[3];
        assert_eq!((reader.x, laid.input(reader)), (4, Map::tight(18, 1, 1)));
    }
}
