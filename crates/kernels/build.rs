//! Compiles the NEON kernels of 32-bit ARM, which are C: Rust's intrinsics for these processors are not stable. Every other target
//! gets by without a C compiler.

use std::env::var;

const FILES: [&str; 3] = ["src/planes/neon32.c", "src/dense/neon32.c", "src/gemv/neon32.c"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(neon32)");
    println!("cargo::rerun-if-env-changed=SENTEI_NO_NEON");
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let target = var("TARGET").unwrap_or_default();
    // processors before ARMv7 have no NEON, and without hard floats functions take their arguments elsewhere
    let neon = target.starts_with("armv7") && target.contains("linux") && target.ends_with("eabihf");
    if !neon || var("SENTEI_NO_NEON").is_ok_and(|value| value == "1") {
        return;
    }
    let mut build = cc::Build::new();
    build.files(FILES).opt_level(3).warnings(true);
    // whether the processor has NEON is asked when the program starts; products round before they are added, as in portable code
    build.flag("-mfpu=neon").flag("-marm").flag("-ffp-contract=off");
    // cargo zigbuild asks for a processor without NEON, and zig takes the last one named; other compilers do not know this name
    build.flag_if_supported("-mcpu=generic+v7a+vfp3+neon");
    if let Err(error) = build.try_compile("sentei_neon32") {
        println!(
            "cargo::error=the NEON kernels for {target} need a C compiler for it: {error}. Debian: apt-get install \
             gcc-arm-linux-gnueabihf. cargo zigbuild brings one of its own. SENTEI_NO_NEON=1 builds without these kernels, \
             for a slower runner."
        );
        std::process::exit(1);
    }
    println!("cargo::rustc-cfg=neon32");
}
