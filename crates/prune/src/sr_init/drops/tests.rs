use candle_core::Tensor;
use sentei_graph::passes::remove_blocks;

use super::*;
use crate::Masks;
use crate::config::TrainConfig;
use crate::sr_init::{Metric, Selection, greedy, select};
use crate::testing::{Harness, bits};
use crate::train::{Plan, train};

/// Five blocks of one stage on 4x4 images; the branch of block `gated` ends in a gate of exactly 0.
fn residual(gated: Option<usize>) -> Graph {
    let norm = |name: &str| format!("{name}g[4]=1, {name}b[4]=0, {name}m[4]=0, {name}v[4]=1");
    let mut text = format!(
        "x = input f32[1,1,4,4]\nstem = Conv(x, w[4,1,3,3]) pad=1\nn = BatchNorm(stem, {})\na0 = Relu(n)\n",
        norm("s")
    );
    for i in 0..5 {
        text += &format!("c{i} = Conv(a{i}, w{i}[4,4,3,3]) pad=1\nn{i} = BatchNorm(c{i}, {})\n", norm(&i.to_string()));
        let end = if gated == Some(i) {
            format!("z{i} = Mul(n{i}, gate[1]=0)\ns{i} = Add(z{i}, a{i})\n")
        } else {
            format!("s{i} = Add(n{i}, a{i})\n")
        };
        text += &format!("{end}a{} = Relu(s{i})\n", i + 1);
    }
    text += "f = Flatten(a5)\ny = Gemm(f, last[3,64], bias[3]=0)";
    Graph::parse(&text).unwrap()
}

fn trained(graph: &Graph, harness: &mut Harness) -> Graph {
    let mut net = Net::new(graph, &Device::Cpu).unwrap();
    let config = TrainConfig { epochs: 12, batch_size: 30, learning_rate: 0.05, seed: 4, ..TrainConfig::default() };
    harness.with_run(|run| train(&mut net, Plan::new("train", &config, &Masks::default()), run)).unwrap();
    net.to_graph().unwrap()
}

fn ranked(graph: &Graph, how: &SrInit) -> Ranking {
    Harness::new().with_run(|run| rank(graph, how, Which::All, &Device::Cpu, run)).unwrap()
}

#[test]
fn sr_init_oracle_1_a_blocks_own_parameters_cost_exactly_nothing() {
    let graph = residual(None);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let all = blocks(&graph).unwrap();
    let how = SrInit { repeats: 2, ..SrInit::default() };
    let own = |block: usize| -> Overrides {
        let values = fresh_values(&graph, all[block].nodes(), 1, 0).into_iter();
        overrides(
            &graph,
            values.map(|(id, _)| (id, graph.initializer(id).unwrap().data.clone())).collect(),
            &Device::Cpu,
        )
        .unwrap()
    };
    let x = Tensor::rand(-1f32, 1., (7, 1, 4, 4), &Device::Cpu).unwrap();
    let logits = |over: &Overrides| {
        let y = net.finish(net.start(&x).unwrap(), over).unwrap().flatten_all().unwrap();
        y.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert!((0..5).all(|block| logits(&own(block)) == logits(&Overrides::new())));
    assert_ne!(
        logits(&overrides(&graph, fresh_values(&graph, all[1].nodes(), 1, 0), &Device::Cpu).unwrap()),
        logits(&own(1))
    );

    let scan = Scan { net: &net, all: &all, how: &how };
    let found = Harness::new().with_run(|run| {
        let images = validation(&how, run).unwrap().all;
        scan.measure_with(&[0, 1, 2, 3, 4], &images, run, &|block, _| Ok(own(block)))
    });
    let (baseline, rows) = found.unwrap();
    assert!(rows.iter().all(|row| row.drops == [0.0, 0.0]), "{rows:?}");

    // Measuring with fresh values leaves the network as it was, to the bit, and its metric too.
    let mut harness = Harness::new();
    for mode in [BnMode::FreshBn, BnMode::RecalibratedBn] {
        let how = SrInit { mode, ..how.clone() };
        let scan = Scan { net: &net, all: &all, how: &how };
        let indices = harness.data.indices(Split::Val);
        let (again, _) = harness.with_run(|run| scan.measure(&[0, 1, 2, 3, 4], &indices, run)).unwrap();
        assert_eq!(again, baseline);
        assert_eq!(bits(&net.to_graph().unwrap()), bits(&graph));
    }
    let data = harness.data.clone();
    let whole = crate::evaluate(&mut net, &data, &data.indices(Split::Val), &harness.normalise).unwrap();
    assert_eq!(whole.accuracy(), baseline);
}

#[test]
fn sr_init_oracle_2_a_gated_block_costs_nothing_ranks_first_and_leaves_no_trace() {
    let mut harness = Harness::new();
    let graph = trained(&residual(Some(3)), &mut harness);
    for mode in [BnMode::FreshBn, BnMode::RecalibratedBn] {
        let found = ranked(&graph, &SrInit { mode, ..SrInit::default() });
        assert!(found.baseline > 0.6, "the network has learnt something: {}", found.baseline);
        assert_eq!(found.drops[3].drops, [0.0; 3]);
        assert_eq!(select(&found.blocks, &found.drops, Selection::Count(1)), [3], "{:?}", found.drops);
        assert!(found.drops.iter().filter(|d| d.block != 3).any(|d| d.mean() > 0.05), "{:?}", found.drops);
    }
    let small = remove_blocks(graph.clone(), &[3]).unwrap().graph;
    let x = Tensor::rand(-1f32, 1., (9, 1, 4, 4), &Device::Cpu).unwrap();
    let outputs = |graph: &Graph| {
        let mut net = Net::new(graph, &Device::Cpu).unwrap();
        let y = net.forward(&x, crate::Mode::Eval).unwrap().flatten_all().unwrap();
        y.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(outputs(&small), outputs(&graph));
}

#[test]
fn sr_init_oracle_5_the_same_seed_ranks_the_same() {
    let graph = residual(None);
    let how = SrInit { samples: Some(40), rerank: 2, ..SrInit::default() };
    let (once, again) = (ranked(&graph, &how), ranked(&graph, &how));
    assert_eq!(once, again);
    let other = ranked(&graph, &SrInit { seed: 9, ..how });
    assert_ne!(once.drops, other.drops);
}

#[test]
fn the_cheapest_candidates_are_measured_again_on_all_images() {
    let graph = residual(None);
    let found = ranked(&graph, &SrInit { samples: Some(40), rerank: 2, ..SrInit::default() });
    assert_eq!(found.samples, 40);
    let full: Vec<usize> = found.drops.iter().filter(|d| d.samples == 90).map(|d| d.block).collect();
    assert_eq!(full.len(), 2);
    assert!(!full.contains(&0), "the entry of a stage is no candidate");
    let whole = ranked(&graph, &SrInit::default());
    for block in full {
        assert_eq!(found.drops[block], whole.drops[block]);
    }
}

#[test]
fn every_calibration_batch_of_a_set_stored_class_by_class_holds_all_classes() {
    // ten classes of 200 images, one after another
    let stored: Vec<usize> = (0..2000).collect();
    let images = drawn(&stored, 4 * BATCH, 0, "sr-init calibration");
    assert_eq!(images.len(), 4 * BATCH);
    for batch in images.chunks(BATCH) {
        let mut of_class = [0; 10];
        batch.iter().for_each(|image| of_class[image / 200] += 1);
        assert!(of_class.iter().all(|n| *n > 5), "{of_class:?}");
    }
}

#[test]
fn recalibrated_norms_give_a_fresh_block_unit_variance_where_fresh_ones_do_not() {
    let graph = residual(None);
    let net = Net::new(&graph, &Device::Cpu).unwrap();
    let all = blocks(&graph).unwrap();
    let how = SrInit { mode: BnMode::RecalibratedBn, repeats: 1, ..SrInit::default() };
    let mut harness = Harness::new();
    let scan = Scan { net: &net, all: &all, how: &how };
    let found = harness.with_run(|run| scan.recalibrated(&[2], run)).unwrap();
    let mut over = scan.fresh(2, 0).unwrap();
    let spread = |over: &Overrides| {
        let images = harness.data.indices(Split::Train);
        let batch = batches(&harness.data, &images, images.len(), Order::Sequential, None, &harness.normalise).next();
        let (x, _) = to_tensors(&net, batch.unwrap()).unwrap();
        let span = net.span(all[2].nodes()).unwrap();
        let mut pass = net.start(&x).unwrap();
        net.advance(&mut pass, span.end, over, None).unwrap();
        let y = pass.value(graph.value("n2").unwrap()).unwrap();
        crate::batch_norm::statistics(&y).unwrap().variance.to_vec1::<f32>().unwrap()
    };
    assert!(spread(&over).iter().any(|v| (v - 1.0).abs() > 0.2), "{:?}", spread(&over));
    over.extend(found[&(2, 0)].clone());
    assert!(spread(&over).iter().all(|v| (v - 1.0).abs() < 0.02), "{:?}", spread(&over));
}

#[test]
fn greedy_measures_again_after_each_removal_and_stops_where_told() {
    let mut harness = Harness::new();
    let graph = trained(&residual(Some(3)), &mut harness);
    let how = SrInit { repeats: 2, ..SrInit::default() };
    let mut run = |until| harness.with_run(|run| greedy(&graph, &how, until, &Device::Cpu, run));
    let two = run(Selection::Count(2)).unwrap();
    assert_eq!(two.removals[0].cost.block, 3, "the gated block goes first");
    assert_eq!((two.numbers().len(), blocks(&two.graph).unwrap().len()), (2, 3));
    assert_eq!(two.graph, remove_blocks(graph.clone(), &two.numbers()).unwrap().graph);
    assert_eq!(run(Selection::Threshold(-2.0)).unwrap().numbers(), [0; 0]);
    assert_eq!(run(Selection::Count(99)).unwrap().numbers(), [1, 2, 3, 4], "the entry of the stage stays");
    assert!(matches!(run(Selection::LargestGap), Err(TrainError::GreedyGap)));
}

#[test]
fn a_metric_other_than_accuracy_ranks_by_itself() {
    let graph = residual(None);
    let recall = Metric::Recall { ok: 0, false_alarms: 0.05 };
    let by = |metric| ranked(&graph, &SrInit { metric, ..SrInit::default() });
    assert_ne!(by(recall).baseline, by(Metric::Accuracy).baseline);
}
