//! One event stream, three readers: `events.jsonl`, a progress bar, and a line per epoch for people.

use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use sentei_report::events::{Event, EventSink, JsonLines};

use sentei_report::record::EpochRow;

use crate::output::Output;

/// Shows events and, when a run folder is there, writes them down.
pub struct Progress {
    out: Output,
    log: Option<JsonLines<std::fs::File>>,
    bar: Option<ProgressBar>,
    profile: bool,
}

impl Progress {
    /// Events for people only.
    pub fn shown(out: Output) -> Self {
        Progress { out, log: None, bar: None, profile: false }
    }

    /// Events for people, and appended to `path` as JSON lines.
    ///
    /// # Errors
    /// When `path` cannot be opened for appending.
    pub fn logged(out: Output, path: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        Ok(Progress { out, log: Some(JsonLines::new(file)), bar: None, profile: false })
    }

    /// As this, and after each phase of training a table of where its time went, if `profile`.
    pub fn with_profile(self, profile: bool) -> Self {
        Progress { profile, ..self }
    }

    fn step(&mut self, phase: &str, step: u64, steps: u64) {
        if !self.out.bars() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg:>8} {wide_bar} {pos}/{len}  {elapsed}, {eta} left");
            ProgressBar::new(steps).with_style(style.expect("the template above is valid"))
        });
        bar.set_message(phase.to_string());
        bar.set_length(steps);
        bar.set_position(step);
    }

    fn line(&mut self, text: String) {
        if self.out.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

/// One epoch as one line.
fn epoch(row: &EpochRow) -> String {
    let validation = match (row.val_accuracy, row.val_loss) {
        (Some(accuracy), Some(loss)) => format!("val {:6.2} % loss {loss:.4}", accuracy * 100.0),
        _ => "no validation split".into(),
    };
    format!(
        "{:>20} {:>3}  train {:6.2} % loss {:.4}  {validation}  density {:.4}  {:.1} s",
        row.phase,
        row.epoch,
        row.train_accuracy * 100.0,
        row.train_loss,
        row.density,
        row.seconds
    )
}

impl EventSink for Progress {
    fn emit(&mut self, event: &Event) {
        if let Some(log) = &mut self.log {
            log.emit(event);
        }
        match event {
            Event::Progress { phase, step, steps } => self.step(phase, *step, *steps),
            Event::Epoch(row) => self.line(epoch(row)),
            Event::Profile { phase, rows } if self.profile => {
                self.line(format!(
                    "\nWhere the time of `{phase}` went:\n{}",
                    sentei_report::tables::profile(rows).plain()
                ));
            }
            Event::Warning { warning } => self.line(format!("warning: {warning}")),
            Event::PhaseStarted { .. } | Event::Finished { .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}
