//! A made-up run, shaped like a real one, for the exporter tests. No number in it was measured.

use sentei_report::compare::{Comparison, Gate};
use sentei_report::export::Pictures;
use sentei_report::record::*;

const CLASSES: [&str; 6] = ["ok", "scratch", "pit", "inclusion", "crack", "<patch> & \"co\""];

/// A run with a dense model and three pruned ones, of which the second is chosen.
pub fn record() -> RunRecord {
    let sparsities = [0.8, 0.9, 0.95];
    let baseline = variant("dense", 0.0, 4, [195, 189, 192, 187, 190, 194]);
    let baseline_row = row("dense", 4_100_000, &baseline);
    let mut record = RunRecord {
        schema: SCHEMA,
        name: "inspect-90".into(),
        created: "2026-01-01T08:00:00Z".into(),
        command: "sentei shrink --seed 7 --sparsity 0.9".into(),
        seed: 7,
        recipe: "[prune]\nmethod = \"magnitude\"\nsparsity = 0.9\n".into(),
        versions: [("sentei", "0.1.0"), ("tract", "0.23.9")].map(|(k, v)| (k.into(), v.into())).into(),
        machine: machine(),
        dataset: dataset(),
        baseline,
        chosen: 1,
        curves: curves(),
        sensitivity: sensitivity(),
        equivalence: Some(Equivalence {
            inputs: 8,
            max_abs_error: 0.0,
            max_ulp: Some(0),
            tolerance: 1e-6,
            layers: vec![],
        }),
        phases: [("train", 141.0), ("prune and retrain", 96.5), ("measure", 21.25)]
            .map(|(phase, seconds)| PhaseTime { phase: phase.into(), seconds })
            .into(),
        files: vec![FileHash { path: "model.onnx".into(), bytes: 61_400, sha256: "ab".repeat(32) }],
        ..RunRecord::default()
    };
    let right = [[195, 188, 192, 187, 190, 194], [194, 188, 191, 185, 190, 193], [190, 175, 183, 160, 181, 188]];
    for (index, sparsity) in sparsities.into_iter().enumerate() {
        let name = format!("{:.0} % sparse", sparsity * 100.0);
        record.pruned.push(variant(&name, sparsity, 5 + index as u64, right[index]));
    }
    let mut rows = vec![baseline_row];
    let medians = [2_900_000, 1_900_000, 1_350_000];
    rows.extend(record.pruned.iter().zip(medians).map(|(variant, ns)| row(&variant.name, ns, variant)));
    record.benches = vec![Bench { machine: machine(), threads: 2, interleaved: true, rows, board: None }];
    record.pruned[1].flips = flips();
    let gate = Gate {
        max_accuracy_drop_points: Some(1.0),
        min_size_ratio: Some(6.0),
        max_latency_ratio: Some(1.0),
        min_recall: Some(0.9),
    };
    record.gate = Some(gate.check(&Comparison::of(&record, &record.pruned[1])));
    record
}

/// Two tiny but valid PNG files (1x1 grey) for two of the flips, and a file that is no picture.
pub fn pictures() -> Pictures {
    let png = [
        0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0,
        0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x68, 0, 0, 0, 0x82, 0,
        0x81, 0x77, 0xcd, 0x72, 0xb6, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
    ];
    let named = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    [named("test/scratch/0003.png", &png), named("test/ok/0017.png", &png), named("test/crack/0041.png", b"<svg>")]
        .into()
}

fn machine() -> Machine {
    Machine {
        cpu_model: "Example CPU 2.1 GHz".into(),
        cores: 2,
        memory_bytes: 8 << 30,
        os: "linux".into(),
        arch: "x86_64".into(),
        kernel: "6.1.0".into(),
        governor: Some("performance".into()),
        ..Machine::default()
    }
}

fn dataset() -> Dataset {
    let split = |name: &str, n: u64| Split { name: name.into(), counts: vec![n; 6] };
    Dataset {
        name: "embedded inspection set".into(),
        classes: CLASSES.map(String::from).to_vec(),
        ok_class: Some(0),
        input: vec![1, 64, 64],
        splits: vec![split("train", 700), split("val", 100), split("test", 200)],
        manifest_sha256: Some("cd".repeat(32)),
    }
}

fn variant(name: &str, sparsity: f64, alarms: u64, right: [u64; 6]) -> Variant {
    let mut confusion = vec![vec![0; 6]; 6];
    for class in 0..6 {
        confusion[class][class] = right[class];
        confusion[class][(class + 1) % 6] += (200 - right[class]) / 2;
        confusion[class][0] += 200 - right[class] - (200 - right[class]) / 2;
    }
    confusion[0][0] = right[0];
    confusion[0][2] += 200 - confusion[0].iter().sum::<u64>();
    let point = |rate, hits| FalseAlarmPoint {
        rate,
        threshold: 0.4,
        from_validation: true,
        chosen_on: 100,
        false_alarms: proportion(alarms, 200),
        recall: proportion(hits, 1000),
        by_class: vec![],
    };
    let lost = (right[1..].iter().sum::<u64>()).min(1000);
    let quality = Quality {
        classes: CLASSES.map(String::from).to_vec(),
        ok_class: Some(0),
        confusion,
        false_alarms: vec![point(0.01, lost - 20), point(0.05, lost + 8)],
    };
    let kept = 1.0 - sparsity;
    let layers = layers(kept);
    let sum = |f: fn(&LayerRow) -> u64| layers.iter().map(f).sum::<u64>();
    let values = sum(|layer| layer.nonzero) * 4;
    let positions = if sparsity > 0.0 { sum(|layer| layer.nonzero) } else { 0 };
    let part = |part: &str, bytes| SizePart { part: part.into(), bytes };
    let file_bytes = values + positions + 2_900;
    Variant {
        name: name.into(),
        sparsity,
        quality_val: None,
        quality_test: Some(quality),
        work: Work {
            params: sum(|layer| layer.weights) + 214,
            nonzero: sum(|layer| layer.nonzero) + 214,
            macs: sum(|layer| layer.macs),
            dense_macs: sum(|layer| layer.dense_macs),
        },
        memory: Some(Memory {
            file_bytes,
            gzip_bytes: Some(file_bytes * 93 / 100),
            weight_bytes: Some(values + positions + 856),
            arena_bytes: Some(393_216),
            peak_heap_bytes: Some(3_000_000 + 2 * file_bytes),
            steady_rss_bytes: Some(17_000_000 + 2 * file_bytes),
            peak_rss_bytes: Some(19_000_000 + 3 * file_bytes),
            baseline_rss_bytes: Some(9_000_000),
        }),
        layers,
        size: vec![part("values", values), part("positions", positions), part("biases", 856), part("graph", 2_044)],
        flips: vec![],
    }
}

fn proportion(hits: u64, total: u64) -> sentei_report::stats::Proportion {
    sentei_report::stats::Proportion { hits, total }
}

fn layers(kept: f64) -> Vec<LayerRow> {
    let shapes = [[16, 1, 3, 3], [32, 16, 3, 3], [64, 32, 3, 3], [96, 64, 3, 3], [6, 96, 1, 1]];
    let pixels = [4096, 1024, 1024, 256, 1];
    let layer = |(index, (shape, pixels)): (usize, ([usize; 4], u64))| {
        let weights = shape.iter().product::<usize>() as u64;
        let dense = index == 0 || kept == 1.0;
        let nonzero = if dense { weights } else { (weights as f64 * kept).round() as u64 };
        LayerRow {
            name: if index == 4 { "fc".into() } else { format!("conv{}", index + 1) },
            op: if index == 4 { "Gemm".into() } else { "Conv".into() },
            shape: shape.to_vec(),
            weights,
            nonzero,
            bytes: nonzero * if dense { 4 } else { 5 },
            macs: nonzero * pixels,
            dense_macs: weights * pixels,
            kernel: Some(if dense { "tract_dense".into() } else { "f32_planes_8x1_avx2".into() }),
            time_ns: Some(20_000 + nonzero * pixels / 20),
            reason: Some(if dense { "dense is faster at this density".into() } else { "timed at load".into() }),
        }
    };
    shapes.into_iter().zip(pixels).enumerate().map(layer).collect()
}

fn row(model: &str, ns: u64, variant: &Variant) -> BenchRow {
    let noise = |i: u64| {
        (i * (ns / 10_000) % 101 + i * 7_919 % 37) * ns / 3_000 + if i.is_multiple_of(41) { ns / 5 } else { 0 }
    };
    BenchRow {
        model: model.into(),
        engine: Engine { name: "tract".into(), version: "0.23.9".into(), provider: "cpu".into(), threads: 2 },
        load_ns: Some(18_000_000),
        first_ns: Some(ns * 2),
        latency: Latency { warmup: 10, samples_ns: (0..200).map(|i| ns + noise(i)).collect() },
        memory: variant.memory.clone(),
        ..BenchRow::default()
    }
}

fn curves() -> Vec<EpochRow> {
    let mut rows = Vec::new();
    for (phase, epochs, start, density) in [
        ("train", 20, 1.7, 1.0),
        ("retrain 80 %", 6, 0.22, 0.2),
        ("retrain 90 %", 6, 0.3, 0.1),
        ("retrain 95 %", 6, 0.5, 0.05),
    ] {
        for epoch in 1..=epochs {
            let loss = start * (-0.2 * epoch as f64).exp() + 0.06;
            let wobble = ((epoch * 13 % 7) as f64 - 3.0) * 0.004;
            rows.push(EpochRow {
                phase: phase.into(),
                epoch,
                train_loss: loss,
                train_accuracy: (1.0 - loss * 0.4).max(0.2),
                val_loss: Some(loss * 1.15 + 0.03 + wobble),
                val_accuracy: Some((0.985 - loss * 0.45 + wobble).max(0.17)),
                density,
                learning_rate: 0.05,
                seconds: 6.5,
            });
        }
    }
    rows
}

fn sensitivity() -> Vec<SensitivityScan> {
    let scan = |(index, layer): (usize, &str)| SensitivityScan {
        layer: layer.into(),
        points: [0.5, 0.7, 0.8, 0.9, 0.95]
            .map(|sparsity: f64| SensitivityPoint {
                sparsity,
                accuracy: 0.962 - sparsity.powi(4 + index as i32) * 0.3 / (1.0 + index as f64),
            })
            .to_vec(),
    };
    ["conv1", "conv2", "conv3", "conv4", "fc"].into_iter().enumerate().map(scan).collect()
}

fn flips() -> Vec<Flip> {
    let flip = |sample: &str, label, before, after| Flip {
        sample: sample.into(),
        label,
        before,
        after,
        before_score: 0.61,
        after_score: 0.55,
    };
    vec![
        flip("test/scratch/0003.png", 1, 1, 0),
        flip("test/crack/0041.png", 4, 4, 5),
        flip("test/<img src=x onerror=alert(1)>.png", 5, 5, 2),
        flip("test/ok/0017.png", 0, 2, 0),
        flip("test/pit/0111.png", 2, 3, 1),
    ]
}
