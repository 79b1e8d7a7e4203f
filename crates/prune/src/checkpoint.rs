//! Checkpoints: tensors, masks and progress of a run in one `.safetensors` file, replaced atomically.
//!
//! A file also holds the run's *identity*: configuration, data, model. Resuming under another identity is refused with
//! the first key that differs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, View};
use sentei_graph::Mask;
use serde_json::Value as Json;

use crate::masks::Masks;
use crate::snapshot::Value;

/// Layout of the file; a reader refuses others.
const VERSION: u64 = 1;

/// Why a checkpoint cannot be read, written or resumed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("checkpoint {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The underlying error.
        source: std::io::Error,
    },
    /// The file is damaged or not a checkpoint.
    #[error("checkpoint {}: {why}; remove it to start over", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        why: String,
    },
    /// The file belongs to another run.
    #[error("checkpoint {}: `{key}` was {saved}, now {now}; resume with the same settings or remove the file", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// First key that differs.
        key: String,
        /// Its value in the file.
        saved: String,
        /// Its value now.
        now: String,
    },
}

/// Where a run keeps its checkpoint, and whether it starts from one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointing {
    /// The file.
    pub path: PathBuf,
    /// Whether to go on from the file if it exists; otherwise it is overwritten.
    pub resume: bool,
}

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checkpoint {
    /// What must be the same to resume.
    pub identity: Json,
    /// Progress: counters and histories.
    pub progress: Json,
    /// Values by group and name: `weight`, `buffer`, `best`, ...
    pub values: BTreeMap<(String, String), Value>,
    /// Masks in force, in graph order.
    pub masks: Masks,
}

impl Checkpoint {
    pub(crate) fn put(&mut self, group: &str, values: impl IntoIterator<Item = Value>) {
        self.values.extend(values.into_iter().map(|v| ((group.to_string(), v.name.clone()), v)));
    }

    /// The values of one group, by name.
    pub(crate) fn group(&self, group: &str) -> Vec<Value> {
        self.values.iter().filter(|((g, _), _)| g == group).map(|(_, v)| v.clone()).collect()
    }

    /// Replaces the file at `path` in one step: a crash leaves the old one or the new one.
    pub(crate) fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.into(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let values =
            self.values.iter().map(|((group, name), value)| (format!("{group}/{name}"), Stored::Floats(value)));
        let masks = self.masks.iter().map(|(name, mask)| (format!("mask/{name}"), Stored::Bits([mask.len()], mask)));
        let order: Vec<&str> = self.masks.iter().map(|(name, _)| name).collect();
        let header = serde_json::json!({
            "version": VERSION, "identity": self.identity, "progress": self.progress, "masks": order,
        });
        let header = HashMap::from([("sentei".to_string(), header.to_string())]);
        let bytes = safetensors::serialize(values.chain(masks), Some(header))
            .map_err(|e| CheckpointError::Format { path: path.into(), why: e.to_string() })?;
        let mut builder = tempfile::Builder::new();
        // As readable as any other new file: the umask decides.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Reads the file at `path`; `None` when there is none.
    pub(crate) fn load(path: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::Io { path: path.into(), source }),
        };
        parse(&bytes).map(Some).map_err(|why| CheckpointError::Format { path: path.into(), why })
    }

    /// Reads the file of a run that may go on from it, and refuses one of another identity.
    pub(crate) fn resume(from: &Checkpointing, identity: &Json) -> Result<Option<Checkpoint>, CheckpointError> {
        if !from.resume {
            return Ok(None);
        }
        let Some(found) = Checkpoint::load(&from.path)? else { return Ok(None) };
        // The file's numbers went through text; these must do the same to be equal.
        let identity: Json = serde_json::from_str(&identity.to_string()).expect("JSON reads back");
        match difference("", &found.identity, &identity) {
            None => Ok(Some(found)),
            Some((key, saved, now)) => Err(CheckpointError::Differs { path: from.path.clone(), key, saved, now }),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let text = |e: safetensors::SafeTensorError| e.to_string();
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
    let header = header.metadata().as_ref().and_then(|m| m.get("sentei")).ok_or("not a sentei checkpoint")?;
    let header: Json = serde_json::from_str(header).map_err(|e| e.to_string())?;
    if header["version"] != VERSION {
        return Err(format!("version {} is not {VERSION}", header["version"]));
    }
    let order: Vec<String> = serde_json::from_value(header["masks"].clone()).map_err(|e| e.to_string())?;
    let mut masks = HashMap::new();
    let mut values = BTreeMap::new();
    for (key, view) in SafeTensors::deserialize(bytes).map_err(text)?.tensors() {
        let (group, name) = key.split_once('/').ok_or_else(|| format!("tensor `{key}` has no group"))?;
        match view.dtype() {
            Dtype::U8 => {
                masks.insert(name.to_string(), Mask::from_bits(view.data().iter().map(|b| *b != 0).collect()));
            }
            Dtype::F32 => {
                let (chunks, _) = view.data().as_chunks::<4>();
                let data = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
                let value = Value { name: name.into(), shape: view.shape().to_vec(), data };
                values.insert((group.to_string(), name.to_string()), value);
            }
            other => return Err(format!("tensor `{key}` is {other:?}, expected F32 or U8")),
        }
    }
    let mask = |name: String| {
        let mask = masks.remove(&name).ok_or_else(|| format!("mask `{name}` is missing"))?;
        Ok((name, mask))
    };
    let masks = order.into_iter().map(mask).collect::<Result<Masks, String>>()?;
    let [identity, progress] = ["identity", "progress"].map(|key| header[key].clone());
    Ok(Checkpoint { identity, progress, values, masks })
}

/// The first key, in alphabetical order, whose value differs.
fn difference(key: &str, saved: &Json, now: &Json) -> Option<(String, String, String)> {
    let (Json::Object(a), Json::Object(b)) = (saved, now) else {
        return (saved != now).then(|| (key.to_string(), saved.to_string(), now.to_string()));
    };
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().find_map(|k| {
        let path = if key.is_empty() { k.clone() } else { format!("{key}.{k}") };
        difference(&path, a.get(k).unwrap_or(&Json::Null), b.get(k).unwrap_or(&Json::Null))
    })
}

/// What the file format stores.
enum Stored<'a> {
    Floats(&'a Value),
    Bits([usize; 1], &'a Mask),
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Stored::Floats(_) => Dtype::F32,
            Stored::Bits(..) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Stored::Floats(value) => &value.shape,
            Stored::Bits(shape, _) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Stored::Floats(value) => value.data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Stored::Bits(_, mask) => mask.bits().iter().map(|b| u8::from(*b)).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Stored::Floats(value) => value.data.len() * 4,
            Stored::Bits(_, mask) => mask.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut checkpoint = Checkpoint {
            identity: serde_json::json!({"train": {"epochs": 3, "seed": 1}, "data": "abc"}),
            progress: serde_json::json!({"epoch": 2}),
            masks: [("z".to_string(), Mask::from_bits(vec![true, false])), ("a".to_string(), Mask::dense(1))]
                .into_iter()
                .collect(),
            ..Checkpoint::default()
        };
        checkpoint.put("weight", [Value { name: "fc/w".into(), shape: vec![2, 1], data: vec![f32::NAN, -0.0] }]);
        checkpoint
    }

    #[test]
    fn a_saved_file_reads_back_bit_for_bit_in_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        sample().save(&path).unwrap();
        let first = std::fs::read(&path).unwrap();
        let back = Checkpoint::load(&path).unwrap().unwrap();
        assert_eq!(back.masks, sample().masks);
        assert_eq!(back.group("weight")[0].data[1].to_bits(), (-0.0f32).to_bits());
        back.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn another_identity_is_refused_by_key() {
        let folder = tempfile::tempdir().unwrap();
        let from = Checkpointing { path: folder.path().join("c.safetensors"), resume: true };
        sample().save(&from.path).unwrap();
        let now = serde_json::json!({"train": {"epochs": 4, "seed": 1}, "data": "abc"});
        let error = Checkpoint::resume(&from, &now).unwrap_err().to_string();
        assert!(error.contains("`train.epochs` was 3, now 4"), "{error}");
        assert!(Checkpoint::resume(&from, &sample().identity).unwrap().is_some());
        assert!(Checkpoint::resume(&Checkpointing { resume: false, ..from }, &now).unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error_at_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        sample().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }
}
