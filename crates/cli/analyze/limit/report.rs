//! The limits as tables, plots and numbers.

use anyhow::Result;
use sentei_prune::PrunableSet;
use sentei_prune::limit::LimitSettings;
use sentei_report::format::{self, percent};
use sentei_report::plot::{Mark, Plot, Point, Series};
use sentei_report::stats::MeanInterval;
use sentei_report::table::Table;
use serde_json::json;

use super::advice::{Kind, advice, gap, kinds, title};
use super::{Args, Found};
use crate::output::Output;
use crate::study::Study;
use crate::training::Workbench;

/// Prints the tables and writes the study.
///
/// * `settings`: those of the first network; the others have them too, but for the seed.
/// * `found`: at least one network; `failed`: one line for each of which there is nothing.
pub(super) fn write(
    args: &Args,
    bench: &Workbench,
    settings: &LimitSettings,
    found: &[Found],
    failed: &[String],
    out: Output,
) -> Result<()> {
    let kinds = kinds(found);
    let says = advice(&kinds, args.drop, args.fine_tune_epochs);
    let (limits, layers) = (limits(&kinds, found), layers(found));
    let noise = noise(found);
    for table in [&limits, &layers] {
        out.say(table.plain());
    }
    says.iter().for_each(|line| out.say(line));
    let mut page = format!(
        "# Pruning limit of {}\n\n{}\n\n## Limits\n\nShares of weights removed by global magnitude, over {}. \"Zeroing\" leaves the survivors as they \
         are; its limit is the largest sparsity up to which the validation accuracy never fell by more than {} points, \"by loss\" the one up \
         to which the training loss stayed within the noise, \"above dense\" the largest sparsity that is still more accurate than the \
         dense network.\n\n{}\n![Limit](limit.svg)\n\n## Sharpness and weights per layer\n\nCurvature is the mean second derivative of \
         the training loss by a weight of the layer, over probes.\n\n{}\n## How it was computed\n\n{noise}\n",
        bench.recipe.model,
        says.join("\n"),
        competing(settings),
        args.drop,
        limits.markdown(),
        layers.markdown(),
    );
    if !failed.is_empty() {
        page += &format!("\n## Not finished ({})\n\n", failed.len());
        failed.iter().for_each(|line| page += &format!("- {line}\n"));
    }
    let plots = [("limit", combined(&kinds, found, bench.data.classes.len())), ("loss", loss(&kinds, found))];
    let numbers = json!({
        "model": bench.recipe.model,
        "data": bench.data.manifest_sha256(),
        "allowed_drop_points": args.drop,
        "settings": settings,
        "advice": says,
        "kinds": kinds,
        "networks": found,
        "failed": failed,
    });
    Study::write(&args.output, &page, &numbers, &plots)?;
    out.say(format!("\n{}", args.output.join("report.md").display()));
    let short = |f: &Found| {
        json!({
            "kind": f.kind, "seed": f.seed, "model": f.model, "parameters": f.report.parameters,
            "dense_accuracy": f.report.curve[0].accuracy, "epsilon": f.report.noise.epsilon,
            "prediction": f.report.prediction, "knee": f.report.knee, "at_prediction": f.report.at_prediction,
            "tuned_limit": f.report.tuned_limit, "gap_points": gap(f), "sharpness": f.report.sharpness,
        })
    };
    out.object(&json!({
        "report": args.output.join("report.json"),
        "kinds": kinds,
        "networks": found.iter().map(short).collect::<Vec<_>>(),
        "advice": says,
        "failed": failed,
    }));
    Ok(())
}

/// What sparsity is counted over: it moves the limit by points.
fn competing(settings: &LimitSettings) -> String {
    if settings.all_parameters {
        return "all weights and biases".into();
    }
    let PrunableSet { first, last, depthwise } = settings.set;
    let left_out = [("the first layer", first), ("the classifier", last), ("depthwise convolutions", depthwise)];
    let without: Vec<&str> = left_out.iter().filter(|(_, taken)| !taken).map(|(name, _)| *name).collect();
    let without = if without.is_empty() { String::new() } else { format!(" but {}", without.join(" and ")) };
    format!("the weights of all layers{without}")
}

fn limits(kinds: &[Kind], found: &[Found]) -> Table {
    let mut table = Table::new(&[
        "Training",
        "Seed",
        "#Dense accuracy",
        "#Predicted",
        "#Band",
        "#Zeroing",
        "#Gap, points",
        "#By loss",
        "#Above dense",
        "#Fine-tuned",
    ]);
    let or_none = |value: Option<f64>| format::or_unknown(value, percent);
    for f in found {
        let r = &f.report;
        let cells = [
            f.kind.clone(),
            f.seed.to_string(),
            percent(r.curve[0].accuracy),
            percent(r.prediction.sparsity),
            format!("{} to {}", percent(r.prediction.low), percent(r.prediction.high)),
            percent(r.knee.accuracy),
            format!("{:+.1}", gap(f)),
            percent(r.knee.loss),
            or_none(r.knee.above_dense),
            or_none(r.tuned_limit),
        ];
        table.push(cells.map(Into::into));
    }
    if found.len() > kinds.len() {
        let mean = |m: &MeanInterval| match m.half() {
            Some(half) => format!("{} ± {:.1}", percent(m.mean), half * 100.0),
            None => percent(m.mean),
        };
        for k in kinds {
            let cells = [
                k.name.clone(),
                format!("mean of {}", k.dense.n),
                mean(&k.dense),
                mean(&k.predicted),
                format!("{} to {}", percent(k.band[0]), percent(k.band[1])),
                mean(&k.measured),
                format!("{:+.1}", (k.predicted.mean - k.measured.mean) * 100.0),
                mean(&k.by_loss),
                format::UNKNOWN.into(),
                format::or_unknown(k.tuned.as_ref(), mean),
            ];
            table.push(cells.map(Into::into));
        }
    }
    table
}

/// Rows of the first network of each kind: the shape of the others is the same.
fn layers(found: &[Found]) -> Table {
    let mut table = Table::new(&[
        "Training",
        "Layer",
        "#Weights",
        "#Mean size",
        "#Median",
        "#99 %",
        "#Curvature",
        "#± probes",
        "#Removed at the prediction",
    ]);
    for (index, f) in found.iter().enumerate() {
        if found[..index].iter().any(|earlier| earlier.kind == f.kind) {
            continue;
        }
        for layer in &f.report.layers {
            let cells = [
                f.kind.clone(),
                layer.name.clone(),
                format::large(layer.weights as u64),
                format!("{:.2e}", layer.mean),
                format!("{:.2e}", layer.median),
                format!("{:.2e}", layer.p99),
                format!("{:.2e}", layer.curvature),
                // One probe has no spread.
                if f.report.probes.len() > 1 {
                    format!("{:.1e}", layer.curvature_spread)
                } else {
                    format::UNKNOWN.into()
                },
                percent(layer.removed),
            ];
            table.push(cells.map(Into::into));
        }
    }
    table
}

/// Noise level, sharpness and trace of every network.
fn noise(found: &[Found]) -> String {
    let mut text = String::from(
        "The prediction asks whether *some* values of the surviving weights keep the training loss within epsilon; it does not \
         promise that the present ones do. Epsilon is the standard deviation of the loss over mini-batches of 128 training images, \
         so it depends on that number.\n\n",
    );
    let mut table = Table::new(&[
        "Training",
        "Seed",
        "#Epsilon",
        "#Training loss",
        "#Sharpness",
        "#Trace",
        "#Trace, lowest and highest probe",
        "#Flat rows",
        "#Loss rise at the prediction",
    ]);
    for f in found {
        let r = &f.report;
        let (low, high) = (
            r.traces.iter().copied().fold(f64::INFINITY, f64::min),
            r.traces.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        let cells = [
            f.kind.clone(),
            f.seed.to_string(),
            format!("{:.2e} ± {:.0} %", r.noise.epsilon, r.noise.uncertainty * 100.0),
            format!("{:.3e}", r.noise.mean),
            format!("{:.3e}", r.sharpness),
            format!("{:.3e}", r.traces.iter().sum::<f64>() / r.traces.len().max(1) as f64),
            format!("{low:.3e} to {high:.3e}"),
            format::or_unknown(r.flat_rows, percent),
            rise(r.at_prediction.train_loss - r.curve[0].train_loss, r.noise.epsilon),
        ];
        table.push(cells.map(Into::into));
    }
    text += &table.markdown();
    if let Some(f) = found.first() {
        let (r, probes) = (&f.report, f.report.probes.len());
        text += &format!(
            "\nEach network: {} Hessian-vector products over {} training images, {probes} probes of {} steps, {} points of the curve.\n",
            r.products,
            r.samples,
            r.probes.first().map_or(0, |p| p.steps),
            r.curve.len()
        );
    }
    text
}

/// A rise of the loss in units of the noise; unknown where there is no noise to count by, or the loss blew up.
fn rise(by: f64, epsilon: f64) -> String {
    format::or_unknown(Some(by / epsilon).filter(|r| r.is_finite()), |r| format!("{r:.1} epsilon"))
}

/// A value over sparsity for one kind: the mean over seeds, with the lowest and highest, where all seeds have a point.
fn over_seeds(kind: &str, found: &[Found], value: impl Fn(&Found, usize) -> f64) -> Vec<Point> {
    let own: Vec<&Found> = found.iter().filter(|f| f.kind == kind).collect();
    let Some((first, others)) = own.split_first() else { return Vec::new() };
    let mut points = Vec::new();
    for (at, point) in first.report.curve.iter().enumerate() {
        let place = |f: &&Found| f.report.curve.iter().position(|p| p.removed == point.removed);
        let Some(places) = others.iter().map(place).collect::<Option<Vec<usize>>>() else { continue };
        let mut values = vec![value(first, at)];
        values.extend(others.iter().zip(places).map(|(f, at)| value(f, at)));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let several = values.len() > 1;
        points.push(Point {
            x: point.sparsity,
            y: mean,
            low: several.then(|| values.iter().copied().fold(f64::INFINITY, f64::min)),
            high: several.then(|| values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        });
    }
    points
}

fn marks(kinds: &[Kind]) -> Vec<Mark> {
    let named = |what: &str, k: &Kind| if kinds.len() > 1 { format!("{what}, {}", k.name) } else { what.to_string() };
    let both = |k: &Kind| {
        let predicted = Mark { x: k.predicted.mean, label: named("predicted", k) };
        [predicted, Mark { x: k.measured.mean, label: named("measured", k) }]
    };
    kinds.iter().flat_map(both).collect()
}

/// Accuracy, and training loss as a share of the loss of guessing, in one picture.
fn combined(kinds: &[Kind], found: &[Found], classes: usize) -> Plot {
    let guess = (classes.max(2) as f64).ln();
    let mut series = Vec::new();
    for k in kinds {
        let points = over_seeds(&k.name, found, |f, at| f.report.curve[at].accuracy);
        series.push(Series { name: format!("accuracy, {}", title(&k.name)), points, line: true });
        let points = over_seeds(&k.name, found, |f, at| (f.report.curve[at].train_loss / guess).min(1.0));
        series.push(Series { name: format!("training loss / ln {classes}, {}", title(&k.name)), points, line: true });
        let own = found.iter().filter(|f| f.kind == k.name).flat_map(|f| &f.report.tuned);
        let points: Vec<Point> = own.map(|t| Point::new(t.point.sparsity, t.point.accuracy)).collect();
        if !points.is_empty() {
            series.push(Series { name: format!("fine-tuned, {}", title(&k.name)), points, line: false });
        }
    }
    Plot {
        title: "Accuracy and training loss when the smallest weights are zeroed".into(),
        x_label: "weights removed".into(),
        y_label: "validation accuracy; loss as a share of guessing".into(),
        x_percent: true,
        y_percent: true,
        series,
        marks: marks(kinds),
        ..Plot::default()
    }
}

/// Rise of the training loss in units of the noise, logarithmic: where it crosses 1 is the limit by loss.
fn loss(kinds: &[Kind], found: &[Found]) -> Plot {
    let rise = |f: &Found, at: usize| {
        let r = &f.report;
        ((r.curve[at].train_loss - r.curve[0].train_loss) / r.noise.epsilon).max(1e-3)
    };
    let mut series: Vec<Series> = kinds
        .iter()
        .map(|k| Series { name: title(&k.name).into(), points: over_seeds(&k.name, found, rise), line: true })
        .collect();
    let level = vec![Point::new(0.0, 1.0), Point::new(1.0, 1.0)];
    series.push(Series { name: "noise level".into(), points: level, line: true });
    Plot {
        title: "Rise of the training loss, in units of its mini-batch noise".into(),
        x_label: "weights removed".into(),
        y_label: "loss rise / epsilon".into(),
        x_percent: true,
        log_y: true,
        series,
        marks: marks(kinds),
        ..Plot::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_sparsity_is_counted_over() {
        let of = |set| competing(&LimitSettings { set, ..LimitSettings::default() });
        assert_eq!(of(PrunableSet::ALL), "the weights of all layers");
        let part = PrunableSet { first: true, last: false, depthwise: false };
        assert_eq!(of(part), "the weights of all layers but the classifier and depthwise convolutions");
        let all = LimitSettings { all_parameters: true, set: part, ..LimitSettings::default() };
        assert_eq!(competing(&all), "all weights and biases");
    }

    #[test]
    fn a_rise_is_counted_in_noise_where_there_is_any() {
        assert_eq!(rise(0.3, 0.1), "3.0 epsilon");
        for (by, epsilon) in [(0.0, 0.0), (0.3, 0.0), (f64::NAN, 0.1), (f64::INFINITY, 0.1)] {
            assert_eq!(rise(by, epsilon), format::UNKNOWN, "{by} {epsilon}");
        }
    }
}
