//! The structured event stream of a run (`events.jsonl`): what happened, in order, with the time since the start.
//!
//! Emitters hold a `&mut dyn EventSink` and know nothing of files or terminals. The clock belongs to the writer:
//! [`JsonLines`] stamps each line with `elapsed_ms`, so an emitter needs no clock and a test sees equal events.

use std::io::{self, Write};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::record::{EpochRow, ProfileRow};
use crate::warning::Warning;

/// Something that happened during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run began.
    RunStarted {
        /// Name of the run.
        run: String,
        /// Command line as typed.
        command: String,
        /// Seed of everything random.
        seed: u64,
        /// Version of the program.
        version: String,
    },
    /// A phase began, for example `train`.
    PhaseStarted {
        /// Phase of the run.
        phase: String,
        /// Epochs or steps the phase will take, if known.
        planned: Option<u64>,
    },
    /// An epoch ended.
    Epoch(EpochRow),
    /// Weights were masked.
    PruneStep {
        /// Phase of the run.
        phase: String,
        /// Optimiser step or round at which it happened.
        step: u64,
        /// Kept fraction the schedule asked for, in `[0, 1]`.
        target_density: f64,
        /// Prunable weights that are kept.
        nonzero: u64,
        /// Prunable weights.
        prunable: u64,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// File that was written.
        path: String,
        /// Phase of the run.
        phase: String,
        /// Epoch within the phase.
        epoch: u64,
    },
    /// A phase of training ended, and this is where its time went.
    Profile {
        /// Phase of the run.
        phase: String,
        /// Layers in order, then what lies around them.
        rows: Vec<ProfileRow>,
    },
    /// A model was evaluated on a split.
    Evaluation {
        /// Name of the model, for example `baseline`.
        model: String,
        /// Split, for example `val`.
        split: String,
        /// Samples in the split.
        samples: u64,
        /// Mean loss.
        loss: Option<f64>,
        /// Fraction classified correctly, in `[0, 1]`.
        accuracy: Option<f64>,
        /// Mean of the per-class recalls, in `[0, 1]`.
        balanced_accuracy: Option<f64>,
    },
    /// A model file was compiled and proven equivalent.
    Compiled {
        /// File that was written.
        path: String,
        /// SHA-256 of the file, lower-case hexadecimal.
        sha256: String,
        /// Bytes of the file.
        file_bytes: u64,
        /// Largest difference to the reference output.
        max_abs_error: Option<f64>,
    },
    /// A model was measured.
    Measured {
        /// Name of the model.
        model: String,
        /// Engine that ran it.
        engine: String,
        /// Median latency, in milliseconds.
        p50_ms: Option<f64>,
        /// Number of samples.
        samples: u64,
    },
    /// Something a reader should know.
    Warning {
        /// What it is.
        warning: Warning,
    },
    /// The run ended.
    Finished {
        /// Process exit code, 0 when all went well.
        exit_code: i32,
        /// Wall time of the run.
        seconds: f64,
    },
    /// Work went on; for progress bars only, never written to `events.jsonl`.
    Progress {
        /// Phase of the run.
        phase: String,
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
}

/// Where events go. Emitting cannot fail: a sink that writes keeps its first error for whoever owns it.
pub trait EventSink {
    /// Takes one event.
    fn emit(&mut self, event: &Event);
}

impl<S: EventSink + ?Sized> EventSink for &mut S {
    fn emit(&mut self, event: &Event) {
        (**self).emit(event);
    }
}

impl<S: EventSink + ?Sized> EventSink for Box<S> {
    fn emit(&mut self, event: &Event) {
        (**self).emit(event);
    }
}

/// Keeps every event, for tests and for callers that look afterwards.
impl EventSink for Vec<Event> {
    fn emit(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

/// Forgets every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn emit(&mut self, _event: &Event) {}
}

/// Sends each event to both sinks, the left one first.
#[derive(Clone, Debug, Default)]
pub struct Tee<A, B>(
    /// Sink that sees each event first.
    pub A,
    /// Sink that sees each event second.
    pub B,
);

impl<A: EventSink, B: EventSink> EventSink for Tee<A, B> {
    fn emit(&mut self, event: &Event) {
        self.0.emit(event);
        self.1.emit(event);
    }
}

/// An event with its time, one line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the writer was made.
    pub elapsed_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Writes each event but [`Event::Progress`] as one JSON object per line, flushed at once so that a crash keeps it.
#[derive(Debug)]
pub struct JsonLines<W: Write> {
    out: W,
    started: Instant,
    error: Option<io::Error>,
}

impl<W: Write> JsonLines<W> {
    /// Starts the clock and writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, started: Instant::now(), error: None }
    }

    /// The writer, or the first error; after an error nothing more was written.
    ///
    /// # Errors
    /// The first error of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.out),
        }
    }

    fn write_line(&mut self, event: &Event) -> io::Result<()> {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut line = serde_json::to_vec(&Line { elapsed_ms, event: event.clone() })?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

impl<W: Write> EventSink for JsonLines<W> {
    fn emit(&mut self, event: &Event) {
        if self.error.is_some() || matches!(event, Event::Progress { .. }) {
            return;
        }
        self.error = self.write_line(event).err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Event {
        Event::PhaseStarted { phase: "train".into(), planned: Some(3) }
    }

    fn epoch() -> Event {
        Event::Epoch(EpochRow {
            phase: "train".into(),
            epoch: 1,
            train_loss: 0.5,
            train_accuracy: 0.75,
            val_loss: Some(0.25),
            val_accuracy: None,
            density: 1.0,
            learning_rate: 0.1,
            seconds: 1.5,
        })
    }

    #[test]
    fn each_line_is_one_event_that_reads_back() {
        let mut sink = JsonLines::new(Vec::new());
        sink.emit(&started());
        sink.emit(&epoch());
        sink.emit(&Event::Warning { warning: Warning::ClockUnknown });
        let text = String::from_utf8(sink.finish().unwrap()).unwrap();
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().event).collect();
        assert_eq!(events, [started(), epoch(), Event::Warning { warning: Warning::ClockUnknown }]);
        assert!(text.lines().next().unwrap().contains(r#""event":"phase_started","phase":"train","planned":3"#));
    }

    #[test]
    fn progress_reaches_a_tee_but_not_the_file() {
        let progress = Event::Progress { phase: "train".into(), step: 1, steps: 9 };
        let mut tee = Tee(JsonLines::new(Vec::new()), Vec::new());
        tee.emit(&progress);
        assert_eq!(tee.1, [progress]);
        assert!(tee.0.finish().unwrap().is_empty());
    }

    #[test]
    fn the_first_write_error_is_kept() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("disk full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = JsonLines::new(Full);
        sink.emit(&started());
        sink.emit(&started());
        assert_eq!(sink.finish().err().unwrap().to_string(), "disk full");
    }
}
