//! One file per instruction set: its vector type and the few operations that every kernel is written in.
//!
//! A kernel is a macro over these names (`LANES`, `Vector`, `Tail`, `splat`, `load`, ...), instantiated once per file, so that
//! its loops are compiled with the right features and all instruction sets compute alike. The scalar file is the portable one.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(neon32)]
pub(crate) mod neon32;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod xmm;

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512F and BMI2, 16 lanes.
    Avx512,
    /// AVX2, FMA and BMI2, 8 lanes.
    Avx2,
    /// NEON of aarch64, 4 lanes.
    Neon,
    /// NEON of ARMv7, 4 lanes, in C: convolutions but depthwise ones, and sparse fully connected layers. Everything else is portable.
    Neon32,
    /// Portable code, which the compiler may vectorise.
    Scalar,
}

impl Isa {
    /// Every instruction set compiled for this architecture, fastest first.
    #[cfg(target_arch = "x86_64")]
    pub const COMPILED: &'static [Self] = &[Self::Avx512, Self::Avx2, Self::Scalar];
    /// Every instruction set compiled for this architecture, fastest first.
    #[cfg(target_arch = "aarch64")]
    pub const COMPILED: &'static [Self] = &[Self::Neon, Self::Scalar];
    /// Every instruction set compiled for this architecture, fastest first.
    #[cfg(neon32)]
    pub const COMPILED: &'static [Self] = &[Self::Neon32, Self::Scalar];
    /// Every instruction set compiled for this architecture, fastest first.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", neon32)))]
    pub const COMPILED: &'static [Self] = &[Self::Scalar];

    /// Whether this processor has the instructions.
    pub fn runs_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::available(),
            #[cfg(neon32)]
            Self::Neon32 => neon32::available(),
            Self::Scalar => true,
            #[allow(unreachable_patterns, reason = "the instruction sets of other architectures")]
            _ => false,
        }
    }

    /// The instruction set of a kernel that exists for all but some of them: portable code for those.
    pub(crate) fn or_portable(self) -> Self {
        if self == Self::Neon32 { Self::Scalar } else { self }
    }

    /// The fastest instruction set of this processor.
    pub fn best() -> Self {
        Self::COMPILED.iter().copied().find(|isa| isa.runs_here()).expect("scalar code runs everywhere")
    }

    /// Elements of one vector; 1 where the instruction set is not compiled for this architecture.
    pub(crate) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::LANES,
            #[cfg(neon32)]
            Self::Neon32 => neon32::LANES,
            Self::Scalar => scalar::LANES,
            #[allow(unreachable_patterns, reason = "the instruction sets of other architectures")]
            _ => 1,
        }
    }

    /// Its name in kernel names and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Neon32 => "neon32",
            Self::Scalar => "scalar",
        }
    }
}
