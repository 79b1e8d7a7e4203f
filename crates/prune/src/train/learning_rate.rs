//! The learning rate of each step.

use crate::config::{LearningRateSchedule, TrainConfig};

/// Learning rate as a function of the step: linear warm-up, then the schedule.
#[derive(Clone, Debug)]
pub struct LearningRate {
    schedule: LearningRateSchedule,
    peak: f64,
    min: f64,
    warmup: f64,
    steps_per_epoch: u64,
    total: f64,
    /// Steps of the schedule that are left out at its beginning.
    skipped: u64,
}

impl LearningRate {
    /// For a training of `config.epochs` times `steps_per_epoch` steps.
    pub fn new(config: &TrainConfig, steps_per_epoch: u64) -> Self {
        LearningRate {
            schedule: config.schedule.clone(),
            peak: config.learning_rate,
            min: config.min_learning_rate.min(config.learning_rate),
            warmup: config.warmup_epochs * steps_per_epoch as f64,
            steps_per_epoch,
            total: ((config.skip_epochs + config.epochs) * steps_per_epoch) as f64,
            skipped: config.skip_epochs * steps_per_epoch,
        }
    }

    /// Learning rate of `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let step = step + self.skipped;
        let now = step as f64;
        if now < self.warmup {
            return self.peak * ((now + 1.0) / self.warmup).min(1.0);
        }
        match &self.schedule {
            LearningRateSchedule::Constant => self.peak,
            LearningRateSchedule::Cosine => {
                let done = ((now - self.warmup) / (self.total - self.warmup)).clamp(0.0, 1.0);
                self.min + (self.peak - self.min) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            LearningRateSchedule::Step { milestones, gamma } => {
                let epoch = step / self.steps_per_epoch.max(1);
                let passed = milestones.iter().filter(|m| **m <= epoch).count();
                (self.peak * gamma.powi(passed as i32)).max(self.min)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(schedule: LearningRateSchedule, warmup_epochs: f64) -> LearningRate {
        let config = TrainConfig {
            epochs: 10,
            learning_rate: 1.0,
            min_learning_rate: 0.01,
            schedule,
            warmup_epochs,
            ..TrainConfig::default()
        };
        LearningRate::new(&config, 10)
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_peak() {
        let rate = rate(LearningRateSchedule::Constant, 1.0);
        assert!((rate.at(0) - 0.1).abs() < 1e-12);
        assert!((rate.at(9) - 1.0).abs() < 1e-12);
        assert_eq!(rate.at(10), 1.0);
    }

    #[test]
    fn the_cosine_passes_the_middle_and_ends_at_the_minimum() {
        let rate = rate(LearningRateSchedule::Cosine, 0.0);
        assert_eq!(rate.at(0), 1.0);
        assert!((rate.at(50) - 0.505).abs() < 1e-12);
        assert!((rate.at(100) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_replayed_end_has_the_rates_of_the_whole_schedule() {
        for schedule in [
            LearningRateSchedule::Cosine,
            LearningRateSchedule::Constant,
            LearningRateSchedule::Step { milestones: vec![2, 7], gamma: 0.1 },
        ] {
            let config = TrainConfig { epochs: 10, schedule, warmup_epochs: 1.0, ..TrainConfig::default() };
            let end = TrainConfig { epochs: 4, skip_epochs: 6, ..config.clone() };
            let (whole, end) = (LearningRate::new(&config, 10), LearningRate::new(&end, 10));
            assert!((0..40).all(|step| end.at(step) == whole.at(step + 60)));
        }
    }

    #[test]
    fn steps_fall_at_their_milestones() {
        let rate = rate(LearningRateSchedule::Step { milestones: vec![2, 5], gamma: 0.1 }, 0.0);
        for (step, expected) in [(19, 1.0), (20, 0.1), (49, 0.1), (50, 0.01), (99, 0.01)] {
            assert!((rate.at(step) - expected).abs() < 1e-12, "{step}");
        }
    }
}
