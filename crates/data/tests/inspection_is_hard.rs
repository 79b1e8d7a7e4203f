//! The embedded set is no toy: a linear model stays far below what a small network reaches.

use sentei_data::{Dataset, InspectionSpec, Normalise, Order, Split, batches, inspection};
use std::sync::Arc;

/// Accuracy on the test split of logistic regression on standardised pixels.
fn linear_accuracy(data: &Arc<Dataset>) -> f64 {
    let (inputs, classes) = (data.image_len(), data.classes.len());
    let normalise = Normalise::of(data, Split::Train);
    let mut weights = vec![0.0f32; classes * (inputs + 1)];
    let logits = |weights: &[f32], image: &[f32]| -> Vec<f32> {
        weights
            .chunks_exact(inputs + 1)
            .map(|row| row[inputs] + row.iter().zip(image).map(|(w, x)| w * x).sum::<f32>())
            .collect()
    };
    for epoch in 0..8 {
        let order = Order::Shuffled { seed: 1, epoch };
        let rate = 2e-4 * (1.0 - epoch as f32 / 8.0);
        for batch in batches(data, &data.indices(Split::Train), 1, order, None, &normalise) {
            let scores = logits(&weights, &batch.images);
            let top = scores.iter().copied().fold(f32::MIN, f32::max);
            let exponents: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f32 = exponents.iter().sum();
            for (class, row) in weights.chunks_exact_mut(inputs + 1).enumerate() {
                let target = if batch.labels[0] as usize == class { 1.0 } else { 0.0 };
                let step = rate * (exponents[class] / sum - target);
                row.iter_mut().zip(&batch.images).for_each(|(w, x)| *w -= step * x);
                row[inputs] -= step;
            }
        }
    }
    let test = data.indices(Split::Test);
    let right = batches(data, &test, 1, Order::Sequential, None, &normalise)
        .filter(|batch| {
            let scores = logits(&weights, &batch.images);
            let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            best == Some(batch.labels[0] as usize)
        })
        .count();
    right as f64 / test.len() as f64
}

#[test]
fn a_linear_model_stays_below_sixty_percent() {
    let data = Arc::new(inspection(&InspectionSpec { train: 2400, val: 0, ..InspectionSpec::default() }, 1));
    let accuracy = linear_accuracy(&data);
    eprintln!("linear test accuracy {accuracy:.3}");
    assert!(accuracy < 0.6, "{accuracy}");
}
