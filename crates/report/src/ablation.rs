//! What taking a mask's positions or weights away did to accuracy, as a finding with a stated confidence.
//!
//! Source of the comparison: Frankle et al. 2021 (arXiv:2009.08576).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::stats::{MeanInterval, confidence};

/// Slack beside the standard errors, in percentage points: less is no difference worth a decision.
pub const SLACK_POINTS: f64 = 1.0;

/// Standard errors that a difference must exceed.
pub const ERRORS: f64 = 2.0;

/// A comparison that would not have shown a loss of so many points says nothing.
pub const BLUNT_POINTS: f64 = 3.0;

/// Percentage points above chance from which on a network has learned something.
pub const LEARNED_POINTS: f64 = 10.0;

/// What the ablations of one method show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Neither other positions nor other weights lose: the density of each layer is all that the method found.
    OnlyDensities,
    /// Other positions lose.
    Positions,
    /// Other positions do not lose, fresh weights do.
    Weights,
    /// Too few seeds, or they differ too much.
    Unclear,
    /// The original mask itself is no better than guessing, so there is nothing to lose.
    NothingLearned,
}

/// How a variant compares with the original mask, paired by seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Mean of variant minus original, in percentage points.
    pub points: f64,
    /// Smallest loss that counts: [`ERRORS`] standard errors of the mean plus [`SLACK_POINTS`]. Absent with one seed.
    pub band_points: Option<f64>,
    /// Pairs.
    pub seeds: usize,
}

impl Change {
    /// From the paired difference of two accuracies, as fractions.
    pub fn of(difference: &MeanInterval) -> Self {
        let error = difference.std.map(|std| std / (difference.n as f64).sqrt());
        let band_points = error.map(|e| 100.0 * ERRORS * e + SLACK_POINTS);
        Change { points: 100.0 * difference.mean, band_points, seeds: difference.n }
    }

    /// Whether it loses more than its band.
    fn loses(&self) -> bool {
        self.band_points.is_some_and(|band| self.points < -band)
    }

    /// Whether a loss of [`BLUNT_POINTS`] would have shown and none did.
    fn holds(&self) -> bool {
        self.band_points.is_some_and(|band| band <= BLUNT_POINTS && self.points >= -band)
    }
}

/// The finding of one method: what the shuffled mask and the fresh weights changed.
///
/// * `original`: accuracy of the original mask, in `[0, 1]`;
/// * `chance`: what guessing reaches.
///
/// A variant that was not run leaves what it would show unclear. A gain counts as no loss. An original that is not
/// [`LEARNED_POINTS`] above chance has nothing that an ablation could take away.
pub fn finding(original: f64, chance: f64, shuffle: Option<Change>, reinit: Option<Change>) -> Finding {
    if 100.0 * (original - chance) < LEARNED_POINTS {
        return Finding::NothingLearned;
    }
    match (shuffle, reinit) {
        (Some(s), _) if s.loses() => Finding::Positions,
        (Some(s), Some(r)) if s.holds() && r.loses() => Finding::Weights,
        (Some(s), Some(r)) if s.holds() && r.holds() => Finding::OnlyDensities,
        _ => Finding::Unclear,
    }
}

/// Probability that [`ERRORS`] standard errors cover the true difference, with that many seeds; `None` below two.
pub fn stated_confidence(seeds: usize) -> Option<f64> {
    (seeds > 1).then(|| confidence(ERRORS, seeds - 1))
}

impl Finding {
    /// The finding as one sentence.
    pub fn sentence(self, seeds: usize) -> String {
        match self {
            Finding::OnlyDensities => "on this task only the layer densities matter".into(),
            Finding::Positions => "positions matter: keep the mask".into(),
            Finding::Weights => "the initial weights matter, not the positions: keep the weights with the mask".into(),
            Finding::Unclear => format!("cannot tell at {seeds} seeds"),
            Finding::NothingLearned => {
                "cannot tell: the original mask learned next to nothing (collapse? too few epochs?)".into()
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::format::points(self.points))?;
        match self.band_points {
            Some(band) => write!(f, " (band ±{band:.1})"),
            None => write!(f, " (one seed, no band)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::mean_interval;

    fn change(points: &[f64]) -> Option<Change> {
        let fractions: Vec<f64> = points.iter().map(|p| p / 100.0).collect();
        mean_interval(&fractions, 0.95).map(|d| Change::of(&d))
    }

    fn found(shuffle: Option<Change>, reinit: Option<Change>) -> Finding {
        finding(0.9, 0.2, shuffle, reinit)
    }

    #[test]
    fn a_network_at_chance_shows_nothing() {
        let same = change(&[0.0, 0.0, 0.0]);
        assert_eq!(finding(0.25, 0.25, same, same), Finding::NothingLearned);
        assert_eq!(finding(0.36, 0.25, same, same), Finding::OnlyDensities);
    }

    #[test]
    fn the_band_is_two_standard_errors_and_a_point() {
        let found = change(&[-1.0, -2.0, -3.0]).unwrap();
        assert!((found.points + 2.0).abs() < 1e-9);
        assert!((found.band_points.unwrap() - (2.0 / 3f64.sqrt() + 1.0)).abs() < 1e-9);
        assert_eq!(found.to_string(), "−2.0 points (band ±2.2)");
    }

    #[test]
    fn each_finding_follows_from_its_losses() {
        let (same, lost, noisy) = (change(&[0.2, -0.4, 0.1]), change(&[-9.0, -8.0, -10.0]), change(&[-9.0, 8.0, 0.5]));
        assert_eq!(found(same, same), Finding::OnlyDensities);
        assert_eq!(found(change(&[3.0, 3.1, 2.9]), same), Finding::OnlyDensities, "a gain is no loss");
        assert_eq!(found(lost, same), Finding::Positions);
        assert_eq!(found(lost, None), Finding::Positions);
        assert_eq!(found(same, lost), Finding::Weights);
        assert_eq!(found(noisy, same), Finding::Unclear);
        assert_eq!(found(same, None), Finding::Unclear);
        assert_eq!(found(change(&[-20.0]), change(&[0.0])), Finding::Unclear, "one seed has no band");
        assert_eq!(found(None, None), Finding::Unclear);
    }

    #[test]
    fn two_errors_of_three_seeds_cover_eighty_two_percent() {
        assert!((stated_confidence(3).unwrap() - 0.8165).abs() < 1e-4);
        assert!((stated_confidence(1000).unwrap() - 0.9542).abs() < 1e-3);
        assert_eq!(stated_confidence(1), None);
    }
}
