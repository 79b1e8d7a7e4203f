//! Tables about the run itself: data, proof, environment, files.

use crate::format::{UNKNOWN, bytes, count, or_unknown, seconds, shape};
use crate::record::{Board, Machine, RunRecord};
use crate::table::{Cell, Table, Tone};

/// Samples per class and split.
pub fn dataset(record: &RunRecord) -> Table {
    let data = &record.dataset;
    let heads: Vec<String> = data.splits.iter().map(|split| format!("#{}", split.name)).collect();
    let titles: Vec<&str> = std::iter::once("Class").chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::new(&titles);
    for (index, class) in data.classes.iter().enumerate() {
        let of =
            |split: &crate::record::Split| split.counts.get(index).map_or_else(Cell::default, |&n| count(n).into());
        table.push(std::iter::once(Cell::from(class.as_str())).chain(data.splits.iter().map(of)));
    }
    if !table.is_empty() {
        let total = |split: &crate::record::Split| count(split.counts.iter().sum()).into();
        table.push(std::iter::once(Cell::from("all")).chain(data.splits.iter().map(total)));
    }
    table
}

/// Each limit of the gate and whether it was kept.
pub fn gate(record: &RunRecord) -> Table {
    let mut table = Table::new(&["Limit", "Result", "Reason"]);
    for check in record.gate.iter().flat_map(|gate| &gate.checks) {
        let (text, tone) = if check.pass { ("pass", Tone::Good) } else { ("FAIL", Tone::Bad) };
        table.push([check.rule.as_str().into(), Cell::from(text).tone(tone), check.reason.as_str().into()]);
    }
    table
}

/// Largest difference between the compiled file and its reference, for the output and per layer.
pub fn equivalence(record: &RunRecord) -> Table {
    let mut table = Table::new(&["Output of", "#Largest difference", "#In ulp"]);
    let Some(proof) = &record.equivalence else { return table };
    let mut add = |name: &str, error: f64, ulp: Option<u64>| {
        let error = if error == 0.0 { "0 (bit for bit)".into() } else { format!("{error:.2e}") };
        table.push([name.into(), error.into(), or_unknown(ulp, count).into()]);
    };
    add("the model", proof.max_abs_error, proof.max_ulp);
    for layer in &proof.layers {
        add(&layer.name, layer.max_abs_error, layer.max_ulp);
    }
    table
}

/// Wall time per phase.
pub fn phases(record: &RunRecord) -> Table {
    let mut table = Table::new(&["Phase", "#Time"]);
    for phase in &record.phases {
        table.push([phase.phase.as_str().into(), seconds(phase.seconds).into()]);
    }
    if !table.is_empty() {
        let total = record.phases.iter().map(|phase| phase.seconds).sum();
        table.push(["total".into(), seconds(total).into()]);
    }
    table
}

/// Machine, versions, data and seed.
pub fn environment(record: &RunRecord) -> Table {
    let mut table = Table::new(&["What", "Value"]);
    let machine = &record.machine;
    let mut add = |what: &str, value: String| table.push([what.into(), value.into()]);
    add("Command", record.command.clone());
    add("Seed", record.seed.to_string());
    add("Started", record.created.clone());
    let input = if record.dataset.input.is_empty() { UNKNOWN.into() } else { shape(&record.dataset.input) };
    add("Data", format!("{}, images {input}", record.dataset.name));
    add("Data manifest, SHA-256", or_unknown(record.dataset.manifest_sha256.clone(), |hash| hash));
    let memory = if machine.memory_bytes > 0 { bytes(machine.memory_bytes) } else { UNKNOWN.into() };
    add("Processor", format!("{}, {} cores, {memory} memory", machine.cpu_model, machine.cores));
    add("System", format!("{} {} {}", machine.os, machine.kernel, machine.arch));
    add("Frequency governor", or_unknown(machine.governor.clone(), |governor| governor));
    for (name, version) in &record.versions {
        add(name, version.clone());
    }
    for bench in &record.benches {
        if let Some(board) = &bench.board {
            add(&format!("Board {}", board.address), describe(&bench.machine, board));
        }
    }
    table
}

/// A board in one line: what it is, and its condition before and after.
fn describe(machine: &Machine, board: &Board) -> String {
    let mut parts = vec![
        format!("{}, {} cores, {} memory", machine.cpu_model, machine.cores, bytes(machine.memory_bytes)),
        format!("{} {} {}, {}", machine.os, machine.kernel, machine.arch, machine.libc),
        format!("governor {}", or_unknown(machine.governor.clone(), |governor| governor)),
    ];
    if let (Some(before), Some(after)) = (board.before.hottest(), board.after.hottest()) {
        parts.push(format!("{before:.1} to {after:.1} °C"));
    }
    if let (Some(now), Some(max)) = (board.after.mhz, board.after.max_mhz) {
        parts.push(format!("{now} of {max} MHz"));
    }
    parts.extend(board.before.throttling_until(&board.after));
    parts.extend(machine.emulated.iter().map(|by| format!("emulated: {by}")));
    parts.push(format!("sentei-run {}", board.runner));
    parts.join("; ")
}

/// Files of the run with their hashes.
pub fn files(record: &RunRecord) -> Table {
    let mut table = Table::new(&["File", "#Bytes", "SHA-256"]);
    for file in &record.files {
        table.push([file.path.as_str().into(), bytes(file.bytes).into(), file.sha256.as_str().into()]);
    }
    table
}
