use proptest::prelude::*;
use prost::Message;
use sentei_graph::{Graph, Tensor};

use super::*;
use crate::export::ExportOptions;
use crate::import::{ImportOptions, import};
use crate::proto::ModelProto;

const ALL: [(Packing, Values); 6] = [
    (Packing::Functions, Values::F32),
    (Packing::Functions, Values::F16),
    (Packing::Functions, Values::I8),
    (Packing::Inline, Values::F32),
    (Packing::Inline, Values::F16),
    (Packing::Inline, Values::I8),
];

/// One dense layer with the given weight, `[out, in]`.
fn layer(shape: [usize; 2], data: Vec<f32>) -> Graph {
    let mut graph =
        Graph::parse(&format!("x = input f32[1,{}]\ny = Gemm(x, w[{},{}])", shape[1], shape[0], shape[1])).unwrap();
    let w = graph.value("w").unwrap();
    graph.set_initializer(w, Tensor::new(shape, data));
    graph
}

fn round_trip(graph: &Graph, packing: Packing, values: Values) -> (Graph, Graph, Vec<TensorRow>, Vec<u8>) {
    let (bytes, twin, rows) = pack(graph, packing, values, ExportOptions::default()).unwrap();
    let back = import(&bytes, &ImportOptions::default()).unwrap();
    (twin, back, rows, bytes)
}

fn bits(graph: &Graph) -> Vec<u32> {
    let w = graph.initializer(graph.value("w").unwrap()).unwrap();
    w.data.iter().map(|v| v.to_bits()).collect()
}

fn spread(len: usize, every: usize) -> Vec<f32> {
    (0..len).map(|i| if i % every == 0 { 1.0 + i as f32 / 64.0 } else { -0.0 }).collect()
}

#[test]
fn the_encoding_follows_the_density_and_every_form_decodes_to_the_twin() {
    for (every, encoding) in [(2, "mask"), (8, "gap4"), (64, "gap8"), (1, "dense")] {
        for (packing, values) in ALL {
            let (twin, back, rows, _) = round_trip(&layer([32, 100], spread(3200, every)), packing, values);
            assert_eq!(bits(&twin), bits(&back), "{packing:?} {values:?} every {every}");
            assert_eq!(rows[0].encoding, encoding, "{packing:?} {values:?} every {every}");
            assert!(bits(&twin).iter().all(|b| *b != 1 << 31), "negative zeros are normalised");
        }
    }
}

#[test]
fn empty_single_and_edge_gaps_survive() {
    let mut single = vec![0.0; 4000];
    single[3999] = 0.25;
    let mut edges = vec![0.0; 4000];
    let mut at = 0;
    for gap in [15, 16, 30, 31, 255, 256, 510, 1] {
        at += gap;
        edges[at - 1] = 1.5;
    }
    for data in [vec![0.0; 4000], single, edges] {
        for (packing, values) in ALL {
            let (twin, back, rows, _) = round_trip(&layer([40, 100], data.clone()), packing, values);
            assert_eq!(bits(&twin), bits(&back));
            assert_ne!(rows[0].encoding, "dense");
        }
    }
}

#[test]
fn small_tensors_stay_plain_and_dense_packing_is_the_twin_itself() {
    let small = layer([3, 5], spread(15, 5));
    let (_, back, rows, bytes) = round_trip(&small, Packing::Functions, Values::I8);
    assert_eq!((rows[0].encoding, rows[0].values), ("dense", "f32"));
    assert!(bytes.len() < 600, "{} bytes", bytes.len());
    assert_eq!(back.nodes().len(), 1);
    let (twin, _, _, bytes) = round_trip(&layer([32, 100], spread(3200, 8)), Packing::Dense, Values::I8);
    assert_eq!(bytes, crate::export(&twin, ExportOptions::default()).unwrap());
}

#[test]
fn inline_chunks_are_at_most_a_million_elements() {
    let graph = layer([1500, 1024], spread(1500 * 1024, 20));
    let (twin, back, _, bytes) = round_trip(&graph, Packing::Inline, Values::F32);
    assert_eq!(bits(&twin), bits(&back));
    let model = ModelProto::decode(&bytes[..]).unwrap();
    let onnx = model.graph.unwrap();
    let concat = onnx.node.iter().find(|n| n.op_type.as_deref() == Some("Concat")).unwrap();
    assert_eq!((concat.input.len(), concat.output[0].as_str()), (2, "w"));
    assert!(onnx.initializer.iter().any(|t| t.name.as_deref() == Some("w.1.values")));
}

#[test]
fn the_fixed_cost_of_the_function_form_is_small() {
    let graph = layer([64, 100], spread(6400, 10));
    let (_, _, rows, bytes) = round_trip(&graph, Packing::Functions, Values::F32);
    let fixed = bytes.len() as u64 - rows[0].bytes;
    assert!(fixed < 2_500, "{fixed} bytes beside the packed data");
}

#[test]
fn a_changed_weight_breaks_the_checksum() {
    let (bytes, _, _) =
        pack(&layer([32, 100], spread(3200, 8)), Packing::Functions, Values::F32, ExportOptions::default()).unwrap();
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    let values = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name.as_deref() == Some("w.values"));
    values.unwrap().raw_data.as_mut().unwrap()[7] ^= 1;
    let error = import(&model.encode_to_vec(), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ConvertError::Checksum { .. }), "{error}");
}

#[test]
fn a_shape_bomb_is_refused_by_the_budget() {
    for packing in [Packing::Functions, Packing::Inline] {
        let (bytes, _, _) =
            pack(&layer([32, 100], spread(3200, 64)), packing, Values::F32, ExportOptions::default()).unwrap();
        let tiny = ImportOptions { max_bytes: 12_799, ..Default::default() };
        let error = import(&bytes, &tiny).unwrap_err();
        assert!(error.is_limit() && error.to_string().contains("packed tensor `w` needs 12800"), "{error}");
        assert!(import(&bytes, &ImportOptions { max_bytes: 12_800, ..Default::default() }).is_ok());

        let mut model = ModelProto::decode(&bytes[..]).unwrap();
        let list = &mut model.graph.as_mut().unwrap().initializer;
        let shape = list.iter_mut().find(|t| t.name.as_deref() == Some("w.shape")).unwrap();
        *shape = crate::proto::TensorProto::int64s("w.shape", &[2], &[46_000, 46_000]);
        let error = import(&model.encode_to_vec(), &ImportOptions::default()).unwrap_err();
        assert!(error.is_limit(), "{error}");
    }
}

#[test]
fn each_rule_of_the_format_is_checked() {
    type Change = fn(&mut crate::proto::GraphProto);
    fn tensor<'a>(graph: &'a mut crate::proto::GraphProto, name: &str) -> &'a mut crate::proto::TensorProto {
        graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(name)).unwrap()
    }
    let changes: [(&str, Change); 8] = [
        ("fill value not zero", |g| tensor(g, "w.values").raw_data.as_mut().unwrap()[0] = 1),
        ("stored zero", |g| tensor(g, "w.values").raw_data.as_mut().unwrap()[1] = 0),
        ("one value too many", |g| {
            let t = tensor(g, "w.values");
            t.dims[0] += 1;
            t.raw_data.as_mut().unwrap().push(1);
        }),
        ("position past the end", |g| tensor(g, "w.gaps").raw_data.as_mut().unwrap().fill(0xff)),
        ("count too large", |g| g.node[0].attribute[0].i = g.node[0].attribute[0].i.map(|n| n + 2)),
        ("count negative", |g| g.node[0].attribute[0].i = Some(-1)),
        ("dimension zero", |g| tensor(g, "w.shape").raw_data.as_mut().unwrap().fill(0)),
        ("scale not finite", |g| {
            tensor(g, "w.scale").raw_data.as_mut().unwrap()[..4].copy_from_slice(&f32::NAN.to_le_bytes())
        }),
    ];
    let (bytes, _, rows) =
        pack(&layer([32, 100], spread(3200, 8)), Packing::Functions, Values::I8, ExportOptions::default()).unwrap();
    assert_eq!(rows[0].encoding, "gap4");
    for (what, change) in changes {
        let mut model = ModelProto::decode(&bytes[..]).unwrap();
        model.metadata_props.clear();
        change(model.graph.as_mut().unwrap());
        let found = import(&model.encode_to_vec(), &ImportOptions::default());
        assert!(matches!(found, Err(ConvertError::Packed { .. } | ConvertError::Tensor { .. })), "{what}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sparse_weight_survives_every_form(
        rows in 1usize..9, columns in 60usize..300, keep in 0u32..300, seed in any::<u64>(), form in 0usize..6,
    ) {
        let mut state = seed | 1;
        let mut draw = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state };
        let data = (0..rows * columns).map(|_| {
            let value = (draw() >> 40) as f32 / 1e6 - 8.0;
            if draw() % 1000 < u64::from(keep) { value } else { 0.0 }
        }).collect();
        let (packing, values) = ALL[form];
        let (twin, back, _, _) = round_trip(&layer([rows, columns], data), packing, values);
        prop_assert_eq!(bits(&twin), bits(&back));
    }
}
