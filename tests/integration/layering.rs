//! The walls between the rooms, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const ALLOWED: &[(&str, &[&str])] = &[
    ("sentei-graph", &[]),
    ("sentei-kernels", &[]),
    ("sentei-data", &[]),
    ("sentei-report", &[]),
    ("sentei-models", &["sentei-graph"]),
    ("sentei-prune", &["sentei-graph", "sentei-kernels", "sentei-data", "sentei-report"]),
    ("sentei-convert", &["sentei-graph", "sentei-kernels"]),
    ("sentei-runtime", &["sentei-kernels", "sentei-report"]),
    ("sentei-runner", &["sentei-kernels", "sentei-data", "sentei-report", "sentei-runtime"]),
    (
        "sentei",
        &[
            "sentei-graph",
            "sentei-kernels",
            "sentei-data",
            "sentei-report",
            "sentei-models",
            "sentei-prune",
            "sentei-convert",
            "sentei-runtime",
            "sentei-runner",
        ],
    ),
];

/// What only one room may know.
const ONE_ROOM: &[(&str, &str)] = &[
    ("candle-core", "sentei-prune"),
    ("gemm", "sentei-kernels"),
    ("prost", "sentei-convert"),
    ("tract-onnx", "sentei-runtime"),
    ("ort", "sentei-runtime"),
    ("clap", "sentei"),
    ("anyhow", "sentei"),
];

/// Normal (not dev) dependencies of each workspace package.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |v: &Value| v["name"].as_str().expect("name").to_string();
    packages
        .iter()
        .map(|p| {
            let all = p["dependencies"].as_array().expect("dependencies");
            (name(p), all.iter().filter(|d| d["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn every_edge_between_rooms_is_an_allowed_one() {
    let found = dependencies();
    let rooms: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(rooms, ALLOWED.iter().map(|(room, _)| *room).collect(), "a room appeared or disappeared");
    for (room, allowed) in ALLOWED {
        for dependency in found[*room].iter().filter(|d| d.starts_with("sentei-")) {
            assert!(allowed.contains(&dependency.as_str()), "{room} must not depend on {dependency}");
        }
    }
}

#[test]
fn each_heavy_library_stays_in_its_room() {
    for (room, dependencies) in dependencies() {
        for (library, home) in ONE_ROOM {
            assert!(room == *home || !dependencies.contains(*library), "{library} belongs to {home}, not {room}");
        }
    }
}

#[test]
fn the_board_build_pulls_no_candle_and_no_graph_rewriting() {
    let out = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal",
            "--no-default-features",
            "--features",
            "tract",
            "--prefix",
            "none",
            "-p",
            "sentei",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let tree = String::from_utf8_lossy(&out.stdout);
    assert!(tree.contains("tract-onnx"), "the board build has an engine");
    for absent in ["candle-core", "sentei-prune", "sentei-convert", "sentei-graph", "ort "] {
        assert!(!tree.lines().any(|l| l.starts_with(absent)), "{absent} is in the board build");
    }
}

#[test]
fn unsafe_code_stands_in_kernels_only() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("crates"), root.join("models"), root.join("tests")];
    let mut offenders = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("readable folder").map(|e| e.expect("entry").path()));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.starts_with(root.join("crates/kernels")) {
            let text = std::fs::read_to_string(&path).expect("UTF-8 source");
            let word = concat!("un", "safe");
            if text.lines().any(|l| {
                l.contains(&format!("{word} {{"))
                    || l.contains(&format!("{word} fn"))
                    || l.contains(&format!("{word} impl"))
            }) {
                offenders.push(path);
            }
        }
    }
    assert!(offenders.is_empty(), "{offenders:?}");
}

/// The triple of this machine.
fn host() -> String {
    let out = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host").to_string()
}

/// Licences that `deny.toml` allows.
fn allowed_licences() -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let deny: toml::Table = std::fs::read_to_string(path).expect("deny.toml").parse().expect("deny.toml is TOML");
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter().map(|l| l.as_str().expect("text").to_string()).collect()
}

/// Whether every part joined by AND offers an allowed licence.
fn is_permissive(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| allowed.contains(licence.trim())))
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let allowed = allowed_licences();
    assert!(!is_permissive("GPL-3.0-only", &allowed) && !is_permissive("MIT AND GPL-2.0", &allowed));
    let out = Command::new(env!("CARGO"))
        // Only what this machine builds: the rest need not have been downloaded.
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &host()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON");
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none stated");
        assert!(is_permissive(licence, &allowed), "{} is under {licence}", package["name"]);
    }
}
