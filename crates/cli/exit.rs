//! Exit codes: 0 ok, 1 failed, 2 usage (clap), 3 gate, 4 mismatch, 5 device or engine absent, 6 limit exceeded.

/// A failure that is the cli's own verdict, not a library's error.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The pruned model does not keep what the recipe's `[gate]` asks for.
    #[error("the gate did not pass, no model was written: {0}")]
    #[cfg_attr(not(any(feature = "prune", test)), expect(dead_code, reason = "only `shrink` has a gate"))]
    Gate(String),
    /// A flag or recipe value that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// A board does not answer.
    #[error("{board} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        board: String,
        /// What the program that makes the link says.
        why: String,
    },
    /// The time for a board is spent; what runs there may go on.
    #[error("{0}")]
    Spent(String),
    /// Something would take more than there is, or than is allowed.
    #[error("{0}")]
    Limit(String),
    /// The runner failed on a board.
    #[error("on the board: {words}")]
    OnBoard {
        /// Its exit code, which is ours.
        status: u8,
        /// What it said.
        words: String,
    },
    /// Tools that the verb needs are not on this machine.
    #[error("{what} needs what is not here:\n  - {}", missing.join("\n  - "))]
    Missing {
        /// What needs them.
        what: String,
        /// Each with the command that brings it.
        missing: Vec<String>,
    },
    /// The verb needs a feature that this build lacks.
    #[error(
        "`sentei {verb}` is not in this build: it needs the feature `{feature}` (cargo build --release --features {feature})"
    )]
    #[cfg_attr(feature = "prune", expect(dead_code, reason = "only builds without the feature lack the verbs"))]
    Absent {
        /// The verb asked for.
        verb: &'static str,
        /// The feature that brings it.
        feature: &'static str,
    },
}

/// Refuses a flag or a recipe value: exit code 2.
pub fn usage<T>(what: impl Into<String>) -> anyhow::Result<T> {
    Err(Failure::Usage(what.into()).into())
}

/// The process exit code of an error, from the first link of its chain that has one.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(one).unwrap_or(1)
}

fn one(link: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = link.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::Usage(_) => 2,
            Failure::Gate(_) => 3,
            Failure::Absent { .. } | Failure::Missing { .. } | Failure::Unreachable { .. } => 5,
            Failure::Limit(_) | Failure::Spent(_) => 6,
            Failure::OnBoard { status, .. } => *status,
        });
    }
    if let Some(error) = link.downcast_ref::<sentei_runtime::RuntimeError>() {
        return Some(error.exit_code());
    }
    if let Some(error) = link.downcast_ref::<sentei_runner::RunnerError>() {
        return Some(error.exit_code());
    }
    #[cfg(feature = "prune")]
    {
        if let Some(sentei_prune::PruneError::NoDevice { .. }) = link.downcast_ref() {
            return Some(5);
        }
        match link.downcast_ref() {
            Some(sentei_convert::ConvertError::Mismatch { .. } | sentei_convert::ConvertError::Pattern { .. }) => {
                return Some(4);
            }
            Some(sentei_convert::ConvertError::Limit { .. }) => return Some(6),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn context_does_not_hide_the_code() {
        let gate: anyhow::Result<()> = Err(Failure::Gate("recall".into()).into());
        assert_eq!(code(&gate.context("shrinking").expect_err("fails")), 3);
        let absent = sentei_runtime::RuntimeError::EngineAbsent { what: "a".into(), how_to_get_it: "b".into() };
        assert_eq!(code(&anyhow::Error::from(absent).context("bench")), 5);
        assert_eq!(code(&anyhow::anyhow!("other")), 1);
        #[cfg(feature = "prune")]
        {
            let [layer, weight, why] = ["conv", "w", "3 of 4"].map(String::from);
            let torn = sentei_convert::ConvertError::Pattern { layer, weight, why };
            assert_eq!(code(&anyhow::Error::from(torn).context("compiling")), 4);
        }
    }
}
