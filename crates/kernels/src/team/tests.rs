use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::*;

fn team(threads: usize) -> Team {
    Team::new(threads, false).expect("a few threads")
}

#[test]
fn every_worker_runs_every_job_once_for_ten_thousand_jobs() {
    for threads in [1, 2, 3, 5] {
        let team = team(threads);
        let runs: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        let jobs = if threads == 2 { 10_000 } else { 1_000 };
        for job in 1..=jobs {
            team.run(&|worker| {
                runs[worker].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == job));
        }
    }
}

#[test]
fn a_barrier_lets_workers_read_what_others_wrote() {
    let team = team(3);
    let cells: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(1)).collect();
    team.run(&|worker| {
        for _ in 0..20 {
            let next = cells[(worker + 1) % 3].load(Ordering::Relaxed) + cells[worker].load(Ordering::Relaxed);
            team.sync();
            cells[worker].store(next, Ordering::Relaxed);
            team.sync();
        }
    });
    assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == 1 << 20));
}

#[test]
fn a_panic_of_any_worker_reaches_the_caller_and_the_team_goes_on() {
    let team = team(3);
    for round in 0..30 {
        let guilty = round % 3;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            team.run(&|worker| {
                team.sync();
                if worker == guilty {
                    resume_unwind(Box::new(format!("round {round}")));
                }
                team.sync();
            });
        }));
        let message = caught.expect_err("the panic arrives").downcast::<String>().expect("its own payload");
        assert_eq!(*message, format!("round {round}"));
        let sum = AtomicUsize::new(0);
        team.run(&|worker| {
            team.sync();
            sum.fetch_add(worker, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }
}

#[test]
fn callers_take_turns() {
    let (team, inside) = (team(2), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    team.run(&|worker| {
                        team.sync();
                        if worker == 0 {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        }
                        team.sync();
                        if worker == 1 {
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                        team.sync();
                    });
                }
            });
        }
    });
}

#[test]
#[should_panic(expected = "runs no other job")]
fn a_job_within_a_job_is_refused_rather_than_waited_for() {
    let team = team(2);
    team.run(&|_| team.run(&|_| ()));
}

#[test]
fn pinned_workers_have_one_core_each_and_the_caller_gets_its_own_back() {
    let Some(before) = Mask::of_this_thread() else { return };
    let threads = affinity::cores().len().min(2);
    let team = Team::new(threads, true).expect("a few threads");
    let masks: Vec<Mutex<Option<Mask>>> = (0..threads).map(|_| Mutex::new(None)).collect();
    team.run(&|worker| *lock(&masks[worker]) = Mask::of_this_thread());
    if threads > 1 {
        for (mask, core) in masks.iter().zip(affinity::cores()) {
            assert_eq!(*lock(mask), Mask::of(*core));
        }
    }
    drop(team);
    assert_eq!(Mask::of_this_thread(), Some(before));
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_worker_uses_no_processor_time() {
    let team = team(2);
    let id = Mutex::new(String::new());
    team.run(&|worker| {
        if worker == 1 {
            let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
            *lock(&id) = link.to_string_lossy().into_owned();
        }
    });
    // nanoseconds on a core come first
    let path = format!("/proc/{}/schedstat", lock(&id));
    let spent = || std::fs::read_to_string(&path).ok()?.split(' ').next()?.parse::<u64>().ok();
    thread::sleep(Duration::from_millis(50));
    let Some(before) = spent() else { return };
    thread::sleep(Duration::from_millis(300));
    let used = spent().expect("the thread still lives") - before;
    assert!(used < 3_000_000, "{used} ns of 300 ms");
}
