//! The free text that travels with a model: ONNX `metadata_props`.

use std::collections::BTreeMap;

use super::wire::Fields;
use crate::error::RuntimeError;

/// `metadata_props` of a whole ONNX file, by key; of two entries with one key the last counts.
///
/// # Errors
/// [`RuntimeError::Malformed`] when `bytes` are no protobuf.
pub fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, RuntimeError> {
    let mut found = BTreeMap::new();
    for field in Fields(bytes) {
        let (14, entry) = field? else { continue };
        let (mut key, mut value) = (String::new(), String::new());
        for part in Fields(entry.bytes()?) {
            match part? {
                (1, text) => key = text.text()?.to_owned(),
                (2, text) => value = text.text()?.to_owned(),
                _ => {}
            }
        }
        found.insert(key, value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_other_fields_passed_over() {
        // ir_version = 8, then metadata_props { key: "k", value: "vw" }
        let bytes = [0x08, 0x08, 0x72, 0x07, 0x0a, 0x01, b'k', 0x12, 0x02, b'v', b'w'];
        assert_eq!(metadata(&bytes).unwrap(), BTreeMap::from([("k".to_owned(), "vw".to_owned())]));
        assert!(metadata(&bytes[..9]).is_err());
        assert!(metadata(&[]).unwrap().is_empty());
    }
}
