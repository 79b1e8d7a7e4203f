//! What a verb says: text for people, one JSON object for scripts.

use std::io::{IsTerminal, Write};

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
    pub fn bars(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// A table with aligned columns: the first column left, the others right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).chain([head[c].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| -> String {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let fill = " ".repeat(width - cell.chars().count());
            if i == 0 { format!("{cell}{fill}") } else { format!("{fill}{cell}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.push(widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().join("  "));
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// Bytes for people, in binary units.
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.2} MiB", n as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = table(&["model", "ms"], &[vec!["a".into(), "1.5".into()], vec!["longer".into(), "10".into()]]);
        assert_eq!(text, "model    ms\n------  ---\na       1.5\nlonger   10");
    }

    #[test]
    fn bytes_change_unit_at_1024() {
        assert_eq!([bytes(1023), bytes(1024), bytes(1_048_576)], ["1023 B", "1.0 KiB", "1.00 MiB"]);
    }
}
