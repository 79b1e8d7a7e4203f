//! What can be wrong with the numbers a report is asked to show.

/// Why a record or report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Lists of predictions differ in length.
    #[error("{samples} samples have {labels} labels and {scores} rows of scores")]
    Lengths {
        /// Number of samples.
        samples: usize,
        /// Number of labels.
        labels: usize,
        /// Number of rows of scores.
        scores: usize,
    },
    /// A label is out of range.
    #[error("sample `{sample}` has label {label}, but there are {classes} classes")]
    Label {
        /// Name of the sample.
        sample: String,
        /// Its label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A row of scores has the wrong length.
    #[error("sample `{sample}` has {scores} scores for {classes} classes")]
    Scores {
        /// Name of the sample.
        sample: String,
        /// Number of its scores.
        scores: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A score is NaN or infinite.
    #[error("sample `{sample}` has a score that is not finite")]
    NotFinite {
        /// Name of the sample.
        sample: String,
    },
    /// The class without defect is out of range.
    #[error("ok class {ok} is outside {classes} classes")]
    OkClass {
        /// Index that was given.
        ok: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Two predictions are about different samples.
    #[error("the predictions to compare are not about the same samples in the same order")]
    DifferentSamples,
    /// The record was written by another version.
    #[error("record has schema {found}, this program reads {expected}")]
    Schema {
        /// Version in the record.
        found: u32,
        /// Version this program reads.
        expected: u32,
    },
    /// Parts of a record contradict each other.
    #[error("record does not fit together: {0}")]
    Record(String),
    /// A record is not valid JSON of the schema.
    #[error("record is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// The page could not be rendered.
    #[error("page could not be rendered: {0}")]
    Template(#[from] minijinja::Error),
    /// A chart could not be drawn.
    #[error("chart `{chart}` could not be drawn: {reason}")]
    Chart {
        /// Name of the chart.
        chart: &'static str,
        /// What the drawing library says.
        reason: String,
    },
}
