//! A network by name or from an ONNX file, ready to be trained or pruned.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sentei_convert::{ExportOptions, ImportOptions};
use sentei_data::{Dataset, Normalise, Split};
use sentei_graph::Graph;
use sentei_models::Spec;
use sentei_runner::preprocessing::Preprocessing;

use crate::data_recipe::DataRecipe;
use crate::exit::usage;
use crate::files;
use crate::output::Output;

/// A network and how pixels are fed to it.
pub struct Start {
    /// The network; its metadata carries the preprocessing.
    pub graph: Graph,
    /// Standardisation of the pixels.
    pub normalise: Normalise,
    /// Whether its weights come from a file rather than from a seed.
    pub imported: bool,
}

/// Builds the architecture `model`, or imports it when it is a file, and checks that it fits the images.
///
/// # Errors
/// When neither an architecture nor a file has that name, or input or output do not fit the data set.
pub fn start(model: &str, data: &Dataset, recipe: &DataRecipe, seed: u64, out: Output) -> Result<Start> {
    let imported = !sentei_models::names().contains(&model);
    let (mut graph, normalise) = if imported {
        let path = Path::new(model);
        if !path.exists() {
            bail!("model `{model}` is neither a file nor one of {}", sentei_models::names().join(", "));
        }
        let graph = read(path)?;
        let known = Preprocessing::read(&graph.metadata)?;
        if let Some(known) = known.as_ref().filter(|known| known.classes != data.classes) {
            let (theirs, ours) = (known.classes.join(", "), data.classes.join(", "));
            bail!("{model} was trained on the classes {theirs}; the images have {ours}, in this order");
        }
        let normalise = match (&recipe.mean, &recipe.std, known) {
            (Some(mean), Some(std), _) => Normalise { mean: mean.clone(), std: std.clone() },
            (.., Some(known)) => known.normalise,
            (.., None) => {
                out.note(format!(
                    "note: {model} does not say its pixel scaling; pixel / 255 is assumed (--mean, --std)"
                ));
                Normalise { mean: vec![0.0; data.channels], std: vec![1.0; data.channels] }
            }
        };
        let fits = |list: &[f32]| list.len() == data.channels && list.iter().all(|v| v.is_finite());
        if !fits(&normalise.mean) || !fits(&normalise.std) || normalise.std.iter().any(|d| *d <= 0.0) {
            return usage(format!(
                "--mean and --std need {} finite numbers each, deviations above 0; found {:?} and {:?}",
                data.channels, normalise.mean, normalise.std
            ));
        }
        (sentei_graph::passes::for_training(graph)?.graph, normalise)
    } else {
        let (channels, height, width) = (data.channels, data.height, data.width);
        let spec = Spec { channels, height, width, classes: data.classes.len(), seed };
        (sentei_models::build(model, &spec)?, Normalise::of(data, Split::Train))
    };
    check_fit(model, &graph, data)?;
    Preprocessing { classes: data.classes.clone(), normalise: normalise.clone() }.write(&mut graph.metadata);
    Ok(Start { graph, normalise, imported })
}

/// Reads an ONNX file; packed weights are unpacked.
///
/// # Errors
/// When it is no ONNX file or has ops that the graph does not know.
pub fn read(path: &Path) -> Result<Graph> {
    let options = ImportOptions { directory: path.parent().map(Path::to_path_buf), ..ImportOptions::default() };
    let read = sentei_convert::import(&files::read(path)?, &options);
    let mut graph = read.with_context(|| format!("importing {}", path.display()))?;
    // the output it tells of is that of these weights, which training and pruning change
    graph.metadata.remove(sentei_runner::self_test::KEY);
    Ok(graph)
}

/// The graph as a dense ONNX file that takes any batch.
///
/// # Errors
/// When the graph is not well formed.
pub fn to_onnx(graph: &Graph) -> Result<Vec<u8>> {
    sentei_convert::export(graph, ExportOptions { dynamic_batch: true }).context("writing ONNX")
}

fn check_fit(model: &str, graph: &Graph, data: &Dataset) -> Result<()> {
    let [(_, input)] = graph.inputs() else {
        bail!("{model} has {} inputs, sentei trains networks with one", graph.inputs().len());
    };
    let image = [data.channels, data.height, data.width];
    let takes = &input.shape[1..];
    let flat = [image.iter().product::<usize>()];
    if takes == [image[1], image[2], image[0]] && takes != image {
        bail!("{model} takes {input}, channels last; sentei feeds images channels first (export the model as NCHW)");
    }
    if takes != image && takes != flat {
        bail!(
            "{model} takes {input}, the images are {}x{}x{} (resize them with --size, choose grey or RGB with --channels)",
            image[0],
            image[1],
            image[2]
        );
    }
    let facts = graph.facts()?;
    let Some(output) = graph.outputs().first().map(|id| &facts[id]) else { bail!("{model} has no output") };
    let classes = output.shape.iter().skip(1).product::<usize>();
    if classes != data.classes.len() {
        bail!(
            "{model} has {classes} outputs, the data set has {} classes: {}",
            data.classes.len(),
            data.classes.join(", ")
        );
    }
    Ok(())
}
