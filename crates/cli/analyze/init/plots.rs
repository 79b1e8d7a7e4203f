//! The plots of a study: accuracies, layer densities, and the survivors of every method.

use sentei_prune::survivors::{BINS, Survivors};
use sentei_report::plot::{Mark, Plot, Point, Series};

use super::arm::Arm;
use super::collect::{Results, Summary};
use super::plan::{InitPlan, Variant};

/// File name without ending, and plot.
pub fn plots(plan: &InitPlan, results: &Results) -> Vec<(String, Plot)> {
    let mut all =
        vec![("accuracy".to_string(), accuracy(plan, results)), ("densities".to_string(), densities(results))];
    for method in &results.methods {
        all.push((
            format!("survivors-before-{}", method.name),
            survivors(plan, results, method, "before", |a| &a.before),
        ));
        all.push((format!("survivors-after-{}", method.name), survivors(plan, results, method, "after", |a| &a.after)));
    }
    // A plot of nothing is an error; an unfinished study has none of some.
    all.retain(|(_, plot)| {
        plot.series.iter().any(|s| s.points.iter().any(|p| p.y.is_finite() && (!plot.log_y || p.y > 0.0)))
    });
    all
}

fn accuracy(plan: &InitPlan, results: &Results) -> Plot {
    let place = |i: usize| (i + 1) as f64;
    let point = |variant: Variant, (i, method): (usize, &Summary)| {
        let found = method.variants.iter().find(|r| r.variant == variant)?.accuracy?;
        Some(Point { x: place(i), y: found.mean, low: found.low, high: found.high })
    };
    let series = plan.variants.iter().map(|v| Series {
        name: v.to_string(),
        points: results.methods.iter().enumerate().filter_map(|m| point(*v, m)).collect(),
        line: false,
    });
    let marks = results.methods.iter().enumerate().map(|(i, m)| Mark { x: place(i), label: m.name.clone() });
    Plot {
        title: "Accuracy of each mask and of what is left of it (95 % intervals)".into(),
        x_label: "mask".into(),
        y_label: "validation accuracy".into(),
        y_percent: true,
        series: series.collect(),
        marks: marks.collect(),
        ..Plot::default()
    }
}

fn densities(results: &Results) -> Plot {
    let points = |m: &Summary| {
        m.layers.iter().enumerate().map(|(i, share)| Point::new((i + 1) as f64, share.density())).collect()
    };
    Plot {
        title: "Kept share of each layer".into(),
        x_label: "prunable layer, from input to output".into(),
        y_label: "density".into(),
        log_y: true,
        series: results
            .methods
            .iter()
            .map(|m| Series { name: m.name.clone(), points: points(m), line: true })
            .collect(),
        ..Plot::default()
    }
}

/// Kept weights of all layers and seeds together, each in units of its layer's deviation.
fn survivors(plan: &InitPlan, results: &Results, method: &Summary, when: &str, of: fn(&Arm) -> &[Survivors]) -> Plot {
    let series = |variant: &Variant| {
        let arms = results.of_variant(&method.name, *variant);
        let layers = || arms.values().flat_map(|arm| of(arm));
        let total: u64 = layers().map(|s| s.kept).sum();
        let point = |bin: usize| {
            let count: u64 = layers().filter_map(|s| s.histogram.get(bin)).sum();
            Point::new((bin as f64 + 0.5) / BINS as f64 * 6.0 - 3.0, count as f64 / total as f64)
        };
        let points = if total > 0 { (0..BINS).map(point).collect() } else { Vec::new() };
        Series { name: variant.to_string(), points, line: true }
    };
    Plot {
        title: format!("Weights kept by {}, {when} training", method.name),
        x_label: "weight, in standard deviations of all weights of its layer before training".into(),
        y_label: "share of the kept weights per bin".into(),
        y_percent: true,
        series: plan.variants.iter().map(series).filter(|s| !s.points.is_empty()).collect(),
        ..Plot::default()
    }
}
