//! Energy of a piece of work, where the machine has a meter that can be read: counters of joules (RAPL, hwmon) or, failing
//! those, sensors of power (INA and the like), which are sampled while the work runs.
//!
//! A meter counts what its rail feeds, the idle share included. It says what a model costs the board, not the processor core.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A meter of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyMeter {
    /// Where the figures come from, for example `RAPL package-0`.
    pub source: String,
    sensor: Sensor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sensor {
    /// Files that count microjoules, with the value after which each begins anew (0: never).
    Counters(Vec<(PathBuf, u64)>),
    /// A file with microwatts.
    Power(PathBuf),
    /// Files with millivolts and milliamperes.
    VoltsAndAmperes(PathBuf, PathBuf),
}

/// Sensors of graphics cards, disks, batteries and plugs: not of what runs the model.
const ELSEWHERE: &[&str] = &["amdgpu", "radeon", "nouveau", "i915", "xe", "nvme", "bat", "ucsi", "hidpp"];

/// Time between two readings of a power sensor; their own averaging takes milliseconds.
const SAMPLING: Duration = Duration::from_millis(5);

impl EnergyMeter {
    /// The meter of this machine: RAPL's packages, else the first sensor of hwmon that feeds a board; `None` where there is none, or only root may read it.
    pub fn find() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// * `root`: `/` but for tests.
    fn under(root: &Path) -> Option<Self> {
        rapl(root).or_else(|| hwmon(root))
    }

    /// Runs `work` and returns what it returned, with the microjoules that the meter counted meanwhile.
    ///
    /// The energy is `None` when the meter stopped answering.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> (T, Option<f64>) {
        match &self.sensor {
            Sensor::Counters(counters) => {
                let read = || counters.iter().map(|(path, _)| number(path)).collect::<Option<Vec<u64>>>();
                let before = read();
                let result = work();
                let energy = before.zip(read()).map(|(before, after)| {
                    let steps = before.iter().zip(&after).zip(counters);
                    steps.map(|((before, after), (_, wraps))| elapsed(*before, *after, *wraps)).sum::<u64>() as f64
                });
                (result, energy)
            }
            Sensor::Power(path) => sampled(|| number(path).map(|microwatts| microwatts as f64), work),
            Sensor::VoltsAndAmperes(volts, amperes) => {
                sampled(|| Some(number(volts)? as f64 * number(amperes)? as f64), work)
            }
        }
    }
}

/// Microjoules between two readings of a counter that begins anew after `wraps`.
fn elapsed(before: u64, after: u64, wraps: u64) -> u64 {
    if after >= before { after - before } else { (wraps + after).saturating_sub(before) }
}

/// Sums up `microwatts` over the time that `work` takes.
fn sampled<T>(microwatts: impl Fn() -> Option<f64> + Sync, work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let done = AtomicBool::new(false);
    // here and not in the thread, which may begin later than the work does
    let started = Instant::now();
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut energy = 0.0;
            let mut last = started;
            loop {
                let ends = done.load(Ordering::Acquire);
                let now = Instant::now();
                energy += microwatts()? * (now - last).as_secs_f64();
                last = now;
                if ends {
                    return Some(energy);
                }
                thread::sleep(SAMPLING);
            }
        });
        let result = work();
        done.store(true, Ordering::Release);
        (result, sampler.join().ok().flatten())
    })
}

/// The packages of a processor: `intel-rapl:0`, `intel-rapl:1`; what lies inside them is counted there already.
fn rapl(root: &Path) -> Option<EnergyMeter> {
    let mut packages = entries(&root.join("sys/class/powercap"), |name| {
        name.strip_prefix("intel-rapl:").is_some_and(|rest| rest.parse::<u32>().is_ok())
    });
    // `psys` counts the whole platform, the packages once more
    packages.retain(|folder| text(&folder.join("name")).is_some_and(|name| name.starts_with("package")));
    let counters: Vec<(PathBuf, u64)> = packages
        .iter()
        .filter(|folder| number(&folder.join("energy_uj")).is_some())
        .map(|folder| (folder.join("energy_uj"), number(&folder.join("max_energy_range_uj")).unwrap_or(0)))
        .collect();
    let names: Vec<String> = packages.iter().filter_map(|folder| text(&folder.join("name"))).collect();
    let source = format!("RAPL {}", names.join(", "));
    (!counters.is_empty()).then_some(EnergyMeter { source, sensor: Sensor::Counters(counters) })
}

/// The first sensor of a board: a counter before a power before volts and amperes.
fn hwmon(root: &Path) -> Option<EnergyMeter> {
    let mut chips = entries(&root.join("sys/class/hwmon"), |name| name.starts_with("hwmon"));
    let feeds_something_else = |chip: &PathBuf| {
        let name = text(&chip.join("name")).unwrap_or_default().to_lowercase();
        ELSEWHERE.iter().any(|other| name.starts_with(other))
    };
    chips.retain(|chip| !feeds_something_else(chip));
    let inputs = |kind: &str| {
        let of = |chip: &PathBuf| {
            let files = entries(chip, |name| name.starts_with(kind) && name.ends_with("_input"));
            let name = text(&chip.join("name")).unwrap_or_default();
            files.into_iter().filter(|file| number(file).is_some()).map(move |file| (name.clone(), file))
        };
        chips.iter().flat_map(of).collect::<Vec<_>>()
    };
    let label = |chip: &str, file: &Path| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let label = text(&file.with_file_name(name.replace("_input", "_label")));
        format!("{chip} {}", label.unwrap_or_else(|| name.replace("_input", ""))).trim().to_owned()
    };
    let first = |kind: &str| inputs(kind).into_iter().next();
    if let Some((chip, file)) = first("energy") {
        return Some(EnergyMeter { source: label(&chip, &file), sensor: Sensor::Counters(vec![(file, 0)]) });
    }
    if let Some((chip, file)) = first("power") {
        return Some(EnergyMeter { source: label(&chip, &file), sensor: Sensor::Power(file) });
    }
    // an INA without a power register gives current and voltage of the same channel
    inputs("curr").into_iter().find_map(|(chip, amperes)| {
        let name = amperes.file_name()?.to_str()?.replace("curr", "in");
        let volts = amperes.with_file_name(name);
        number(&volts)?;
        Some(EnergyMeter { source: label(&chip, &amperes), sensor: Sensor::VoltsAndAmperes(volts, amperes) })
    })
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    let named = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(&wanted);
    let mut found: Vec<PathBuf> = list.filter_map(Result::ok).filter(named).map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join("sys/class").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn packages_are_summed_up_and_a_counter_may_begin_anew() {
        let root = machine(&[
            ("powercap/intel-rapl:0/name", "package-0\n"),
            ("powercap/intel-rapl:0/energy_uj", "900\n"),
            ("powercap/intel-rapl:0/max_energy_range_uj", "1000\n"),
            ("powercap/intel-rapl:0:0/energy_uj", "5\n"),
            ("powercap/intel-rapl:1/name", "package-1\n"),
            ("powercap/intel-rapl:2/name", "psys\n"),
            ("powercap/intel-rapl:2/energy_uj", "70\n"),
            ("powercap/intel-rapl:1/energy_uj", "10\n"),
        ]);
        let meter = EnergyMeter::under(root.path()).unwrap();
        assert_eq!(meter.source, "RAPL package-0, package-1");
        let counter = |package: u32| root.path().join(format!("sys/class/powercap/intel-rapl:{package}/energy_uj"));
        let (result, energy) = meter.measure(|| {
            fs::write(counter(0), "50").unwrap();
            fs::write(counter(1), "35").unwrap();
            "done"
        });
        assert_eq!((result, energy), ("done", Some(150.0 + 25.0)));
        let (_, energy) = meter.measure(|| fs::remove_file(counter(1)).unwrap());
        assert_eq!(energy, None, "a meter that stops answering gives no figure");
    }

    #[test]
    fn a_power_sensor_is_summed_up_over_time() {
        let root = machine(&[
            ("hwmon/hwmon0/name", "amdgpu"),
            ("hwmon/hwmon0/power1_input", "90000000"),
            ("hwmon/hwmon1/name", "ina219"),
            ("hwmon/hwmon1/power1_input", "2000000"),
            ("hwmon/hwmon1/power1_label", "VDD_IN"),
        ]);
        let meter = EnergyMeter::under(root.path()).unwrap();
        assert_eq!(meter.source, "ina219 VDD_IN");
        let started = Instant::now();
        let (_, energy) = meter.measure(|| thread::sleep(Duration::from_millis(60)));
        let most = 2e6 * started.elapsed().as_secs_f64();
        let energy = energy.unwrap();
        assert!((2e6 * 0.06..=most).contains(&energy), "{energy} of at most {most}");
    }

    #[test]
    fn volts_times_amperes_is_power_where_there_is_no_other_sensor() {
        let root = machine(&[("hwmon/hwmon0/in1_input", "5000"), ("hwmon/hwmon0/curr1_input", "400")]);
        let meter = EnergyMeter::under(root.path()).unwrap();
        let (_, energy) = meter.measure(|| thread::sleep(Duration::from_millis(30)));
        assert!(energy.unwrap() >= 2e6 * 0.03, "{energy:?}");
        assert_eq!(EnergyMeter::under(machine(&[]).path()), None);
    }
}
