//! `sentei build`: one small program for a board, with the model inside.

mod elf;
mod source;
mod target;
mod toolchain;
mod unwind;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sentei_report::format;
use sentei_report::table::Table;
use sentei_runner::{embedded, self_test::SelfTest};
use serde_json::json;

use crate::files;
use crate::output::Output;

pub use source::Cache;
pub use target::Target;
pub use toolchain::{Places, Toolchain};

/// Crates named in the table of `--report-size`; the rest is summed up.
const CRATES_SHOWN: usize = 15;

/// Builds `sentei-run` for a board: it loads a model, classifies images, measures and tests itself (`sentei-run --help`).
#[derive(clap::Args)]
#[command(
    after_help = "The first build for a target compiles the runner (5 to 10 minutes on 2 cores); later ones take it from the cache.\n\
    What is needed besides cargo is found, or named with the command that installs it.\n\n\
    Example:\n  sentei build --target aarch64-unknown-linux-musl --model model.onnx -o board\n  \
    scp board/sentei-run pi@camera:\n  ssh pi@camera ./sentei-run self-test"
)]
pub struct Args {
    /// Board to build for
    #[arg(long, value_enum, value_name = "TRIPLE")]
    target: Target,
    /// Model to put into the program, so that one file is all the board needs
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Folder that gets `sentei-run`
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Print what the bytes of the program are made of (links it once more, with symbols)
    #[arg(long)]
    report_size: bool,
    /// Compile the runner even if there is one in the cache
    #[arg(long)]
    rebuild: bool,
    /// Where compiled runners are kept [default: $SENTEI_CACHE, else sentei in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// A runner without a model.
pub struct Runner {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it was built with, in one line.
    pub built_with: String,
}

/// Takes the runner for `target` from the cache, or builds it.
///
/// # Errors
/// Exit code 5 when something that a build needs is missing.
pub fn runner(target: Target, cache: &Cache, rebuild: bool, out: Output) -> Result<Runner> {
    let toolchain = Toolchain::find(target, &Places::of_environment());
    let kinds = match &toolchain {
        Ok(toolchain) => vec![toolchain.kind()],
        // a runner that was built before needs no toolchain
        Err(_) => vec!["zig", "gcc"],
    };
    let kept = |kind: &&str| cache.runner(&format!("{}-{kind}", target.triple()));
    if let Some(path) = kinds.iter().map(kept).find(|path| path.is_file()).filter(|_| !rebuild) {
        let built_with = format!("taken from {}", path.display());
        return Ok(Runner { bytes: files::read(&path)?, built_with });
    }
    let toolchain = toolchain?;
    let built_with = toolchain.describe();
    out.note(format!("building the runner for {} with {built_with}", target.triple()));
    let _one_at_a_time = cache.lock()?;
    let built = toolchain.build(&cache.sources()?, &cache.target_folder(), false, out.quiet)?;
    let mut bytes = files::read(&built)?;
    if toolchain.drops_unwinding() {
        bytes = unwind::without_tables(&bytes).unwrap_or(bytes);
    }
    source::write_program(&kept(&toolchain.kind()), &bytes)?;
    Ok(Runner { bytes, built_with })
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let model = args.model.as_ref().map(|path| checked_model(path, &out)).transpose()?;
    let cache = Cache::find(args.cache.clone())?;
    let runner = runner(args.target, &cache, args.rebuild, out)?;
    let glibc = elf::glibc(&runner.bytes)?;
    let program = match &model {
        Some(model) => embedded::attach(&runner.bytes, model),
        None => runner.bytes.clone(),
    };
    let path = args.output.join("sentei-run");
    source::write_program(&path, &program)?;

    let needs = match &glibc {
        Some(version) => format!("needs glibc {version} or newer on the board"),
        None => "static: needs no library on the board".into(),
    };
    let (runner_bytes, bytes) = (runner.bytes.len() as u64, program.len() as u64);
    let inside = model
        .as_ref()
        .map_or(String::new(), |model| format!(", {} of it the model", format::bytes(model.len() as u64)));
    out.say(format!("{}: {}{inside}; {needs}", path.display(), format::bytes(bytes)));
    out.say(format!("runner: {} ({})", format::bytes(runner_bytes), runner.built_with));
    let parts = if args.report_size { Some(report_size(&args, &cache, runner_bytes, &out)?) } else { None };
    out.object(&json!({
        "target": args.target.triple(),
        "program": path,
        "bytes": bytes,
        "runner_bytes": runner_bytes,
        "model_bytes": model.as_ref().map(Vec::len),
        "sha256": files::sha256(&program),
        "glibc": glibc,
        "built_with": runner.built_with,
        "sections": parts.as_ref().map(|parts| &parts.sections),
        "crates": parts.as_ref().map(|parts| &parts.crates),
    }));
    Ok(())
}

/// The bytes of a model that a runner can load.
fn checked_model(path: &Path, out: &Output) -> Result<Vec<u8>> {
    let bytes = files::read(path)?;
    let metadata = sentei_runtime::metadata(&bytes).with_context(|| format!("reading {}", path.display()))?;
    if SelfTest::read(&metadata)?.is_none() {
        out.note(format!(
            "note: {} carries no self-test, so the board cannot prove that it computes the same (`sentei compile` writes one)",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Links the runner once more with symbols and prints what its bytes are made of.
fn report_size(args: &Args, cache: &Cache, stripped: u64, out: &Output) -> Result<elf::Parts> {
    let toolchain = Toolchain::find(args.target, &Places::of_environment())?;
    let _one_at_a_time = cache.lock()?;
    let built = toolchain.build(&cache.sources()?, &cache.target_folder(), true, out.quiet)?;
    let mut bytes = files::read(&built)?;
    if toolchain.drops_unwinding() {
        bytes = unwind::without_tables(&bytes).unwrap_or(bytes);
    }
    let parts = elf::parts(&bytes)?;
    let share = |bytes: u64| format::percent(bytes as f64 / stripped as f64);
    let mut table = Table::new(&["Section", "#Bytes", "#Share"]);
    for (name, bytes) in &parts.sections {
        table.push([name.clone().into(), format::large(*bytes).into(), share(*bytes).into()]);
    }
    out.say(table.plain());
    let mut table = Table::new(&["Crate (code and constants)", "#Bytes", "#Share"]);
    let (shown, rest) = parts.crates.split_at(parts.crates.len().min(CRATES_SHOWN));
    for (name, bytes) in shown {
        table.push([name.clone().into(), format::large(*bytes).into(), share(*bytes).into()]);
    }
    let others: u64 = rest.iter().map(|(_, bytes)| bytes).sum();
    table.push([format!("{} others", rest.len()).into(), format::large(others).into(), share(others).into()]);
    out.say(table.plain());
    Ok(parts)
}
