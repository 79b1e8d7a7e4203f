use std::ops::Range;
use std::sync::Arc;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::layer::{Call, Shared};
use crate::{KernelError, LINE, Layer, Map};

/// Mixes two input elements per output element, adds the residual, and dirties gaps and scratch memory as a layer may.
#[derive(Clone, Debug)]
struct Mix {
    input: Map,
    output: Map,
    factor: f32,
    in_place: bool,
    scratch: usize,
    macs: u64,
}

impl Mix {
    fn new(input: Map, output: Map) -> Self {
        Self { input, output, factor: 0.5, in_place: false, scratch: 0, macs: 1 << 20 }
    }

    fn in_place(map: Map) -> Self {
        Self { in_place: true, ..Self::new(map, map) }
    }
}

impl Layer for Mix {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.output.channels
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        unit as u64 % 3
    }

    fn scratch_len(&self) -> usize {
        self.scratch
    }

    fn in_place(&self) -> bool {
        self.in_place
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        scratch[..self.scratch].fill(f32::NAN);
        let Map { stride, .. } = self.output;
        for unit in units {
            // SAFETY: this plane belongs to this unit alone.
            let plane = unsafe { call.y.slice_mut(unit * stride..(unit + 1) * stride) };
            for (pixel, y) in plane.iter_mut().enumerate() {
                if pixel >= self.output.pixels() {
                    *y = f32::NAN;
                    continue;
                }
                let x = |shift: usize| {
                    let channel = (unit + shift) % self.input.channels;
                    call.x[channel * self.input.stride + (pixel + shift) % self.input.pixels()]
                };
                let mixed = match (self.in_place, call.x.is_empty()) {
                    (true, true) => *y * self.factor,
                    (true, false) => x(0) * self.factor,
                    _ => x(0) * self.factor - x(3) * 0.25,
                };
                *y = mixed + call.residual.map_or(1.0, |residual| residual[unit * stride + pixel]);
            }
        }
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn kernel(&self) -> String {
        "mix".into()
    }
}

/// What the region should compute: every value in memory of its own, filled by the layers one by one.
fn one_by_one(builder: &RegionBuilder, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> = builder.values.iter().map(|value| vec![f32::NAN; value.map.len()]).collect();
    // parts are copied into what they are part of as soon as they are known
    fn spread(builder: &RegionBuilder, values: &mut [Vec<f32>], value: usize) {
        if let Some((whole, start)) = builder.values[value].part_of {
            let part = values[value].clone();
            values[whole][start..start + part.len()].copy_from_slice(&part);
            spread(builder, values, whole);
        }
    }
    for (value, input) in builder.inputs.iter().zip(inputs) {
        let map = builder.values[*value].map;
        for (plane, pixels) in input.chunks_exact(map.pixels()).enumerate() {
            values[*value][plane * map.stride..][..map.pixels()].copy_from_slice(pixels);
        }
        spread(builder, &mut values, *value);
    }
    for step in &builder.steps {
        let mut y = vec![f32::NAN; step.layer.output().len()];
        let residual = step.residual.map(|residual| &values[residual.0][..]);
        step.layer.run(&values[step.x.0], &mut y, residual, &mut vec![0.0; step.layer.scratch_len()]);
        values[step.y.0] = y;
        spread(builder, &mut values, step.y.0);
    }
    let tight = |value: &usize| {
        let map = builder.values[*value].map;
        values[*value].chunks_exact(map.stride).flat_map(|plane| &plane[..map.pixels()]).copied().collect()
    };
    builder.outputs.iter().map(tight).collect()
}

fn tight_len(builder: &RegionBuilder, value: usize) -> usize {
    builder.values[value].map.channels * builder.values[value].map.pixels()
}

/// A region of random shape: chains, branches, residuals, concatenations, layers in place, several inputs and outputs.
fn random_builder(rng: &mut ChaCha8Rng) -> RegionBuilder {
    let mut builder = RegionBuilder::new();
    let sizes = [(1, 1), (4, 4), (3, 5), (7, 7), (8, 8)];
    let map = |rng: &mut ChaCha8Rng| {
        let (height, width) = *sizes.choose(rng).expect("not empty");
        let channels = rng.random_range(1..9);
        if rng.random_bool(0.3) { Map::tight(channels, height, width) } else { Map::aligned(channels, height, width) }
    };
    let mut values: Vec<ValueId> =
        (0..rng.random_range(1..4)).map(|_| builder.input(map(rng)).expect("valid map")).collect();
    for step in 0..rng.random_range(1..25) {
        // mostly recent values, so that others die
        let recent = &values[values.len().saturating_sub(4)..];
        let x = if rng.random_bool(0.8) { recent } else { &values }.choose(rng).copied().expect("has inputs");
        let input = builder.map(x).expect("own value");
        if rng.random_bool(0.2) {
            let alike = |value: &ValueId| {
                let other = builder.map(*value).expect("own value");
                Map { channels: 0, ..other } == Map { channels: 0, ..input }
            };
            let mut parts: Vec<ValueId> = values.iter().copied().filter(alike).collect();
            while parts.len() > 3 {
                parts.remove(rng.random_range(0..parts.len()));
            }
            // refused where a part is taken already
            if let Ok(whole) = builder.concat(&parts, "concat") {
                values.push(whole);
            }
            continue;
        }
        let mut mix = if rng.random_bool(0.3) { Mix::in_place(input) } else { Mix::new(input, map(rng)) };
        mix.factor = rng.random_range(-1.0..1.0);
        mix.scratch = rng.random_range(0..40);
        mix.macs = if rng.random_bool(0.3) { 1 } else { 1 << 20 };
        let same: Vec<ValueId> =
            values.iter().copied().filter(|value| builder.map(*value).expect("own value") == mix.output).collect();
        let residual = same.choose(rng).copied().filter(|_| rng.random_bool(0.6));
        values.push(builder.push(Arc::new(mix), x, residual, format!("step {step}")).expect("maps agree"));
    }
    if builder.steps.is_empty() {
        let (x, map) = (values[0], builder.map(values[0]).expect("own value"));
        values.push(builder.push(Arc::new(Mix::new(map, map)), x, None, "only").expect("maps agree"));
    }
    builder.output(*values.last().expect("has inputs")).expect("own value");
    for _ in 0..rng.random_range(0..3) {
        builder.output(*values.choose(rng).expect("has inputs")).expect("own value");
    }
    builder
}

#[test]
fn random_regions_give_the_bits_of_their_layers_run_one_by_one_for_every_number_of_threads() {
    let cases = if cfg!(miri) { 5 } else { 300 };
    let teams: Vec<Team> = [1, 2, 3, 5].map(|threads| Team::new(threads, false).expect("a few threads")).into();
    let (mut in_place, mut saved) = (0, 0);
    for seed in 0..cases {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let builder = random_builder(&mut rng);
        let inputs: Vec<Vec<f32>> = builder
            .inputs
            .iter()
            .map(|value| (0..tight_len(&builder, *value)).map(|_| rng.random_range(-1.0..1.0)).collect())
            .collect();
        let expected = one_by_one(&builder, &inputs);
        let all: usize = builder.values.iter().map(|value| value.map.len().next_multiple_of(LINE)).sum();
        // on a busy machine every wait of several threads may cost a time slice
        for team in teams.iter().filter(|team| team.threads() == 1 || seed < 40) {
            let mut region = builder.clone().build(team.threads()).expect("has steps and outputs");
            in_place += (0..region.steps().len()).filter(|step| region.is_in_place(*step)).count();
            saved += usize::from(region.arena_bytes() < all * 4);
            assert!(region.arena_bytes() <= all * 4);
            // slices on a line, which may be used where they are, and off it, which may not
            for offset in [0, 1, 0] {
                let mut memory: Vec<(Lines, usize)> =
                    inputs.iter().chain(&expected).map(|slice| (Lines::new(slice.len() + 1), slice.len())).collect();
                let mut slices: Vec<&mut [f32]> =
                    memory.iter_mut().map(|(lines, len)| &mut lines.as_mut_slice()[offset..][..*len]).collect();
                let mut outputs = slices.split_off(inputs.len());
                slices.iter_mut().zip(&inputs).for_each(|(to, from)| to.copy_from_slice(from));
                outputs.iter_mut().for_each(|y| y.fill(f32::NAN));
                let slices: Vec<&[f32]> = slices.iter().map(|slice| &**slice).collect();
                region.run(&slices, &mut outputs, team);
                for (found, expected) in outputs.iter().zip(&expected) {
                    let same = found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "seed {seed}, {} threads, offset {offset}", team.threads());
                }
                assert!(slices.iter().zip(&inputs).all(|(now, before)| *now == &before[..]), "inputs stay as they are");
            }
        }
    }
    assert!(in_place > 0 && saved > 0, "the cases cover reuse");
}

#[test]
fn a_chain_in_place_needs_memory_once_and_uses_aligned_outputs_directly() {
    let (map, narrow) = (Map::aligned(4, 8, 8), Map::aligned(2, 8, 8));
    let mut builder = RegionBuilder::new();
    let x = builder.input(map).expect("valid");
    let first = builder.push(Arc::new(Mix::new(map, map)), x, None, "first").expect("fits");
    let second = builder.push(Arc::new(Mix::in_place(map)), first, None, "second").expect("fits");
    let third = builder.push(Arc::new(Mix::in_place(map)), second, Some(x), "third").expect("fits");
    let last = builder.push(Arc::new(Mix::new(map, narrow)), third, None, "last").expect("fits");
    builder.output(last).expect("own");
    let region = builder.build(2).expect("valid");
    assert_eq!([0, 1, 2, 3].map(|step| region.is_in_place(step)), [false, true, true, false]);
    assert_eq!(region.arena_bytes(), 4 * (map.len() * 2));
    assert_eq!(region.waits(), 3);
}

#[test]
fn branches_share_a_stage_and_small_neighbours_need_no_waiting() {
    let map = Map::aligned(8, 4, 4);
    let small = || Arc::new(Mix { macs: 1, ..Mix::new(map, map) });
    let mut builder = RegionBuilder::new();
    let x = builder.input(map).expect("valid");
    let left = builder.push(Arc::new(Mix::new(map, map)), x, None, "left").expect("fits");
    let right = builder.push(Arc::new(Mix::new(map, map)), x, None, "right").expect("fits");
    let joined = builder.push(small(), left, Some(right), "joined").expect("fits");
    let last = builder.push(small(), joined, None, "last").expect("fits");
    builder.output(last).expect("own");
    let region = builder.clone().build(3).expect("valid");
    assert_eq!(region.waits(), 1, "between the branches and where they join");
    let mut wide = builder.build(1).expect("valid");
    assert_eq!(wide.steps().len(), 4);
    let (input, mut y) = (vec![1.0; 128], vec![0.0; 128]);
    let team = Team::new(2, false).expect("two threads");
    let times = wide.profile(&[&input], &mut [&mut y], &team, 3);
    assert_eq!((times.len(), wide.threads()), (4, 1));
}

#[test]
fn parts_of_a_concatenation_are_written_where_they_belong() {
    let map = |channels| Map::aligned(channels, 3, 3);
    let mut builder = RegionBuilder::new();
    let x = builder.input(map(2)).expect("valid");
    let a = builder.push(Arc::new(Mix::new(map(2), map(3))), x, None, "a").expect("fits");
    let inner = builder.concat(&[x, a], "inner").expect("fits");
    let b = builder.push(Arc::new(Mix::new(map(5), map(1))), inner, None, "b").expect("fits");
    let outer = builder.concat(&[b, inner], "outer").expect("fits");
    builder.output(outer).expect("own");
    let expected = one_by_one(&builder, &[vec![2.0; 18]]);
    let mut region = builder.clone().build(2).expect("valid");
    assert_eq!(region.arena_bytes(), 4 * map(6).len(), "one storage for all of it");
    let mut y = vec![0.0; 6 * 9];
    region.run(&[&[2.0; 18]], &mut [&mut y], &Team::new(2, false).expect("two threads"));
    assert_eq!(y, expected[0]);

    let again = builder.concat(&[a, b], "again").expect_err("taken");
    assert_eq!(again, KernelError::Concat { step: "again".into(), value: a.0, why: "it is part of another" });
    let twice = builder.concat(&[outer, outer], "twice").expect_err("the same");
    assert_eq!(twice, KernelError::Concat { step: "twice".into(), value: outer.0, why: "it comes twice" });
    let other = builder.input(Map::tight(2, 3, 3)).expect("valid");
    assert!(matches!(builder.concat(&[outer, other], "other"), Err(KernelError::MapsDiffer { what: "part", .. })));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (wide, tight) = (Map::aligned(2, 3, 3), Map::tight(2, 3, 3));
    let mut builder = RegionBuilder::new();
    assert_eq!(builder.clone().build(1).expect_err("empty"), KernelError::Zero { what: "number of steps or outputs" });
    assert!(matches!(builder.input(Map { stride: 8, ..tight }), Err(KernelError::Value { .. })));
    assert!(matches!(builder.input(Map { width: 0, ..tight }), Err(KernelError::Zero { .. })));
    let x = builder.input(tight).expect("valid");
    let error = builder.push(Arc::new(Mix::new(wide, wide)), x, None, "conv").expect_err("other stride");
    let expected =
        KernelError::MapsDiffer { step: "conv".into(), what: "input", expected: wide.into(), found: tight.into() };
    assert_eq!(error, expected);
    let layer = Arc::new(Mix::new(Map::tight(18, 1, 1), wide));
    let error = builder.push(layer.clone(), x, Some(x), "add").expect_err("other stride");
    assert!(matches!(error, KernelError::MapsDiffer { what: "residual", .. }));
    assert!(builder.push(layer, x, None, "flat").is_ok(), "a map without gaps is a vector as well");
    assert_eq!(builder.output(ValueId(9)), Err(KernelError::Value { what: "a value id" }));
    let cut = Map::aligned(4, 8, 8).in_slabs(2, 1).expect("even");
    assert!(matches!(builder.input(cut), Err(KernelError::Value { .. })));
    let layer = Arc::new(Mix::new(tight, cut));
    let value = builder.push(layer, x, None, "cut").expect("fits");
    assert_eq!(builder.output(value), Err(KernelError::Value { what: "a map in slabs" }));
    assert!(matches!(builder.concat(&[value], "parts"), Err(KernelError::Concat { why: "it lies in slabs", .. })));
}

#[test]
fn a_layer_that_panics_on_another_thread_does_not_hang_the_region() {
    #[derive(Debug)]
    struct Fails(Mix);
    impl Layer for Fails {
        fn input(&self) -> Map {
            self.0.input
        }
        fn output(&self) -> Map {
            self.0.output
        }
        fn units(&self) -> usize {
            self.0.units()
        }
        unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _: &mut [f32]) {
            assert!(call.x[0] > 0.0 || units.start == 0, "bad pixel");
            // SAFETY: as the caller promises.
            unsafe { self.0.run_units(units, call, &mut []) }
        }
        fn macs(&self) -> u64 {
            self.0.macs
        }
        fn kernel(&self) -> String {
            "fails".into()
        }
    }
    let map = Map::aligned(4, 4, 4);
    let mut builder = RegionBuilder::new();
    let x = builder.input(map).expect("valid");
    let y = builder.push(Arc::new(Fails(Mix::new(map, map))), x, None, "fails").expect("fits");
    let z = builder.push(Arc::new(Mix::new(map, map)), y, None, "after").expect("fits");
    builder.output(z).expect("own");
    let team = Team::new(2, false).expect("two threads");
    let mut region = builder.build(2).expect("valid");
    let mut y = vec![0.0; map.len()];
    let mut run = |pixel: f32| {
        let run = || region.run(&[&vec![pixel; map.len()]], &mut [&mut y], &team);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
    };
    let (good, bad, again) = (run(1.0), run(-1.0), run(1.0));
    assert!(good.is_ok() && bad.is_err() && again.is_ok());
}

#[test]
fn shared_memory_can_be_named_by_pointer() {
    let mut memory = [1.0f32, 2.0];
    // SAFETY: `memory` is used through `shared` only while it lives.
    let shared = unsafe { Shared::from_raw(memory.as_mut_ptr(), 2) };
    // SAFETY: nothing else uses the element.
    let last = unsafe { shared.slice_mut(1..2) };
    last[0] = 5.0;
    assert_eq!(memory, [1.0, 5.0]);
}
