//! What the documentation promises about memory, counted by the allocator: running a layer allocates nothing,
//! and a hostile packed tensor is refused before anything of its dense size is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
use sentei_kernels::gemv::{DenseLinear, LinearValues, SparseLinear};
use sentei_kernels::packed::{ByteBudget, Encoding, Packed, PackedError, Values};
use sentei_kernels::planes;
use sentei_kernels::region::RegionBuilder;
use sentei_kernels::team::Team;
use sentei_kernels::{Activation, Call, Isa, Layer, Map};

struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes this thread allocates while `f` runs.
fn allocated_by(f: impl FnOnce()) -> usize {
    let before = ALLOCATED_BYTES.with(Cell::get);
    f();
    ALLOCATED_BYTES.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert!(allocated_by(|| drop(std::hint::black_box(vec![0u8; 1000]))) >= 1000);
}

#[test]
fn running_a_layer_allocates_nothing() {
    let every_third = |len: usize| (0..len as u32).step_by(3).map(|index| (index, 0.5));
    for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2)] {
        let geometry = ConvGeometry {
            pads: [kernel / 2; 4],
            stride: [stride; 2],
            ..ConvGeometry::new(9, [13, 11], 7, [kernel; 2])
        };
        let (positions, values): (Vec<u32>, Vec<f32>) = every_third(geometry.weights().expect("small")).unzip();
        let values = planes::Values::F32(values);
        let weights = ConvWeights { positions: Some(&positions), values: &values, scales: None, bias: None };
        let input = Map::aligned(9, 13, 11);
        let output = Map::aligned(7, geometry.out_height(), geometry.out_width());
        let choice = ConvChoice::guess(Isa::best(), &geometry, input, positions.len(), 1);
        let activation = Activation::HardSwish;
        let conv =
            Conv::prepare(Isa::best(), &geometry, input, output, weights, activation, choice).expect("valid layer");
        let (x, mut y) = (vec![1.0; input.len()], vec![0.0; output.len()]);
        let (residual, mut scratch) = (y.clone(), vec![0.0; conv.scratch_len()]);
        let run = || conv.run(&x, &mut y, Some(&residual), &mut scratch);
        assert_eq!(allocated_by(run), 0, "kernel {kernel}, stride {stride}");
    }
    let layer = SparseLinear::prepare(19, 33, every_third(19 * 33), None).expect("valid layer");
    let values = LinearValues::I8 { values: &[1; 19 * 33], scales: &[0.5; 19] };
    let dense = DenseLinear::prepare(Isa::best(), 19, 33, values, None).expect("valid layer");
    for batch in [1, 11] {
        let (x, mut y) = (vec![1.0; batch * 33], vec![0.0; batch * 19]);
        assert_eq!(allocated_by(|| layer.run(&x, &mut y, Activation::Relu)), 0, "sparse, batch {batch}");
        assert_eq!(allocated_by(|| dense.run(&x, &mut y, Activation::Relu)), 0, "dense, batch {batch}");
    }
}

/// Copies its input, plane by plane.
#[derive(Debug)]
struct Copies(Map);

impl Layer for Copies {
    fn input(&self) -> Map {
        self.0
    }

    fn output(&self) -> Map {
        self.0
    }

    fn units(&self) -> usize {
        self.0.channels
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _: &mut [f32]) {
        let elements = units.start * self.0.stride..units.end * self.0.stride;
        // SAFETY: these planes are of these units alone.
        unsafe { call.y.slice_mut(elements.clone()) }.copy_from_slice(&call.x[elements]);
    }

    fn macs(&self) -> u64 {
        1 << 20
    }

    fn kernel(&self) -> String {
        "copy".into()
    }
}

#[test]
fn running_a_region_allocates_nothing() {
    let map = Map::aligned(4, 7, 7);
    for threads in [1, 2] {
        let mut builder = RegionBuilder::new();
        let x = builder.input(map).expect("valid map");
        let a = builder.push(Arc::new(Copies(map)), x, None, "a").expect("maps agree");
        let b = builder.push(Arc::new(Copies(map)), a, Some(x), "b").expect("maps agree");
        builder.output(b).expect("own value");
        let mut region = builder.build(threads).expect("valid region");
        let team = Team::new(threads, false).expect("two threads");
        let (x, mut y) = (vec![1.0; 4 * 49], vec![0.0; 4 * 49]);
        for _ in 0..3 {
            assert_eq!(allocated_by(|| region.run(&[&x], &mut [&mut y], &team)), 0, "{threads} threads");
        }
        assert_eq!(x, y);
    }
}

#[test]
fn a_shape_bomb_is_refused_before_its_size_is_allocated() {
    let values = Values::F32(vec![1.0]);
    let mut packed = Packed::encode(&[2, 2], Encoding::Gap4, &[3], values, None).expect("valid tensor");
    packed.shape = vec![16384, 16384, 2];
    let used = allocated_by(|| {
        let error = packed.to_dense(&mut ByteBudget::default()).expect_err("2 GiB exceed the budget");
        assert!(matches!(error, PackedError::Budget { .. }));
    });
    assert_eq!(used, 0);
}
