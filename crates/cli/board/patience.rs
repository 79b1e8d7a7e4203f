//! Tries again when a link drops, until the time for the whole measurement is spent.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::link::{Answer, Link, LinkError};
use crate::exit::Failure;
use crate::output::Output;

/// A link that mends itself, and the time that is left.
pub struct Patience<'a> {
    link: &'a Link,
    name: String,
    ends: Instant,
    total: Duration,
    out: Output,
    /// Whether the board has answered before: one that never did is not waited for.
    reached: bool,
    /// Times the link was lost.
    pub drops: u32,
}

/// First pause before the link is tried again; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);

/// Longest pause before the link is tried again.
const LONGEST: Duration = Duration::from_secs(8);

/// Time for scripts that tidy up, which a board gets even when all other time is spent.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// Longest time for one script; what takes longer is looked after by further scripts.
const ONE_SCRIPT: Duration = Duration::from_secs(120);

impl<'a> Patience<'a> {
    /// `total` for everything from now on.
    pub fn new(link: &'a Link, name: String, total: Duration, out: Output) -> Self {
        Self { link, name, ends: Instant::now() + total, total, out, reached: false, drops: 0 }
    }

    /// As [`Patience::new`] for a board that has answered before.
    pub fn reached(link: &'a Link, name: String, total: Duration, out: Output) -> Self {
        Self { reached: true, ..Self::new(link, name, total, out) }
    }

    /// The board's address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Time left.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// The words for a board that took too long.
    pub fn spent(&self, doing: &str) -> String {
        format!("{} did not finish within {} s, {doing} (raise --board-timeout)", self.name, self.total.as_secs())
    }

    /// The time that is kept for stopping what runs on the board.
    pub fn margin(&self) -> Duration {
        (self.total / 5).clamp(Duration::from_secs(1), Duration::from_secs(15))
    }

    /// Runs a script that may be run twice.
    ///
    /// # Errors
    /// Exit code 5 when the board was never reached, 6 when the time is spent.
    pub fn run(&mut self, doing: &str, script: &str, input: &[u8]) -> Result<Answer> {
        let mut pause = FIRST;
        loop {
            let limit = self.left().min(ONE_SCRIPT);
            if limit.is_zero() {
                return Err(Failure::Spent(self.spent(doing)).into());
            }
            let why = match self.link.run(script, input, limit) {
                Ok(answer) => {
                    self.reached = true;
                    return Ok(answer);
                }
                Err(error @ LinkError::NoProgram { .. }) => {
                    return Err(Failure::Unreachable { board: self.name.clone(), why: error.to_string() }.into());
                }
                Err(why) => why,
            };
            if !self.reached {
                return Err(Failure::Unreachable { board: self.name.clone(), why: why.to_string() }.into());
            }
            self.drops += 1;
            self.out.note(format!("{}: link lost while {doing} ({why}); trying again", self.name));
            thread::sleep(pause.min(self.left()));
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Runs a script whose failure changes nothing, without trying again.
    pub fn once(&self, script: &str) -> Option<Answer> {
        self.link.run(script, b"", AFTERWARDS).ok()
    }
}
