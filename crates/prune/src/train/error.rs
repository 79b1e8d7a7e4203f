//! Why training, pruning or evaluation ended early.

use sentei_graph::passes::{BlockError, PassError};

use crate::PruneError;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::granularity::Granularity;
use crate::masks::MaskError;

/// Why training, pruning or evaluation ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The network cannot be run.
    #[error(transparent)]
    Net(Box<PruneError>),
    /// The tensor library refused.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Weights cannot be selected.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A checkpoint cannot be read, written or resumed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A value in the recipe cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A rewrite of the pruned graph failed.
    #[error("removing dead units: {0}")]
    Rewrite(Box<PassError>),
    /// The loss is NaN or infinite.
    #[error(
        "{phase}: the loss is {loss} in epoch {epoch}, step {step}; lower --learning-rate (it was {learning_rate:.3e} there)"
    )]
    Diverged {
        /// Phase of the run.
        phase: String,
        /// Epoch within the phase, from 1.
        epoch: u64,
        /// Step within the phase, from 0.
        step: u64,
        /// The loss found.
        loss: f64,
        /// Learning rate of that step.
        learning_rate: f64,
    },
    /// There is nothing to train on.
    #[error("data set `{0}` has no sample in its train split")]
    NoTraining(String),
    /// There is nothing to judge by.
    #[error("data set `{0}` has no sample in its val split; {1} needs one")]
    NoValidation(String, &'static str),
    /// The network and the data disagree about the number of classes.
    #[error(
        "the network has {found} outputs but the data set has {expected} classes; choose another --model or --data"
    )]
    Classes {
        /// Classes of the data set.
        expected: usize,
        /// Outputs of the network.
        found: usize,
    },
    /// A score needs images and there are none.
    #[error(
        "score `{0}` looks at the gradients of images and got none; leave --no-retrain out, or choose magnitude, synflow or random"
    )]
    NoScoreData(&'static str),
    /// The curvature of the loss cannot be measured.
    #[error("curvature: {0}")]
    Curvature(String),
    /// No layer is left to prune.
    #[error("no layer is prunable; see prune_first, prune_last and prune_depthwise")]
    NothingPrunable,
    /// Every layer has fewer input channels than a group of the pattern.
    #[error("granularity {0}: no prunable layer has the input channels of one group, so all would stay dense")]
    PatternFitsNothing(Granularity),
    /// A method that prunes a trained network got none.
    #[error(
        "this method prunes a trained network and there is none; train one first, or choose a method that starts fresh"
    )]
    NoTrainedParent,
    /// A method that goes back to initial weights got none.
    #[error("this method needs the network's initial weights; give them with --initial, or choose another method")]
    NoInitialWeights,
    /// Recall cannot be counted.
    #[error("recall at a false-alarm rate needs validation images of the class without defect and of defects")]
    NoDefects,
    /// No block can be ranked.
    #[error(
        "none of the {0} blocks of this network can be removed: a shortcut must be the identity (a convolution must keep \
         its shape) and the first block of a stage stays"
    )]
    NoBlocks(usize),
    /// The largest gap is a property of all drops at once.
    #[error("--greedy measures again after each removal and sees no gap: give --drop-blocks or --threshold")]
    GreedyGap,
    /// A block cannot be removed.
    #[error(transparent)]
    Block(Box<BlockError>),
    /// [`crate::train::Stop`] was asked for.
    #[error("{phase}: stopped in epoch {epoch} after step {step}; run again with --resume to go on")]
    Stopped {
        /// Phase of the run.
        phase: String,
        /// Epoch within the phase, from 1.
        epoch: u64,
        /// Steps taken within the phase.
        step: u64,
    },
}

impl From<PruneError> for TrainError {
    fn from(error: PruneError) -> Self {
        TrainError::Net(Box::new(error))
    }
}

impl From<PassError> for TrainError {
    fn from(error: PassError) -> Self {
        TrainError::Rewrite(Box::new(error))
    }
}

impl From<BlockError> for TrainError {
    fn from(error: BlockError) -> Self {
        TrainError::Block(Box::new(error))
    }
}
