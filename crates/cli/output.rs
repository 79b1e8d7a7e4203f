//! What a verb says: text for people, one JSON object for scripts.

use std::io::Write;

use clap::Args;
use serde::Serialize;

/// Flags that every verb has.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Print one JSON object as the last line of standard output; everything else goes to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl Output {
    /// A result line: standard output, or standard error when a script reads standard output.
    pub fn say(&self, line: impl AsRef<str>) {
        // A closed pipe (`sentei ... | head`) is the reader's choice, not our failure.
        let _ = if self.json {
            writeln!(std::io::stderr(), "{}", line.as_ref())
        } else {
            writeln!(std::io::stdout(), "{}", line.as_ref())
        };
    }

    /// A line about the way there, left out with `--quiet`.
    pub fn note(&self, line: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
        }
    }

    /// The object of the `--json` contract; nothing without `--json`.
    pub fn object(&self, value: &impl Serialize) {
        if self.json {
            let text = serde_json::to_string(value).expect("records serialise");
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Whether a progress bar would be seen.
    #[cfg(feature = "prune")]
    pub fn bars(&self) -> bool {
        !self.quiet && std::io::IsTerminal::is_terminal(&std::io::stderr())
    }
}
