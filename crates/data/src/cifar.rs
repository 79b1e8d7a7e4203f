//! CIFAR-10 and CIFAR-100 binary batches: per record one label byte (CIFAR-100: coarse, then fine) and 3x32x32 planar bytes.

use crate::dataset::Split;
use crate::error::DataError;
use crate::idx::open_stream;
use crate::samples::{Draft, Pixels};
use crate::split::Row;
use std::io::Read;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const IMAGE_BYTES: usize = 3 * SIDE * SIDE;

/// A folder's batch files with their splits, and the label bytes per record; `None` when it is no CIFAR folder.
pub(crate) fn detect(folder: &Path) -> Option<(Vec<(PathBuf, Split)>, usize)> {
    let present = |names: &[&str], split: Split| -> Vec<(PathBuf, Split)> {
        names.iter().map(|n| (folder.join(n), split)).filter(|(path, _)| path.is_file()).collect()
    };
    let batches = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
    let ten = [present(&batches, Split::Train), present(&["test_batch.bin"], Split::Test)].concat();
    if !ten.is_empty() {
        return Some((ten, 1));
    }
    let hundred = [present(&["train.bin"], Split::Train), present(&["test.bin"], Split::Test)].concat();
    (!hundred.is_empty()).then_some((hundred, 2))
}

/// Reads the batches of one folder; validation is drawn from the training batches later.
pub(crate) fn read(
    folder: &Path,
    batches: &[(PathBuf, Split)],
    label_bytes: usize,
    budget: u64,
) -> Result<Draft, DataError> {
    let (mut data, mut rows, mut sample_names) = (Vec::new(), Vec::new(), Vec::new());
    let record = label_bytes + IMAGE_BYTES;
    for (path, split) in batches {
        let mut bytes = Vec::new();
        let left = budget.saturating_sub(data.len() as u64);
        open_stream(path, left)?.read_to_end(&mut bytes).map_err(DataError::io(path, budget))?;
        if bytes.is_empty() || bytes.len() % record != 0 {
            return Err(DataError::format(
                path,
                format!("{} bytes are not a whole number of {record}-byte records", bytes.len()),
            ));
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            rows.push(Row { label: u32::from(record[label_bytes - 1]), group: None, given: Some(*split) });
            sample_names.push(format!("{file}#{index}"));
            data.extend_from_slice(&record[label_bytes..]);
        }
    }
    let names_file = folder.join(if label_bytes == 1 { "batches.meta.txt" } else { "fine_label_names.txt" });
    let classes: Vec<String> = match std::fs::read_to_string(&names_file) {
        Ok(text) => text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let count = rows.iter().map(|row| row.label + 1).max().unwrap_or(0);
            (0..count).map(|label| label.to_string()).collect()
        }
        Err(error) => return Err(DataError::io(&names_file, budget)(error)),
    };
    let name = folder.file_name().map_or_else(|| "cifar".into(), |name| name.to_string_lossy().into_owned());
    let pixels = Pixels { channels: 3, height: SIDE, width: SIDE, data };
    Ok(Draft { name, classes, sample_names, rows, pixels, notes: vec![] })
}
