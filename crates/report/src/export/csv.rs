//! Raw numbers for spreadsheets, comma separated with one head line (RFC 4180).

use crate::record::{RunRecord, SplitScores, SweepResult};

/// One line per variant and layer. Times in nanoseconds, empty where not measured.
pub fn layers_csv(record: &RunRecord) -> String {
    let head = "model,layer,op,shape,weights,nonzero,bytes,macs,dense_macs,kernel,time_ns,reason";
    let mut text = line(head.split(','));
    for variant in record.variants() {
        for layer in &variant.layers {
            let shape: Vec<String> = layer.shape.iter().map(ToString::to_string).collect();
            let numbers =
                [layer.weights, layer.nonzero, layer.bytes, layer.macs, layer.dense_macs].map(|n| n.to_string());
            let [weights, nonzero, bytes, macs, dense_macs] = &numbers;
            let time = layer.time_ns.map_or_else(String::new, |ns| ns.to_string());
            text += &line([
                &variant.name,
                &layer.name,
                &layer.op,
                shape.join("x").as_str(),
                weights,
                nonzero,
                bytes,
                macs,
                dense_macs,
                layer.kernel.as_deref().unwrap_or_default(),
                &time,
                layer.reason.as_deref().unwrap_or_default(),
            ]);
        }
    }
    text
}

/// One line per latency sample, in nanoseconds, in the order taken.
pub fn latency_csv(record: &RunRecord) -> String {
    let mut text = line(["model", "engine", "provider", "threads", "round", "nanoseconds"]);
    for row in record.benches.iter().flat_map(|bench| &bench.rows) {
        for (round, ns) in row.latency.samples_ns.iter().enumerate() {
            let (threads, round, ns) = (row.engine.threads.to_string(), round.to_string(), ns.to_string());
            text += &line([row.model.as_str(), &row.engine.name, &row.engine.provider, &threads, &round, &ns]);
        }
    }
    text
}

/// One line per finished job of a sweep; empty where a split is missing.
pub fn sweep_csv(results: &[SweepResult]) -> String {
    let head = "method,sparsity,seed,density,nonzero,params,val_accuracy,val_balanced_accuracy,test_accuracy,\
                test_balanced_accuracy,epochs,parent_epochs,seconds";
    let mut text = line(head.split(','));
    for result in results {
        let rate = |scores: &Option<SplitScores>, of: fn(&SplitScores) -> f64| {
            scores.as_ref().map_or_else(String::new, |s| of(s).to_string())
        };
        let accuracy: fn(&SplitScores) -> f64 = |scores| scores.accuracy;
        let balanced: fn(&SplitScores) -> f64 = |scores| scores.balanced_accuracy;
        let fields = [
            result.job.method.clone(),
            result.job.sparsity.to_string(),
            result.job.seed.to_string(),
            result.density.to_string(),
            result.nonzero.to_string(),
            result.params.to_string(),
            rate(&result.val, accuracy),
            rate(&result.val, balanced),
            rate(&result.test, accuracy),
            rate(&result.test, balanced),
            result.epochs.to_string(),
            result.parent_epochs.to_string(),
            format!("{:.2}", result.seconds),
        ];
        text += &line(fields.iter().map(String::as_str));
    }
    text
}

fn line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    fields.into_iter().map(quote).collect::<Vec<_>>().join(",") + "\r\n"
}

/// Quotes what would break a line, and defuses what a spreadsheet would run as a formula.
fn quote(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']);
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Bench, BenchRow, Engine, Latency, LayerRow, Variant};

    #[test]
    fn layers_keep_raw_numbers_and_quote_names() {
        let layer = LayerRow {
            name: "conv,1".into(),
            op: "Conv".into(),
            shape: vec![8, 1, 3, 3],
            weights: 72,
            nonzero: 7,
            ..LayerRow::default()
        };
        let baseline = Variant { name: "dense \"a\"".into(), layers: vec![layer], ..Variant::default() };
        let text = layers_csv(&RunRecord { baseline, ..RunRecord::default() });
        assert_eq!(text.lines().nth(1), Some(r#""dense ""a""","conv,1",Conv,8x1x3x3,72,7,0,0,0,,,"#));
    }

    #[test]
    fn a_job_of_a_sweep_is_one_line() {
        let (_, results) = crate::sweep::tests::example();
        let text = sweep_csv(&results[..2]);
        assert_eq!(text.lines().nth(2), Some("a,0.9,0,0.09999999999999998,10,100,0.8,0.4,0.8,0.4,2,1,3.00"));
        assert_eq!(text.lines().next().map(|l| l.split(',').count()), Some(13));
    }

    #[test]
    fn samples_come_in_the_order_taken() {
        let engine = Engine { name: "tract".into(), provider: "cpu".into(), threads: 2, ..Engine::default() };
        let latency = Latency { warmup: 0, samples_ns: vec![9, 7] };
        let row = BenchRow { model: "=m".into(), engine, latency, ..BenchRow::default() };
        let benches = vec![Bench { rows: vec![row], ..Bench::default() }];
        let text = latency_csv(&RunRecord { benches, ..RunRecord::default() });
        assert!(text.ends_with("'=m,tract,cpu,2,0,9\r\n'=m,tract,cpu,2,1,7\r\n"), "{text}");
    }
}
