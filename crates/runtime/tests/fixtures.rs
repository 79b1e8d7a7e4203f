//! Small committed nets (made by tools/make-runtime-fixtures) through every engine and every way to load them.

#![cfg(feature = "tract")]

use std::time::Duration;

use proptest::prelude::*;
use sentei_runtime::meter::{HeapMeter, MemoryPlan, measure_memory};
use sentei_runtime::ort::{OrtOptions, Provider};
use sentei_runtime::{HostTensor, KernelChoice, LoadOptions, RuntimeError, Session, engine_named};

struct Fixture {
    name: &'static str,
    dense: &'static [u8],
    packed: &'static [u8],
    /// Input, then expected output, little-endian.
    numbers: &'static [u8],
    input: &'static [usize],
    output: &'static [usize],
}

macro_rules! fixture {
    ($name:literal, $input:expr, $output:expr) => {
        Fixture {
            name: $name,
            dense: include_bytes!(concat!("fixtures/", $name, "_dense.onnx")),
            packed: include_bytes!(concat!("fixtures/", $name, "_packed.onnx")),
            numbers: include_bytes!(concat!("fixtures/", $name, ".f32")),
            input: &$input,
            output: &$output,
        }
    };
}

const FIXTURES: &[Fixture] = &[
    fixture!("residual", [2, 3, 11, 9], [2, 7]),
    fixture!("typed_f16", [1, 2, 7, 7], [1, 4]),
    fixture!("typed_i8", [1, 2, 7, 7], [1, 4]),
    fixture!("bytes", [2, 8, 9, 7], [2, 5]),
];

/// Sums of at most 225 products in another order, relative to the largest output.
const RELATIVE: f32 = 225.0 * f32::EPSILON;

impl Fixture {
    fn tensors(&self) -> (HostTensor, HostTensor) {
        let numbers: Vec<f32> =
            self.numbers.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        let (input, output) = numbers.split_at(self.input.iter().product());
        let tensor = |shape: &[usize], data: &[f32]| HostTensor::new(shape.to_vec(), data.to_vec()).unwrap();
        (tensor(self.input, input), tensor(self.output, output))
    }

    fn options(&self, kernel_choice: KernelChoice) -> LoadOptions {
        LoadOptions { batch: self.input[0], kernel_choice, ..LoadOptions::default() }
    }
}

fn cuda() -> OrtOptions {
    OrtOptions { provider: Provider::Cuda, ..OrtOptions::default() }
}

fn load(engine: &str, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError> {
    engine_named(engine)?.load(bytes, options)
}

/// `load` of something that must be refused.
fn refusal(engine: &str, bytes: &[u8], options: &LoadOptions) -> RuntimeError {
    load(engine, bytes, options).err().expect("this must be refused")
}

fn assert_close(found: &HostTensor, expected: &HostTensor, what: &str) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let largest = expected.data.iter().fold(0f32, |max, x| max.max(x.abs()));
    assert!(largest > 0.0);
    for (a, b) in found.data.iter().zip(&expected.data) {
        assert!((a - b).abs() <= RELATIVE * largest, "{what}: {a} and {b}");
    }
}

#[test]
fn tract_agrees_with_the_reference_however_the_weights_are_stored_and_run() {
    for fixture in FIXTURES {
        let (input, expected) = fixture.tensors();
        for choice in [KernelChoice::AlwaysSparse, KernelChoice::AlwaysDense, KernelChoice::Measure] {
            for (kind, bytes) in [("dense", fixture.dense), ("packed", fixture.packed)] {
                let mut session = load("tract", bytes, &fixture.options(choice)).unwrap();
                let outputs = session.run(std::slice::from_ref(&input)).unwrap();
                assert_close(&outputs[0], &expected, &format!("{} {kind} {choice:?}", fixture.name));
                assert_eq!(session.run(std::slice::from_ref(&input)).unwrap(), outputs, "not repeatable");
            }
        }
    }
}

#[test]
fn a_sample_gives_the_same_bits_in_any_batch() {
    for (fixture, kernel_choice) in [(&FIXTURES[0], KernelChoice::AlwaysSparse), (&FIXTURES[3], KernelChoice::Int8)] {
        let (input, expected) = fixture.tensors();
        let options = |batch| LoadOptions { batch, kernel_choice, ..LoadOptions::default() };
        let mut session = load("tract", fixture.packed, &options(2)).unwrap();
        let pair = session.run(std::slice::from_ref(&input)).unwrap();
        let [_, shape @ ..] = fixture.input else { panic!("a batch") };
        let second = HostTensor::new([&[1], shape].concat(), input.data[input.data.len() / 2..].to_vec()).unwrap();
        let alone = load("tract", fixture.packed, &options(1)).unwrap().run(&[second]).unwrap();
        assert_eq!(alone[0].data, pair[0].data[expected.data.len() / 2..], "{kernel_choice:?}");
        let in_bytes = session.facts().kernels.iter().filter(|layer| layer.kernel.starts_with("i8_dot")).count();
        assert_eq!(in_bytes, if kernel_choice == KernelChoice::Int8 { 2 } else { 0 });
    }
}

#[test]
fn names_and_shapes_are_those_of_the_file() {
    let session = load("tract", FIXTURES[0].packed, &FIXTURES[0].options(KernelChoice::AlwaysSparse)).unwrap();
    let fact = &session.inputs()[0];
    assert_eq!((fact.name.as_str(), &fact.shape[..]), ("x", &[Some(2), Some(3), Some(11), Some(9)][..]));
    let fact = &session.outputs()[0];
    assert_eq!((fact.name.as_str(), &fact.shape[..]), ("y", &[Some(2), Some(7)][..]));
}

#[test]
fn inputs_of_the_wrong_shape_are_refused_with_the_right_one() {
    let mut session = load("tract", FIXTURES[1].packed, &LoadOptions::default()).unwrap();
    let wrong = HostTensor::new(vec![1, 2, 7, 6], vec![0.0; 84]).unwrap();
    let error = session.run(&[wrong]).unwrap_err().to_string();
    assert!(error.contains("[1, 2, 7, 7]") && error.contains("[1, 2, 7, 6]"), "{error}");
    assert!(session.run(&[]).unwrap_err().to_string().contains("1 inputs, 0 were given"));
    let lying = HostTensor { shape: vec![1, 2, 7, 7], data: vec![0.0; 3] };
    assert!(session.run(&[lying]).is_err());
}

#[test]
fn budgets_stop_a_load_and_name_their_flag() {
    let fixture = &FIXTURES[0];
    let small = LoadOptions { byte_budget: 1000, ..LoadOptions::default() };
    let error = refusal("tract", fixture.packed, &small);
    assert!(error.exit_code() == 6 && error.to_string().contains("--byte-budget"), "{error}");
    let slow = LoadOptions { time_budget: Duration::ZERO, ..LoadOptions::default() };
    let error = refusal("tract", fixture.packed, &slow);
    assert!(error.exit_code() == 6 && error.to_string().contains("--time-budget"), "{error}");
    let batched = LoadOptions { batch: 3, ..LoadOptions::default() };
    assert!(refusal("tract", FIXTURES[1].dense, &batched).to_string().contains("fixes its batch to 1"));
    let cuda = LoadOptions { ort: cuda(), ..LoadOptions::default() };
    assert_eq!(refusal("tract", fixture.packed, &cuda).exit_code(), 5);
}

fn session_nonzeros(bytes: &[u8], options: &LoadOptions) -> u64 {
    load("tract", bytes, options).unwrap().facts().kernels.iter().map(|layer| layer.nnz).sum()
}

#[test]
fn memory_is_told_for_a_model_that_is_read_after_the_baseline() {
    let read = || Ok(FIXTURES[0].packed.to_vec());
    let heap = HeapMeter { reset_peak: || (), peak_bytes: || 12_345 };
    let plan = MemoryPlan { runs: 2, heap: Some(heap) };
    let options = FIXTURES[0].options(KernelChoice::AlwaysSparse);
    let memory = measure_memory(&*engine_named("tract").unwrap(), read, |_| options.clone(), &plan).unwrap();
    assert_eq!((memory.file_bytes, memory.peak_heap_bytes), (FIXTURES[0].packed.len() as u64, Some(12_345)));
    // sparse layers hold values and positions: less than the file, which has the functions that decode as well, and no
    // less than the f32 values alone
    let values: u64 = session_nonzeros(FIXTURES[0].packed, &options) * 4;
    let weights = memory.weight_bytes.unwrap();
    assert!((values..memory.file_bytes).contains(&weights), "{weights} of {values}..{}", memory.file_bytes);
    // the first activation alone is 2 samples of 8 x 11 x 9 floats
    assert!(memory.arena_bytes.unwrap() >= 2 * 8 * 11 * 9 * 4);
    if cfg!(target_os = "linux") {
        assert!(memory.baseline_rss_bytes.unwrap() > 0);
        assert!(memory.peak_rss_bytes.unwrap() >= memory.steady_rss_bytes.unwrap());
    }
    let lost = || Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let error = measure_memory(&*engine_named("tract").unwrap(), lost, |_| options.clone(), &plan).unwrap_err();
    assert!(matches!(error, RuntimeError::Read(_)));
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    let bytes = FIXTURES[0].packed;
    for length in (0..bytes.len()).step_by(7) {
        assert!(load("tract", &bytes[..length], &LoadOptions::default()).is_err(), "{length} bytes loaded");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_never_panics(at in 0usize..1_000_000, bit in 0u8..8) {
        let mut bytes = FIXTURES[2].packed.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let options = LoadOptions {
            byte_budget: 1 << 24, kernel_choice: KernelChoice::AlwaysSparse, ..LoadOptions::default()
        };
        if let Ok(mut session) = load("tract", &bytes, &options) {
            let inputs = sentei_runtime::noise_inputs(&*session, 1);
            let _ = session.run(&inputs);
        }
    }
}

#[cfg(feature = "ort")]
mod ort {
    use super::*;

    /// Whether the library is there; where it must be, its absence is a failure.
    fn present() -> bool {
        match sentei_runtime::ort::library_info(None) {
            Ok(info) => {
                assert!(!info.version.is_empty() && !info.build.is_empty());
                true
            }
            Err(error) => {
                assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none(), "{error}");
                eprintln!("SKIPPED: {error}");
                false
            }
        }
    }

    #[test]
    fn onnx_runtime_gives_the_same_bits_for_packed_and_dense() {
        if !present() {
            return;
        }
        for fixture in FIXTURES {
            let (input, expected) = fixture.tensors();
            let options = fixture.options(KernelChoice::Measure);
            let run = |bytes| load("ort", bytes, &options).unwrap().run(std::slice::from_ref(&input)).unwrap();
            let dense = run(fixture.dense);
            assert_close(&dense[0], &expected, fixture.name);
            assert_eq!(run(fixture.packed), dense, "{}", fixture.name);
        }
    }

    #[test]
    fn onnx_runtime_gets_no_file_that_was_not_screened() {
        if !present() {
            return;
        }
        let small = LoadOptions { byte_budget: 1000, ..LoadOptions::default() };
        assert_eq!(refusal("ort", FIXTURES[0].packed, &small).exit_code(), 6);
        assert!(load("ort", &FIXTURES[0].packed[..5000], &LoadOptions::default()).is_err());
        let cuda = LoadOptions { ort: cuda(), ..LoadOptions::default() };
        assert_eq!(refusal("ort", FIXTURES[0].packed, &cuda).exit_code(), 5);
        let bytes = LoadOptions { kernel_choice: KernelChoice::Int8, ..LoadOptions::default() };
        let error = refusal("ort", FIXTURES[0].packed, &bytes).to_string();
        assert!(error.contains("--kernels int8") && error.contains("tract"), "{error}");
    }

    #[test]
    fn facts_say_which_library_ran_with_how_many_threads() {
        if !present() {
            return;
        }
        let options = LoadOptions { threads: 2, ..LoadOptions::default() };
        let mut session = load("ort", FIXTURES[0].packed, &options).unwrap();
        let engine = session.facts().engine.clone();
        assert_eq!((engine.name.as_str(), engine.provider.as_str(), engine.threads), ("ort", "cpu", 2));
        assert!(engine.version.starts_with("1."), "{engine:?}");
        assert_eq!(session.inputs()[0].shape, [Some(1), Some(3), Some(11), Some(9)]);
        assert!(matches!(session.profile(&[], 1), Err(RuntimeError::Unsupported { .. })));
    }

    #[test]
    fn every_option_of_a_session_computes_the_same_on_the_processor() {
        if !present() {
            return;
        }
        let fixture = &FIXTURES[0];
        let (input, expected) = fixture.tensors();
        let folder = tempfile::tempdir().unwrap();
        let kept = format!("profile={}", folder.path().display());
        let texts = [
            "optimise=none",
            "optimise=basic",
            "optimise=extended",
            "optimise=layout",
            "optimise=all",
            "inter_threads=2",
            "spinning=false",
            "memory_pattern=false",
            "prepacking=false",
            "cpu_arena=false",
            "placement=true",
            &kept,
        ];
        let every = texts[5..].to_vec();
        for chosen in texts.map(|text| vec![text]).into_iter().chain([every]) {
            let mut ort = OrtOptions::default();
            chosen.iter().for_each(|text| ort.set(text).unwrap());
            let placed = ort.shows_placement();
            let options = LoadOptions { threads: 2, ort, ..fixture.options(KernelChoice::Measure) };
            let mut session = load("ort", fixture.dense, &options).unwrap();
            assert_close(&session.run(std::slice::from_ref(&input)).unwrap()[0], &expected, &chosen.join(" "));
            let facts = session.facts();
            assert_eq!((facts.engine.provider.as_str(), facts.notes.len()), ("cpu", 0));
            assert_eq!(facts.nodes.is_empty(), !placed, "{chosen:?}");
            assert!(facts.nodes.iter().all(|node| node.provider == "cpu" && !node.op.is_empty()), "{:?}", facts.nodes);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "both profiles were kept");
    }

    #[test]
    fn a_session_that_is_loaded_for_it_tells_the_time_of_every_node_once() {
        if !present() {
            return;
        }
        let options = LoadOptions { profile: true, ..FIXTURES[0].options(KernelChoice::Measure) };
        let mut session = load("ort", FIXTURES[0].packed, &options).unwrap();
        let (input, _) = FIXTURES[0].tensors();
        let times = session.profile(std::slice::from_ref(&input), 5).unwrap();
        let convolutions = times.iter().filter(|node| node.op == "Conv").count();
        assert_eq!(convolutions, 4, "{times:?}");
        assert!(times.iter().any(|node| node.time_ns > 0), "{times:?}");
        let places: Vec<_> = session.facts().nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(places, times.iter().map(|node| node.name.as_str()).collect::<Vec<_>>());
        assert!(matches!(session.profile(&[input], 1), Err(RuntimeError::Unsupported { .. })));
    }

    #[test]
    fn a_provider_that_the_library_lacks_is_named_with_the_way_to_get_it() {
        if !present() {
            return;
        }
        let compiled_in =
            sentei_runtime::ort::probe(&sentei_runtime::ort::library_info(None).unwrap().path).unwrap().compiled_in;
        for provider in [Provider::Cuda, Provider::Tensorrt, Provider::Xnnpack, Provider::Acl] {
            if compiled_in.iter().any(|name| name == provider.library_name()) {
                eprintln!("SKIPPED: {provider} is in this library");
                continue;
            }
            let options =
                LoadOptions { ort: OrtOptions { provider, ..OrtOptions::default() }, ..LoadOptions::default() };
            let error = refusal("ort", FIXTURES[1].dense, &options);
            let text = error.to_string();
            assert_eq!(error.exit_code(), 5, "{text}");
            assert!(text.contains(&format!("provider `{provider}`")) && text.contains("onnxruntime"), "{text}");
        }
    }
}
