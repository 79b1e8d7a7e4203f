//! Flags that say where and how ONNX Runtime computes, and the same as flags again for a child process.

use anyhow::Result;
use sentei_runtime::ort::{KEYS, OrtOptions, Provider};

use crate::exit::usage;
use crate::measure::EngineName;

/// Flags of verbs that run a model.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct OrtArgs {
    /// Where ONNX Runtime computes: cpu, cuda, tensorrt, xnnpack or acl [default: cpu]
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<Provider>,
    /// Option of ONNX Runtime, such as fp16=true with --provider tensorrt; repeat for more (--help lists them)
    #[arg(long = "ort", value_name = "KEY=VALUE", long_help = help())]
    options: Vec<String>,
}

impl OrtArgs {
    /// What the flags say.
    ///
    /// # Errors
    /// Exit code 2 for an option that does not exist, that the provider does not take, or whose value is none of its type, and
    /// for another engine than ONNX Runtime.
    pub fn resolve(&self, engine: EngineName) -> Result<OrtOptions> {
        let given = self.provider.is_some() || !self.options.is_empty();
        if given && engine != EngineName::Ort {
            return usage(format!("--provider and --ort are for --engine ort, found --engine {}", engine.name()));
        }
        let mut options = OrtOptions { provider: self.provider.unwrap_or_default(), ..OrtOptions::default() };
        for text in &self.options {
            if let Err(error) = options.set(text) {
                return usage(format!("--ort {text}: {error}"));
            }
        }
        Ok(options)
    }
}

/// The flags that mean `options`, for a process that measures the same again. Where a profile is kept is left out: one of two is
/// enough.
pub fn flags(options: &OrtOptions) -> Vec<String> {
    let mut flags = Vec::new();
    if options.provider != Provider::Cpu {
        flags.extend(["--provider".to_owned(), options.provider.name().to_owned()]);
    }
    for (key, value) in options.given().into_iter().filter(|(key, _)| key.name != "profile") {
        flags.extend(["--ort".to_owned(), format!("{}={value}", key.name)]);
    }
    flags
}

/// Every option with the values it takes, and what it does.
fn help() -> String {
    let mut text = String::from(
        "Option of ONNX Runtime (--engine ort), repeated for more than one. In recipes they stand in [bench.ort].",
    );
    let mut last: &[Provider] = &[];
    for key in KEYS {
        if key.providers != last {
            let names: Vec<&str> = key.providers.iter().map(|provider| provider.name()).collect();
            let of = if names.len() == Provider::ALL.len() { "every provider".to_owned() } else { names.join(", ") };
            text.push_str(&format!("\n\n{of}:"));
            last = key.providers;
        }
        text.push_str(&format!("\n  {}=VALUE  {} ({})", key.name, key.about, key.takes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(provider: Provider, options: &[&str]) -> OrtArgs {
        OrtArgs { provider: Some(provider), options: options.iter().map(|text| (*text).to_owned()).collect() }
    }

    #[test]
    fn a_child_is_given_the_same_options() {
        let wanted = ["fp16=true", "builder_level=3", "engine_cache=some folder", "placement=true"];
        let options = args(Provider::Tensorrt, &wanted).resolve(EngineName::Ort).expect("valid");
        let flags = flags(&options);
        assert_eq!(flags[..2], ["--provider", "tensorrt"]);
        let texts: Vec<&str> = flags[2..].chunks_exact(2).map(|pair| pair[1].as_str()).collect();
        assert_eq!(args(Provider::Tensorrt, &texts).resolve(EngineName::Ort).expect("valid"), options);
        let kept = args(Provider::Cpu, &["profile=p"]).resolve(EngineName::Ort).expect("valid");
        assert!(super::flags(&kept).is_empty());
    }

    #[test]
    fn options_of_another_engine_are_refused() {
        let error = args(Provider::Cuda, &[]).resolve(EngineName::Tract).expect_err("tract has no provider");
        assert_eq!(crate::exit::code(&error), 2);
        assert_eq!(OrtArgs::default().resolve(EngineName::Tract).expect("nothing given"), OrtOptions::default());
    }

    #[test]
    fn help_names_every_option() {
        let text = help();
        for key in KEYS {
            assert!(text.contains(&format!("\n  {}=VALUE", key.name)), "{}", key.name);
        }
    }
}
