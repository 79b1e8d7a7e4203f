//! Bytes that nobody sane wrote: never a panic, never more memory than allowed.

use std::path::Path;

use proptest::prelude::*;
use sentei_convert::{CompileOptions, ImportOptions, Packing, Values, compile, import, inspect};
use sentei_graph::Graph;

fn small() -> ImportOptions {
    ImportOptions { directory: None, max_bytes: 1 << 20 }
}

/// A packed file of a net with most ops, in one of the six packed forms.
fn valid(form: usize) -> Vec<u8> {
    let text = "x = input f32[1,3,8,9]
        a = Conv(x, w[12,3,3,3], b[12]) pad=1
        c = Silu(a)
        d = MaxPool(c) kernel=2 stride=2
        e = Conv(d, v[12,12,3,3]) pad=1
        f = Add(d, e)
        g = GlobalAveragePool(f)
        h = Flatten(g)
        y = Gemm(h, u[40,12], t[40])";
    let mut graph = Graph::parse(text).unwrap();
    for name in ["w", "v", "u"] {
        let id = graph.value(name).unwrap();
        let mut tensor = graph.initializer(id).unwrap().clone();
        tensor.data.iter_mut().enumerate().filter(|(i, _)| i % 7 != 0).for_each(|(_, v)| *v = 0.0);
        graph.set_initializer(id, tensor);
    }
    let packing = [Packing::Functions, Packing::Inline][form % 2];
    let values = [Values::F32, Values::F16, Values::I8][form / 2 % 3];
    compile(&graph, &CompileOptions { packing, values, ..Default::default() }).unwrap().bytes
}

fn probe(bytes: &[u8]) {
    if let Ok(graph) = import(bytes, &small()) {
        graph.check().unwrap();
    }
    let _ = inspect(bytes, &small());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        probe(&bytes);
    }

    #[test]
    fn changed_files_never_panic(
        form in 0usize..6, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(), shorten in any::<bool>(),
    ) {
        let mut bytes = valid(form);
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        probe(&bytes);
    }
}

#[test]
fn every_single_bit_of_the_structure_may_flip() {
    for file in ["gap4_f32_functions.onnx", "gap4_i8_inline.onnx"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/packed").join(file);
        let bytes = std::fs::read(path).unwrap();
        // every third byte keeps this to a few seconds without optimisation
        for at in (0..bytes.len()).step_by(3) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            probe(&changed);
        }
    }
}

#[test]
fn real_models_with_changed_bytes_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    let Ok(bytes) = std::fs::read(folder.join("mnist_cntk/model.onnx")) else {
        eprintln!("SKIPPED: the models of other tools are not here");
        return;
    };
    // names, attributes and shapes lie in the first and last part, weights between
    for at in (0..600).chain(bytes.len() - 3000..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] = changed[at].wrapping_add(0x5f);
        probe(&changed);
    }
}
