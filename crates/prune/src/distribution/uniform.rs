//! The same density in every layer.

use super::LayerView;

pub(super) fn counts(views: &[LayerView], density: f64) -> Vec<usize> {
    views.iter().map(|v| (density * v.len() as f64).round() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;

    #[test]
    fn each_layer_keeps_its_rounded_share() {
        let fixture = Fixture::new(vec![(vec![7], vec![0.0; 7]), (vec![10], vec![0.0; 10])]);
        assert_eq!(Distribution::Uniform.counts(&fixture.views(), 0.5).unwrap(), [4, 5]);
    }
}
