//! Tables of bytes, time and work.

use crate::format::{bytes, count, large, milliseconds, or_unknown, percent, ratio, shape, threads};
use crate::record::{Bench, LayerRow, Memory, RunRecord};
use crate::table::{Cell, Table};

/// Latency of every row of every bench of the run; where boards were measured too, the first column says on what.
pub fn latency(record: &RunRecord) -> Table {
    joined(record, bench)
}

/// The rows of one table per bench below each other.
fn joined(record: &RunRecord, table: fn(&Bench) -> Table) -> Table {
    let mut all = table(&Bench::default());
    let boards = record.benches.iter().any(|bench| bench.board.is_some());
    if boards {
        all.columns.insert(0, Table::new(&["Measured on"]).columns.remove(0));
    }
    for bench in &record.benches {
        for mut row in table(bench).rows {
            if boards {
                row.insert(0, place(bench).into());
            }
            all.rows.push(row);
        }
    }
    all
}

/// What measured: this host, or the board's address; emulated boards say so.
pub fn place(bench: &Bench) -> String {
    let place = bench.board.as_ref().map_or("host", |board| &board.address);
    let emulated = if bench.machine.emulated.is_some() { " (emulated: no timings of a board)" } else { "" };
    format!("{place}{emulated}")
}

/// One row per model and engine; the ratio is first row / this row with its 95 % interval.
pub fn bench(bench: &Bench) -> Table {
    let titles = [
        "Model",
        "Engine",
        "#Load",
        "#First run",
        "#p50",
        "#p90",
        "#p99",
        "#MAD",
        "#Samples",
        "#Ratio to first (95 %)",
    ];
    let mut table = Table::new(&titles);
    for row in &bench.rows {
        let summary = row.latency.summary();
        let ns = |ns: Option<u64>| Cell::from(or_unknown(ns, |ns| milliseconds(ns as f64 / 1e6)));
        let ms = |ms: Option<f64>| Cell::from(or_unknown(ms, milliseconds));
        let against_first = bench.rows.first().and_then(|first| bench.ratio(first, row));
        table.push([
            row.model.as_str().into(),
            format!("{} {}, {}", row.engine.name, row.engine.provider, threads(row.engine.threads)).into(),
            ns(row.load_ns),
            ns(row.first_ns),
            ms(summary.map(|s| s.p50_ms)),
            ms(summary.map(|s| s.p90_ms)),
            ms(summary.map(|s| s.p99_ms)),
            ms(summary.map(|s| s.mad_ms)),
            count(row.latency.samples_ns.len() as u64).into(),
            or_unknown(against_first.as_ref(), ratio).into(),
        ]);
    }
    table
}

/// Memory of every variant, one column per definition; memory of bench rows follows where engines differ.
pub fn memory(record: &RunRecord) -> Table {
    let mut table = joined(record, bench_memory);
    let boards = record.benches.iter().any(|bench| bench.board.is_some());
    let rows: Vec<_> = record.benches.iter().flat_map(|bench| &bench.rows).collect();
    let mut alone = Vec::new();
    for variant in record.variants() {
        let measured = rows.iter().any(|row| row.model == variant.name && row.memory.is_some());
        if let Some(memory) = variant.memory.as_ref().filter(|_| !measured) {
            let mut row = memory_row(&variant.name, "", memory);
            if boards {
                row.insert(0, "host".into());
            }
            alone.push(row);
        }
    }
    table.rows.splice(0..0, alone);
    table
}

/// Memory of the rows where it was measured.
pub fn bench_memory(bench: &Bench) -> Table {
    let mut table = empty_memory();
    for row in &bench.rows {
        if let Some(memory) = &row.memory {
            table.push(memory_row(&row.model, &format!("{} {}", row.engine.name, row.engine.provider), memory));
        }
    }
    table
}

/// Energy of one run, for the rows where a meter was readable.
pub fn bench_energy(bench: &Bench) -> Table {
    let mut table = Table::new(&["Model", "Engine", "#Energy per run"]);
    for (row, energy) in bench.rows.iter().filter_map(|row| Some((row, row.energy_uj?))) {
        let millijoules = format!("{:.3} mJ", energy / 1e3);
        table.push([row.model.as_str().into(), row.engine.name.as_str().into(), millijoules.into()]);
    }
    table
}

/// [`bench_energy`] of every bench of the run; emulated machines have no energy to speak of.
pub fn energy(record: &RunRecord) -> Table {
    joined(
        record,
        |bench| if bench.machine.emulated.is_some() { bench_energy(&Bench::default()) } else { bench_energy(bench) },
    )
}

fn empty_memory() -> Table {
    let heads: Vec<String> = Memory::DEFINITIONS.iter().map(|(title, _)| format!("#{title}")).collect();
    let titles: Vec<&str> = ["Model", "Engine"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    Table::new(&titles)
}

fn memory_row(model: &str, engine: &str, memory: &Memory) -> Vec<Cell> {
    let columns = memory.columns().map(|column| Cell::from(or_unknown(column, bytes)));
    [model.into(), engine.into()].into_iter().chain(columns).collect()
}

/// What each column of the memory table means.
pub fn memory_definitions() -> Table {
    let mut table = Table::new(&["Column", "Meaning"]);
    for (title, meaning) in Memory::DEFINITIONS {
        table.push([title.into(), meaning.into()]);
    }
    table
}

/// Layers of one model.
pub fn layers(layers: &[LayerRow]) -> Table {
    let titles = [
        "Layer",
        "Operator",
        "Shape",
        "#Weights",
        "#Zeros",
        "#Bytes",
        "#MACs",
        "#Dense MACs",
        "Kernel",
        "#Time",
        "Why",
    ];
    let mut table = Table::new(&titles);
    let slowest = layers.iter().filter_map(|layer| layer.time_ns).max().unwrap_or(0).max(1);
    for layer in layers {
        let zeros = layer.weights.saturating_sub(layer.nonzero);
        let zero_share = (layer.weights > 0).then(|| zeros as f64 / layer.weights as f64);
        let time = Cell::from(layer.time_ns.map_or_else(String::new, |ns| milliseconds(ns as f64 / 1e6)));
        table.push([
            layer.name.as_str().into(),
            layer.op.as_str().into(),
            shape(&layer.shape).into(),
            if layer.weights > 0 { count(layer.weights).into() } else { Cell::default() },
            zero_share.map_or_else(Cell::default, |share| Cell::from(percent(share)).heat(share)),
            if layer.bytes > 0 { bytes(layer.bytes).into() } else { Cell::default() },
            large(layer.macs).into(),
            large(layer.dense_macs).into(),
            layer.kernel.as_deref().unwrap_or_default().into(),
            layer.time_ns.map_or(time.clone(), |ns| time.heat(ns as f64 / slowest as f64)),
            layer.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// Bytes of each variant's file by purpose; one column per variant.
pub fn size(record: &RunRecord) -> Table {
    let variants: Vec<_> = record.variants().filter(|variant| !variant.size.is_empty()).collect();
    let heads: Vec<String> = variants.iter().map(|variant| format!("#{}", variant.name)).collect();
    let titles: Vec<&str> = std::iter::once("Bytes for").chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::new(&titles);
    for part in size_parts(record) {
        let of = |variant: &&crate::record::Variant| {
            let found: Vec<u64> = variant.size.iter().filter(|p| p.part == part).map(|p| p.bytes).collect();
            if found.is_empty() { Cell::default() } else { Cell::from(bytes(found.iter().sum())) }
        };
        table.push(std::iter::once(Cell::from(part)).chain(variants.iter().map(of)));
    }
    if !table.is_empty() {
        let total = |variant: &&crate::record::Variant| bytes(variant.size.iter().map(|p| p.bytes).sum()).into();
        table.push(std::iter::once(Cell::from("total")).chain(variants.iter().map(total)));
    }
    table
}

/// Purposes of bytes over all variants, in the order they first appear.
pub(crate) fn size_parts(record: &RunRecord) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in record.variants().flat_map(|variant| &variant.size) {
        if !parts.contains(&part.part.as_str()) {
            parts.push(&part.part);
        }
    }
    parts
}
