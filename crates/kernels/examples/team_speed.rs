//! What working together costs: nanoseconds per barrier, per job and per step of a region whose layers do nothing.
//!
//! `cargo run --release -p sentei-kernels --example team_speed [threads]`; best of many short repetitions.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sentei_kernels::region::RegionBuilder;
use sentei_kernels::team::Team;
use sentei_kernels::{Call, Layer, Map};

const STEPS: usize = 100;
const REPETITIONS: usize = 2000;

fn main() {
    let threads = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(2);
    for pin in [false, true] {
        let team = Team::new(threads, pin).expect("a few threads");
        let label = if pin { "pinned" } else { "free" };
        let barriers = best(|| {
            team.run(&|_| {
                for _ in 0..STEPS {
                    team.sync();
                }
            });
        });
        println!("{threads} threads, {label}: barrier {:.0} ns", nanos(barriers) / STEPS as f64);
        println!("{threads} threads, {label}: job {:.0} ns", nanos(best(|| team.run(&|_| ()))));
        let mut woken: Vec<Duration> = (0..30)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(3));
                let start = Instant::now();
                team.run(&|_| ());
                start.elapsed()
            })
            .collect();
        woken.sort_unstable();
        println!("{threads} threads, {label}: job of sleeping workers {:.0} ns (median)", nanos(woken[15]));
        println!("{threads} threads, {label}: step of a region {:.0} ns", step(threads, &team));
    }
    let alone = Team::new(1, false).expect("no thread");
    println!("1 thread: step of a region {:.0} ns", step(1, &alone));
}

/// Nanoseconds per step of a chain of layers that do nothing.
fn step(threads: usize, team: &Team) -> f64 {
    let map = Map::aligned(16, 4, 4);
    let mut builder = RegionBuilder::new();
    let mut value = builder.input(map).expect("valid map");
    for step in 0..STEPS {
        value = builder.push(Arc::new(Nothing(map)), value, None, format!("{step}")).expect("maps agree");
    }
    builder.output(value).expect("own value");
    let mut region = builder.build(threads).expect("valid region");
    let (x, mut y) = (vec![0.0; map.len()], vec![0.0; map.len()]);
    nanos(best(|| region.run(&[&x], &mut [&mut y], team))) / STEPS as f64
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..REPETITIONS).map(time).min().expect("some repetitions")
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[derive(Debug)]
struct Nothing(Map);

impl Layer for Nothing {
    fn input(&self) -> Map {
        self.0
    }

    fn output(&self) -> Map {
        self.0
    }

    fn units(&self) -> usize {
        self.0.channels
    }

    unsafe fn run_units(&self, _: Range<usize>, _: &Call<'_>, _: &mut [f32]) {}

    /// Enough to be shared out.
    fn macs(&self) -> u64 {
        1 << 20
    }

    fn kernel(&self) -> String {
        "nothing".into()
    }
}
