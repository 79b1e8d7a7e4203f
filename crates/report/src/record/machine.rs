//! The computer that measured, read from `/proc` and `/sys`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The computer that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor or board model, `unknown` if nothing names it.
    pub cpu_model: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Main memory, 0 if unknown.
    pub memory_bytes: u64,
    /// Operating system, for example `linux`.
    pub os: String,
    /// Instruction set, for example `aarch64`.
    pub arch: String,
    /// Kernel release, `unknown` if not readable.
    pub kernel: String,
    /// Frequency governor of the first processor, if one is readable.
    pub governor: Option<String>,
    /// C library of this process, for example `glibc 2.36` or `musl`; empty if unknown.
    #[serde(default)]
    pub libc: String,
    /// What emulates this machine, if something does: its timings then say nothing about a real one.
    #[serde(default)]
    pub emulated: Option<String>,
}

impl Machine {
    /// The machine this runs on. What cannot be read is `unknown`, 0 or `None`.
    pub fn here() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            libc: libc(),
            ..Self::under(Path::new("/"))
        }
    }

    /// The facts that files below `root` tell; `root` is `/` but for tests.
    fn under(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let cpuinfo = read("proc/cpuinfo").unwrap_or_default();
        let board = || read("proc/device-tree/model").map(|model| model.trim_end_matches('\0').trim().to_owned());
        let cpu_model = field(&cpuinfo, "model name")
            .or_else(board)
            .or_else(|| field(&cpuinfo, "Model"))
            .or_else(|| field(&cpuinfo, "Hardware"))
            .filter(|model| !model.is_empty());
        let kibibytes = field(&read("proc/meminfo").unwrap_or_default(), "MemTotal")
            .and_then(|total| total.trim_end_matches("kB").trim().parse::<u64>().ok());
        let line = |path: &str| read(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            cpu_model: cpu_model.unwrap_or_else(|| "unknown".into()),
            memory_bytes: kibibytes.map_or(0, |kib| kib.saturating_mul(1024)),
            kernel: line("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            governor: line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            emulated: emulator(&cpuinfo, &read),
            ..Self::default()
        }
    }
}

/// What emulates this machine, as far as it can be seen from inside.
fn emulator(cpuinfo: &str, read: &impl Fn(&str) -> Option<String>) -> Option<String> {
    // a program under user-mode emulation sees the processor file of the machine around it
    let x86_file =
        field(cpuinfo, "vendor_id").is_some_and(|vendor| ["GenuineIntel", "AuthenticAMD"].contains(&&*vendor));
    if x86_file && !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        return Some("user-mode emulation on an x86 processor".into());
    }
    // what starts an emulated machine for tests leaves this file there
    let marked = read("etc/sentei-emulated").map(|text| text.trim().to_owned());
    let compatible = read("proc/device-tree/compatible").unwrap_or_default();
    marked.or_else(|| compatible.contains("dummy-virt").then(|| "virtual machine".into()))
}

/// The C library of this process: of a static program the one it was built with, else the one that is mapped.
fn libc() -> String {
    if cfg!(target_env = "musl") {
        return "musl".into();
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let is_libc = |path: &&str| path.ends_with("/libc.so.6") || path.contains("/libc-2.");
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(is_libc);
    path.and_then(|path| fs::read(path).ok()).and_then(|bytes| glibc_version(&bytes)).unwrap_or_default()
}

/// The version in the text that every GNU C Library carries: `GNU C Library (...) stable release version 2.36.`
fn glibc_version(library: &[u8]) -> Option<String> {
    const TEXT: &[u8] = b" release version ";
    let at = library.windows(TEXT.len()).position(|window| window == TEXT)? + TEXT.len();
    let version = library[at..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    let version: String = version.map(|byte| char::from(*byte)).collect();
    Some(format!("glibc {}", version.trim_end_matches('.')))
}

/// The value of the first `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_without_model_name_uses_its_device_tree() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd08\n");
        write("proc/device-tree/model", "Example Board 4\0");
        write("proc/meminfo", "MemTotal:        1000 kB\nMemFree: 5 kB\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n");
        let machine = Machine::under(root.path());
        assert_eq!(machine.cpu_model, "Example Board 4");
        assert_eq!(machine.memory_bytes, 1_024_000);
        assert_eq!(machine.governor.as_deref(), Some("ondemand"));
        assert_eq!(machine.kernel, "unknown");
    }

    #[test]
    fn an_empty_system_is_unknown_and_not_an_error() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::under(root.path());
        assert_eq!((machine.cpu_model.as_str(), machine.memory_bytes, machine.governor), ("unknown", 0, None));
    }

    #[test]
    fn this_machine_has_a_core_and_a_name() {
        let machine = Machine::here();
        assert!(machine.cores >= 1 && !machine.cpu_model.is_empty() && !machine.arch.is_empty());
        assert!(machine.libc.starts_with("glibc 2.") || machine.libc == "musl", "{}", machine.libc);
    }

    #[test]
    fn an_emulated_board_says_so() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        fs::write(root.path().join("proc/cpuinfo"), "processor : 0\nCPU implementer : 0x41\n").unwrap();
        assert_eq!(Machine::under(root.path()).emulated, None);
        fs::write(root.path().join("proc/device-tree/compatible"), "linux,dummy-virt\0").unwrap();
        assert_eq!(Machine::under(root.path()).emulated.as_deref(), Some("virtual machine"));
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/sentei-emulated"), "emulated by something\n").unwrap();
        assert_eq!(Machine::under(root.path()).emulated.as_deref(), Some("emulated by something"));
    }

    #[test]
    fn the_version_of_glibc_is_read_from_its_text() {
        let text = b"..GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright";
        assert_eq!(glibc_version(text).as_deref(), Some("glibc 2.36"));
        assert_eq!(glibc_version(b"nothing"), None);
    }
}
