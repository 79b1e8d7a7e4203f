//! How warm, how fast and how busy a machine is at one moment, read from `/sys` and `/proc`.
//!
//! A board that was measured hot, throttled or beside other work says little about one that was not: the condition before
//! and after a measurement is kept with it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// State of a machine at one moment. What the system does not tell is empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Degrees Celsius per thermal zone, with the zone's name.
    pub temperatures: Vec<(String, f64)>,
    /// Current frequency of the first processor, in MHz.
    pub mhz: Option<u64>,
    /// Highest frequency that the first processor may have now, in MHz.
    pub limit_mhz: Option<u64>,
    /// Highest frequency of the first processor, in MHz.
    pub max_mhz: Option<u64>,
    /// Why the processor is slowed down, as the system puts it; empty if it is not, or if nothing tells.
    pub throttled: Vec<String>,
    /// Times that heat slowed the first processor down since it was started.
    pub throttle_events: Option<u64>,
    /// Processes that want a processor, averaged over the last minute.
    pub load: Option<f64>,
}

impl Condition {
    /// The condition of the machine this runs on.
    pub fn now() -> Self {
        Self::under(Path::new("/"))
    }

    /// What files below `root` tell; `root` is `/` but for tests.
    fn under(root: &Path) -> Self {
        let text = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let cpu = root.join("sys/devices/system/cpu/cpu0");
        let mhz = |name: &str| text(cpu.join("cpufreq").join(name))?.parse::<u64>().ok().map(|khz| khz / 1000);
        let thermal = |prefix: &str| numbered(&root.join("sys/class/thermal"), prefix);
        let temperatures = thermal("thermal_zone").into_iter().filter_map(|zone| {
            let millidegrees: f64 = text(zone.join("temp"))?.parse().ok()?;
            Some((text(zone.join("type"))?, millidegrees / 1000.0))
        });
        let slowed = thermal("cooling_device").into_iter().filter_map(|device| {
            let kind = text(device.join("type"))?;
            let slows = ["processor", "cpufreq", "cpu-", "intel_powerclamp"]
                .iter()
                .any(|name| kind.to_ascii_lowercase().contains(name));
            let state: i64 = text(device.join("cur_state"))?.parse().ok()?;
            (slows && state > 0).then(|| format!("{kind} is at step {state}"))
        });
        let firmware = text(root.join("sys/devices/platform/soc/soc:firmware/get_throttled"));
        let throttled = slowed.chain(firmware.iter().flat_map(|flags| raspberry_pi(flags))).collect();
        Self {
            temperatures: temperatures.collect(),
            mhz: mhz("scaling_cur_freq"),
            limit_mhz: mhz("scaling_max_freq"),
            max_mhz: mhz("cpuinfo_max_freq"),
            throttled,
            throttle_events: text(cpu.join("thermal_throttle/core_throttle_count")).and_then(|n| n.parse().ok()),
            load: text(root.join("proc/loadavg")).and_then(|load| load.split(' ').next()?.parse().ok()),
        }
    }

    /// The highest temperature, in degrees Celsius.
    pub fn hottest(&self) -> Option<f64> {
        self.temperatures.iter().map(|(_, degrees)| *degrees).max_by(f64::total_cmp)
    }

    /// Why a measurement between `self` and `after` was slowed down; empty if nothing tells so.
    pub fn throttling_until(&self, after: &Self) -> Vec<String> {
        let mut seen: Vec<String> = after.throttled.clone();
        seen.extend(self.throttled.iter().filter(|reason| !after.throttled.contains(reason)).cloned());
        if let (Some(before), Some(after)) = (self.throttle_events, after.throttle_events)
            && after > before
        {
            seen.push(format!("heat slowed the processor down {} times", after - before));
        }
        if let (Some(limit), Some(max)) = (after.limit_mhz, after.max_mhz)
            && limit < max
        {
            seen.push(format!("its frequency is limited to {limit} of {max} MHz"));
        }
        seen
    }
}

/// Bits 0 to 3 of the firmware's answer say what is the case now.
fn raspberry_pi(flags: &str) -> Vec<String> {
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
    let names = ["under-voltage", "frequency capped", "throttled", "soft temperature limit"];
    let set = names.into_iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| format!("firmware reports {name}")).collect()
}

/// Folders of `parent` that are called `prefix` and a number, by number.
fn numbered(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_hot_board_is_seen_to_be_throttled() {
        let root = board(&[
            ("sys/class/thermal/thermal_zone10/type", "gpu\n"),
            ("sys/class/thermal/thermal_zone10/temp", "61000\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu\n"),
            ("sys/class/thermal/thermal_zone0/temp", "82500\n"),
            ("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("sys/class/thermal/cooling_device0/cur_state", "3\n"),
            ("sys/class/thermal/cooling_device1/type", "pwm-fan\n"),
            ("sys/class/thermal/cooling_device1/cur_state", "2\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1200000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1500000\n"),
            ("proc/loadavg", "1.50 0.80 0.30 2/120 999\n"),
        ]);
        let hot = Condition::under(root.path());
        assert_eq!(hot.temperatures, [("cpu".to_owned(), 82.5), ("gpu".to_owned(), 61.0)]);
        assert_eq!((hot.hottest(), hot.mhz, hot.load), (Some(82.5), Some(600), Some(1.5)));
        let reasons = Condition::default().throttling_until(&hot);
        let expected = [
            "cpufreq-cpu0 is at step 3",
            "firmware reports under-voltage",
            "firmware reports throttled",
            "its frequency is limited to 1200 of 1500 MHz",
        ];
        assert_eq!(reasons, expected, "a turning fan is no throttling");
    }

    #[test]
    fn events_count_between_the_two_readings_only() {
        let seen = |events| Condition { throttle_events: Some(events), ..Condition::default() };
        assert!(seen(7).throttling_until(&seen(7)).is_empty());
        assert_eq!(seen(7).throttling_until(&seen(9)), ["heat slowed the processor down 2 times"]);
    }

    #[test]
    fn a_system_that_tells_nothing_is_no_error() {
        let root = board(&[]);
        assert_eq!(Condition::under(root.path()), Condition::default());
        assert!(Condition::default().throttling_until(&Condition::default()).is_empty());
    }
}
