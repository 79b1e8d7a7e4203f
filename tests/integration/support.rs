//! Small images on disk and the program under test.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// The program, without a terminal and without the caller's ONNX Runtime unless a test wants it.
pub fn sentei() -> Command {
    Command::cargo_bin("sentei").expect("the program is built")
}

/// The object that `--json` prints last.
#[track_caller]
pub fn json(command: &mut Command) -> Value {
    let out = command.output().expect("runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{stdout}\n{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}\n{stderr}"))
}

/// Exit code and standard error.
pub fn failure(command: &mut Command) -> (i32, String) {
    let out = command.output().expect("runs");
    (out.status.code().expect("not killed"), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Whether ONNX Runtime is here; says loudly that `test` is skipped when it is not, and fails where it is required.
pub fn has_onnx_runtime(test: &str) -> bool {
    match sentei_runtime::ort::library_info(None) {
        Ok(_) => true,
        Err(missing) => {
            assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none(), "{missing}");
            eprintln!("SKIPPED: {test}: {missing}");
            false
        }
    }
}

/// Writes a folder of `per_class` 16x16 PGM images in each of three classes: plain noise, a bright line, a dark spot.
pub fn write_images(folder: &Path, per_class: usize) {
    for (class, name) in ["good", "line", "spot"].into_iter().enumerate() {
        let inside = folder.join(name);
        std::fs::create_dir_all(&inside).expect("folder");
        for i in 0..per_class {
            let mut state = (class * 7919 + i * 104_729 + 1) as u64;
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut pixels: Vec<u8> = (0..256).map(|_| 100 + draw(40) as u8).collect();
            let (row, column) = (2 + draw(12) as usize, 2 + draw(12) as usize);
            for p in 0..16 {
                match class {
                    1 => pixels[row * 16 + p] = 200,
                    2 => pixels[(row - 1 + p / 4 % 3) * 16 + column - 1 + p % 3] = 20,
                    _ => {}
                }
            }
            let mut file = b"P5 16 16 255\n".to_vec();
            file.append(&mut pixels);
            std::fs::write(inside.join(format!("{i:03}.pgm")), file).expect("image");
        }
    }
}

/// A recipe that takes seconds on [`write_images`].
pub const QUICK: &str = r#"
model = "inspect"
sparsities = [0.8]

[train]
epochs = 6
batch_size = 16
learning_rate = 0.03

[prune]
prune_first = false
schedule = { cubic = { start = 0.0, end = 0.6, every_steps = 2 } }
retrain = { epochs = 6, learning_rate_factor = 0.5 }

[bench]
engines = ["tract"]
seconds = 0.2
"#;

/// Whether Slurm is here; says loudly that `test` is skipped when it is not, and fails where it is required.
pub fn has_slurm(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)).collect();
    let is_here = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    let missing: Vec<&str> =
        ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().filter(|program| !is_here(program)).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = format!("{} missing (apt-get install slurm-wlm munge)", missing.join(", "));
    assert!(std::env::var_os("SENTEI_REQUIRE_SLURM").is_none(), "{missing}");
    eprintln!("SKIPPED: {test}: {missing}");
    false
}
