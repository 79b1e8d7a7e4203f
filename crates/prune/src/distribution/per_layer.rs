//! A given density per layer.

use std::collections::BTreeMap;

use super::{LayerView, check_names};
use crate::layers::Layer;
use crate::masks::MaskError;

/// On the way to the table each layer keeps `d^p`, with the one `p` that gives the density asked for.
pub(super) fn counts(
    views: &[LayerView],
    density: f64,
    densities: &BTreeMap<String, f64>,
    others: f64,
) -> Result<Vec<usize>, MaskError> {
    let layers: Vec<Layer> = views.iter().map(|v| v.layer.clone()).collect();
    let table = table(&layers, densities, others)?;
    let power = power_for(&layers, &table, density);
    Ok(views.iter().zip(&table).map(|(v, d)| (d.powf(power) * v.len() as f64).round() as usize).collect())
}

pub(super) fn table(layers: &[Layer], densities: &BTreeMap<String, f64>, others: f64) -> Result<Vec<f64>, MaskError> {
    check_names(&layers.iter().collect::<Vec<_>>(), densities)?;
    let table: Vec<f64> = layers.iter().map(|l| densities.get(&l.name).copied().unwrap_or(others)).collect();
    match table.iter().find(|d| !(**d > 0.0 && **d <= 1.0)) {
        Some(bad) => Err(MaskError::Density(*bad)),
        None => Ok(table),
    }
}

/// Density of all layers together when each has its table entry raised to `power`.
pub(super) fn overall(layers: &[Layer], table: &[f64], power: f64) -> f64 {
    let total: f64 = layers.iter().map(|l| l.len() as f64).sum();
    let kept: f64 = layers.iter().zip(table).map(|(l, d)| d.powf(power) * l.len() as f64).sum();
    if total > 0.0 { kept / total } else { 1.0 }
}

fn power_for(layers: &[Layer], table: &[f64], density: f64) -> f64 {
    if density <= overall(layers, table, 1.0) {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if overall(layers, table, middle) > density { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;
    use super::*;

    fn fixture() -> Fixture {
        Fixture::new(vec![(vec![100], vec![1.0; 100]), (vec![400], vec![1.0; 400])])
    }

    fn table_of(name: &str, density: f64) -> Distribution {
        Distribution::PerLayer { densities: BTreeMap::from([(name.into(), density)]), others: 0.5 }
    }

    #[test]
    fn the_table_is_met_exactly_at_the_end_and_approached_from_above() {
        let (fixture, distribution) = (fixture(), table_of("w1", 0.1));
        let end = distribution.final_density(&fixture.layers, 0.3).unwrap().unwrap();
        assert_eq!(end, (50.0 + 40.0) / 500.0);
        assert_eq!(distribution.counts(&fixture.views(), end).unwrap(), [50, 40]);
        let midway = distribution.counts(&fixture.views(), 0.5).unwrap();
        assert_eq!(midway.iter().sum::<usize>(), 250);
        assert_eq!(distribution.counts(&fixture.views(), 1.0).unwrap(), [100, 400]);
    }

    #[test]
    fn a_stranger_in_the_table_is_named() {
        let error = table_of("conv9", 0.1).counts(&fixture().views(), 0.5).unwrap_err();
        assert_eq!(error, MaskError::UnknownLayer { name: "conv9".into(), known: "w0, w1".into() });
    }
}
