//! `sentei bench --board`: the same measurement on a board, pushed, started, pulled and cleaned up from here.
//!
//! On the board everything lies below one folder: `store/` has files by their SHA-256, `jobs/` one folder per measurement.

mod address;
mod job;
mod link;
mod patience;
mod push;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sentei_report::record::Bench;
use sentei_runner::self_test::SelfTest;
use sentei_runtime::LoadOptions;

pub use self::address::Address;
use self::job::Job;
use self::link::{Link, quote};
use self::patience::Patience;
use self::push::{Parcel, push};

use crate::build::{self, Cache, Target};
use crate::exit::{Failure, usage};
use crate::files;
use crate::measure::{self, EngineName, Plan, Subject};
use crate::output::Output;

const HEADING: &str = "On a board";

/// Flags of a measurement on a board.
#[derive(clap::Args, Clone, Debug)]
pub struct BoardArgs {
    /// Measure on this board: ssh://[user@]host[:port], adb://serial, local: (this machine, through the same steps) or
    /// qemu:aarch64|arm|x86_64 (emulated: results count, timings do not)
    #[arg(long, help_heading = HEADING, value_name = "ADDRESS")]
    pub board: Option<Address>,
    /// Folder of the board for runner and models [default: .sentei-board in the home folder there]
    #[arg(long, help_heading = HEADING, value_name = "DIR", requires = "board")]
    board_dir: Option<String>,
    /// Seconds after which the whole measurement is given up
    #[arg(long, help_heading = HEADING, value_name = "S", default_value_t = 900, requires = "board",
        value_parser = clap::value_parser!(u64).range(1..=604_800))]
    board_timeout: u64,
    /// Runner to use instead of building one (or taking the one built before)
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "board")]
    runner: Option<PathBuf>,
    /// Leave runner and models on the board: the next measurement does not send them again
    #[arg(long, help_heading = HEADING, requires = "board")]
    keep: bool,
    /// Do not measure on this machine beside the board
    #[arg(long, help_heading = HEADING, requires = "board")]
    no_host: bool,
}

impl BoardArgs {
    /// Whether this machine is measured too, to stand beside the board.
    pub fn with_host(&self) -> bool {
        !self.no_host
    }
}

/// Measures `subjects` on the board: every model with each choice of the plan, all of the first model first.
///
/// # Errors
/// Exit code 5 for a board that cannot be reached, 6 for one that is full or takes too long, else that of the runner.
pub fn bench(address: &Address, args: &BoardArgs, subjects: &[Subject], plan: &Plan, out: Output) -> Result<Bench> {
    if plan.engine != EngineName::Tract {
        return usage("--board measures the engine tract: the runner contains no other");
    }
    let choices = plan.kernels.len();
    let models: Vec<&Subject> = subjects.iter().step_by(choices).collect();
    let originals: Vec<Vec<u8>> = models.iter().map(|model| files::read(&model.path)).collect::<Result<_, _>>()?;
    let link = Link::new(address.clone());
    let total = Duration::from_secs(args.board_timeout);
    let mut board = Patience::new(&link, address.to_string(), total, out);
    let (machine, home) = probe(&mut board)?;
    let runner = runner(address, args, &machine, out)?;
    // building may have taken minutes, which are not the board's
    let mut board = Patience::reached(&link, address.to_string(), total, out);

    let root = match args.board_dir.as_deref() {
        Some(folder) if folder.starts_with('/') => folder.to_owned(),
        Some(folder) => format!("{home}/{folder}"),
        None => format!("{home}/.sentei-board"),
    };
    let store = format!("{root}/store");
    let made =
        board.run("making a folder", &format!("mkdir -p {} {}", quote(&store), quote(&format!("{root}/jobs"))), b"")?;
    if made.status != 0 {
        bail!("{address}: {} (choose another folder with --board-dir)", made.err);
    }
    let mut parcels = vec![Parcel::new("the runner", runner)];
    for (subject, bytes) in models.iter().zip(&originals) {
        let tested = with_self_test(bytes).unwrap_or_else(|why| {
            out.note(format!("note: {} gets no self-test: {why}", subject.path.display()));
            bytes.clone()
        });
        parcels.push(Parcel::new(subject.path.display().to_string(), tested));
    }
    let job = job(address, &root, &parcels, plan)?;
    let measured = send_and_measure(&mut board, &job, &store, &parcels, out);
    // what a lost link leaves behind is what the next call takes up
    let goes_on = measured.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Failure::Spent(_))));
    if goes_on {
        out.note(format!("{address}: what was sent and what runs there is left; the same command takes it up"));
    } else {
        job.clean(&board);
    }
    if !args.keep && !goes_on {
        // a link that was cut may leave a shell behind that begins a part anew
        let files = parcels.iter().map(|parcel| quote(&format!("{store}/{}", parcel.sha256)));
        let places: Vec<String> = files.flat_map(|file| [file.clone(), format!("{file}.part")]).collect();
        let root = quote(&root);
        // another measurement has a folder in `jobs`, and may need what lies in the store
        board
            .once(&format!("rmdir {root}/jobs && rm -f {} && rmdir {root}/store {root} 2>/dev/null", places.join(" ")));
    }
    let mut bench = measured?;
    if bench.rows.len() != subjects.len() {
        bail!("{address} measured {} models of {}", bench.rows.len(), subjects.len());
    }
    let of_rows = originals.iter().flat_map(|bytes| std::iter::repeat_n(bytes, choices));
    for ((row, subject), bytes) in bench.rows.iter_mut().zip(subjects).zip(of_rows) {
        row.model = subject.name.clone();
        if let Some(memory) = &mut row.memory {
            memory.file_bytes = bytes.len() as u64;
            memory.gzip_bytes = Some(measure::gzip_bytes(bytes)?);
        }
    }
    if let Some(board) = &mut bench.board {
        board.address = address.to_string();
    }
    if let Address::Qemu { machine } = address {
        bench.machine.emulated = Some(format!("qemu-{machine} in user mode"));
    }
    Ok(bench)
}

/// What the board calls its processor, and its home folder.
fn probe(board: &mut Patience<'_>) -> Result<(String, String)> {
    let answer = board.run("looking at it", "uname -m; printf '%s\\n' \"${HOME:-/tmp}\"", b"")?;
    let text = answer.text();
    match text.lines().collect::<Vec<_>>()[..] {
        // the shell of Android has no home
        [machine, "/" | ""] => Ok((machine.to_owned(), "/data/local/tmp".into())),
        [machine, home] => Ok((machine.to_owned(), home.trim_end_matches('/').to_owned())),
        _ => bail!("{} answered `{}` {} to `uname -m`: is there a POSIX shell?", board.name(), text.trim(), answer.err),
    }
}

/// The runner for a board that calls its processor `machine`.
fn runner(address: &Address, args: &BoardArgs, machine: &str, out: Output) -> Result<Vec<u8>> {
    if let Some(path) = &args.runner {
        return Ok(files::read(path)?);
    }
    let machine = match address {
        Address::Qemu { machine } => {
            if machine == "arm" {
                "armv7l"
            } else {
                machine
            }
        }
        _ => machine,
    };
    let Some(target) = Target::of_machine(machine) else {
        bail!(
            "{address} is a {machine}; runners are built for {} (--runner takes one that you built)",
            Target::names()
        );
    };
    Ok(build::runner(target, &Cache::find(None)?, false, out)?.bytes)
}

/// The model with a self-test: its own, or one computed here.
fn with_self_test(bytes: &[u8]) -> Result<Vec<u8>> {
    if SelfTest::read(&sentei_runtime::metadata(bytes)?)?.is_some() {
        return Ok(bytes.to_vec());
    }
    Ok(SelfTest::expected(&*EngineName::Tract.engine()?, bytes)?.append_to(bytes.to_vec()))
}

/// The measurement of these files: the runner first, then the models.
fn job(address: &Address, root: &str, parcels: &[Parcel], plan: &Plan) -> Result<Job> {
    let place = |parcel: &Parcel| format!("{root}/store/{}", parcel.sha256);
    let [runner, models @ ..] = parcels else { bail!("there is no runner") };
    let mut links = vec![("sentei-run".to_owned(), place(runner))];
    links.extend(models.iter().enumerate().map(|(index, model)| (format!("{index}.onnx"), place(model))));
    let names: Vec<String> = links[1..].iter().map(|(name, _)| name.clone()).collect();
    let emulated = matches!(address, Address::Qemu { .. });
    Ok(Job::new(root, &program(address), &arguments(&names, plan, emulated), links))
}

/// Sends what is missing, measures and fetches the result.
fn send_and_measure(
    board: &mut Patience<'_>,
    job: &Job,
    store: &str,
    parcels: &[Parcel],
    out: Output,
) -> Result<Bench> {
    let address = board.name().to_owned();
    board.run("making a folder", &format!("mkdir -p {}", quote(&job.marker())), b"")?;
    for parcel in parcels {
        let sent = push(board, store, parcel)?;
        let size = sentei_report::format::bytes(sent);
        out.note(match sent {
            0 => format!("{address}: {} is there already", parcel.name),
            _ => format!("{address}: sent {} ({size})", parcel.name),
        });
    }
    if job.start(board)? {
        out.note(format!("{address}: an earlier call began this measurement, taking it up"));
    }
    out.note(format!("{address}: measuring"));
    let result = job.finish(board);
    job.notes(board).iter().for_each(|note| out.note(note));
    if board.drops > 0 {
        out.note(format!("{address}: the link was lost {} times", board.drops));
    }
    serde_json::from_slice(&result?).with_context(|| format!("reading what {address} measured"))
}

/// What starts the runner inside the job's folder.
fn program(address: &Address) -> String {
    let Address::Qemu { machine } = address else { return "./sentei-run".into() };
    let on_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
    };
    let emulator = [format!("qemu-{machine}-static"), format!("qemu-{machine}")].into_iter().find(|name| on_path(name));
    let libraries = match machine.as_str() {
        "arm" => "/usr/arm-linux-gnueabihf",
        _ => "/usr/aarch64-linux-gnu",
    };
    let libraries = if Path::new(libraries).is_dir() { format!(" -L {libraries}") } else { String::new() };
    format!("{}{libraries} ./sentei-run", emulator.unwrap_or(format!("qemu-{machine}-static")))
}

/// The runner's command line for this plan.
fn arguments(models: &[String], plan: &Plan, emulated: bool) -> Vec<String> {
    let LoadOptions { threads, pin, batch, byte_budget, time_budget, .. } = &plan.options;
    let kernels: Vec<&str> = plan.kernels.iter().map(|kernels| kernels.name()).collect();
    let mut words: Vec<String> = vec!["bench".into()];
    words.extend(models.iter().cloned());
    let values = [
        ("--threads", threads.to_string()),
        ("--batch", batch.to_string()),
        ("--byte-budget", byte_budget.to_string()),
        ("--time-budget", time_budget.as_secs().to_string()),
        ("--kernels", kernels.join(",")),
        ("--seconds", plan.seconds.to_string()),
        ("--rounds", plan.rounds.to_string()),
        ("--warmup", plan.warmup.to_string()),
        ("--output", "result.json".to_owned()),
    ];
    words.extend(values.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    let switches = [("--pin", *pin), ("--tune", plan.tune), ("--no-memory", !plan.memory || emulated)];
    words.extend(switches.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.to_owned()));
    words
}
