//! The expected output of a seeded input, carried by the model file, so that a board can prove that it computes what the
//! compiling machine did before it reports a number.
//!
//! Another processor adds in another order, so outputs are compared within a stated tolerance, and the digest is numbers
//! instead of a hash: some of the output's values, and the root mean square of all, which any wrong value moves.

use std::collections::BTreeMap;
use std::path::Path;

use sentei_report::record;
use sentei_runtime::{Engine, HostTensor, KernelChoice, LoadOptions, Session, noise_inputs};
use serde::{Deserialize, Serialize};

use crate::error::RunnerError;

/// The metadata entry of an ONNX file that holds it, as JSON.
pub const KEY: &str = "sentei.self_test";

/// Largest difference allowed, relative to the largest expected value if that is above 1.
pub const TOLERANCE: f64 = 1e-4;

/// Seed of the input.
const SEED: u64 = 1;

/// Values kept of an output.
const VALUES: usize = 64;

/// What a model gives for a seeded input of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Seed of [`sentei_runtime::HostTensor::noise`]; input `i` has seed `seed + i`.
    pub seed: u64,
    /// Largest difference allowed, relative to the largest expected value of an output if that is above 1.
    pub tolerance: f64,
    /// One per output.
    pub outputs: Vec<Digest>,
}

/// What is kept of one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Number of elements.
    pub elements: usize,
    /// Root mean square of all elements.
    pub rms: f64,
    /// Largest absolute value of all elements.
    pub largest: f64,
    /// At most 64 elements, evenly spaced, the first one among them.
    pub values: Vec<f32>,
}

/// The outputs of a self-test beside what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Largest difference; infinite when an output is not finite or not of the expected size.
    pub difference: f64,
    /// Largest difference allowed of that output.
    pub tolerance: f64,
}

impl Outcome {
    /// Whether the model computes here what it did where it was compiled.
    pub fn passed(self) -> bool {
        self.difference <= self.tolerance
    }
}

impl From<Outcome> for record::SelfTest {
    fn from(outcome: Outcome) -> Self {
        Self { difference: outcome.difference, tolerance: outcome.tolerance }
    }
}

impl SelfTest {
    /// The digest of outputs that the input of `seed` gave.
    pub fn of(seed: u64, outputs: &[Vec<f32>]) -> Self {
        Self { seed, tolerance: TOLERANCE, outputs: outputs.iter().map(|output| Digest::of(output)).collect() }
    }

    /// Runs a model's dense form, with no sparse kernel in it, on the seeded input: what the packed form has to agree with.
    ///
    /// # Errors
    /// As loading and running; [`sentei_runtime::RuntimeError::Unsupported`] when an output is not finite.
    pub fn expected(engine: &dyn Engine, bytes: &[u8]) -> Result<Self, sentei_runtime::RuntimeError> {
        let options = LoadOptions { kernel_choice: KernelChoice::AlwaysDense, ..LoadOptions::default() };
        let mut session = engine.load(bytes, &options)?;
        let inputs = noise_inputs(&*session, SEED);
        let outputs: Vec<Vec<f32>> = session.run(&inputs)?.into_iter().map(|output| output.data).collect();
        if outputs.iter().flatten().any(|value| !value.is_finite()) {
            let what = "a self-test of a model whose output for noise is not finite".into();
            return Err(sentei_runtime::RuntimeError::Unsupported { engine: engine.name(), what });
        }
        Ok(Self::of(SEED, &outputs))
    }

    /// What a model's metadata say; `None` when they carry no self-test.
    ///
    /// # Errors
    /// [`RunnerError::Description`] when they carry a broken one.
    pub fn read(metadata: &BTreeMap<String, String>) -> Result<Option<Self>, RunnerError> {
        let Some(text) = metadata.get(KEY) else { return Ok(None) };
        let broken = |why: String| RunnerError::Description(format!("metadata `{KEY}` is broken: {why}"));
        let test: Self = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
        if !(test.tolerance > 0.0 && test.tolerance <= 0.1) || test.outputs.is_empty() {
            let outputs = test.outputs.len();
            return Err(broken(format!("tolerance {} and {outputs} outputs", test.tolerance)));
        }
        Ok(Some(test))
    }

    /// An ONNX file with this self-test in its metadata. The entry is appended: fields of a protobuf message may stand in any
    /// order, and a repeated one goes on wherever it stands.
    pub fn append_to(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let field = |number: u8, content: &[u8]| {
            let mut field = vec![number << 3 | 2];
            let mut length = content.len();
            while length >= 0x80 {
                field.push(length as u8 | 0x80);
                length >>= 7;
            }
            field.push(length as u8);
            field.extend(content);
            field
        };
        let text = serde_json::to_string(self).expect("numbers serialise");
        let entry = [field(1, KEY.as_bytes()), field(2, text.as_bytes())].concat();
        bytes.extend(field(14, &entry));
        bytes
    }

    /// Loads the model at `path`, whose file has `bytes`, for one sample and runs the seeded input; the session is as `options` say.
    ///
    /// What [`KernelChoice::Int8`] computes is not what the file expects. There the file proves the machine in numbers, and the bytes of
    /// this machine's kernels have to give what portable ones give, bit for bit.
    ///
    /// # Errors
    /// As loading and running; [`RunnerError::SelfTest`] when something else is computed here.
    pub fn prove(
        &self,
        engine: &dyn Engine,
        path: &Path,
        bytes: &[u8],
        options: &LoadOptions,
    ) -> Result<(Outcome, Box<dyn Session>), RunnerError> {
        let load = |kernel_choice: KernelChoice, portable_int8: bool| {
            let one = LoadOptions { batch: 1, tune: false, kernel_choice, portable_int8, ..options.clone() };
            engine.load(bytes, &one).map_err(RunnerError::of_model(path))
        };
        let passed = |outcome: Outcome| match outcome.passed() {
            true => Ok(()),
            false => {
                let Outcome { difference, tolerance } = outcome;
                Err(RunnerError::SelfTest { path: path.to_owned(), difference, tolerance })
            }
        };
        let in_bytes = options.kernel_choice == KernelChoice::Int8;
        let mut session = load(if in_bytes { KernelChoice::Measure } else { options.kernel_choice }, false)?;
        let outcome = self.run(&mut *session)?;
        passed(outcome)?;
        if !in_bytes {
            return Ok((outcome, session));
        }
        let inputs = noise_inputs(&*session, self.seed);
        let outputs = |session: &mut dyn Session| session.run(&inputs).map_err(RunnerError::of_model(path));
        drop(session);
        let portable = outputs(&mut *load(KernelChoice::Int8, true)?)?;
        let mut session = load(KernelChoice::Int8, false)?;
        let own = outputs(&mut *session)?;
        let pairs = portable.iter().zip(&own).flat_map(|(a, b)| a.data.iter().zip(&b.data));
        let difference = pairs.map(|(a, b)| if a == b { 0.0 } else { f64::from((a - b).abs()) });
        // what is no number differs from everything
        let difference = difference.fold(0.0, |worst, x| if x.is_nan() { f64::INFINITY } else { f64::max(worst, x) });
        passed(Outcome { difference, tolerance: 0.0 })?;
        Ok((outcome, session))
    }

    /// Runs the seeded input through a session of one sample.
    ///
    /// # Errors
    /// As running, or [`RunnerError::Description`] when the model has other outputs than the self-test.
    pub fn run(&self, session: &mut dyn Session) -> Result<Outcome, RunnerError> {
        let inputs = noise_inputs(session, self.seed);
        let outputs: Result<Vec<HostTensor>, _> = session.run(&inputs);
        let outputs = outputs.map_err(|error| RunnerError::Description(format!("self-test: {error}")))?;
        self.compare(&outputs.into_iter().map(|output| output.data).collect::<Vec<_>>())
    }

    /// Compares outputs with what is expected; the worst output decides.
    ///
    /// # Errors
    /// [`RunnerError::Description`] when there are more or fewer outputs.
    pub fn compare(&self, outputs: &[Vec<f32>]) -> Result<Outcome, RunnerError> {
        if outputs.len() != self.outputs.len() {
            let (found, expected) = (outputs.len(), self.outputs.len());
            return Err(RunnerError::Description(format!(
                "self-test: the model has {found} outputs, the test is for {expected}"
            )));
        }
        let outcome = |(expected, output): (&Digest, &Vec<f32>)| Outcome {
            difference: expected.difference(output),
            tolerance: self.tolerance * expected.largest.max(1.0),
        };
        let worst = self.outputs.iter().zip(outputs).map(outcome);
        let worst = worst.max_by(|a, b| (a.difference / a.tolerance).total_cmp(&(b.difference / b.tolerance)));
        worst.ok_or_else(|| RunnerError::Description("self-test: the model has no outputs".into()))
    }
}

impl Digest {
    fn of(output: &[f32]) -> Self {
        let squares: f64 = output.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let step = output.len().div_ceil(VALUES).max(1);
        Self {
            elements: output.len(),
            rms: (squares / output.len().max(1) as f64).sqrt(),
            largest: output.iter().fold(0.0, |largest, x| f64::max(largest, f64::from(x.abs()))),
            values: output.iter().step_by(step).copied().collect(),
        }
    }

    /// Infinite for an output that cannot be compared: `f64::max` would pass over NaN.
    fn difference(&self, output: &[f32]) -> f64 {
        let found = Self::of(output);
        if found.elements != self.elements || found.values.len() != self.values.len() {
            return f64::INFINITY;
        }
        let values = self.values.iter().zip(&found.values).map(|(a, b)| f64::from((a - b).abs()));
        let all = values.chain([(self.rms - found.rms).abs(), (self.largest - found.largest).abs()]);
        all.fold(0.0, |worst, x| if x.is_finite() { f64::max(worst, x) } else { f64::INFINITY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Vec<f32> {
        (0..1000).map(|i| (i as f32 * 0.37).sin() * 3.0).collect()
    }

    #[test]
    fn another_order_of_additions_passes_and_one_wrong_value_of_a_thousand_does_not() {
        let test = SelfTest::of(1, &[output()]);
        assert_eq!(test.outputs[0].values.len(), 63);
        let outcome = |edit: fn(usize, f32) -> f32| {
            let edited = output().into_iter().enumerate().map(|(i, x)| edit(i, x)).collect();
            test.compare(&[edited]).unwrap()
        };
        assert!(outcome(|_, x| x * (1.0 + 1e-6)).passed());
        assert!(!outcome(|i, x| if i == 501 { x + 3.0 } else { x }).passed(), "a value that is not kept, by the rms");
        assert!(!outcome(|i, x| if i == 16 { x + 1e-3 } else { x }).passed(), "a value that is kept");
        assert!(!outcome(|i, x| if i == 3 { f32::NAN } else { x }).passed());
        assert!(!outcome(|_, x| x * (1.0 + 1e-3)).passed());
    }

    #[test]
    fn outputs_of_another_size_or_number_do_not_pass() {
        let test = SelfTest::of(1, &[output()]);
        assert!(!test.compare(&[output()[..999].to_vec()]).unwrap().passed());
        assert!(test.compare(&[]).is_err());
    }

    #[test]
    fn it_is_read_back_from_the_file_it_was_appended_to() {
        let test = SelfTest::of(1, &[output(), vec![0.1]]);
        // ir_version = 8
        let bytes = test.append_to(vec![0x08, 0x08]);
        let metadata = sentei_runtime::metadata(&bytes).unwrap();
        assert_eq!(SelfTest::read(&metadata).unwrap(), Some(test));
        assert_eq!(SelfTest::read(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn a_broken_one_is_refused() {
        let tests = ["", "{}", "{\"seed\":1,\"tolerance\":5.0,\"outputs\":[]}", "[1]"];
        for text in tests {
            let metadata = BTreeMap::from([(KEY.to_owned(), text.to_owned())]);
            assert!(SelfTest::read(&metadata).unwrap_err().to_string().contains(KEY), "{text}");
        }
    }
}
