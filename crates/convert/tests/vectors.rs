//! Packed files of other encoders: ours in Python (`tools/make-packed-vectors`), and an independent one when it is there.

use std::path::{Path, PathBuf};

use sentei_convert::{ImportOptions, Tolerance, compare, import, inspect};
use sentei_graph::{Graph, Tensor};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load(path: &Path) -> Graph {
    let bytes = std::fs::read(path).unwrap();
    import(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Both graphs have the same weights, bit for bit, and compute the same.
fn same_model(packed: &Path, dense: &Path) {
    let (a, b) = (load(packed), load(dense));
    let mut compared = 0;
    for (id, tensor) in b.initializers() {
        let other = a.value(b.name(id)).and_then(|id| a.initializer(id));
        let other = other.unwrap_or_else(|| panic!("{}: no weight `{}`", packed.display(), b.name(id)));
        assert_eq!(other.shape, tensor.shape);
        let differs = tensor.data.iter().zip(&other.data).position(|(x, y)| x.to_bits() != y.to_bits());
        assert_eq!(differs, None, "{}: `{}`", packed.display(), b.name(id));
        compared += 1;
    }
    assert!(compared >= 3, "{}", packed.display());
    let found = compare(&b, &a, Tolerance::Exact, 5, 1).unwrap();
    assert!(found.passed, "{}: {}", packed.display(), found.first_failure());
    let encoded = inspect(&std::fs::read(packed).unwrap(), &ImportOptions::default()).unwrap();
    assert!(encoded.unsupported.is_empty(), "{:?}", encoded.unsupported);
    assert!(encoded.layers.iter().filter(|l| l.encoding != "dense").count() >= 2, "{}", packed.display());
}

#[test]
fn our_python_vectors_decode_to_their_dense_twins() {
    let folder = root().join("tests/golden/packed");
    let list = std::fs::read_to_string(folder.join("pairs.txt")).unwrap();
    let image = std::fs::read(folder.join("input_1x2x7x9.f32")).unwrap();
    let image: Vec<f32> = image.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(list.lines().count(), 6);
    for line in list.lines() {
        let mut words = line.split(' ');
        let (packed, dense) = (words.next().unwrap(), words.next().unwrap());
        same_model(&folder.join(packed), &folder.join(dense));
        let expected: Vec<f32> = words.map(|w| w.parse().unwrap()).collect();
        let found = load(&folder.join(packed)).eval(&[Tensor::new([1, 2, 7, 9], image.clone())]).unwrap();
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // the longest sum has 54 terms; both sides round each of three layers
        let tolerance = 3.0 * 54.0 * f32::EPSILON * largest;
        assert_eq!(expected.len(), found[0].data.len());
        for (a, b) in expected.iter().zip(&found[0].data) {
            assert!((a - b).abs() <= tolerance, "{packed}: {a} {b}");
        }
    }
}

#[test]
fn the_independent_vectors_decode_to_their_dense_twins() {
    let folder = root().join("../shared/packed-examples");
    let Ok(list) = std::fs::read_to_string(folder.join("pairs.json")) else {
        eprintln!("SKIPPED: the independent packed examples are not here");
        return;
    };
    let field = |line: &str, key: &str| {
        let rest = line.trim().strip_prefix(&format!("\"{key}\": \""))?;
        rest.strip_suffix("\",").map(str::to_string)
    };
    let packed: Vec<String> = list.lines().filter_map(|l| field(l, "packed")).collect();
    let dense: Vec<String> = list.lines().filter_map(|l| field(l, "dense")).collect();
    assert!(packed.len() == dense.len() && packed.len() >= 30, "{} pairs", packed.len());
    for (packed, dense) in packed.iter().zip(&dense) {
        same_model(&folder.join(packed), &folder.join(dense));
    }
}
