//! Why a model could not be loaded, run or measured.

/// Everything that can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine, its library or the provider that was asked for is not there.
    #[error("{what}; {how_to_get_it}")]
    EngineAbsent {
        /// What is missing.
        what: String,
        /// What the user can do about it.
        how_to_get_it: String,
    },
    /// A budget would be exceeded.
    #[error("{what}: {needed} {unit} needed, the limit is {limit} (raise it with {flag})")]
    LimitExceeded {
        /// What needs so much.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much is allowed.
        limit: u64,
        /// `bytes` or `ms`.
        unit: &'static str,
        /// Option that raises the limit.
        flag: &'static str,
    },
    /// The bytes are not a valid model; nothing of it was loaded.
    #[error("not a valid model: {0}")]
    Malformed(String),
    /// A valid model or request that this engine cannot serve.
    #[error("not supported by {engine}: {what}")]
    Unsupported {
        /// Engine that was asked.
        engine: &'static str,
        /// What it cannot do.
        what: String,
    },
    /// The engine refused the model.
    #[error("{engine} cannot load the model: {reason}")]
    Load {
        /// Engine that refused.
        engine: &'static str,
        /// Its words.
        reason: String,
    },
    /// The engine failed during a run.
    #[error("{engine} failed during a run: {reason}")]
    Run {
        /// Engine that failed.
        engine: &'static str,
        /// Its words.
        reason: String,
    },
    /// Inputs of a run are not what the model expects.
    #[error("{0}")]
    Input(String),
    /// The model file could not be read.
    #[error("cannot read the model: {0}")]
    Read(#[from] std::io::Error),
}

impl RuntimeError {
    /// Process exit code: 5 for an absent engine, 6 for an exceeded limit, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::EngineAbsent { .. } => 5,
            Self::LimitExceeded { .. } => 6,
            _ => 1,
        }
    }

    /// A byte budget that would be exceeded.
    #[cfg(any(feature = "tract", feature = "ort", test))]
    pub(crate) fn too_many_bytes(what: impl Into<String>, needed: u64, limit: u64) -> Self {
        Self::LimitExceeded { what: what.into(), needed, limit, unit: "bytes", flag: "--byte-budget" }
    }
}

/// Stops loading once its time budget is spent.
#[cfg(any(feature = "tract", feature = "ort"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: std::time::Instant,
    budget: std::time::Duration,
}

#[cfg(any(feature = "tract", feature = "ort"))]
impl Deadline {
    pub(crate) fn start(budget: std::time::Duration) -> Self {
        Self { started: std::time::Instant::now(), budget }
    }

    /// [`RuntimeError::LimitExceeded`] when the budget is spent; `stage` was just finished.
    pub(crate) fn check(&self, stage: &str) -> Result<(), RuntimeError> {
        let spent = self.started.elapsed();
        if spent <= self.budget {
            return Ok(());
        }
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let what = format!("loading, after {stage}");
        let (needed, limit) = (ms(spent), ms(self.budget));
        Err(RuntimeError::LimitExceeded { what, needed, limit, unit: "ms", flag: "--time-budget" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_absence_and_limits_apart() {
        let absent = RuntimeError::EngineAbsent { what: "no".into(), how_to_get_it: "get".into() };
        assert_eq!(absent.exit_code(), 5);
        assert_eq!(RuntimeError::too_many_bytes("w", 2, 1).exit_code(), 6);
        assert_eq!(RuntimeError::Malformed("x".into()).exit_code(), 1);
        let limit = RuntimeError::too_many_bytes("weight `w`", 2, 1).to_string();
        assert_eq!(limit, "weight `w`: 2 bytes needed, the limit is 1 (raise it with --byte-budget)");
    }
}
