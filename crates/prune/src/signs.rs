//! How the signs of the weights hold while a network trains, layer by layer.
//!
//! Source: Gadhikar et al. 2025 (arXiv:2504.12801): nets trained from a sparse start stay behind mainly by their signs.

use sentei_graph::{Graph, Role, Tensor};
use serde::{Deserialize, Serialize};

use crate::Net;
use crate::PruneError;
use crate::masks::Masks;
use crate::snapshot::values;

/// The signs after one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignRow {
    /// Phase of the run.
    pub phase: String,
    /// Epoch within the phase, from 1.
    pub epoch: u64,
    /// Every layer with weights, in graph order.
    pub layers: Vec<LayerSigns>,
}

/// The signs of one layer. Only weights count that are kept and were not zero when the training began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSigns {
    /// Name of the weight.
    pub name: String,
    /// Weights that count.
    pub kept: u64,
    /// Those whose sign is another one than at the beginning of the training.
    pub flipped: u64,
    /// Those whose sign is that of the epoch before.
    pub stable: u64,
}

impl SignRow {
    /// Fraction of the counted weights whose sign differs from that at the beginning, over all layers; 0 when none counts.
    pub fn flipped(&self) -> f64 {
        self.share(|l| l.flipped)
    }

    /// Fraction of the counted weights whose sign is that of the epoch before, over all layers; 0 when none counts.
    pub fn stable(&self) -> f64 {
        self.share(|l| l.stable)
    }

    fn share(&self, of: impl Fn(&LayerSigns) -> u64) -> f64 {
        let kept: u64 = self.layers.iter().map(|l| l.kept).sum();
        self.layers.iter().map(of).sum::<u64>() as f64 / kept.max(1) as f64
    }
}

/// `base` with the weights of convolutions and linear layers replaced: each has the magnitude that it has in `magnitudes`
/// and the sign that it has in `signs`; where it is zero there, the sign stays that of `magnitudes`.
///
/// What a trained sparse network owes to its signs and what to its magnitudes shows when only one of them is kept.
///
/// # Errors
/// [`PruneError::Missing`] or [`PruneError::Shape`] when one of the graphs lacks a weight of `base` or has it in another shape.
pub fn recombine(base: &Graph, magnitudes: &Graph, signs: &Graph) -> Result<Graph, PruneError> {
    let mut mixed = base.clone();
    for (id, _) in base.parameters().into_iter().filter(|(_, role)| *role == Role::Weight) {
        let (name, shape) = (base.name(id), &base.initializer(id).expect("parameters are initializers").shape);
        let values = |graph: &Graph| -> Result<Vec<f32>, PruneError> {
            let missing = || PruneError::Missing { kind: "weight", name: name.into() };
            let tensor = graph.value(name).and_then(|id| graph.initializer(id)).ok_or_else(missing)?;
            if tensor.shape != *shape {
                let (expected, found) = (shape.clone(), tensor.shape.clone());
                return Err(PruneError::Shape { name: name.into(), expected, found });
            }
            Ok(tensor.data.clone())
        };
        let signed = |(m, s): (f32, f32)| if s == 0.0 { m } else { m.abs().copysign(s) };
        let data = values(magnitudes)?.into_iter().zip(values(signs)?).map(signed).collect();
        mixed.set_initializer(id, Tensor::new(shape.as_slice(), data));
    }
    Ok(mixed)
}

/// Signs at the beginning and after the last epoch, by layer.
pub(crate) struct Signs {
    layers: Vec<(String, Packed, Packed)>,
}

/// The signs of one layer, four to a byte.
#[derive(Clone)]
struct Packed(Vec<u8>);

impl Packed {
    fn of(net: &Net, name: &str) -> Result<Packed, PruneError> {
        let sign = |v: &f32| u8::from(*v > 0.0) + 2 * u8::from(*v < 0.0);
        let byte = |four: &[f32]| four.iter().rev().fold(0, |byte, v| byte << 2 | sign(v));
        Ok(Packed(values(net, name)?.chunks(4).map(byte).collect()))
    }

    /// 0 for a weight that is zero, 1 for a positive one and 2 for a negative one.
    fn at(&self, index: usize) -> u8 {
        self.0[index / 4] >> (2 * (index % 4)) & 3
    }
}

impl Signs {
    /// At the beginning of a training, before masks are enforced.
    pub(crate) fn of(net: &Net) -> Result<Signs, PruneError> {
        let weights = net.vars().iter().filter(|p| p.role == Role::Weight);
        let layer = |name: &str| -> Result<_, PruneError> {
            let now = Packed::of(net, name)?;
            Ok((name.to_string(), now.clone(), now))
        };
        Ok(Signs { layers: weights.map(|p| layer(&p.name)).collect::<Result<_, _>>()? })
    }

    /// Takes the network's signs for those after the last epoch.
    pub(crate) fn resume(&mut self, net: &Net) -> Result<(), PruneError> {
        self.layers.iter_mut().try_for_each(|(name, _, last)| {
            *last = Packed::of(net, name)?;
            Ok(())
        })
    }

    /// The row of the epoch that has just ended.
    pub(crate) fn row(&mut self, net: &Net, masks: &Masks, phase: &str, epoch: u64) -> Result<SignRow, PruneError> {
        let mut layers = Vec::new();
        for (name, initial, last) in &mut self.layers {
            let now = Packed::of(net, name)?;
            let mask = masks.get(name);
            let len = net.var(name).map_or(0, |param| param.var.elem_count());
            let counts = |i: &usize| initial.at(*i) != 0 && mask.is_none_or(|mask| mask.bits()[*i]);
            let counted = || (0..len).filter(counts);
            layers.push(LayerSigns {
                name: name.clone(),
                kept: counted().count() as u64,
                flipped: counted().filter(|i| now.at(*i) != initial.at(*i)).count() as u64,
                stable: counted().filter(|i| now.at(*i) == last.at(*i)).count() as u64,
            });
            *last = now;
        }
        Ok(SignRow { phase: phase.into(), epoch, layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use sentei_graph::Mask;

    #[test]
    fn flips_and_stability_count_kept_weights_that_had_a_sign() {
        let mut net = Net::new(&crate::testing::mlp(&[4, 2], None), &Device::Cpu).unwrap();
        let put = |net: &mut Net, v: [f32; 8]| {
            net.set_var("fc0.w", &candle_core::Tensor::from_slice(&v, (2, 4), &Device::Cpu).unwrap()).unwrap()
        };
        put(&mut net, [1.0, 1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
        let mut signs = Signs::of(&net).unwrap();
        let mask = Mask::from_bits(vec![true, true, true, true, true, true, false, true]);
        let masks: Masks = [("fc0.w".to_string(), mask)].into_iter().collect();
        put(&mut net, [1.0, -1.0, 1.0, -1.0, 5.0, 0.0, 0.0, 1.0]);
        let row = signs.row(&net, &masks, "train", 1).unwrap();
        // Six count: index 4 had no sign, index 6 is pruned. Indices 1, 2 and 5 differ.
        assert_eq!(row.layers, [LayerSigns { name: "fc0.w".into(), kept: 6, flipped: 3, stable: 3 }]);
        put(&mut net, [-1.0, -1.0, 1.0, -1.0, 5.0, 1.0, 0.0, 1.0]);
        let row = signs.row(&net, &masks, "train", 2).unwrap();
        assert_eq!((row.layers[0].flipped, row.layers[0].stable), (3, 4));
        assert!((row.flipped() - 0.5).abs() < 1e-12 && (row.stable() - 4.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn magnitudes_and_signs_come_from_where_they_are_asked_and_the_rest_from_the_base() {
        let graph = |w: [f32; 8], bias: f32| {
            let mut graph = crate::testing::mlp(&[4, 2], None);
            let [weight, b] = ["fc0.w", "fc0.b"].map(|name| graph.value(name).unwrap());
            graph.set_initializer(weight, Tensor::new([2, 4], w.to_vec()));
            graph.set_initializer(b, Tensor::full([2], bias));
            graph
        };
        let base = graph([9.0; 8], 0.5);
        let magnitudes = graph([1.0, 2.0, -3.0, -4.0, 5.0, -6.0, 0.0, 8.0], 1.0);
        let signs = graph([-1.0, 0.1, 7.0, -0.1, 0.0, 0.0, 1.0, -2.0], 2.0);
        let expected = graph([-1.0, 2.0, 3.0, -4.0, 5.0, -6.0, 0.0, -8.0], 0.5);
        assert_eq!(recombine(&base, &magnitudes, &signs).unwrap(), expected);
        let other = crate::testing::mlp(&[4, 3], None);
        assert!(recombine(&base, &other, &signs).unwrap_err().to_string().contains("fc0.w"));
    }
}
