//! What the limits of some trainings mean, in plain words.

use sentei_report::format::percent;
use sentei_report::stats::{MeanInterval, mean_interval};
use serde::Serialize;

use super::Found;

/// Coverage of the intervals over seeds.
pub const LEVEL: f64 = 0.95;

/// The networks of one kind of training, averaged over seeds. Shares of removed weights, in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    /// `given`, `recipe` or `l1`.
    pub name: String,
    /// Validation accuracy of the dense networks.
    pub dense: MeanInterval,
    /// Predicted limit.
    pub predicted: MeanInterval,
    /// Lowest and highest predicted limit over probes, noise levels and seeds.
    pub band: [f64; 2],
    /// Measured limit of plain zeroing by validation accuracy.
    pub measured: MeanInterval,
    /// Measured limit of plain zeroing by training loss.
    pub by_loss: MeanInterval,
    /// Measured limit after fine-tuning.
    pub tuned: Option<MeanInterval>,
    /// Largest distance between prediction and measured limit over seeds, in percentage points.
    pub worst_gap_points: f64,
}

/// The kinds of `found`, L1 training last, whichever networks are there.
pub fn kinds(found: &[Found]) -> Vec<Kind> {
    let mut names: Vec<&str> = Vec::new();
    found.iter().map(|f| f.kind.as_str()).for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    names.sort_by_key(|name| *name == "l1");
    let kind = |name: &str| {
        let own: Vec<&Found> = found.iter().filter(|f| f.kind == name).collect();
        let mean = |value: &dyn Fn(&Found) -> f64| {
            mean_interval(&own.iter().map(|f| value(f)).collect::<Vec<_>>(), LEVEL).expect("shares are finite")
        };
        let fold = |value: &dyn Fn(&Found) -> f64, pick: fn(f64, f64) -> f64| {
            own.iter().map(|f| value(f)).reduce(pick).expect("a kind has a network")
        };
        let tuned: Option<Vec<f64>> = own.iter().map(|f| f.report.tuned_limit).collect();
        Kind {
            name: name.into(),
            dense: mean(&|f| f.report.curve[0].accuracy),
            predicted: mean(&|f| f.report.prediction.sparsity),
            band: [fold(&|f| f.report.prediction.low, f64::min), fold(&|f| f.report.prediction.high, f64::max)],
            measured: mean(&|f| f.report.knee.accuracy),
            by_loss: mean(&|f| f.report.knee.loss),
            tuned: tuned.and_then(|values| mean_interval(&values, LEVEL)),
            worst_gap_points: fold(&|f| gap(f).abs(), f64::max),
        }
    };
    names.into_iter().map(kind).collect()
}

/// Predicted minus measured limit, in percentage points.
pub fn gap(found: &Found) -> f64 {
    (found.report.prediction.sparsity - found.report.knee.accuracy) * 100.0
}

/// How a kind is called in a sentence.
pub fn title(kind: &str) -> &str {
    match kind {
        "l1" => "L1 training",
        "recipe" => "the recipe's training",
        _ => "the given network",
    }
}

/// One sentence each: where to start, what zeroing alone does, what fine-tuning adds, what L1 training moves.
///
/// * `allowed`: loss of accuracy that the measured limits allow, in percentage points.
/// * `epochs`: epochs of fine-tuning, 0 without.
pub fn advice(kinds: &[Kind], allowed: f64, epochs: u64) -> Vec<String> {
    let mut says = Vec::new();
    for kind in kinds {
        let who = if kinds.len() > 1 { format!("{}: ", capital(title(&kind.name))) } else { String::new() };
        let (predicted, measured) = (kind.predicted.mean, kind.measured.mean);
        // A start that fine-tuning has already shown to lose accuracy is no start.
        let begin = match &kind.tuned {
            Some(tuned) => predicted.min(tuned.mean),
            None => predicted,
        };
        says.push(format!(
            "{who}start the sparsity search at {} (predicted limit {}, band {} to {}).",
            percent((begin * 100.0).floor() / 100.0),
            percent(predicted),
            percent(kind.band[0]),
            percent(kind.band[1]),
        ));
        let gap = (predicted - measured) * 100.0;
        says.push(if gap > 5.0 {
            format!(
                "Zeroing alone keeps the accuracy within {} points up to {} only: beyond it the surviving weights must be trained.",
                allowed,
                percent(measured)
            )
        } else if gap < -5.0 {
            format!(
                "Zeroing alone already keeps the accuracy within {} points up to {}: the prediction is too careful here.",
                allowed,
                percent(measured)
            )
        } else {
            format!(
                "Zeroing alone keeps the accuracy within {} points up to {}, close to the prediction: one cut, no retraining.",
                allowed,
                percent(measured)
            )
        });
        if let Some(tuned) = &kind.tuned {
            let epochs = if epochs == 1 { "1 epoch".into() } else { format!("{epochs} epochs") };
            // Up to the measured limit no fine-tuning is needed; a limit that is no higher was not found by fine-tuning.
            says.push(if tuned.mean > measured {
                format!("With {epochs} of fine-tuning it holds up to {}.", percent(tuned.mean))
            } else {
                format!("No network that was cut further and fine-tuned for {epochs} kept it.")
            });
        }
    }
    if let [plain, l1] = kinds {
        let moved = |a: f64, b: f64| if b >= a { "up" } else { "down" };
        says.push(format!(
            "L1 training moves the predicted limit {} from {} to {} and the measured one {} from {} to {}; its dense accuracy is {} \
             against {}.",
            moved(plain.predicted.mean, l1.predicted.mean),
            percent(plain.predicted.mean),
            percent(l1.predicted.mean),
            moved(plain.measured.mean, l1.measured.mean),
            percent(plain.measured.mean),
            percent(l1.measured.mean),
            percent(l1.dense.mean),
            percent(plain.dense.mean),
        ));
    }
    says
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, predicted: f64, measured: f64, tuned: Option<f64>) -> Kind {
        let mean = |v: f64| mean_interval(&[v], LEVEL).expect("one number");
        Kind {
            name: name.into(),
            dense: mean(0.98),
            predicted: mean(predicted),
            band: [predicted - 0.01, predicted + 0.01],
            measured: mean(measured),
            by_loss: mean(measured),
            tuned: tuned.map(mean),
            worst_gap_points: 0.0,
        }
    }

    #[test]
    fn a_close_limit_says_cut_once_and_a_far_one_says_train() {
        let close = advice(&[kind("given", 0.921, 0.93, None)], 0.5, 0).join("\n");
        assert!(close.contains("start the sparsity search at 92.0 %") || close.contains("at 92 %"), "{close}");
        assert!(close.contains("one cut, no retraining") && !close.contains("fine-tuning"), "{close}");
        let far = advice(&[kind("given", 0.92, 0.6, Some(0.88))], 0.5, 2).join("\n");
        assert!(far.contains("must be trained") && far.contains("2 epochs"), "{far}");
        assert!(far.contains("search at 88"), "fine-tuning has shown 92 % to be too much: {far}");
        let no_gain = advice(&[kind("given", 0.8, 0.9, Some(0.9))], 0.5, 1).join("\n");
        assert!(no_gain.contains("fine-tuned for 1 epoch kept it") && !no_gain.contains("holds up to"), "{no_gain}");
        assert!(advice(&[kind("given", 0.8, 0.9, None)], 0.5, 0).join("\n").contains("too careful"));
    }

    #[test]
    fn l1_is_only_spoken_of_when_it_was_measured() {
        let both = advice(&[kind("recipe", 0.92, 0.9, None), kind("l1", 0.96, 0.95, None)], 0.5, 0).join("\n");
        assert!(both.contains("L1 training moves the predicted limit up from 92"), "{both}");
        assert!(!advice(&[kind("recipe", 0.92, 0.9, None)], 0.5, 0).join("\n").contains("L1"));
    }
}
