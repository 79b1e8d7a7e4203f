//! Reads ONNX Runtime's own profile: a Chrome trace with one event per node and run.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::NAME;
use super::placement::{NodePlace, short};
use crate::engine::NodeTime;
use crate::error::RuntimeError;

/// One node of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) place: NodePlace,
    pub(super) time_ns: u64,
}

/// The folder a session writes its profile to.
pub(super) struct Trace {
    /// Keeps the folder for as long as it is written to; `None` for a folder that stays.
    _temporary: Option<tempfile::TempDir>,
    pub(super) prefix: PathBuf,
}

impl Trace {
    /// * `kept`: folder whose files stay; else a temporary one.
    pub(super) fn start(kept: Option<&Path>) -> Result<Self, RuntimeError> {
        let failed = |folder: &Path, error: std::io::Error| RuntimeError::Load {
            engine: NAME,
            reason: format!("cannot write its profile to {}: {error}", folder.display()),
        };
        match kept {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
                Ok(Self { _temporary: None, prefix: folder.join("onnxruntime") })
            }
            None => {
                let folder = tempfile::tempdir().map_err(|error| failed(&std::env::temp_dir(), error))?;
                let prefix = folder.path().join("onnxruntime");
                Ok(Self { _temporary: Some(folder), prefix })
            }
        }
    }
}

/// The nodes of every run, in the order they ended.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<Ran>>, RuntimeError> {
    let unreadable = |reason: String| RuntimeError::Run {
        engine: NAME,
        reason: format!("its profile {} cannot be read: {reason}", path.display()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&text).map_err(|error| unreadable(error.to_string()))
}

#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    /// In microseconds.
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    op_name: Option<String>,
    provider: Option<String>,
}

fn parse(text: &str) -> serde_json::Result<Vec<Vec<Ran>>> {
    let events: Vec<Event> = serde_json::from_str(text)?;
    let (mut runs, mut run) = (Vec::new(), Vec::new());
    for event in events {
        match (event.cat.as_str(), event.args.provider) {
            // older libraries also write fences around a node, which have no provider
            ("Node", Some(provider)) => run.push(Ran {
                place: NodePlace {
                    name: event.name.strip_suffix("_kernel_time").unwrap_or(&event.name).to_owned(),
                    op: event.args.op_name.unwrap_or_default(),
                    provider: short(&provider),
                },
                time_ns: event.dur.saturating_mul(1000),
            }),
            // ends after every node of its run
            ("Session", _) if event.name == "model_run" => runs.push(std::mem::take(&mut run)),
            _ => {}
        }
    }
    Ok(runs)
}

/// Every node once, in the order of its first run.
pub(super) fn places(runs: &[Vec<Ran>]) -> Vec<NodePlace> {
    let mut found: Vec<NodePlace> = Vec::new();
    for ran in runs.iter().flatten() {
        if !found.contains(&ran.place) {
            found.push(ran.place.clone());
        }
    }
    found
}

/// The median over `runs` of the time of every node; a node that runs several times per run, in a loop, is summed up.
pub(super) fn times(runs: &[Vec<Ran>]) -> Vec<NodeTime> {
    let per_node = places(runs).into_iter().map(|place| {
        let in_run = |run: &Vec<Ran>| run.iter().filter(|ran| ran.place == place).map(|ran| ran.time_ns).sum();
        let mut times: Vec<u64> = runs.iter().map(in_run).collect();
        times.sort_unstable();
        NodeTime { time_ns: times[times.len() / 2], name: place.name, op: place.op }
    });
    per_node.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ONNX Runtime 1.31 writes it, shortened; the fence is from 1.13.
    const PROFILE: &str = r#"[
{"cat" : "Session","pid" :1,"tid" :1,"dur" :11080,"ts" :41,"ph" : "X","name" :"model_loading_uri","args" : {}},
{"cat" : "Node","dur" :9,"name" :"c1_fence_before","args" : {"op_name" : "Conv"}},
{"cat" : "Node","dur" :1424,"ts" :69608,"ph" : "X","name" :"c1_kernel_time","args" : {"thread_scheduling_stats" : {"sub_threads": {}},"op_name" : "Conv","provider" : "CUDAExecutionProvider","node_index" : "169"}},
{"cat" : "Node","dur" :28,"name" :"shape_kernel_time","args" : {"op_name" : "Shape","provider" : "CPUExecutionProvider"}},
{"cat" : "Session","dur" :1988,"name" :"model_run","args" : {}},
{"cat" : "Node","dur" :10,"name" :"c1_kernel_time","args" : {"op_name" : "Conv","provider" : "CUDAExecutionProvider"}},
{"cat" : "Node","dur" :4,"name" :"shape_kernel_time","args" : {"op_name" : "Shape","provider" : "CPUExecutionProvider"}},
{"cat" : "Node","dur" :3,"name" :"shape_kernel_time","args" : {"op_name" : "Shape","provider" : "CPUExecutionProvider"}},
{"cat" : "Session","dur" :20,"name" :"model_run","args" : {}}
]"#;

    #[test]
    fn runs_are_told_apart_and_nodes_keep_their_provider() {
        let runs = parse(PROFILE).unwrap();
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
        let found = places(&runs);
        let told: Vec<_> = found.iter().map(|n| (n.name.as_str(), n.op.as_str(), n.provider.as_str())).collect();
        assert_eq!(told, [("c1", "Conv", "cuda"), ("shape", "Shape", "cpu")]);
    }

    #[test]
    fn a_node_in_a_loop_is_summed_within_its_run() {
        let runs = parse(PROFILE).unwrap();
        let told = |runs| times(runs).into_iter().map(|node| (node.name, node.time_ns)).collect::<Vec<_>>();
        assert_eq!(told(&runs[1..]), [("c1".to_owned(), 10_000), ("shape".to_owned(), 7_000)]);
        assert_eq!(told(&runs)[0].1, 1_424_000);
        assert!(times(&[]).is_empty());
    }

    #[test]
    fn what_is_no_profile_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        std::fs::write(&path, "[{").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("p.json"));
        assert!(read(&folder.path().join("absent.json")).is_err());
    }
}
