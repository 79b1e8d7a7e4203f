//! Knowledge distillation: a network also learns what its dense parent says about each image.
//!
//! Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.

use std::cell::RefCell;

use candle_core::{Device, Tensor};
use sentei_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::loss::soft_cross_entropy;
use crate::{Mode, Net, PruneError};

/// How much a teacher counts: the loss is `(1 - weight) * CE + weight * T^2 * KL`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Share of the teacher in the loss, in `(0, 1]`.
    pub weight: f64,
    /// `T`: both networks' logits are divided by it before the softmax, more than 0.
    pub temperature: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Distill { weight: 0.5, temperature: 4.0 }
    }
}

/// A network that is asked and not trained.
pub struct Teacher {
    /// Behind a cell: a forward pass needs the network to itself, and a [`crate::train::Plan`] is shared.
    net: RefCell<Net>,
    settings: Distill,
}

impl Teacher {
    /// A teacher in evaluation mode with the values of `graph`.
    ///
    /// # Errors
    /// When the graph cannot be lowered.
    pub fn new(graph: &Graph, settings: Distill, device: &Device) -> Result<Self, PruneError> {
        Ok(Teacher { net: RefCell::new(Net::new(graph, device)?), settings })
    }

    /// The loss of a batch: `labels_loss` (cross-entropy with the labels) and the distance to the teacher, weighted.
    ///
    /// * `images`: the batch that made `logits` `[N, classes]`.
    ///
    /// # Errors
    /// When the teacher does not take the images, or has another number of classes.
    pub fn join(&self, labels_loss: &Tensor, logits: &Tensor, images: &Tensor) -> Result<Tensor, PruneError> {
        let Distill { weight, temperature } = self.settings;
        let said = self.net.borrow_mut().forward(images, Mode::Eval)?;
        let distance = divergence(logits, &said, temperature)?;
        let labels_loss = labels_loss.affine(1.0 - weight, 0.0)?;
        Ok((labels_loss + distance.affine(weight * temperature * temperature, 0.0)?)?)
    }

    pub(crate) fn settings(&self) -> Distill {
        self.settings
    }

    pub(crate) fn net(&self) -> std::cell::Ref<'_, Net> {
        self.net.borrow()
    }
}

/// Mean over the rows of `KL(softmax(teacher / T) || softmax(student / T))`, to call `backward` on for the student.
///
/// * `student`, `teacher`: logits `[N, classes]`.
///
/// # Errors
/// [`PruneError::Tensor`] when the shapes differ.
pub fn divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor, PruneError> {
    let (rows, classes) = student.dims2()?;
    let flat = teacher.flatten_all()?.to_vec1::<f32>()?;
    let mut targets = Vec::with_capacity(flat.len());
    let mut entropy = 0.0;
    for row in flat.chunks(classes.max(1)) {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = row.iter().map(|z| (f64::from(z - highest) / temperature).exp()).collect();
        let total: f64 = powers.iter().sum();
        for power in powers {
            let p = power / total;
            entropy -= if p > 0.0 { p * p.ln() } else { 0.0 } / rows as f64;
            targets.push((p / rows as f64) as f32);
        }
    }
    Ok(soft_cross_entropy(&student.affine(1.0 / temperature, 0.0)?, targets)?.affine(1.0, -entropy)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::cross_entropy;
    use crate::testing;
    use candle_core::Var;

    fn logits(values: [f32; 6]) -> Var {
        Var::from_vec(values.to_vec(), (2, 3), &Device::Cpu).unwrap()
    }

    fn softmax(row: &[f64]) -> Vec<f64> {
        let total: f64 = row.iter().map(|z| z.exp()).sum();
        row.iter().map(|z| z.exp() / total).collect()
    }

    #[test]
    fn the_distance_and_its_gradient_match_the_formula() {
        let (student, teacher) = ([1.0, -0.5, 0.25, 2.0, 0.0, -1.0], [0.5, 0.5, -2.0, 1.0, 3.0, 0.0]);
        let t = 2.5;
        let var = logits(student.map(|v| v as f32));
        let loss = divergence(&var, &logits(teacher.map(|v| v as f32)), t).unwrap();
        let gradient = loss.backward().unwrap().get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut expected = 0.0;
        for r in 0..2 {
            let of = |z: &[f64; 6]| softmax(&z[r * 3..r * 3 + 3].iter().map(|v| v / t).collect::<Vec<_>>());
            let (q, p) = (of(&student), of(&teacher));
            for c in 0..3 {
                expected += p[c] * (p[c] / q[c]).ln() / 2.0;
                assert!((f64::from(gradient[r * 3 + c]) - (q[c] - p[c]) / t / 2.0).abs() < 1e-6);
            }
        }
        assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - expected).abs() < 1e-6);
    }

    #[test]
    fn a_network_that_agrees_with_its_teacher_pays_for_the_labels_alone() {
        let graph = testing::mlp(&[16, 12, 3], None);
        let images = Tensor::from_vec((0..32).map(|i| testing::noise("x", i)).collect(), (2, 1, 4, 4), &Device::Cpu);
        let images = images.unwrap();
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let own = net.forward(&images, Mode::Train { seed: 0 }).unwrap();
        let labels = cross_entropy(&own, &[0, 2], 0.0, None).unwrap();
        let teacher = Teacher::new(&graph, Distill { weight: 0.25, temperature: 3.0 }, &Device::Cpu).unwrap();
        let joint = teacher.join(&labels, &own, &images).unwrap().to_scalar::<f32>().unwrap();
        assert!((joint - 0.75 * labels.to_scalar::<f32>().unwrap()).abs() < 1e-6);
    }
}
