//! The report as Markdown, for terminals, issues and diffs.

use crate::error::ReportError;
use crate::record::RunRecord;
use crate::table::{Table, escape};
use crate::tables;
use crate::verdict::Verdict;

/// Flipped samples listed; the rest is counted.
const FLIPS_LISTED: usize = 50;

/// The report as Markdown: verdict, quality, cost, layers, doubts, how to repeat it.
///
/// # Errors
/// [`ReportError::Record`] when parts of the record contradict each other.
pub fn report_markdown(record: &RunRecord) -> Result<String, ReportError> {
    record.check()?;
    let verdict = Verdict::of(record);
    let mut page = Page(format!("# {}\n\n**{}**\n", escape(&record.name), escape(&verdict.headline)));
    for sentence in &verdict.sentences {
        page.0 += &format!("\n- {}", escape(sentence));
    }
    page.0 += "\n";
    page.section("Before and after", &tables::verdict(record));
    page.section("Gate", &tables::gate(record));
    page.section("Recall per class", &tables::recall(record));
    page.section("Recall at a fixed false-alarm rate", &tables::false_alarms(record));
    page.section("Accuracy against sparsity", &tables::variants(record));
    page.section("Latency", &tables::latency(record));
    page.section("Energy of one run", &tables::energy(record));
    page.section("Memory", &tables::memory(record));
    page.section("What the memory columns mean", &tables::memory_definitions());
    page.section("File size by purpose", &tables::size(record));
    for variant in record.variants() {
        page.section(&format!("Layers of {}", variant.name), &tables::layers(&variant.layers));
    }
    page.section("Sensitivity of single layers", &tables::sensitivity(record));
    for variant in std::iter::once(&record.baseline).chain(record.chosen()) {
        if let Some(quality) = variant.quality() {
            page.section(&format!("Confusion of {}", variant.name), &tables::confusion(quality));
        }
    }
    if let Some(chosen) = record.chosen() {
        let title = format!("Changed verdicts ({})", chosen.flips.len());
        page.section(&title, &tables::flips(chosen, &record.dataset.classes, FLIPS_LISTED));
    }
    let warnings = record.all_warnings();
    if !warnings.is_empty() {
        page.0 += "\n## Reasons for doubt\n\n";
        warnings.iter().for_each(|warning| page.0 += &format!("- {}\n", escape(&warning.to_string())));
    }
    page.section("Equivalence of the compiled file", &tables::equivalence(record));
    page.section("Images", &tables::dataset(record));
    page.section("Time of the run", &tables::phases(record));
    page.section("How to repeat it", &tables::environment(record));
    page.section("Files", &tables::files(record));
    if !record.recipe.is_empty() {
        let fence = fence(&record.recipe);
        page.0 += &format!("\n## Recipe\n\n{fence}toml\n{}\n{fence}\n", record.recipe.trim_end());
    }
    Ok(page.0)
}

struct Page(String);

impl Page {
    fn section(&mut self, title: &str, table: &Table) {
        if !table.is_empty() {
            self.0 += &format!("\n## {}\n\n{}", escape(title), table.markdown());
        }
    }
}

/// A fence longer than any run of backticks in `text`.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_cannot_close_its_own_fence() {
        let record = RunRecord { recipe: "a = '''\n````\n'''".into(), ..RunRecord::default() };
        assert!(report_markdown(&record).unwrap().contains("`````toml\n"));
    }
}
