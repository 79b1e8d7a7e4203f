//! How much faster the smaller network is, in every engine that is here.

use anyhow::Result;
use sentei_graph::Graph;
use sentei_graph::passes::for_deployment;
use sentei_report::record::Bench;

use crate::measure::{self, Plan, Subject};
use crate::output::Output;
use crate::recipe::BenchRecipe;
use crate::{files, models};

/// Latency of both networks, folded and fused, one row each, the dense one first; an absent engine is left out with a note.
///
/// # Errors
/// When a network cannot be written or run.
pub fn compare(dense: &Graph, small: &Graph, recipe: &BenchRecipe, out: Output) -> Result<Vec<Bench>> {
    let folder = tempfile::tempdir()?;
    let mut subjects = Vec::new();
    for (name, graph) in [("dense", dense), ("blocks removed", small)] {
        let path = folder.path().join(format!("{}.onnx", subjects.len()));
        files::write_atomic(&path, &models::to_onnx(&for_deployment(graph.clone())?.graph)?)?;
        subjects.push(Subject::new(name, path));
    }
    let mut benches = Vec::new();
    for (i, engine) in recipe.engines.iter().enumerate() {
        let options = recipe.options(*engine);
        let plan = Plan {
            engine: *engine,
            kernels: vec![options.kernel_choice],
            options,
            seconds: recipe.seconds,
            rounds: 100,
            warmup: 3,
            memory: false,
            tune: false,
        };
        out.note(format!("measuring both networks in {}", engine.name()));
        match measure::bench(&subjects, &plan) {
            Ok(measured) => benches.push(measured.bench),
            Err(error) if i > 0 && crate::exit::code(&error) == 5 && !recipe.requires(*engine) => {
                out.note(format!("note: {} was not measured: {error:#}", engine.name()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(benches)
}
