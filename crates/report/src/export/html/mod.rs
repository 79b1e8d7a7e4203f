//! The report as one HTML file: no script, nothing fetched, readable on screen, in the dark and on paper.

mod chart;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, context};
use serde::Serialize;

use crate::error::ReportError;
use crate::format;
use crate::record::{RunRecord, Variant};
use crate::table::{Table, Tone};
use crate::tables;
use crate::verdict::Verdict;

/// PNG files by sample name, for the gallery of changed verdicts.
pub type Pictures = BTreeMap<String, Vec<u8>>;

/// Changed verdicts shown as pictures; the rest is counted.
const FLIPS_SHOWN: usize = 48;
/// First bytes of every PNG file.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Serialize)]
struct FlipView {
    /// Data URI, absent when no PNG of that name was given.
    picture: Option<String>,
    sample: String,
    label: String,
    before: String,
    after: String,
    effect: &'static str,
    tone: Tone,
}

#[derive(Serialize)]
struct Named {
    name: String,
    table: Table,
}

/// The page. `pictures` may hold more or fewer samples than the record mentions.
///
/// # Errors
/// [`ReportError::Record`] when parts of the record contradict each other; [`ReportError::Chart`] or
/// [`ReportError::Template`] when drawing fails.
pub fn report_html(record: &RunRecord, pictures: &Pictures) -> Result<String, ReportError> {
    record.check()?;
    let mut environment = Environment::new();
    environment.add_template("page.html", include_str!("page.html"))?;
    let chosen = record.chosen();
    let confusions: Vec<Named> = std::iter::once(&record.baseline)
        .chain(chosen)
        .filter_map(|v| Some(Named { name: v.name.clone(), table: tables::confusion(v.quality()?) }))
        .collect();
    // The chosen model first: its layers are what the reader came for.
    let models = chosen.into_iter().chain(record.variants().filter(|v| chosen.is_none_or(|c| c.name != v.name)));
    let layers: Vec<Named> = models
        .filter(|v| !v.layers.is_empty())
        .map(|v| Named { name: v.name.clone(), table: tables::layers(&v.layers) })
        .collect();
    let warnings: Vec<_> = record.all_warnings().iter().map(|w| (w.seen(), w.why(), w.help())).collect();
    let page = environment.get_template("page.html")?.render(context! {
        style => include_str!("style.css"),
        colours => chart::colour_rules(),
        name => record.name,
        created => record.created,
        data => record.dataset.name,
        verdict => Verdict::of(record),
        gate => tables::gate(record),
        before_after => tables::verdict(record),
        recall_chart => chart::recall(record)?,
        recall => tables::recall(record),
        false_alarms => tables::false_alarms(record),
        confusions => confusions,
        flips => flips(record, pictures),
        flips_total => chosen.map_or(0, |v| v.flips.len()),
        sparsity_chart => chart::sparsity(record)?,
        variants => tables::variants(record),
        curves => chart::curves(&record.curves)?,
        latency_chart => chart::latency(record)?,
        latency => tables::latency(record),
        size_chart => chart::size(record)?,
        size => tables::size(record),
        energy => tables::energy(record),
        memory => tables::memory(record),
        definitions => tables::memory_definitions(),
        layers => layers,
        sensitivity => tables::sensitivity(record),
        warnings => warnings,
        equivalence => tables::equivalence(record),
        dataset => tables::dataset(record),
        phases => tables::phases(record),
        environment => tables::environment(record),
        files => tables::files(record),
        command => record.command,
        recipe => record.recipe,
        seconds => format::seconds(record.phases.iter().map(|phase| phase.seconds).sum()),
    })?;
    Ok(page)
}

fn flips(record: &RunRecord, pictures: &Pictures) -> Vec<FlipView> {
    let name = |class: usize| record.dataset.classes.get(class).cloned().unwrap_or_default();
    let shown = |variant: &Variant| -> Vec<FlipView> {
        let view = |flip: &crate::record::Flip| {
            let png = pictures.get(&flip.sample).filter(|bytes| bytes.starts_with(PNG));
            let (effect, tone) = match (flip.before == flip.label, flip.after == flip.label) {
                (true, _) => ("newly wrong", Tone::Bad),
                (_, true) => ("newly right", Tone::Good),
                _ => ("wrong both times", Tone::Plain),
            };
            FlipView {
                picture: png.map(|bytes| format!("data:image/png;base64,{}", STANDARD.encode(bytes))),
                sample: flip.sample.clone(),
                label: name(flip.label),
                before: name(flip.before),
                after: name(flip.after),
                effect,
                tone,
            }
        };
        variant.flips.iter().take(FLIPS_SHOWN).map(view).collect()
    };
    record.chosen().map(shown).unwrap_or_default()
}
