//! Reference architectures. **In**: an input shape, a number of classes, a seed. **Out**: a freshly
//! initialised [`Graph`], the same thing an imported ONNX file becomes.
//!
//! ```
//! let spec = sentei_models::Spec { channels: 1, height: 64, width: 64, classes: 6, seed: 0 };
//! let graph = sentei_models::build("inspect", &spec)?;
//! assert_eq!(graph.facts()?[&graph.outputs()[0]].shape, [1, 6]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//! - Same name, same spec: same bytes. Each layer draws from a stream of its own, so adding a layer does not shift another's values.
//! - No I/O, no training, no dependency but `graph`.

mod builder;
mod inspect;
mod lenet;
mod mobilenet;
mod resnet;
mod vgg;

use sentei_graph::{Graph, GraphError};

pub use builder::Builder;

/// What an architecture is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Image channels: 1 grey, 3 RGB.
    pub channels: usize,
    /// Image height in pixels.
    pub height: usize,
    /// Image width in pixels.
    pub width: usize,
    /// Number of classes.
    pub classes: usize,
    /// Seed of the initial weights.
    pub seed: u64,
}

/// Why an architecture cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No architecture of that name.
    #[error("no architecture is called `{name}`; there are {}", names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The images are too small (or the name does not fit the input) for the architecture.
    #[error("`{name}` cannot take {channels}x{height}x{width} images: {source}")]
    Input {
        /// The architecture.
        name: String,
        /// Image channels.
        channels: usize,
        /// Image height.
        height: usize,
        /// Image width.
        width: usize,
        /// What the graph says.
        source: Box<GraphError>,
    },
}

type Build = fn(&Spec) -> Result<Graph, GraphError>;

/// Name, one line for people, constructor.
const ARCHITECTURES: &[(&str, &str, Build)] = &[
    ("inspect", "five convolutions for surface inspection, the default", inspect::inspect),
    ("inspect-wide", "the same with twice the channels, for hard or high-resolution images", inspect::inspect_wide),
    (
        "inspect-spots",
        "inspect with global max pooling beside the mean, for defects of a few pixels",
        inspect::inspect_spots,
    ),
    ("lenet300", "LeNet-300-100, fully connected (Han et al. 2015)", lenet::lenet300),
    ("fc5", "fully connected, 1000-600-300-100 hidden units (Zhang et al. 2024)", lenet::fc5),
    ("lenet5", "LeNet-5 in its Caffe form, 431K weights (Han et al. 2015)", lenet::lenet5),
    ("resnet8", "CIFAR ResNet with one block per stage (He et al. 2016)", resnet::resnet8),
    ("resnet20", "CIFAR ResNet with three blocks per stage (He et al. 2016)", resnet::resnet20),
    ("resnet56", "CIFAR ResNet with nine blocks per stage (He et al. 2016)", resnet::resnet56),
    ("resnet110", "CIFAR ResNet with eighteen blocks per stage (He et al. 2016)", resnet::resnet110),
    ("resnet18", "ImageNet ResNet-18 with two convolutions per block (He et al. 2016)", resnet::resnet18),
    ("resnet50", "ImageNet ResNet-50 with bottleneck blocks (He et al. 2016)", resnet::resnet50),
    ("vgg16", "VGG-16 with batch norm and one classifier layer, CIFAR form", vgg::vgg16),
    ("mobilenet", "MobileNetV1 at width 0.25 (Howard et al. 2017)", mobilenet::mobilenet_quarter),
];

/// Names of all architectures.
pub fn names() -> Vec<&'static str> {
    ARCHITECTURES.iter().map(|(name, ..)| *name).collect()
}

/// Name and one line of description of all architectures.
pub fn describe() -> Vec<(&'static str, &'static str)> {
    ARCHITECTURES.iter().map(|(name, text, _)| (*name, *text)).collect()
}

/// Builds the architecture of that name with seeded initial weights; input `image` `[1, C, H, W]`, output `logits` `[1, classes]`.
///
/// # Errors
/// [`ModelError::Unknown`] for a name not in [`names`]; [`ModelError::Input`] when the image is too small for the strides.
pub fn build(name: &str, spec: &Spec) -> Result<Graph, ModelError> {
    let (_, _, build) = ARCHITECTURES
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| ModelError::Unknown { name: name.into() })?;
    build(spec).and_then(|graph| graph.check().map(|()| graph)).map_err(|source| ModelError::Input {
        name: name.into(),
        channels: spec.channels,
        height: spec.height,
        width: spec.width,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(channels: usize, side: usize) -> Spec {
        Spec { channels, height: side, width: side, classes: 10, seed: 7 }
    }

    fn weights(name: &str, spec: &Spec) -> usize {
        let graph = build(name, spec).expect("architecture builds");
        let parameters = graph.parameters();
        parameters
            .iter()
            .filter(|(_, role)| *role == sentei_graph::Role::Weight)
            .map(|(id, _)| graph.initializer(*id).expect("parameters are initializers").len())
            .sum()
    }

    #[test]
    fn every_architecture_builds_and_ends_in_one_row_of_logits() {
        for name in names() {
            let spec = if name.starts_with("lenet") { spec(1, 28) } else { spec(3, 32) };
            let graph = build(name, &spec).expect("architecture builds");
            assert_eq!(graph.facts().expect("shapes infer")[&graph.outputs()[0]].shape, [1, 10], "{name}");
        }
    }

    #[test]
    fn weight_counts_are_those_of_the_papers() {
        assert_eq!(weights("lenet300", &spec(1, 28)), 784 * 300 + 300 * 100 + 100 * 10);
        // Zhang et al. 2024 (arXiv:2306.05857): 3072-1000-600-300-100-10 on CIFAR-10.
        assert_eq!(weights("fc5", &spec(3, 32)), 3072 * 1000 + 1000 * 600 + 600 * 300 + 300 * 100 + 100 * 10);
        assert_eq!(weights("lenet5", &spec(1, 28)), 500 + 25_000 + 400_000 + 5_000);
        // He et al. 2016, table 6 says 0.27 M and 0.85 M parameters with option-A shortcuts.
        assert_eq!(weights("resnet20", &spec(3, 32)), 268_336);
        assert_eq!(weights("resnet56", &spec(3, 32)), 848_944);
        // He et al. 2016, table 1, with 1000 classes: 11.7 M and 25.6 M parameters; these leave out batch norm and the bias.
        let imagenet = Spec { classes: 1000, ..spec(3, 64) };
        assert_eq!(weights("resnet18", &imagenet), 11_689_512 - 9_600 - 1_000);
        assert_eq!(weights("resnet50", &imagenet), 25_557_032 - 53_120 - 1_000);
    }

    #[test]
    fn same_seed_same_weights_and_another_seed_others() {
        let a = build("inspect", &spec(1, 64)).expect("builds");
        assert_eq!(a, build("inspect", &spec(1, 64)).expect("builds"));
        assert_ne!(a, build("inspect", &Spec { seed: 8, ..spec(1, 64) }).expect("builds"));
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let error = build("resnet21", &spec(3, 32)).expect_err("unknown").to_string();
        assert!(error.contains("resnet21") && error.contains("resnet20"), "{error}");
    }

    #[test]
    fn images_that_are_too_small_are_an_error() {
        assert!(matches!(build("lenet5", &spec(1, 4)), Err(ModelError::Input { .. })));
    }
}
