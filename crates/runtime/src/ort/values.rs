//! What options of ONNX Runtime may be: words, numbers in a range, folders; read from a flag and written to one.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Enums whose variants have one name in flags, recipes and messages.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_about])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its name in flags and recipes.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(super) use words;

words! {
    /// How far ONNX Runtime rewrites the graph before it runs it.
    Optimise {
        /// Not at all.
        None = "none",
        /// Constants are folded, redundant nodes removed.
        Basic = "basic",
        /// Nodes are fused, too.
        Extended = "extended",
        /// Memory layouts are changed, too.
        Layout = "layout",
        /// Everything the library has.
        #[default]
        All = "all",
    }
}

words! {
    /// How the memory arena of the GPU grows.
    Arena {
        /// By powers of two.
        #[default]
        PowerOfTwo = "power_of_two",
        /// By what is asked for.
        SameAsRequested = "same_as_requested",
    }
}

words! {
    /// How cuDNN's convolution algorithm is found.
    ConvSearch {
        /// All are timed in the first run.
        #[default]
        Exhaustive = "exhaustive",
        /// cuDNN guesses.
        Heuristic = "heuristic",
        /// One fixed algorithm that needs little memory.
        Default = "default",
    }
}

/// What the value of an option may be: read from a flag, written to one.
pub(super) trait Value: Sized {
    /// For help and errors.
    const TAKES: &'static str;
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

macro_rules! value {
    ($type:ty, $takes:literal) => {
        impl Value for $type {
            const TAKES: &'static str = $takes;
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    };
    (words $type:ty, $takes:literal) => {
        impl Value for $type {
            const TAKES: &'static str = $takes;
            fn read(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|word| word.name() == text)
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    };
}

value!(bool, "true or false");
value!(u16, "a number from 0 to 65535");
value!(Level, "a number from 0 to 5");
value!(NonZeroUsize, "a number of at least 1");
value!(NonZeroU32, "a number from 1 to 4294967295");
value!(words Optimise, "none, basic, extended, layout or all");
value!(words Arena, "power_of_two or same_as_requested");
value!(words ConvSearch, "exhaustive, heuristic or default");

impl Value for PathBuf {
    const TAKES: &'static str = "a folder";

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn write(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

/// How long TensorRT may look for fast kernels: 0 (least) to 5 (longest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        if level <= 5 { Ok(Level(level)) } else { Err(format!("expected a number from 0 to 5, found {level}")) }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level.0
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<u8>().map_err(|error| error.to_string())?.try_into()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_by_one_name() {
        assert!(Optimise::ALL.into_iter().all(|word| Optimise::read(&word.write()) == Some(word)));
        assert_eq!(Arena::read("same_as_requested"), Some(Arena::SameAsRequested));
        assert_eq!(ConvSearch::read("Heuristic"), None);
    }

    #[test]
    fn a_level_beyond_five_is_refused_by_every_way_in() {
        assert!(Level::try_from(5).is_ok() && Level::try_from(6).is_err());
        assert!("6".parse::<Level>().is_err() && "-1".parse::<Level>().is_err());
        assert_eq!(u8::from(Level::read("3").unwrap()), 3);
    }
}
