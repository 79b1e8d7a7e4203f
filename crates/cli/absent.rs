//! Verbs that this build lacks: they stand in `--help` and say which feature brings them.

macro_rules! absent {
    ($($verb:ident),*) => {
        $(pub mod $verb {
            /// Not in this build: build with --features prune.
            #[derive(clap::Args)]
            pub struct Args {
                /// Ignored
                #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
                rest: Vec<String>,
            }

            /// Says what is missing.
            pub fn run(_: Args, _: crate::output::Output) -> anyhow::Result<()> {
                Err(crate::exit::Failure::Absent { verb: stringify!($verb), feature: "prune" }.into())
            }
        })*
    };
}

absent!(analyze, compile, inspect, prune, shrink, sweep, train);
