//! The boards that runners are built for.

use clap::ValueEnum;

/// A platform that `sentei build` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// 64-bit ARM with glibc: Raspberry Pi OS, Debian, Ubuntu, Jetson, i.MX 8
    #[value(name = "aarch64-unknown-linux-gnu")]
    Aarch64Gnu,
    /// 64-bit ARM, static: any Linux, needs no library of the board
    #[value(name = "aarch64-unknown-linux-musl")]
    Aarch64Musl,
    /// 32-bit ARM with NEON and glibc
    #[value(name = "armv7-unknown-linux-gnueabihf")]
    Armv7Gnu,
    /// x86-64, static
    #[value(name = "x86_64-unknown-linux-musl")]
    X86Musl,
}

impl Target {
    /// The compiler's name of the platform.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Aarch64Gnu => "aarch64-unknown-linux-gnu",
            Self::Aarch64Musl => "aarch64-unknown-linux-musl",
            Self::Armv7Gnu => "armv7-unknown-linux-gnueabihf",
            Self::X86Musl => "x86_64-unknown-linux-musl",
        }
    }

    /// Whether programs are static, so that no C library of the board matters.
    pub fn is_static(self) -> bool {
        matches!(self, Self::Aarch64Musl | Self::X86Musl)
    }

    /// The C compiler that Debian calls a cross compiler, and its package.
    pub fn gcc(self) -> (&'static str, &'static str) {
        match self {
            Self::Aarch64Gnu | Self::Aarch64Musl => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
            Self::Armv7Gnu => ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
            Self::X86Musl => ("musl-gcc", "musl-tools"),
        }
    }

    /// The target that runs on a machine which calls itself `machine` (`uname -m`): the static one, where there is one.
    pub fn of_machine(machine: &str) -> Option<Self> {
        match machine {
            "aarch64" | "arm64" => Some(Self::Aarch64Musl),
            "armv7l" | "armv8l" | "armhf" => Some(Self::Armv7Gnu),
            "x86_64" | "amd64" => Some(Self::X86Musl),
            _ => None,
        }
    }

    /// Targets by name, for messages.
    pub fn names() -> String {
        Self::value_variants().iter().map(|target| target.triple()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_targets_as_the_compiler_does() {
        for target in Target::value_variants() {
            assert_eq!(Target::from_str(target.triple(), false), Ok(*target));
            assert_eq!(target.is_static(), target.triple().ends_with("musl"));
        }
    }

    #[test]
    fn a_machine_gets_a_runner_that_needs_nothing_of_it() {
        assert_eq!(Target::of_machine("aarch64"), Some(Target::Aarch64Musl));
        assert_eq!(Target::of_machine("armv7l"), Some(Target::Armv7Gnu));
        assert_eq!(Target::of_machine("riscv64"), None);
    }
}
