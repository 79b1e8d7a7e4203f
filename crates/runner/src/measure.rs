//! Models loaded and timed side by side in one process.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sentei_report::record::{Bench, BenchRow, Machine};
use sentei_runtime::meter::{Contender, EnergyMeter, LatencyPlan, measure_latency, timed_load};
use sentei_runtime::{Engine, HostTensor, KernelChoice, LoadOptions, Session, noise_inputs};

use crate::error::RunnerError;
use crate::self_test::SelfTest;
use crate::{embedded, sidecar};

/// Rounds after which more say nothing new and only make files large.
const MAX_ROUNDS: usize = 5_000;

/// Time that each model runs alone for its energy; meters count in steps of milliseconds.
const ENERGY_TIME: Duration = Duration::from_secs(1);

/// Most time for timing kernels where the decisions are kept.
pub const TUNING: Duration = Duration::from_secs(10);

/// One model to measure: the name it has in the result, its file, and how it is run.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name in the result.
    pub name: String,
    /// ONNX file.
    pub path: PathBuf,
    /// Who decides about its kernels.
    pub kernels: KernelChoice,
}

impl Subject {
    /// A model whose kernels are measured.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), kernels: KernelChoice::Measure }
    }

    /// Every model once with each of `choices`, all of the first model first. Names say which choice it is where there are several, and where
    /// the results are others.
    pub fn with_kernels(self, choices: &[KernelChoice]) -> impl Iterator<Item = Self> + use<'_> {
        choices.iter().map(move |kernels| {
            let label = if choices.len() > 1 { format!(" ({})", kernels.name()) } else { kernels.label().to_owned() };
            Self { name: self.name.clone() + &label, path: self.path.clone(), kernels: *kernels }
        })
    }
}

/// The choices that `--kernels` names, one or several with commas between.
///
/// # Errors
/// A sentence that says what is expected, also where one is named twice.
pub fn kernel_choices(text: &str) -> Result<Vec<KernelChoice>, String> {
    let names = KernelChoice::ALL.map(KernelChoice::name).join(", ");
    let expected = || format!("expected one or several of {names}, with commas between");
    let choices = text.split(',').map(|name| KernelChoice::named(name.trim()).ok_or_else(expected));
    let choices = choices.collect::<Result<Vec<_>, String>>()?;
    let twice = choices.iter().enumerate().find(|(at, choice)| choices[..*at].contains(choice));
    twice.map_or(Ok(()), |(_, choice)| Err(format!("`{}` is named twice", choice.name())))?;
    Ok(choices)
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How models are loaded, apart from [`Subject::kernels`].
    pub options: LoadOptions,
    /// Seconds for all models together.
    pub seconds: f64,
    /// Rounds to measure at least.
    pub rounds: usize,
    /// Rounds before measuring starts.
    pub warmup: u32,
    /// Kernels are timed for up to [`TUNING`], and what was decided is written beside each model.
    pub tune: bool,
    /// Models that carry a self-test must pass it, or no number is given.
    pub self_test: bool,
}

/// What [`bench`] gives.
pub struct Measured {
    /// Samples, one row per subject.
    pub bench: Bench,
    /// The loaded models, one per subject.
    pub sessions: Vec<Box<dyn Session>>,
    /// What a user should know, one sentence each.
    pub notes: Vec<String>,
}

/// Measures all subjects in interleaved rounds of this process; the first one is the baseline of every ratio.
///
/// # Errors
/// [`RunnerError::Io`] or [`RunnerError::Model`] naming the file that cannot be read, loaded or run;
/// [`RunnerError::SelfTest`] when a model computes something else here.
pub fn bench(engine: &dyn Engine, subjects: &[Subject], plan: &Plan) -> Result<Measured, RunnerError> {
    let mut sessions = Vec::new();
    let mut loads = Vec::new();
    let mut notes = Vec::new();
    let mut tests = Vec::new();
    for subject in subjects {
        let bytes = embedded::read(&subject.path)?;
        let options = LoadOptions { kernel_choice: subject.kernels, ..plan.options.clone() };
        let (options, note) = match plan.tune {
            // what is stored is measured anew
            true => (LoadOptions { choice_budget: TUNING, tune: true, ..options }, None),
            false => sidecar::follow(&options, engine.name(), &subject.path, &bytes),
        };
        notes.extend(note);
        tests.push(if plan.self_test { self_test_of(engine, subject, &bytes, &options)? } else { None });
        let loaded = timed_load(engine, &bytes, &options);
        let (session, nanoseconds) = loaded.map_err(RunnerError::of_model(&subject.path))?;
        if let (true, Some(decided)) = (plan.tune, &session.facts().plan) {
            // a folder that cannot be written must not stop the measurement
            notes.extend(sidecar::write(&subject.path, &bytes, decided).err().map(|error| error.to_string()));
        }
        sessions.push(session);
        loads.push(nanoseconds);
    }
    let inputs: Vec<_> = sessions.iter().map(|session| noise_inputs(&**session, 1)).collect();
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for ((session, inputs), subject) in sessions.iter_mut().zip(&inputs).zip(subjects) {
        contenders.push(Contender { name: subject.name.clone(), session: &mut **session, inputs });
    }
    let latency_plan = LatencyPlan {
        warmup: plan.warmup,
        min_rounds: plan.rounds,
        max_rounds: MAX_ROUNDS.max(plan.rounds),
        time_budget: Duration::from_secs_f64(plan.seconds),
    };
    let timings = measure_latency(&mut contenders, &latency_plan).map_err(|source| {
        let path = subjects.first().map(|subject| subject.path.clone()).unwrap_or_default();
        RunnerError::Model { path, source }
    })?;
    drop(contenders);
    let meter = EnergyMeter::find();
    if let Some(meter) = &meter {
        notes.push(format!("energy is what {} counts, idle share included", meter.source));
    }
    let mut rows = Vec::new();
    for (index, (timing, subject)) in timings.into_iter().zip(subjects).enumerate() {
        rows.push(BenchRow {
            model: subject.name.clone(),
            engine: sessions[index].facts().engine.clone(),
            load_ns: Some(loads[index]),
            first_ns: Some(timing.first_ns),
            latency: timing.latency,
            self_test: tests[index],
            energy_uj: match &meter {
                Some(meter) => energy(meter, &mut *sessions[index], &inputs[index])
                    .map_err(RunnerError::of_model(&subject.path))?,
                None => None,
            },
            ..BenchRow::default()
        });
    }
    let threads = plan.options.threads;
    let bench = Bench { machine: Machine::here(), threads, interleaved: true, rows, ..Bench::default() };
    Ok(Measured { bench, sessions, notes })
}

/// Microjoules of one run: what the meter counts while the model runs alone, again and again.
fn energy(
    meter: &EnergyMeter,
    session: &mut dyn Session,
    inputs: &[HostTensor],
) -> Result<Option<f64>, sentei_runtime::RuntimeError> {
    let (runs, counted) = meter.measure(|| {
        let started = Instant::now();
        let mut runs = 0u32;
        while started.elapsed() < ENERGY_TIME {
            session.run(inputs)?;
            runs += 1;
        }
        Ok::<u32, sentei_runtime::RuntimeError>(runs)
    });
    let runs = runs?;
    Ok(counted.map(|microjoules| microjoules / f64::from(runs.max(1))))
}

/// The self-test of a model, in a session of its own: it must neither warm up the one that is measured nor take its batch.
fn self_test_of(
    engine: &dyn Engine,
    subject: &Subject,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<Option<sentei_report::record::SelfTest>, RunnerError> {
    let metadata = sentei_runtime::metadata(bytes).map_err(RunnerError::of_model(&subject.path))?;
    let Some(test) = SelfTest::read(&metadata)? else { return Ok(None) };
    let (outcome, _) = test.prove(engine, &subject.path, bytes, options)?;
    Ok(Some(outcome.into()))
}

/// Refuses a duration that cannot be waited for.
///
/// # Errors
/// [`RunnerError::Usage`].
pub fn check_seconds(seconds: f64) -> Result<(), RunnerError> {
    if seconds > 0.0 && seconds <= 86_400.0 {
        return Ok(());
    }
    Err(RunnerError::Usage(format!(
        "seconds of measuring must be above 0 and at most a day, found {seconds} (--seconds, --bench-seconds)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_measured_with_every_choice() {
        let names = |text: &str| {
            let choices = kernel_choices(text).unwrap();
            Subject::new("m", "m.onnx").with_kernels(&choices).map(|subject| subject.name).collect::<Vec<_>>()
        };
        assert_eq!(names("measure"), ["m"]);
        assert_eq!(names("int8"), ["m (int8)"]);
        assert_eq!(names("measure, int8"), ["m (measure)", "m (int8)"]);
        assert!(kernel_choices("fast").unwrap_err().contains("measure, sparse, dense, int8"));
        assert!(kernel_choices("sparse,sparse").unwrap_err().contains("twice"));
    }

    #[test]
    fn seconds_that_cannot_be_waited_for_are_refused() {
        assert!(check_seconds(0.5).is_ok());
        assert!([0.0, -1.0, f64::NAN, f64::INFINITY].into_iter().all(|s| check_seconds(s).is_err()));
    }
}
