//! Which maps several threads share in slabs: those that every layer around them can read and write so.
//!
//! Threads that share a small map by rows have a few cache lines of every plane each, and fetch each other's with them; sharing by channels
//! makes every thread of a 1x1 convolution read what others wrote. In slabs a thread reads what it wrote itself, save for the rows that
//! windows need from the slab beside.

use std::sync::Arc;

use sentei_kernels::{Layer as Prepared, Map};

use super::graph::Value;
use super::layout::Laid;

/// Slabs have at least so many pixels: below, tiles would be short.
const LEAST_PIXELS: usize = 64;

/// Cuts maps of `laid` for `threads` threads where all layers around them allow it; `layers`, one per layer of the net, become layers
/// between the new maps, with the same bits as result.
pub(crate) fn cut(laid: &mut Laid, layers: &mut [Arc<dyn Prepared>], threads: usize) {
    if threads == 1 {
        return;
    }
    let whole = laid.maps.clone();
    let mut maps: Vec<Map> = (0..whole.len()).map(|value| wanted(laid, layers, value, threads)).collect();
    let mut settled = false;
    while !settled {
        settled = true;
        for (layer, prepared) in laid.net.layers.iter().zip(&*layers) {
            let values = [Some(layer.x), layer.residual, Some(layer.y)].into_iter().flatten();
            let written = [layer.residual, Some(layer.y)].into_iter().flatten();
            let summed_alike = layer.residual.is_none_or(|residual| maps[residual] == maps[layer.y]);
            let is_whole = values.clone().all(|value| maps[value] == whole[value]);
            // built again below: memory for the weights of one layer only is taken twice
            if is_whole || summed_alike && prepared.in_slabs(maps[layer.x], maps[layer.y]).is_some() {
                continue;
            }
            settled = false;
            // what cannot be gathered may still be cut
            match written.clone().any(|value| maps[value].edges > 0) {
                true => written.for_each(|value| maps[value].edges = 0),
                false => values.for_each(|value| maps[value] = whole[value]),
            }
        }
    }
    for (layer, prepared) in laid.net.layers.iter().zip(layers) {
        if [layer.x, layer.y].iter().any(|value| maps[*value] != whole[*value]) {
            *prepared = prepared.in_slabs(maps[layer.x], maps[layer.y]).expect("it was just made");
        }
    }
    laid.maps = maps;
}

/// The map of a value in as many slabs as there are threads, or the most that divide them.
fn wanted(laid: &Laid, layers: &[Arc<dyn Prepared>], value: Value, threads: usize) -> Map {
    let (map, net) = (laid.maps[value], &laid.net);
    let outside = net.inputs.contains(&value) || net.outputs.contains(&value);
    let reshaped =
        net.layers.iter().flat_map(|layer| layer.reads()).any(|read| read.0 == value && read.1 != net.values[value]);
    if outside || reshaped {
        return map;
    }
    let readers = net.layers.iter().zip(layers).filter(|(layer, _)| layer.x == value);
    let edges = readers.map(|(_, prepared)| prepared.halo()).max().unwrap_or(0);
    let large = |map: &Map| map.slab_height() * map.width >= LEAST_PIXELS;
    let in_slabs = |slabs: usize| map.in_slabs(slabs, edges).filter(large);
    (2..=threads).rev().filter(|slabs| threads.is_multiple_of(*slabs)).find_map(in_slabs).unwrap_or(map)
}

#[cfg(test)]
mod tests {
    use sentei_kernels::Activation;
    use sentei_kernels::conv::ConvGeometry;
    use sentei_kernels::team::Team;

    use super::*;
    use crate::engine::{HostTensor, KernelChoice, LoadOptions};
    use crate::region::build::{Built, build};
    use crate::region::graph::{Kind, Layer, Net, Shape};
    use crate::region::{Tuner, Weights};

    const SIZE: usize = 28;

    /// Three quarters of the weights are zeros.
    fn conv(geometry: ConvGeometry, x: Value, residual: Option<Value>, y: Value) -> Layer {
        let depthwise = geometry.groups > 1;
        let shape =
            vec![geometry.out_channels, geometry.in_channels / geometry.groups, geometry.kernel[0], geometry.kernel[1]];
        let mut numbers = HostTensor::noise(&shape, y as u64).data;
        numbers.iter_mut().enumerate().filter(|(at, _)| !depthwise && at % 4 > 0).for_each(|(_, number)| *number = 0.0);
        let bias = Some(HostTensor::noise(&[geometry.out_channels], 9).data);
        let kind = Kind::Conv { weights: Arc::new(Weights::dense(shape, numbers, bias)), geometry };
        Layer { name: format!("c{y}"), op: "Conv".into(), kind, x, residual, y, activation: Activation::Relu }
    }

    fn pointwise(size: usize, [from, to]: [usize; 2]) -> ConvGeometry {
        ConvGeometry::new(from, [size; 2], to, [1, 1])
    }

    fn depthwise(channels: usize, size: usize, kernel: usize, stride: usize) -> ConvGeometry {
        let (pads, stride) = ([kernel / 2; 4], [stride; 2]);
        ConvGeometry { pads, stride, groups: channels, ..ConvGeometry::new(channels, [size; 2], channels, [kernel; 2]) }
    }

    /// Inverted bottlenecks as MobileNetV2 has them: narrow maps are summed, windows see wide ones.
    fn mobile() -> Net {
        let map = |channels, size| Shape { channels, height: size, width: size };
        let half = SIZE / 2;
        let values = vec![
            map(6, SIZE),
            map(40, SIZE),
            map(40, SIZE),
            map(8, SIZE),
            map(40, SIZE),
            map(40, SIZE),
            map(8, SIZE),
            map(40, SIZE),
            map(40, half),
            map(12, half),
        ];
        let layers = vec![
            conv(pointwise(SIZE, [6, 40]), 0, None, 1),
            conv(depthwise(40, SIZE, 3, 1), 1, None, 2),
            conv(pointwise(SIZE, [40, 8]), 2, None, 3),
            conv(pointwise(SIZE, [8, 40]), 3, None, 4),
            conv(depthwise(40, SIZE, 5, 1), 4, None, 5),
            conv(pointwise(SIZE, [40, 8]), 5, Some(3), 6),
            conv(pointwise(SIZE, [8, 40]), 6, None, 7),
            conv(depthwise(40, SIZE, 3, 2), 7, None, 8),
            conv(pointwise(half, [40, 12]), 8, None, 9),
        ];
        Net { values, inputs: vec![0], outputs: vec![9], layers }
    }

    fn built(net: Net, threads: usize) -> Built {
        let options = LoadOptions { kernel_choice: KernelChoice::AlwaysSparse, ..LoadOptions::default() };
        build(net, &mut Tuner::new(&options, None), threads).unwrap()
    }

    #[test]
    fn maps_between_pointwise_and_depthwise_layers_are_cut_and_results_stay_the_same_bits() {
        let x = HostTensor::noise(&[6 * SIZE * SIZE], 1).data;
        let run = |threads: usize| {
            let mut region = built(mobile(), threads).region;
            let mut y = vec![0.0; 12 * (SIZE / 2).pow(2)];
            region.run(&[&x], &mut [&mut y], &Team::new(threads, false).unwrap());
            (cuts(mobile(), threads), y.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let (slabs, whole) = run(1);
        assert!(slabs.iter().all(|slabs| *slabs == (1, 0)));
        // what comes from outside is not cut, so the first layer's result is not either; nor is what goes outside
        for (threads, cut) in [(2, 2), (3, 1), (4, 4), (6, 2)] {
            let edges = |rows: usize| if cut == 1 { (1, 0) } else { (cut, rows) };
            let (slabs, bits) = run(threads);
            assert_eq!(slabs[..7], [(1, 0), edges(0), edges(0), edges(2), edges(0), edges(0), edges(1)], "{threads}");
            assert_eq!(slabs[7..], [(1, 0), (1, 0)]);
            assert_eq!(bits, whole, "{threads} threads");
        }
    }

    fn cuts(net: Net, threads: usize) -> Vec<(usize, usize)> {
        let region = built(net, threads).region;
        let outputs = region.steps().iter().map(|step| step.layer.output());
        outputs.map(|output| (output.slabs, output.edges)).collect()
    }

    #[test]
    fn rows_are_gathered_where_the_writer_and_both_operands_of_a_sum_can() {
        // two windows in a row: the second reads the first's planes
        let mut net = mobile();
        net.layers[2] = conv(depthwise(40, SIZE, 3, 1), 2, None, 3);
        net.layers[3] = conv(pointwise(SIZE, [40, 40]), 3, None, 4);
        net.layers[5].residual = None;
        net.values[3] = net.values[4];
        assert_eq!(cuts(net, 2)[..4], [(1, 0), (2, 0), (2, 0), (2, 2)]);
        // a window reads one operand of a sum, and none its result
        let mut net = mobile();
        net.layers[3] = conv(depthwise(8, SIZE, 3, 1), 3, None, 4);
        net.layers[4] = conv(pointwise(SIZE, [8, 40]), 4, None, 5);
        net.values[4] = net.values[3];
        assert_eq!(cuts(net, 2)[1..6], [(2, 0), (2, 0), (2, 0), (2, 0), (2, 0)]);
    }

    #[test]
    fn one_layer_that_cannot_keeps_its_maps_whole() {
        let mut net = mobile();
        // a window over many channels in the place of the second depthwise layer
        let geometry = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(40, [SIZE; 2], 40, [3, 3]) };
        net.layers[4] = conv(geometry, 4, None, 5);
        // pointwise layers hand it on from map to map, sums from 6 to 3
        assert_eq!(cuts(net, 2), [(1, 0); 9]);
    }
}
