//! SR-init on the architectures of the paper: what removal leaves, to the last parameter and multiply-add.
//! Source: Tang, Lu & Xuan 2023 (arXiv:2303.07677).

use sentei_graph::Graph;
use sentei_graph::blocks::{Block, blocks};
use sentei_graph::passes::remove_blocks;
use sentei_models::Spec;

fn built(name: &str, side: usize, classes: usize) -> Graph {
    sentei_models::build(name, &Spec { channels: 3, height: side, width: side, classes, seed: 1 }).unwrap()
}

/// Trainable numbers and multiply-adds per sample.
fn size(graph: &Graph) -> (usize, u64) {
    let trainable = graph.parameters().into_iter().filter(|(_, role)| role.is_trainable());
    let parameters = trainable.map(|(id, _)| graph.initializer(id).unwrap().len()).sum();
    (parameters, graph.macs().unwrap().iter().map(|(_, n)| n).sum())
}

fn per_stage(graph: &Graph) -> Vec<usize> {
    let mut counts = Vec::new();
    for block in blocks(graph).unwrap() {
        if block.stage_entry {
            counts.push(0);
        }
        *counts.last_mut().unwrap() += 1;
    }
    counts
}

#[test]
fn sr_init_oracle_6_blocks_are_counted_as_in_the_paper() {
    for (name, side, stages) in
        [("resnet56", 32, vec![9, 9, 9]), ("resnet110", 32, vec![18, 18, 18]), ("resnet50", 64, vec![3, 4, 6, 3])]
    {
        let graph = built(name, side, 10);
        assert_eq!(per_stage(&graph), stages, "{name}");
        let entries = blocks(&graph).unwrap().into_iter().filter(|b| b.stage_entry);
        assert!(entries.skip(1).all(|b| !b.is_removable()), "{name}");
    }
}

#[test]
fn sr_init_oracle_6_parameters_and_macs_of_every_row_of_the_card() {
    let cifar10 = built("resnet56", 32, 10);
    assert_eq!(size(&cifar10), (853_018, 125_485_696));
    let removed = [1, 8, 17, 19, 21, 22, 23, 24, 25, 26];
    let small = remove_blocks(cifar10, &removed).unwrap().graph;
    assert_eq!(size(&small), (307_226, 78_299_776));
    assert_eq!(per_stage(&small), [7, 8, 2]);

    let cifar100 = built("resnet56", 32, 100);
    assert_eq!(size(&cifar100), (858_868, 125_491_456));
    let small = remove_blocks(cifar100, &[1, 3, 17, 23, 24, 25, 26]).unwrap().graph;
    assert_eq!(size(&small), (535_028, 92_461_312));
    assert_eq!(per_stage(&small), [7, 8, 5]);

    let deep = built("resnet110", 32, 100);
    assert_eq!(size(&deep), (1_733_812, 252_893_440));
    let removed: Vec<usize> = [1].into_iter().chain(47..54).collect();
    let small = remove_blocks(deep, &removed).unwrap().graph;
    assert_eq!(per_stage(&small), [17, 18, 11]);
    assert_eq!(size(&small), (1_211_252, 215_144_704));

    let large = built("resnet50", 224, 1000);
    assert_eq!(size(&large), (25_557_032, 4_089_184_256));
    let small = remove_blocks(large.clone(), &[8, 14, 15]).unwrap().graph;
    assert_eq!((per_stage(&small), size(&small)), (vec![3, 4, 5, 1], (15_514_664, 3_434_086_400)));
    let small = remove_blocks(large, &[1, 8, 9, 10, 14, 15]).unwrap().graph;
    assert_eq!((per_stage(&small), size(&small)), (vec![2, 4, 3, 1], (13_209_896, 2_778_988_544)));
}

#[test]
fn sr_init_oracle_3_shapes_hold_and_counts_are_sums_of_the_blocks() {
    let graph = built("resnet56", 32, 10);
    let all = blocks(&graph).unwrap();
    let (parameters, macs) = size(&graph);
    for set in
        [vec![1], vec![2, 3, 4], all.iter().enumerate().filter(|(_, b)| b.is_removable()).map(|(i, _)| i).collect()]
    {
        let small = remove_blocks(graph.clone(), &set).unwrap().graph;
        small.check().unwrap();
        let gone = |count: fn(&Block) -> u64| set.iter().map(|i| count(&all[*i])).sum::<u64>();
        let expected = (parameters - gone(|b| b.parameters) as usize, macs - gone(|b| b.macs));
        assert_eq!(size(&small), expected, "{set:?}");
        assert_eq!(blocks(&small).unwrap().len(), all.len() - set.len());
    }
}

/// The end of a branch scaled and shifted to exactly 0.
fn silenced(graph: &Graph, block: &Block) -> Graph {
    let mut silent = graph.clone();
    let last = block.branch.iter().rev().find(|id| matches!(graph.op(**id), sentei_graph::Op::BatchNorm(_))).unwrap();
    for input in &graph.node(*last).inputs[1..3] {
        let zeros = sentei_graph::Tensor::full(graph.initializer(*input).unwrap().shape.clone(), 0.0);
        silent.set_initializer(*input, zeros);
    }
    silent
}

#[test]
fn sr_init_oracle_4_removing_a_block_is_replacing_its_branch_by_zero() {
    let graph = built("resnet20", 16, 10);
    let pixels = (0..3 * 16 * 16).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let feed = [sentei_graph::Tensor::new([1, 3, 16, 16], pixels)];
    let all = blocks(&graph).unwrap();
    let removable: Vec<usize> = (0..all.len()).filter(|i| all[*i].is_removable()).collect();
    assert_eq!(removable, [0, 1, 2, 4, 5, 7, 8]);
    let whole = graph.eval(&feed).unwrap().remove(0);
    let mut sets: Vec<Vec<usize>> = removable.iter().map(|i| vec![*i]).collect();
    sets.push(removable);
    for set in sets {
        let masked = set.iter().fold(graph.clone(), |g, i| silenced(&g, &all[*i])).eval(&feed).unwrap().remove(0);
        let removed = remove_blocks(graph.clone(), &set).unwrap().graph.eval(&feed).unwrap().remove(0);
        let largest = masked.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let error = masked.data.iter().zip(&removed.data).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(error <= 1e-6 * largest.max(1.0), "{set:?}: {error}");
        assert_ne!(removed, whole, "{set:?} did something");
    }
}
