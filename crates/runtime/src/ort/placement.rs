//! Which provider ran each node, and whether that is what was asked for.

use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::ort::Provider;

/// One node of the graph that ONNX Runtime really ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlace {
    /// Name of the node, after ONNX Runtime rewrote the graph; a subgraph that a provider took whole is one node.
    pub name: String,
    /// Operator as the library calls it.
    pub op: String,
    /// `cpu`, `cuda`, ..., or what the library calls a provider that is not in [`Provider`].
    pub provider: String,
}

/// Names of nodes that a note lists before it only counts.
const LISTED: usize = 8;

/// Compares where the nodes ran with what was asked for: nothing, or a note about those that ran elsewhere.
///
/// * `asked`: provider that was asked for.
/// * `allow_fallback`: whether a provider that runs nothing is worth a note only.
/// * `nodes`: every node of one run; copies between memories do not count.
///
/// # Errors
/// [`RuntimeError::EngineAbsent`] when no node ran on `asked`: ONNX Runtime computed elsewhere and said nothing.
pub fn judge(asked: Provider, allow_fallback: bool, nodes: &[NodePlace]) -> Result<Option<String>, RuntimeError> {
    let computing: Vec<&NodePlace> = nodes.iter().filter(|node| !is_copy(node)).collect();
    let elsewhere: Vec<&NodePlace> = computing.iter().copied().filter(|node| node.provider != asked.name()).collect();
    if elsewhere.len() == computing.len() && !(asked == Provider::Cpu && computing.is_empty()) {
        let ran = match computing.len() {
            0 => "ran no node at all".to_owned(),
            count => format!("ran all {count} nodes elsewhere ({})", listed(&elsewhere)),
        };
        if allow_fallback {
            return Ok(Some(format!("provider `{asked}` was asked for, and ONNX Runtime {ran}")));
        }
        return Err(RuntimeError::EngineAbsent {
            what: format!("provider `{asked}` was asked for, and ONNX Runtime {ran}"),
            how_to_get_it:
                "--provider cpu measures the processor under its own name, --ort allow_fallback=true measures \
                            what ran instead"
                    .into(),
        });
    }
    if elsewhere.is_empty() {
        return Ok(None);
    }
    let (some, all) = (elsewhere.len(), computing.len());
    let percent = 100.0 * some as f64 / all as f64;
    let fused = if asked == Provider::Tensorrt { "; each subgraph that TensorRT took counts as one node" } else { "" };
    Ok(Some(format!("{some} of {all} nodes ({percent:.0} %) did not run on {asked}: {}{fused}", listed(&elsewhere))))
}

/// Number of nodes on each provider, most first; copies between memories do not count.
pub fn per_provider(nodes: &[NodePlace]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for node in nodes.iter().filter(|node| !is_copy(node)) {
        match counts.iter_mut().find(|(provider, _)| *provider == node.provider) {
            Some((_, count)) => *count += 1,
            None => counts.push((node.provider.clone(), 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// The providers that ran, for the `provider` of a record: the one asked for first, then the others joined by `+`.
#[cfg(any(feature = "ort", test))]
pub(super) fn joined(asked: Provider, nodes: &[NodePlace]) -> String {
    let mut names: Vec<String> = per_provider(nodes).into_iter().map(|(provider, _)| provider).collect();
    names.sort_by_key(|name| name != asked.name());
    if names.is_empty() { asked.name().to_owned() } else { names.join("+") }
}

/// Our name of a provider that the library names, for example `cuda` for `CUDAExecutionProvider`.
#[cfg(any(feature = "ort", test))]
pub(super) fn short(library_name: &str) -> String {
    match Provider::ALL.into_iter().find(|provider| provider.library_name() == library_name) {
        Some(provider) => provider.name().to_owned(),
        None => library_name.trim_end_matches("ExecutionProvider").to_lowercase(),
    }
}

/// Copies run on the GPU's provider even when nothing else does.
fn is_copy(node: &NodePlace) -> bool {
    node.op.starts_with("Memcpy")
}

fn listed(nodes: &[&NodePlace]) -> String {
    let mut text: Vec<String> =
        nodes.iter().take(LISTED).map(|node| format!("{} {} on {}", node.op, node.name, node.provider)).collect();
    if nodes.len() > LISTED {
        text.push(format!("and {} more", nodes.len() - LISTED));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(places: &[(&str, &str, &str)]) -> Vec<NodePlace> {
        let node = |(name, op, provider): &(&str, &str, &str)| NodePlace {
            name: (*name).into(),
            op: (*op).into(),
            provider: (*provider).into(),
        };
        places.iter().map(node).collect()
    }

    #[test]
    fn a_provider_that_silently_fell_back_is_caught() {
        let fell_back = nodes(&[("c1", "Conv", "cpu"), ("r1", "Relu", "cpu")]);
        for asked in [Provider::Cuda, Provider::Tensorrt, Provider::Xnnpack, Provider::Acl] {
            let error = judge(asked, false, &fell_back).unwrap_err();
            assert_eq!(error.exit_code(), 5);
            let text = error.to_string();
            assert!(text.contains(&format!("provider `{asked}`")) && text.contains("all 2 nodes"), "{text}");
            assert!(text.contains("Conv c1 on cpu") && text.contains("allow_fallback=true"), "{text}");
            assert!(judge(asked, true, &fell_back).unwrap().unwrap().contains("all 2 nodes"));
        }
    }

    #[test]
    fn copies_to_a_gpu_that_computes_nothing_do_not_hide_the_fall_back() {
        let copied = nodes(&[("m", "MemcpyFromHost", "cuda"), ("c", "Conv", "cpu")]);
        assert!(judge(Provider::Cuda, false, &copied).is_err());
        assert_eq!(per_provider(&copied), [("cpu".to_owned(), 1)]);
    }

    #[test]
    fn a_partial_fall_back_names_the_share_and_the_nodes() {
        let partial =
            nodes(&[("c1", "Conv", "cuda"), ("s", "Shape", "cpu"), ("c2", "Conv", "cuda"), ("g", "Gemm", "cuda")]);
        let note = judge(Provider::Cuda, false, &partial).unwrap().unwrap();
        assert_eq!(note, "1 of 4 nodes (25 %) did not run on cuda: Shape s on cpu");
        assert_eq!(joined(Provider::Cuda, &partial), "cuda+cpu");
        assert_eq!(per_provider(&partial), [("cuda".to_owned(), 3), ("cpu".to_owned(), 1)]);
    }

    #[test]
    fn a_long_list_of_nodes_is_cut_and_counted() {
        let names: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
        let mut places: Vec<(&str, &str, &str)> = names.iter().map(|n| (n.as_str(), "Shape", "cpu")).collect();
        places.push(("c", "Conv", "xnnpack"));
        let note = judge(Provider::Xnnpack, false, &nodes(&places)).unwrap().unwrap();
        assert!(note.starts_with("12 of 13 nodes (92 %)") && note.ends_with("n7 on cpu, and 4 more"), "{note}");
    }

    #[test]
    fn what_ran_where_it_was_asked_needs_no_note() {
        let all = nodes(&[("t", "TRTKernel_graph", "tensorrt")]);
        assert_eq!(judge(Provider::Tensorrt, false, &all).unwrap(), None);
        assert_eq!(joined(Provider::Tensorrt, &all), "tensorrt");
        assert_eq!(judge(Provider::Cpu, false, &nodes(&[("c", "Conv", "cpu")])).unwrap(), None);
        // a model of constants runs nothing: fine on the processor, a question on a GPU
        assert_eq!(judge(Provider::Cpu, false, &[]).unwrap(), None);
        assert!(judge(Provider::Cuda, false, &[]).is_err());
    }

    #[test]
    fn providers_have_our_names_and_unknown_ones_the_library_s() {
        for provider in Provider::ALL {
            assert_eq!(short(provider.library_name()), provider.name());
        }
        assert_eq!(short("OpenVINOExecutionProvider"), "openvino");
    }
}
