//! Exporters. Each returns text; writing it is up to the caller.

mod csv;
mod html;
mod json;
mod markdown;

pub use csv::{latency_csv, layers_csv, sweep_csv};
pub use html::{Pictures, report_html};
pub use json::{model_json, report_json, shrink_json};
pub use markdown::report_markdown;
