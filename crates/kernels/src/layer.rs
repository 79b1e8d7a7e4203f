//! What every kernel layer can do, so that one executor can run them all on any number of threads.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use crate::{LINE, Map};

/// A prepared layer of a network: weights in kernel order, sizes fixed, activation included.
///
/// The work is cut into units that do not depend on each other and write different elements of the output. How units are
/// shared out among threads changes no bit of the result.
pub trait Layer: Debug + Send + Sync {
    /// Where it reads: the shape and plane stride of `x`.
    fn input(&self) -> Map;

    /// Where it writes; a residual lies the same way.
    fn output(&self) -> Map;

    /// Number of units, at least 1.
    fn units(&self) -> usize;

    /// Share of the work that unit `unit` is; only ratios between units of one layer matter.
    fn unit_cost(&self, unit: usize) -> u64 {
        let _ = unit;
        1
    }

    /// Elements of scratch memory that one thread needs; its contents do not matter.
    fn scratch_len(&self) -> usize {
        0
    }

    /// Whether input and output may be the same memory: both maps are then equal, and a unit reads only what it writes itself.
    /// Such a layer also runs with an empty `call.x` and finds its input in `call.y`.
    fn in_place(&self) -> bool {
        false
    }

    /// Rows that a slab of the output needs, at most, of the slab above or below that of the input, if the layer runs in slabs.
    fn halo(&self) -> usize {
        0
    }

    /// The same layer between maps of the same sizes in other slabs, with the same bits as result; `None` where there is no such form.
    fn in_slabs(&self, input: Map, output: Map) -> Option<Arc<dyn Layer>> {
        let _ = (input, output);
        None
    }

    /// Computes the units `units`; never allocates.
    ///
    /// # Safety
    /// No unit of `units` is being computed by another thread with the same `call.y`, and nothing else reads or writes
    /// `call.y` meanwhile.
    ///
    /// # Panics
    /// When a slice is shorter than its map, a unit does not exist, or this CPU lacks the instructions.
    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]);

    /// Whether every output is its bias, then plus one product of an f32 weight and an input after the other in the order of the file
    /// (weights that are left out being zeros), each rounded once by this instruction set's multiply-add, then plus the residual.
    ///
    /// Layers of the same weights and instruction set that say so give the same numbers for finite inputs, however they compute them.
    fn sums_in_file_order(&self) -> bool {
        false
    }

    /// Bytes that weights, positions and bias occupy.
    fn weight_bytes(&self) -> usize {
        0
    }

    /// Multiply-adds of one image.
    fn macs(&self) -> u64;

    /// Name of the micro-kernel, as in reports, for example `f32_planes_224x1_avx512`.
    fn kernel(&self) -> String;

    /// Computes the whole layer on this thread.
    ///
    /// # Panics
    /// As [`Layer::run_units`].
    fn run(&self, x: &[f32], y: &mut [f32], residual: Option<&[f32]>, scratch: &mut [f32]) {
        let call = Call { x, y: Shared::new(y), residual };
        // SAFETY: `y` is borrowed mutably for the whole call, and no other thread takes part.
        unsafe { self.run_units(0..self.units(), &call, scratch) }
    }
}

/// Checks one run of `layer`, which is not in place, and returns its scratch memory from the first line on.
///
/// # Panics
/// When a slice is shorter than its map or [`Layer::scratch_len`], or a unit does not exist.
pub(crate) fn checked<'a>(
    layer: &impl Layer,
    units: &Range<usize>,
    call: &Call<'_>,
    scratch: &'a mut [f32],
) -> &'a mut [f32] {
    let (input, output) = (layer.input().len(), layer.output().len());
    assert!(units.end <= layer.units(), "units {units:?} of {}", layer.units());
    assert!(call.x.len() >= input && call.y.len() >= output, "lengths of input and output");
    assert!(call.residual.is_none_or(|residual| residual.len() >= output), "length of the residual");
    assert!(scratch.len() >= layer.scratch_len(), "length of the scratch memory");
    from_line(scratch)
}

/// `scratch` without what lies before its first line, less than a line.
pub(crate) fn from_line(scratch: &mut [f32]) -> &mut [f32] {
    let before = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    &mut scratch[before..]
}

/// What one run of a layer reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Input, as [`Layer::input`] says; empty where it lies in `y`, see [`Layer::in_place`].
    pub x: &'a [f32],
    /// Output, as [`Layer::output`] says.
    pub y: Shared<'a>,
    /// Added before the activation; laid out like the output.
    pub residual: Option<&'a [f32]>,
}

/// A slice that several threads write, each its own elements.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only carries the pointer; every access goes through `unsafe` functions whose callers keep elements apart.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Borrows `slice` for all threads together.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }

    /// Shares `len` elements from `start` on, which several threads may do with the same elements.
    ///
    /// # Safety
    /// For as long as `'a`, the elements are initialised and may be read and written by whoever keeps the contract of
    /// [`Shared::slice_mut`]; no reference to them is used meanwhile.
    pub unsafe fn from_raw(start: *mut f32, len: usize) -> Self {
        Self { start, len, borrowed: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pointer to the first element; valid for `len()` elements.
    pub fn as_mut_ptr(&self) -> *mut f32 {
        self.start
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// While the result lives, nothing else reads or writes these elements.
    ///
    /// # Panics
    /// When `range` does not lie within the slice.
    #[allow(clippy::mut_from_ref, reason = "the caller keeps the elements apart")]
    pub unsafe fn slice_mut(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        // SAFETY: in bounds by the line above, initialised because it was a slice, alone by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
