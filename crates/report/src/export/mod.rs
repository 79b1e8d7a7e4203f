//! Exporters. Each returns text; writing it is up to the caller.

mod csv;
mod json;
mod markdown;

pub use csv::{latency_csv, layers_csv};
pub use json::{model_json, report_json, shrink_json};
pub use markdown::report_markdown;
