//! What a network does right after blocks have left it, before any fine-tuning: drops are measured one block at a time, and
//! blocks that are cheap alone can be dear together.

use candle_core::Device;
use sentei_graph::Graph;
use sentei_graph::passes::remove_blocks;

use super::SrInit;
use super::drops::validation;
use crate::Net;
use crate::evaluate::evaluate;
use crate::train::{Run, TrainError};

/// Metric of `graph` without the blocks of each of `sets`, as a fraction, on the images that [`super::rank`] ranks on.
///
/// * `sets`: numbers of blocks as in [`sentei_graph::blocks::blocks`]; an empty set is the network itself.
///
/// # Errors
/// [`TrainError::Block`] when a block cannot go, [`TrainError::NoValidation`] without a validation split.
pub fn without(
    graph: &Graph,
    sets: &[Vec<usize>],
    how: &SrInit,
    device: &Device,
    run: &mut Run,
) -> Result<Vec<f64>, TrainError> {
    let images = validation(how, run)?.subset;
    let metric = |set: &Vec<usize>| {
        let smaller = if set.is_empty() { graph.clone() } else { remove_blocks(graph.clone(), set)?.graph };
        how.metric.of(&evaluate(&mut Net::new(&smaller, device)?, run.data, &images, run.normalise)?)
    };
    sets.iter().map(metric).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sentei_data::{InspectionSpec, Normalise, Split, inspection};
    use sentei_graph::blocks::blocks;

    use super::super::{Which, rank};
    use super::*;
    use crate::train::Stop;

    #[test]
    fn nothing_removed_is_the_baseline_and_a_block_that_cannot_go_is_an_error() {
        let spec = InspectionSpec { height: 16, width: 16, train: 24, val: 40, test: 6 };
        let data = Arc::new(inspection(&spec, 3));
        let spec = sentei_models::Spec { channels: 1, height: 16, width: 16, classes: data.classes.len(), seed: 3 };
        let graph = sentei_models::build("resnet8", &spec).unwrap();
        let normalise = Normalise::of(&data, Split::Train);
        let (stop, mut events) = (Stop::never(), Vec::new());
        let mut run = Run { data: &data, normalise: &normalise, events: &mut events, stop: &stop, checkpoint: None };
        let how = SrInit { repeats: 1, samples: Some(17), rerank: 0, ..SrInit::default() };
        let ranking = rank(&graph, &how, Which::All, &Device::Cpu, &mut run).unwrap();
        let found = without(&graph, &[vec![], vec![]], &how, &Device::Cpu, &mut run).unwrap();
        assert_eq!(found, [ranking.baseline; 2]);
        let stays = blocks(&graph).unwrap().iter().position(|b| !b.is_removable()).expect("resnet8 has such a block");
        assert!(without(&graph, &[vec![stays]], &how, &Device::Cpu, &mut run).is_err());
    }
}
