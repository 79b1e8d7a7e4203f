//! What tests of layers between maps share: inputs with hostile gaps, outputs with guards, runs in pieces.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Call, Isa, Layer, Map, Shared};

/// Around and between outputs; no result has this value.
pub(crate) const GUARD: f32 = 12345.0;

/// The instruction sets this CPU runs; the others are reported as skipped.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        for isa in Isa::COMPILED.iter().filter(|isa| !isa.runs_here()) {
            eprintln!("SKIPPED (not on this CPU): {}", isa.name());
        }
    });
    Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here())
}

/// Says that a kernel ran, once per name: `tools/kernels-that-ran` reads it.
pub(crate) fn report(kernel: &str) {
    static RAN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if RAN.lock().expect("nothing panics while it holds this").insert(kernel.to_owned()) {
        eprintln!("ran: {kernel}");
    }
}

/// Numbers in `-1..1`.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Random pixels; what lies between the planes is NaN, infinite or huge.
pub(crate) fn guarded(map: Map, seed: u64) -> Vec<f32> {
    guarded_from(map, &random(map.channels * map.pixels(), seed))
}

/// The pixels of a tight tensor laid out as `map`; what lies between the planes is NaN, infinite or huge.
pub(crate) fn guarded_from(map: Map, tight: &[f32]) -> Vec<f32> {
    let hostile = [f32::NAN, f32::INFINITY, f32::MAX, f32::NEG_INFINITY];
    let mut x: Vec<f32> = hostile.into_iter().cycle().take(map.len()).collect();
    for (from, to, len) in rows(map) {
        x[to..to + len].copy_from_slice(&tight[from..from + len]);
    }
    x
}

/// The pixels of `map` without gaps; those that lie there twice are the same.
pub(crate) fn tight_of(map: Map, y: &[f32]) -> Vec<f32> {
    let mut tight = vec![0.0; map.channels * map.pixels()];
    // planes come after edges, and stay
    for (at, from, len) in rows(map) {
        tight[at..at + len].copy_from_slice(&y[from..from + len]);
    }
    for (at, from, len) in rows(map).filter(|_| map.edges > 0) {
        let alike = tight[at..at + len].iter().zip(&y[from..from + len]).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(alike, "a gathered row differs from the plane");
    }
    tight
}

/// Where pixels without gaps lie in `map`, slab by slab and channel by channel: first pixel there, first element here, number of both.
/// First all that is gathered at the edges, then all planes.
fn rows(map: Map) -> impl Iterator<Item = (usize, usize, usize)> {
    let (height, width, edge) = (map.slab_height(), map.width, map.edges * map.width);
    let parts = (0..map.slabs).flat_map(move |slab| (0..map.channels).map(move |channel| (slab, channel)));
    let first = move |slab: usize, channel: usize| channel * map.pixels() + slab * height * width;
    let edges = parts.clone().filter(move |_| edge > 0).flat_map(move |(slab, channel)| {
        let (first, start) = (first(slab, channel), slab * map.slab_len());
        let bottom = (first + height * width - edge, start + map.edge(true, channel), edge);
        [(first, start + map.edge(false, channel), edge), bottom]
    });
    let planes = parts.map(move |(slab, channel)| {
        (first(slab, channel), slab * map.slab_len() + channel * map.stride, height * width)
    });
    edges.chain(planes)
}

/// Asserts that `layer` in slabs gives the bits of `y`, what it gave in one slab, wherever it says it can; returns between how many
/// pairs of maps of several slabs.
pub(crate) fn assert_alike_in_slabs(layer: &dyn Layer, x: &[f32], residual: Option<&[f32]>, y: &[f32]) -> usize {
    let (input, output) = (layer.input(), layer.output());
    let (x, y) = (tight_of(input, x), tight_of(output, y));
    let residual = residual.map(|residual| tight_of(output, residual));
    // slabs and edges of both maps
    let cuts = [
        [(1, 0), (2, 0)],
        [(2, 1), (1, 0)],
        [(2, 0), (2, 0)],
        [(2, 1), (2, 0)],
        [(2, 1), (2, 1)],
        [(2, 2), (3, 0)],
        [(3, 2), (3, 0)],
        [(3, 0), (3, 2)],
    ];
    let mut times = 0;
    for [(slabs, edges), (output_slabs, output_edges)] in cuts {
        let maps = (input.in_slabs(slabs, edges), output.in_slabs(output_slabs, output_edges));
        let (Some(input), Some(output)) = maps else { continue };
        let Some(layer) = layer.in_slabs(input, output) else { continue };
        assert_eq!((layer.input(), layer.output()), (input, output));
        let residual = residual.as_ref().map(|residual| guarded_from(output, residual));
        let found = split_runs(&*layer, &guarded_from(input, &x), residual.as_deref());
        let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tight_of(output, &found)), bits(&y), "{}: {input:?} to {output:?}", layer.kernel());
        times += usize::from(input.slabs > 1 && output.slabs > 1);
    }
    times
}

/// Runs all units at once, one by one backwards, and in odd runs; the bits must be the same, and units write
/// nothing but their own planes. Gives the output with its guards.
pub(crate) fn split_runs(layer: &dyn Layer, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
    let len = layer.output().len();
    let mut scratch = vec![f32::NAN; layer.scratch_len() + 1];
    let mut run = |ranges: &[std::ops::Range<usize>]| {
        let mut y = vec![GUARD; len + 32];
        for range in ranges {
            // nothing is left from one run to the next
            scratch.fill(f32::NAN);
            let call = Call { x, y: Shared::new(&mut y[16..16 + len]), residual };
            // one element in, so that the scratch is not aligned
            // SAFETY: one thread only.
            unsafe { layer.run_units(range.clone(), &call, &mut scratch[1..]) }
        }
        for guard in y.drain(..16).collect::<Vec<_>>().iter().chain(&y.split_off(len)) {
            assert_eq!(*guard, GUARD, "{}: written outside of the output", layer.kernel());
        }
        y
    };
    let units = layer.units();
    assert!(units >= 1);
    report(&layer.kernel());
    let whole = run(std::slice::from_ref(&(0..units)));
    let single: Vec<_> = (0..units).rev().map(|unit| unit..unit + 1).collect();
    let odd: Vec<_> = (0..units).step_by(3).map(|unit| unit..units.min(unit + 3)).collect();
    let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let planes = |y: &[f32]| bits(&tight_of(layer.output(), y));
    for pieces in [single, odd] {
        assert_eq!(planes(&run(&pieces)), planes(&whole), "{}: cutting the units changed bits", layer.kernel());
    }
    let costs: u64 = (0..units).map(|unit| layer.unit_cost(unit)).sum();
    assert!(costs > 0);
    whole
}

/// No pixel is a guard any more.
pub(crate) fn assert_guarded(y: &[f32], map: Map, kernel: String) {
    assert!(tight_of(map, y).iter().all(|v| *v != GUARD), "{kernel}: a pixel was not written");
}
