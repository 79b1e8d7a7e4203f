//! Tells the C library's allocator what to do with memory that was freed. A training step frees and takes the same hundreds of
//! large buffers over and over; by default each goes back to the system, and the next step pays a page fault for every 4 KiB.
//! Loading a model, on the other hand, frees several times what it keeps, and little of that goes back by itself; nor does the code
//! that only loading runs.

/// Keeps freed memory in this process from now on, however large the pieces; says whether it could.
///
/// Call it at the start of `main`, before a second thread exists: with one, or where the C library is not glibc or the system
/// is not Linux, nothing is changed and the answer is `false`. Results do not depend on it, only their time does: the training
/// of the inspection network takes about a fifth less. The process holds on to the most it ever needed.
pub fn keep_freed_memory() -> bool {
    imp::keep_freed_memory()
}

/// Gives freed memory back to the system, also where it lies between pieces in use; says whether some was.
///
/// It takes some milliseconds per 100 MB, and memory that is taken afterwards has to be faulted in anew. Where the C library is not
/// glibc or the system is not Linux, nothing is done and the answer is `false`.
pub fn return_freed_memory() -> bool {
    imp::return_freed_memory()
}

/// Takes the pages of this program's code out of its resident memory; says whether it could.
///
/// Code that runs on comes back from the system's file cache at once, some pages at a time, and what only loading a model needed
/// (several megabytes of graph transformations) does not. A breakpoint that a debugger has set is lost. Where the system is not Linux,
/// nothing is done and the answer is `false`.
pub fn forget_idle_code() -> bool {
    code::forget()
}

/// Has this process live on small pages from now on, also where the system gives huge ones to everybody (`transparent_hugepage` is
/// `always`); says whether it does.
///
/// A heap on huge pages keeps all of each that it ever touched a part of, and loading a model touches several times what it keeps.
/// Pages taken before stay as they are. Where the system is not Linux, or does not know the option, the answer is `false`.
pub fn refuse_huge_pages() -> bool {
    pages::refuse_huge()
}

#[cfg(target_os = "linux")]
mod pages {
    use std::ffi::{c_int, c_ulong};

    unsafe extern "C" {
        fn prctl(option: c_int, ...) -> c_int;
    }

    const SET_THP_DISABLE: c_int = 41;

    pub fn refuse_huge() -> bool {
        let (yes, none): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: the option takes the flag and three zeros. It changes how pages are given from now on, and not what is in them.
        unsafe { prctl(SET_THP_DISABLE, yes, none, none, none) == 0 }
    }

    #[cfg(test)]
    mod tests {
        use super::{c_int, c_ulong, prctl};

        const GET_THP_DISABLE: c_int = 42;

        #[test]
        fn a_process_that_refuses_huge_pages_gets_none() {
            let none: c_ulong = 0;
            // SAFETY: the option takes four zeros, reads a flag of this process and touches no memory of ours.
            let ask = || unsafe { prctl(GET_THP_DISABLE, none, none, none, none) };
            // -1: the system, or what emulates it, does not know the option
            let known = ask() >= 0;
            assert_eq!(super::refuse_huge(), known);
            assert_eq!(ask(), if known { 1 } else { -1 });
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod pages {
    pub fn refuse_huge() -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
mod code {
    use std::ffi::{c_int, c_void};
    use std::ops::Range;

    unsafe extern "C" {
        fn madvise(start: *mut c_void, len: usize, advice: c_int) -> c_int;
    }

    /// `MADV_DONTNEED`: a private mapping of a file is read from the file again when it is used next.
    const DONTNEED: c_int = 4;

    pub fn forget() -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let Some(range) = maps.lines().filter_map(code).find(|range| range.contains(&(forget as *const () as usize)))
        else {
            return false;
        };
        // SAFETY: the range is one mapping of this process, private, from a file and not writable (`code`), so its pages are those of
        // the file, which the system keeps from being changed while it runs; forgotten ones come back alike.
        unsafe { madvise(range.start as *mut c_void, range.len(), DONTNEED) == 0 }
    }

    /// The addresses of a line of `/proc/self/maps`, if it is code from a file.
    fn code(line: &str) -> Option<Range<usize>> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (access, inode) = (fields.next()?, fields.nth(2)?);
        let address = |digits| usize::from_str_radix(digits, 16).ok();
        (access == "r-xp" && inode != "0").then_some(address(start)?..address(end)?)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn only_code_that_a_file_has_is_code() {
            let line = |access, inode| format!("55d0-55f0 {access} 00002000 fe:00 {inode}    /usr/bin/cat");
            assert_eq!(super::code(&line("r-xp", "247030")), Some(0x55d0..0x55f0));
            assert_eq!(super::code(&line("r-xp", "0")), None);
            assert_eq!(super::code(&line("rwxp", "247030")), None);
            assert_eq!(super::code(&line("r--p", "247030")), None);
            assert_eq!(super::code(""), None);
        }

        #[test]
        fn a_program_runs_on_without_its_code_in_memory() {
            assert!(super::forget());
            assert_eq!((0..100u64).map(|i| i * i).sum::<u64>(), 328_350);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod code {
    pub fn forget() -> bool {
        false
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod imp {
    use std::ffi::c_int;

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
        fn malloc_trim(pad: usize) -> c_int;
    }

    pub fn return_freed_memory() -> bool {
        // SAFETY: glibc says that any thread may call it at any time (MT-Safe); it takes a number and touches free memory only.
        unsafe { malloc_trim(0) == 1 }
    }

    /// `M_MMAP_MAX`: how many pieces may have pages of their own, which go back when they are freed.
    const MMAP_MAX: c_int = -4;
    /// `M_TRIM_THRESHOLD`: how much may lie free at the end of the heap before it goes back; -1 keeps all.
    const TRIM_THRESHOLD: c_int = -1;

    pub fn keep_freed_memory() -> bool {
        let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
        if !alone {
            return false;
        }
        // SAFETY: `mallopt` takes two integers and no memory of ours. It must not run while another thread allocates; the
        // count above says that this thread is the only one, and no other can start before this function returns.
        unsafe { mallopt(MMAP_MAX, 0) == 1 && mallopt(TRIM_THRESHOLD, -1) == 1 }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod imp {
    pub fn keep_freed_memory() -> bool {
        false
    }

    pub fn return_freed_memory() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_with_a_second_thread_is_left_alone() {
        // The test harness runs tests in threads of their own, or has this one beside its main thread.
        let other = std::thread::spawn(super::keep_freed_memory);
        assert!(!other.join().expect("the thread ends"));
    }
}
