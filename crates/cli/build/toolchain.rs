//! What on this machine can build for a board: a Rust library of the target, and something that compiles C and links for it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::target::Target;
use crate::exit::Failure;

/// The glibc that runners for glibc need at least, where the linker lets us choose: that of 2012.
const GLIBC: &str = "2.17";

/// What links, and compiles the C and assembly in tract and in our kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linker {
    /// `cargo zigbuild`: any target, any glibc.
    Zig {
        /// The program `cargo-zigbuild`.
        program: PathBuf,
    },
    /// A cross gcc: links against the glibc that it came with.
    Gcc {
        /// The compiler.
        program: PathBuf,
    },
}

/// Everything that a build needs.
#[derive(Clone, Debug)]
pub struct Toolchain {
    target: Target,
    cargo: PathBuf,
    rustc: PathBuf,
    /// What links.
    pub linker: Linker,
}

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Places(Vec<PathBuf>);

impl Places {
    /// PATH, the active Python environment, and where cargo and pip put programs of a user.
    pub fn of_environment() -> Self {
        let folder = |name: &str, inside: &str| env::var_os(name).map(|root| PathBuf::from(root).join(inside));
        let mut all: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        all.extend(
            [folder("VIRTUAL_ENV", "bin"), folder("HOME", ".cargo/bin"), folder("HOME", ".local/bin")]
                .into_iter()
                .flatten(),
        );
        Self(all)
    }

    /// The first program of that name.
    fn find(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}

impl Toolchain {
    /// Finds the toolchain for `target`; `SENTEI_RUSTC` names another compiler than the `rustc` of the path.
    ///
    /// # Errors
    /// [`Failure::Missing`] (exit code 5) with a command for each thing that is missing.
    pub fn find(target: Target, places: &Places) -> Result<Self> {
        let mut missing = Vec::new();
        let cargo =
            env::var_os("CARGO").map(PathBuf::from).filter(|path| path.is_file()).or_else(|| places.find("cargo"));
        let named = env::var_os("SENTEI_RUSTC").map(PathBuf::from);
        let rustc = named.clone().or_else(|| places.find("rustc"));
        if cargo.is_none() || rustc.is_none() {
            missing.push("cargo and rustc: install Rust (https://rustup.rs)".into());
        }
        let triple = target.triple();
        if let Some(rustc) = rustc.as_ref().filter(|rustc| !has_library(rustc, triple)) {
            missing.push(match (&named, places.find("rustup")) {
                (None, Some(_)) => format!("the Rust library for {triple}: rustup target add {triple}"),
                _ => format!(
                    "the Rust library for {triple}: {} has none; install rustup and run `rustup target add {triple}`, or point \
                     SENTEI_RUSTC at a compiler that has it",
                    rustc.display()
                ),
            });
        }
        let linker = find_linker(target, places);
        if linker.is_none() {
            let (program, package) = target.gcc();
            missing.push(format!(
                "a linker for {triple}: pip install ziglang cargo-zigbuild (for any board, also with old glibc), or sudo \
                 apt-get install {package} (for {program})"
            ));
        }
        match (cargo, rustc, linker) {
            (Some(cargo), Some(rustc), Some(linker)) if missing.is_empty() => Ok(Self { target, cargo, rustc, linker }),
            _ => Err(Failure::Missing { what: format!("building for {triple}"), missing }.into()),
        }
    }

    /// In one line, for people.
    pub fn describe(&self) -> String {
        match &self.linker {
            Linker::Zig { program } => format!("cargo zigbuild ({}){}", program.display(), self.baseline()),
            Linker::Gcc { program } => format!("cargo build with {}", program.display()),
        }
    }

    /// A name for what the result depends on besides the sources.
    pub fn kind(&self) -> &'static str {
        match self.linker {
            Linker::Zig { .. } => "zig",
            Linker::Gcc { .. } => "gcc",
        }
    }

    /// Whether nothing in the program looks at the tables for unwinding: gcc's start code registers them.
    pub fn drops_unwinding(&self) -> bool {
        matches!(self.linker, Linker::Zig { .. })
    }

    fn baseline(&self) -> String {
        if self.target.is_static() { String::new() } else { format!(", glibc {GLIBC}") }
    }

    /// Builds the runner from the unpacked sources and returns the program.
    ///
    /// * `symbols`: keep the names of functions, to see what the bytes are made of.
    ///
    /// # Errors
    /// When cargo fails; it has said why.
    pub fn build(&self, sources: &Path, target_folder: &Path, symbols: bool, quiet: bool) -> Result<PathBuf> {
        let triple = self.target.triple();
        // a program at a fixed place needs no table of a hundred thousand addresses to correct
        let flags = ["-Crelocation-model=static"];
        let mut cargo;
        match &self.linker {
            Linker::Zig { program } => {
                cargo = Command::new(program);
                // the zig of the same Python environment
                let near = program.parent().map(Path::to_owned);
                let path = env::var_os("PATH").unwrap_or_default();
                let path = env::join_paths(near.into_iter().chain(env::split_paths(&path)));
                cargo.arg("zigbuild").env("PATH", path.context("the PATH of this machine")?).env("CARGO", &self.cargo);
            }
            Linker::Gcc { program } => {
                cargo = Command::new(&self.cargo);
                let lower = triple.replace('-', "_");
                cargo.arg("build").env(format!("CC_{lower}"), program);
                cargo.env(format!("CARGO_TARGET_{}_LINKER", lower.to_uppercase()), program);
            }
        }
        let glibc = matches!(self.linker, Linker::Zig { .. }) && !self.target.is_static();
        let platform = if glibc { format!("{triple}.{GLIBC}") } else { triple.to_owned() };
        cargo.args(["--profile", "runner", "--package", "sentei-runner", "--bin", "sentei-run", "--target", &platform]);
        cargo.arg("--manifest-path").arg(sources.join("Cargo.toml"));
        cargo.arg("--target-dir").arg(target_folder);
        cargo.current_dir(sources);
        cargo.env("RUSTC", &self.rustc).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
        if symbols {
            cargo.env("CARGO_PROFILE_RUNNER_STRIP", "none");
        }
        if quiet {
            cargo.arg("--quiet");
        }
        // standard output belongs to the JSON object
        cargo.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
        let status = cargo.status().with_context(|| format!("starting {}", cargo.get_program().display()))?;
        anyhow::ensure!(status.success(), "building the runner for {triple} failed ({status}); cargo says why above");
        let built = target_folder.join(triple).join("runner/sentei-run");
        anyhow::ensure!(built.is_file(), "cargo was content, but {} is not there", built.display());
        Ok(built)
    }
}

/// Whether the compiler has a standard library for the target.
fn has_library(rustc: &Path, triple: &str) -> bool {
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output().ok();
    let Some(root) = printed.and_then(|out| String::from_utf8(out.stdout).ok()) else { return false };
    let folder = Path::new(root.trim()).join("lib/rustlib").join(triple).join("lib");
    let is_std =
        |name: OsString| name.to_str().is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".rlib"));
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| is_std(entry.file_name())))
}

/// `cargo zigbuild` where there is one that finds a zig, else the cross gcc.
fn find_linker(target: Target, places: &Places) -> Option<Linker> {
    if let Some(program) = places.find("cargo-zigbuild") {
        let near = program.parent().map(Path::to_owned).into_iter();
        let path = env::join_paths(near.chain(places.0.iter().cloned())).unwrap_or_default();
        let works = Command::new(&program).args(["zig", "cc", "--", "--version"]).env("PATH", path).output();
        if works.is_ok_and(|out| out.status.success()) {
            return Some(Linker::Zig { program });
        }
    }
    places.find(target.gcc().0).map(|program| Linker::Gcc { program })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn zig_comes_before_gcc_but_only_if_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places(vec![folder.path().to_owned()]);
        assert_eq!(find_linker(Target::Armv7Gnu, &places), None);
        program(folder.path(), "arm-linux-gnueabihf-gcc", "exit 0");
        let gcc = Some(Linker::Gcc { program: folder.path().join("arm-linux-gnueabihf-gcc") });
        assert_eq!(find_linker(Target::Armv7Gnu, &places), gcc);
        assert_eq!(find_linker(Target::Aarch64Gnu, &places), None, "another board's compiler");
        program(folder.path(), "cargo-zigbuild", "exit 1");
        assert_eq!(find_linker(Target::Armv7Gnu, &places), gcc);
        program(folder.path(), "cargo-zigbuild", "exit 0");
        let zig = Some(Linker::Zig { program: folder.path().join("cargo-zigbuild") });
        assert_eq!(find_linker(Target::Armv7Gnu, &places), zig);
    }

    #[test]
    fn every_missing_thing_comes_with_the_command_that_installs_it() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path(), "cargo", "exit 0");
        program(folder.path(), "rustup", "exit 0");
        program(folder.path(), "rustc", &format!("echo {}", folder.path().display()));
        let places = Places(vec![folder.path().to_owned()]);
        let error = Toolchain::find(Target::Aarch64Gnu, &places).unwrap_err();
        assert_eq!(crate::exit::code(&error), 5);
        let text = error.to_string();
        for part in [
            "rustup target add aarch64-unknown-linux-gnu",
            "pip install ziglang cargo-zigbuild",
            "apt-get install gcc-aarch64-linux-gnu",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let library = folder.path().join("lib/rustlib/aarch64-unknown-linux-gnu/lib");
        std::fs::create_dir_all(&library).unwrap();
        std::fs::write(library.join("libstd-0.rlib"), b"").unwrap();
        let text = Toolchain::find(Target::Aarch64Gnu, &places).unwrap_err().to_string();
        assert!(!text.contains("rustup target add"), "{text}");
    }
}
