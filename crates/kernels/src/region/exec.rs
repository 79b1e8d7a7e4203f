//! One worker's part of one run. All `unsafe` of regions is here.
//!
//! # Why sharing the arena is sound
//! Memory: every value is a range of the arena or of one slice of the caller, in bounds as the plan laid it out
//! (`arena::assert_apart`) and as `Region::run` checked the slices; all of it is initialised (`Lines` starts as zeros). All accesses go
//! through pointers taken once per run from exclusive borrows that last for the run (inputs: from shared borrows, and the plan
//! asserts that no step writes to them).
//!
//! Time: the run falls into copying inputs in, the stages, and copying outputs out, and between two of them that different
//! workers take part in, all workers wait for each other (`Turn::wait`, and the two waits in [`Run::work`]). So accesses that may
//! happen at the same time, or while a slice made of a range is alive, belong to one stage or to one of the copies.
//! - Within a stage, `Plan::assert_stages_are_safe` asserted at build that what a step writes is apart from everything that
//!   other steps use and from what it reads itself. So no reference to what is read overlaps what is written. In place the step
//!   gets no reference to its input at all. Different workers have different units of a step (asserted by [`Run::new`]), and
//!   a layer's units write different elements; that is the contract of [`Layer`](crate::Layer).
//! - Copies: workers have different planes; inputs are different values, the parts of a concatenation apart; outputs are
//!   different slices of the caller, and those that steps have written to directly are left out.
//! - Scratch memory: a range per worker.

use super::plan::{Outside, Plan, Slot};
use crate::layer::{Call, Shared};
use crate::{LINE, Map};

/// Start of some memory that all workers may use as this file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base(*mut f32);

// SAFETY: it only carries the pointer; the module says why its uses from several threads are sound.
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

impl Base {
    pub const NONE: Self = Self(std::ptr::null_mut());
}

/// Room for what is different in every run; kept, so that a run allocates nothing.
#[derive(Debug)]
pub(super) struct Places {
    /// Start of every storage.
    storages: Vec<Base>,
    /// Start of every output slice.
    outputs: Vec<Base>,
}

impl Places {
    pub fn new(plan: &Plan) -> Self {
        Self { storages: vec![Base::NONE; plan.storages.len()], outputs: vec![Base::NONE; plan.outputs.len()] }
    }
}

/// One run, as all its workers see it.
pub(super) struct Run<'a> {
    plan: &'a Plan,
    places: &'a Places,
    inputs: &'a [&'a [f32]],
    scratch: Base,
    /// Whether some input is copied in, some output copied out.
    copies: [bool; 2],
}

impl<'a> Run<'a> {
    /// Decides where everything lies in this run.
    ///
    /// * `alignment`: bytes; slices of the caller that start on a multiple of it are used where they are, if laid out alike.
    ///
    /// # Panics
    /// When a slice has not the length of its value, or there are too few or too many of them.
    pub fn new(
        plan: &'a Plan,
        places: &'a mut Places,
        [arena, scratch]: [&'a mut [f32]; 2],
        inputs: &'a [&'a [f32]],
        outputs: &'a mut [&mut [f32]],
        alignment: usize,
    ) -> Self {
        let pixels = |value: &usize| plan.slots[*value].map.channels * plan.slots[*value].map.pixels();
        assert!(inputs.iter().map(|x| x.len()).eq(plan.inputs.iter().map(pixels)), "lengths of the inputs");
        assert!(outputs.iter().map(|y| y.len()).eq(plan.outputs.iter().map(pixels)), "lengths of the outputs");
        assert!(arena.len() >= plan.arena && scratch.len() >= plan.threads * plan.scratch, "lengths of the memory");
        for (slice, base) in outputs.iter_mut().zip(&mut places.outputs) {
            *base = Base(slice.as_mut_ptr());
        }
        let usable = |at: *const f32| (at as usize).is_multiple_of(alignment);
        let arena = arena.as_mut_ptr();
        for (storage, base) in plan.storages.iter().zip(&mut places.storages) {
            *base = match storage.outside {
                Outside::Input(input) if usable(inputs[input].as_ptr()) => Base(inputs[input].as_ptr().cast_mut()),
                Outside::Output(output) if usable(places.outputs[output].0) => places.outputs[output],
                // SAFETY: `start` lies within the arena, as the plan asserted.
                _ => Base(unsafe { arena.add(storage.start) }),
            };
        }
        let mut run = Self { plan, places, inputs, scratch: Base(scratch.as_mut_ptr()), copies: [false; 2] };
        run.copies[0] = (0..inputs.len()).any(|input| !run.is_read_outside(input));
        run.copies[1] = (0..plan.outputs.len()).any(|output| !run.is_written_outside(output));
        run
    }

    /// Does the part of `worker`; `reached(step)` is called before every step, and at the end with the number of steps.
    ///
    /// * `wait`: returns when all workers have called it as often.
    /// * `always`: wait before every step and at the end, to measure them one by one.
    ///
    /// # Safety
    /// Every worker of the plan calls this once, on one thread each, and `wait` waits for all of them.
    pub unsafe fn work(&self, worker: usize, wait: &dyn Fn(), always: bool, mut reached: impl FnMut(usize)) {
        let plan = self.plan;
        if self.copies[0] {
            (0..plan.inputs.len()).filter(|input| !self.is_read_outside(*input)).for_each(|input| {
                // SAFETY: the slice has the length of the value; nothing else happens before the wait below.
                unsafe { self.copy_in(input, worker) }
            });
            wait();
        }
        // SAFETY: the range of this worker, within `threads * plan.scratch` elements.
        let scratch =
            unsafe { std::slice::from_raw_parts_mut(self.scratch.0.add(worker * plan.scratch), plan.scratch) };
        for (index, (step, turn)) in plan.steps.iter().zip(&plan.turns).enumerate() {
            if turn.wait || always {
                wait();
            }
            reached(index);
            let units = turn.shares[worker].clone();
            if units.is_empty() {
                continue;
            }
            // SAFETY: nothing writes to these ranges during this stage, see above.
            let read =
                |value: usize| unsafe { std::slice::from_raw_parts(self.start(value), plan.slots[value].map.len()) };
            let x = if turn.in_place { &[] } else { read(step.x.0) };
            // SAFETY: nothing but this step uses this range during this stage, see above.
            let y = unsafe { Shared::from_raw(self.start(step.y.0), plan.slots[step.y.0].map.len()) };
            let call = Call { x, y, residual: step.residual.map(|residual| read(residual.0)) };
            // SAFETY: these units are this worker's alone.
            unsafe { step.layer.run_units(units, &call, scratch) };
        }
        if self.copies[1] || always {
            wait();
        }
        reached(plan.steps.len());
        (0..plan.outputs.len()).filter(|output| !self.is_written_outside(*output)).for_each(|output| {
            // SAFETY: the slice has the length of the value; all steps are over.
            unsafe { self.copy_out(output, worker) }
        });
    }

    fn slot(&self, value: usize) -> &Slot {
        &self.plan.slots[value]
    }

    /// First element of `value`.
    fn start(&self, value: usize) -> *mut f32 {
        let slot = self.slot(value);
        // SAFETY: the value lies within its storage.
        unsafe { self.places.storages[slot.storage].0.add(slot.start) }
    }

    fn is_read_outside(&self, input: usize) -> bool {
        std::ptr::eq(self.start(self.plan.inputs[input]), self.inputs[input].as_ptr())
    }

    fn is_written_outside(&self, output: usize) -> bool {
        std::ptr::eq(self.start(self.plan.outputs[output]), self.places.outputs[output].0)
    }

    /// # Safety
    /// Nothing else uses the value, except that the other workers call this.
    unsafe fn copy_in(&self, input: usize, worker: usize) {
        let (value, from) = (self.plan.inputs[input], self.inputs[input].as_ptr());
        let map = self.slot(value).map;
        // SAFETY: both have all planes of the map, by the assertion in `new`.
        unsafe { copy_planes(from, map.pixels(), self.start(value), map.stride, &map, [worker, self.plan.threads]) }
    }

    /// # Safety
    /// Nothing writes to the value or uses the slice, except that the other workers call this.
    unsafe fn copy_out(&self, output: usize, worker: usize) {
        let (value, to) = (self.plan.outputs[output], self.places.outputs[output].0);
        let map = self.slot(value).map;
        // SAFETY: both have all planes of the map, by the assertion in `new`.
        unsafe { copy_planes(self.start(value), map.stride, to, map.pixels(), &map, [worker, self.plan.threads]) }
    }
}

/// Copies the share of one worker of all planes of `map`, which lie `from_stride` and `to_stride` elements apart.
///
/// # Safety
/// All planes are readable and writable there and do not overlap; other workers copy other planes.
unsafe fn copy_planes(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    map: &Map,
    [worker, threads]: [usize; 2],
) {
    // vectors are one element per plane
    let line = if map.pixels() < LINE { LINE } else { 1 };
    let share = map.channels.div_ceil(threads).next_multiple_of(line);
    let (first, last) = ((worker * share).min(map.channels), ((worker + 1) * share).min(map.channels));
    if from_stride == to_stride {
        let (start, elements) = (first * from_stride, (last - first) * from_stride);
        // SAFETY: by this function's contract; one side has no gaps, so the other has none.
        return unsafe { from.add(start).copy_to_nonoverlapping(to.add(start), elements) };
    }
    for plane in first..last {
        // SAFETY: by this function's contract.
        unsafe { from.add(plane * from_stride).copy_to_nonoverlapping(to.add(plane * to_stride), map.pixels()) };
    }
}
