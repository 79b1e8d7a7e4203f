//! What can be asked of ONNX Runtime: the provider, and options of the session and of that provider.
//!
//! One table says each option once: its type, the providers that take it, and its help. Flags (`--ort KEY=VALUE`) and
//! recipes (`[bench.ort]`) fill the same struct.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::values::{Arena, ConvSearch, Level, Optimise, Value, words};
use Provider::{Acl, Cpu, Cuda, Tensorrt, Xnnpack};

/// Why options of ONNX Runtime cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No provider has this name.
    #[error("there is no provider `{0}`: it is one of {all}", all = names(&Provider::ALL))]
    Provider(String),
    /// Not of the form `KEY=VALUE`.
    #[error("expected KEY=VALUE, found `{found}`: the options of provider {asked} are {keys}", keys = keys_of(*asked))]
    Form {
        /// What was found.
        found: String,
        /// Provider asked for.
        asked: Provider,
    },
    /// No provider has this option.
    #[error("there is no option `{key}`: those of provider {asked} are {keys}", keys = keys_of(*asked))]
    Key {
        /// What was found.
        key: String,
        /// Provider asked for.
        asked: Provider,
    },
    /// The provider asked for does not take the option.
    #[error(
        "option `{key}` is for provider {takers}, and the provider asked for is {asked}, whose options are {keys}",
        takers = names(takers), keys = keys_of(*asked)
    )]
    OtherProvider {
        /// The option.
        key: &'static str,
        /// Providers that take it.
        takers: &'static [Provider],
        /// Provider asked for.
        asked: Provider,
    },
    /// The value is not of the option's type or range.
    #[error("option `{key}` expects {takes}, found `{found}`")]
    Value {
        /// The option.
        key: &'static str,
        /// Values it takes.
        takes: &'static str,
        /// What was found.
        found: String,
    },
}

words! {
    /// Where ONNX Runtime computes: its execution provider.
    Provider {
        /// The processor.
        #[default]
        Cpu = "cpu",
        /// NVIDIA GPUs through cuDNN and cuBLAS.
        Cuda = "cuda",
        /// NVIDIA GPUs through TensorRT; what it does not take runs on CUDA.
        Tensorrt = "tensorrt",
        /// The processor through XNNPACK.
        Xnnpack = "xnnpack",
        /// Arm processors through the Arm Compute Library.
        Acl = "acl",
    }
}

impl Provider {
    /// What ONNX Runtime calls it, for example `CUDAExecutionProvider`.
    pub fn library_name(self) -> &'static str {
        match self {
            Cpu => "CPUExecutionProvider",
            Cuda => "CUDAExecutionProvider",
            Tensorrt => "TensorrtExecutionProvider",
            Xnnpack => "XnnpackExecutionProvider",
            Acl => "ACLExecutionProvider",
        }
    }
}

impl FromStr for Provider {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let found = Provider::ALL.into_iter().find(|provider| provider.name() == text);
        found.ok_or_else(|| OptionError::Provider(text.to_owned()))
    }
}

/// One option, for help and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name in flags and recipes.
    pub name: &'static str,
    /// Values it takes.
    pub takes: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Providers that take it.
    pub providers: &'static [Provider],
}

macro_rules! options {
    ($(#[doc = $about:literal] $key:ident: $type:ty, $providers:expr;)+) => {
        /// Provider and options of ONNX Runtime; what is `None` is left to the library.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct OrtOptions {
            /// Where to compute.
            pub provider: Provider,
            $(#[doc = $about] #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)+
        }

        /// Every option, in the order of help.
        pub static KEYS: &[Key] = &[$(Key {
            name: stringify!($key),
            takes: <$type as Value>::TAKES,
            about: $about.trim_ascii(),
            providers: $providers,
        }),+];

        impl OrtOptions {
            /// The options that are not left to the library, with their values as a flag gives them.
            pub fn given(&self) -> Vec<(&'static Key, String)> {
                let values = [$(self.$key.as_ref().map(Value::write)),+];
                KEYS.iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
            }

            fn put(&mut self, key: &'static Key, text: &str) -> Result<(), OptionError> {
                let bad = || OptionError::Value { key: key.name, takes: key.takes, found: text.to_owned() };
                match key.name {
                    $(stringify!($key) => self.$key = Some(<$type>::read(text).ok_or_else(bad)?),)+
                    _ => return Err(OptionError::Key { key: key.name.to_owned(), asked: self.provider }),
                }
                Ok(())
            }
        }
    };
}

const EVERY: &[Provider] = &Provider::ALL;
const GPU: &[Provider] = &[Cuda, Tensorrt];

options! {
    /// how far the graph is rewritten before it runs
    optimise: Optimise, EVERY;
    /// threads for branches of the graph that do not wait for each other; 1 runs node after node
    inter_threads: NonZeroUsize, EVERY;
    /// whether idle threads spin, which saves time and costs processor
    spinning: bool, EVERY;
    /// whether activations are laid out once, from the first run on
    memory_pattern: bool, EVERY;
    /// whether weights are copied into the layout of the kernels
    prepacking: bool, EVERY;
    /// whether main memory is kept in an arena
    cpu_arena: bool, EVERY;
    /// run once while loading and say which provider ran each node; always on for other providers than cpu
    placement: bool, EVERY;
    /// keep ONNX Runtime's own profile of that run in this folder (a Chrome trace)
    profile: PathBuf, EVERY;
    /// accept that no node at all runs on the provider, which is an error otherwise
    allow_fallback: bool, &[Cuda, Tensorrt, Xnnpack, Acl];
    /// GPU, counted from 0
    device: u16, GPU;
    /// most GPU memory of the arena, in MiB
    memory_limit_mib: NonZeroU32, &[Cuda];
    /// how the GPU arena grows
    arena: Arena, &[Cuda];
    /// how convolution algorithms are found
    conv_search: ConvSearch, &[Cuda];
    /// whether f32 products may be rounded to TF32
    tf32: bool, &[Cuda];
    /// whether convolutions run channels last
    nhwc: bool, &[Cuda];
    /// compute in f16 where that is faster
    fp16: bool, &[Tensorrt];
    /// compute in int8 where the model has QuantizeLinear and DequantizeLinear
    int8: bool, &[Tensorrt];
    /// use sparse tensor cores for weights with at most 2 non-zeros in 4, where that is faster
    sparsity: bool, &[Tensorrt];
    /// keep built engines in this folder, which later loads use (for this model, GPU and TensorRT only)
    engine_cache: PathBuf, &[Tensorrt];
    /// keep the timings of kernels in this folder, which makes later builds faster
    timing_cache: PathBuf, &[Tensorrt];
    /// how long to look for fast kernels
    builder_level: Level, &[Tensorrt];
    /// most scratch memory of a kernel, in MiB
    workspace_mib: NonZeroU32, &[Tensorrt];
    /// fewest nodes that are worth an engine
    min_subgraph: NonZeroU32, &[Tensorrt];
    /// run on this deep learning accelerator of a Jetson
    dla_core: u16, &[Tensorrt];
    /// threads of XNNPACK, if not those of the engine
    xnnpack_threads: NonZeroUsize, &[Xnnpack];
    /// whether products may be rounded to f16 or bf16
    fast_math: bool, &[Acl];
}

impl OrtOptions {
    /// Sets one option from text such as `fp16=true`; set the provider before.
    ///
    /// # Errors
    /// When there is no such option, the provider does not take it, or the value is not of its type.
    pub fn set(&mut self, text: &str) -> Result<(), OptionError> {
        let asked = self.provider;
        let Some((name, value)) = text.split_once('=') else {
            return Err(OptionError::Form { found: text.to_owned(), asked });
        };
        let Some(key) = KEYS.iter().find(|key| key.name == name.trim()) else {
            return Err(OptionError::Key { key: name.trim().to_owned(), asked });
        };
        takes(asked, key)?;
        self.put(key, value.trim())
    }

    /// Refuses options that the provider does not take.
    ///
    /// # Errors
    /// [`OptionError::OtherProvider`], for the first one.
    pub fn check(&self) -> Result<(), OptionError> {
        self.given().into_iter().try_for_each(|(key, _)| takes(self.provider, key))
    }

    /// Whether loading runs the model once to see which provider runs each node.
    pub fn shows_placement(&self) -> bool {
        self.provider != Cpu || self.placement == Some(true) || self.profile.is_some()
    }
}

fn takes(asked: Provider, key: &'static Key) -> Result<(), OptionError> {
    if key.providers.contains(&asked) {
        return Ok(());
    }
    Err(OptionError::OtherProvider { key: key.name, takers: key.providers, asked })
}

fn keys_of(provider: Provider) -> String {
    let keys = KEYS.iter().filter(|key| key.providers.contains(&provider));
    keys.map(|key| key.name).collect::<Vec<_>>().join(", ")
}

fn names(providers: &[Provider]) -> String {
    providers.iter().map(|provider| provider.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(provider: Provider, texts: &[&str]) -> Result<OrtOptions, OptionError> {
        let mut options = OrtOptions { provider, ..OrtOptions::default() };
        texts.iter().try_for_each(|text| options.set(text))?;
        Ok(options)
    }

    #[test]
    fn an_option_of_another_provider_names_both() {
        let error = with(Cuda, &["fp16=true"]).unwrap_err().to_string();
        assert!(
            error.starts_with("option `fp16` is for provider tensorrt, and the provider asked for is cuda"),
            "{error}"
        );
        assert!(error.contains("conv_search") && !error.contains("builder_level"), "{error}");
        let recipe = OrtOptions { fp16: Some(true), ..OrtOptions::default() };
        assert!(matches!(recipe.check(), Err(OptionError::OtherProvider { asked: Cpu, .. })));
    }

    #[test]
    fn an_unknown_option_lists_those_of_the_provider() {
        let error = with(Tensorrt, &["sparse=true"]).unwrap_err().to_string();
        assert!(error.contains("no option `sparse`") && error.contains("sparsity, engine_cache"), "{error}");
        assert!(with(Cpu, &["spinning"]).unwrap_err().to_string().contains("KEY=VALUE"));
        let error = "gpu".parse::<Provider>().unwrap_err().to_string();
        assert_eq!(error, "there is no provider `gpu`: it is one of cpu, cuda, tensorrt, xnnpack, acl");
    }

    #[test]
    fn values_out_of_type_or_range_say_what_is_taken() {
        for (provider, text, takes) in [
            (Cpu, "spinning=yes", "true or false"),
            (Cpu, "optimise=max", "none, basic, extended, layout or all"),
            (Cpu, "inter_threads=0", "at least 1"),
            (Cuda, "memory_limit_mib=0", "from 1"),
            (Tensorrt, "builder_level=6", "from 0 to 5"),
            (Tensorrt, "engine_cache=", "a folder"),
        ] {
            let error = with(provider, &[text]).unwrap_err().to_string();
            assert!(error.contains(takes), "{text}: {error}");
        }
    }

    #[test]
    fn every_option_reads_back_what_it_writes() {
        let samples = ["true", "3", "all", "power_of_two", "heuristic"];
        for key in KEYS {
            let provider = key.providers[0];
            let set = samples.iter().find_map(|sample| with(provider, &[&format!("{}={sample}", key.name)]).ok());
            let options = set.unwrap_or_else(|| panic!("no sample fits {}", key.name));
            options.check().unwrap();
            let given = options.given();
            assert!(given.len() == 1 && given[0].0 == key, "{given:?}");
            assert_eq!(with(provider, &[&format!("{}={}", key.name, given[0].1)]).unwrap(), options);
            assert!(!key.about.is_empty() && !key.takes.is_empty());
        }
    }

    #[test]
    fn only_other_providers_than_the_processor_run_once_while_loading_unless_asked() {
        assert!(!OrtOptions::default().shows_placement());
        assert!(with(Cpu, &["placement=true"]).unwrap().shows_placement());
        assert!(with(Cpu, &["profile=folder"]).unwrap().shows_placement());
        assert!(with(Xnnpack, &[]).unwrap().shows_placement());
    }
}
