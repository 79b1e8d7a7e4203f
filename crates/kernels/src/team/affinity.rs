//! Which cores this process may use, and tying a thread to one of them. Elsewhere than on Linux threads stay free.

use std::sync::OnceLock;

/// The cores of one thread, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u64; 16]);

impl Mask {
    /// One core alone; `None` beyond the 1024 that a mask can name.
    pub fn of(core: usize) -> Option<Self> {
        let mut mask = Self([0; 16]);
        *mask.0.get_mut(core / 64)? |= 1 << (core % 64);
        Some(mask)
    }

    fn processors(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|processor| self.0[processor / 64] >> (processor % 64) & 1 == 1)
    }

    /// The mask of the calling thread, where the system says it.
    pub fn of_this_thread() -> Option<Self> {
        imp::get()
    }

    /// Makes this the mask of the calling thread; whether that worked.
    pub fn apply(&self) -> bool {
        imp::set(self)
    }
}

/// The processors that threads may be tied to: all physical cores first, then their second threads.
///
/// Found once per process, by the thread that first asks: later its own mask may be a single core. Empty where nothing is known.
pub(super) fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| {
        let allowed: Vec<usize> = Mask::of_this_thread().iter().flat_map(Mask::processors).collect();
        let siblings = |processor: usize| {
            let path = format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list");
            std::fs::read_to_string(path).unwrap_or_else(|_| processor.to_string())
        };
        first_of_each(&allowed, siblings)
    })
}

/// `all` in order, those first whose `group` has not come before.
fn first_of_each(all: &[usize], group: impl Fn(usize) -> String) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let (mut first, others): (Vec<_>, Vec<_>) = all.iter().partition(|item| seen.insert(group(**item)));
    first.extend(others);
    first
}

#[cfg(target_os = "linux")]
mod imp {
    use std::ffi::c_int;

    use super::Mask;

    unsafe extern "C" {
        fn sched_getaffinity(thread: c_int, bytes: usize, mask: *mut u64) -> c_int;
        fn sched_setaffinity(thread: c_int, bytes: usize, mask: *const u64) -> c_int;
    }

    /// The system's mask is made of `long`s, so only there are the bits of `u64`s in its order.
    const SAME_ORDER: bool = cfg!(any(target_endian = "little", target_pointer_width = "64"));
    const THIS_THREAD: c_int = 0;

    pub fn get() -> Option<Mask> {
        let mut mask = Mask([0; 16]);
        // SAFETY: writes at most the `size_of_val` bytes of the array it is given.
        let result = unsafe { sched_getaffinity(THIS_THREAD, size_of_val(&mask.0), mask.0.as_mut_ptr()) };
        (SAME_ORDER && result >= 0).then_some(mask)
    }

    pub fn set(mask: &Mask) -> bool {
        // SAFETY: reads the `size_of_val` bytes of the array and changes no memory of ours.
        SAME_ORDER && unsafe { sched_setaffinity(THIS_THREAD, size_of_val(&mask.0), mask.0.as_ptr()) } == 0
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::Mask;

    pub fn get() -> Option<Mask> {
        None
    }

    pub fn set(_: &Mask) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_threads_of_a_core_come_last() {
        // 0 and 1 are one core, 2 and 3 another, 5 is alone
        let order = first_of_each(&[0, 1, 2, 3, 5], |processor| (processor / 2).to_string());
        assert_eq!(order, [0, 2, 5, 1, 3]);
    }

    #[test]
    fn a_thread_can_be_tied_to_a_core_and_freed_again() {
        let Some(before) = Mask::of_this_thread() else { return };
        let core = *cores().last().expect("this thread runs somewhere");
        let alone = Mask::of(core).expect("a core of this mask");
        assert!(alone.apply());
        assert_eq!(Mask::of_this_thread().expect("known before"), alone);
        assert!(before.apply());
        assert_eq!(Mask::of_this_thread().expect("known before"), before);
        assert_eq!(Mask::of(1024), None);
    }
}
