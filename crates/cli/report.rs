//! `sentei report`: writes report.md and report.html of a run folder again, from its report.json.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sentei_report::export::{self, Pictures};
use sentei_report::record::{Bench, RunRecord, Variant};
use serde_json::json;

use crate::files;
use crate::lineage::{self, Lineage};
use crate::measure::Subject;
use crate::output::Output;

/// Renders the report of a run again, for example after an update of sentei.
#[derive(clap::Args)]
pub struct Args {
    /// Run folder, as written by `sentei shrink`
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print the Markdown report too
    #[arg(long)]
    print: bool,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let path = args.run.join("report.json");
    let record =
        RunRecord::from_json(&files::read_text(&path)?).with_context(|| format!("parsing {}", path.display()))?;
    let written = write_pages(&args.run, &record)?;
    if args.print {
        out.say(export::report_markdown(&record)?);
    }
    for path in &written {
        out.say(format!("wrote {}", path.display()));
    }
    out.object(&json!({ "run_dir": args.run, "written": written }));
    Ok(())
}

/// A finished run whose report gets the figures of a board.
pub struct Joined {
    run: PathBuf,
    record: RunRecord,
}

impl Joined {
    /// Reads the report of a run folder.
    ///
    /// # Errors
    /// When there is none, or it has no pruned model.
    pub fn open(run: &Path) -> Result<Self> {
        let path = run.join("report.json");
        let record =
            RunRecord::from_json(&files::read_text(&path)?).with_context(|| format!("parsing {}", path.display()))?;
        Lineage::read(run)?;
        anyhow::ensure!(record.chosen().is_some(), "{} has no pruned model to measure", run.display());
        Ok(Self { run: run.to_owned(), record })
    }

    /// The dense model and the one that ships, under the names that the report has for them.
    pub fn subjects(&self) -> Vec<Subject> {
        let files = [(Some(&self.record.baseline), "dense.onnx"), (self.record.chosen(), "model.onnx")];
        let subject =
            |(variant, file): (Option<&Variant>, &str)| Some(Subject::new(variant?.name.clone(), self.run.join(file)));
        files.into_iter().filter_map(subject).collect()
    }

    /// Puts the board's figures into the report, in place of earlier ones of the same board; returns the page.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn join(mut self, bench: Bench) -> Result<PathBuf> {
        // another board may have been measured meanwhile
        self.record = Self::open(&self.run)?.record;
        let address = |bench: &Bench| bench.board.as_ref().map(|board| board.address.clone());
        self.record.benches.retain(|other| address(other) != address(&bench) || other.threads != bench.threads);
        self.record.benches.push(bench);
        let path = self.run.join("report.json");
        let mut lineage = Lineage::read(&self.run)?;
        lineage.renew("report.json", &files::read(&path)?, export::report_json(&self.record)?.as_bytes())?;
        write(&self.run, &self.record)?;
        let lineage = serde_json::to_string_pretty(&lineage)?;
        files::write_atomic(&self.run.join(lineage::FILE), lineage.as_bytes())?;
        Ok(self.run.join("report.html"))
    }
}

/// Writes the record as `report.json` and every page made of it.
///
/// # Errors
/// When the record contradicts itself or a file cannot be written.
pub fn write(run: &Path, record: &RunRecord) -> Result<()> {
    files::write_atomic(&run.join("report.json"), export::report_json(record)?.as_bytes())?;
    write_pages(run, record).map(|_| ())
}

/// Writes what people read, all of it made of the record, and returns the paths.
///
/// Pictures of flipped samples are taken from the folder's `pictures/`, see [`picture_path`].
fn write_pages(run: &Path, record: &RunRecord) -> Result<Vec<PathBuf>> {
    let mut pictures = Pictures::new();
    for flip in record.variants().flat_map(|variant| &variant.flips) {
        if let Ok(png) = std::fs::read(picture_path(run, &flip.sample)) {
            pictures.insert(flip.sample.clone(), png);
        }
    }
    let forms = [
        ("report.md", export::report_markdown(record)?),
        ("report.html", export::report_html(record, &pictures)?),
        ("layers.csv", export::layers_csv(record)),
        ("latency.csv", export::latency_csv(record)),
    ];
    let mut written = Vec::new();
    for (name, text) in forms {
        let path = run.join(name);
        files::write_atomic(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// Where the picture of a sample lies in a run folder. Sample names may hold any character, so their hash names the file.
pub fn picture_path(run: &Path, sample: &str) -> PathBuf {
    run.join("pictures").join(format!("{}.png", &files::sha256(sample.as_bytes())[..16]))
}
