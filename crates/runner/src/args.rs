//! The few flags of `sentei-run`, read without a parser of a megabyte.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use sentei_runner::RunnerError;
use sentei_runner::measure::kernel_choices;
use sentei_runtime::{KernelChoice, LoadOptions};

pub const HELP: &str = "\
sentei-run: runs a model on this board (made by `sentei build`)

usage: sentei-run self-test [MODEL.onnx ...]
       sentei-run run [MODEL.onnx] IMAGE ...
       sentei-run bench [MODEL.onnx ...]
       sentei-run info

  self-test   compute the model's seeded input here and compare it with the output that the file carries
  run         classify images (PNG, JPEG, BMP, PNM, or folders of them)
  bench       measure latency and memory of one or more models, interleaved; the first one is the baseline.
              Models are self-tested first, and no number is given for one that fails
  info        what this machine is, and the model that this program carries

A program made with `sentei build --model` carries its model: MODEL may then be left out.

flags of all:
  --threads N          threads of the engine (1)
  --pin                tie every thread to a core of its own
  --kernels CHOICES    measure, sparse, dense or int8 (measure). int8: convolutions in bytes, inputs rounded as they are read,
                       so results are close, not the same. bench takes several with commas between, and measures each
  --byte-budget BYTES  most bytes that decoded weights may take (1073741824)
  --time-budget S      most seconds that loading one model may take (60)
  --json               print one JSON object as the last line of standard output
flags of run:
  --top K              classes to print per image (1)
flags of bench:
  --seconds S          seconds of measuring, all models together (5)
  --rounds N           rounds to measure at least (100)
  --warmup N           rounds before measuring starts (3)
  --batch N            images per inference, where the model leaves the batch open (1)
  --tune               time kernels thoroughly and keep the choice beside the model
  --no-memory          leave out the memory table (it takes a process per model)
  --no-self-test       measure models without testing them first
  --output FILE        write raw samples as JSON

Exit codes: 0 ok, 1 failed, 2 usage, 4 self-test failed, 6 limit exceeded";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    SelfTest,
    Run,
    Bench,
    Info,
    /// Measure the memory of one model in this process: what `bench` starts itself for.
    Memory,
    Help,
    Version,
}

/// Everything the command line says.
#[derive(Clone, Debug)]
pub struct Args {
    pub verb: Verb,
    pub models: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
    pub options: LoadOptions,
    /// What `bench` measures every model with; `options` have the first one.
    pub kernels: Vec<KernelChoice>,
    pub json: bool,
    pub top: usize,
    pub seconds: f64,
    pub rounds: usize,
    pub warmup: u32,
    pub tune: bool,
    pub memory: bool,
    pub self_test: bool,
    pub output: Option<PathBuf>,
}

impl Args {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] naming the word that was not understood.
    pub fn parse(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, RunnerError> {
        let mut args = Self {
            verb: Verb::Help,
            models: Vec::new(),
            images: Vec::new(),
            options: LoadOptions::default(),
            kernels: vec![KernelChoice::Measure],
            json: false,
            top: 1,
            seconds: 5.0,
            rounds: 100,
            warmup: 3,
            tune: false,
            memory: true,
            self_test: true,
            output: None,
        };
        args.read(lexopt::Parser::from_args(words))
            .map_err(|error| RunnerError::Usage(format!("{error} (sentei-run --help lists verbs and flags)")))?;
        sentei_runner::measure::check_seconds(args.seconds)?;
        Ok(args)
    }

    fn read(&mut self, mut words: lexopt::Parser) -> Result<(), lexopt::Error> {
        let mut verb = None;
        while let Some(word) = words.next()? {
            match word {
                Short('h') | Long("help") => verb = Some(Verb::Help),
                Short('V') | Long("version") => verb = Some(Verb::Version),
                Long("json") => self.json = true,
                Long("pin") => self.options.pin = true,
                Long("tune") => self.tune = true,
                Long("no-memory") => self.memory = false,
                Long("no-self-test") => self.self_test = false,
                Long("threads") => self.options.threads = at_least_one(words.value()?)?,
                Long("batch") => self.options.batch = at_least_one(words.value()?)?,
                Long("rounds") => self.rounds = at_least_one(words.value()?)?,
                Long("top") => self.top = at_least_one(words.value()?)?,
                Long("warmup") => self.warmup = words.value()?.parse()?,
                Long("seconds") => self.seconds = words.value()?.parse()?,
                Long("byte-budget") => self.options.byte_budget = words.value()?.parse()?,
                Long("time-budget") => self.options.time_budget = Duration::from_secs(words.value()?.parse()?),
                Long("kernels") => self.kernels = words.value()?.parse_with(kernel_choices)?,
                Long("output") | Short('o') => self.output = Some(words.value()?.into()),
                Value(word) if verb.is_none() => verb = Some(word.parse_with(verb_named)?),
                Value(file) => {
                    let path = PathBuf::from(file);
                    let model = path.extension().is_some_and(|extension| extension == "onnx");
                    if model { self.models.push(path) } else { self.images.push(path) }
                }
                other => return Err(other.unexpected()),
            }
        }
        self.verb = verb.ok_or("a verb is missing: self-test, run, bench or info")?;
        self.options.kernel_choice = self.kernels[0];
        if self.verb != Verb::Bench && self.kernels.len() > 1 {
            return Err("--kernels takes several choices in bench only".into());
        }
        match (self.verb, self.images.first()) {
            (Verb::Run, None) => Err("run needs images".into()),
            (Verb::Run, _) | (_, None) => Ok(()),
            (_, Some(other)) => Err(format!("{} is no .onnx file", other.display()).into()),
        }
    }
}

fn verb_named(name: &str) -> Result<Verb, String> {
    Ok(match name {
        "self-test" => Verb::SelfTest,
        "run" => Verb::Run,
        "bench" => Verb::Bench,
        "info" => Verb::Info,
        "memory" => Verb::Memory,
        "help" => Verb::Help,
        _ => return Err("expected self-test, run, bench or info".into()),
    })
}

fn at_least_one(value: std::ffi::OsString) -> Result<usize, lexopt::Error> {
    let refuse = || "expected a whole number of at least 1".to_owned();
    value.parse_with(|text| text.parse().ok().filter(|n| *n > 0).ok_or_else(refuse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, RunnerError> {
        Args::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn models_and_images_are_told_apart_by_their_names() {
        let args = parse("run a.onnx x.png --top 3 folder --threads 2 --json").unwrap();
        assert_eq!((args.models.len(), args.images.len(), args.top, args.options.threads), (1, 2, 3, 2));
        assert!(args.json && args.verb == Verb::Run);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, word) in [
            ("", "verb is missing"),
            ("fly", "fly"),
            ("bench --threads 0", "at least 1"),
            ("bench --speed", "--speed"),
            ("bench photo.png", "photo.png is no .onnx file"),
            ("run a.onnx", "needs images"),
            ("bench --kernels fast", "measure, sparse, dense, int8"),
            ("self-test a.onnx --kernels measure,int8", "bench only"),
            ("bench --seconds nan", "above 0"),
            ("bench --json=yes", "json"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(word), "{line}: {error}");
        }
    }
}
