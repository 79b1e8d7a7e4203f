//! Tensors as NumPy's `.npy` files, which every other engine's language can read.

use std::path::Path;

use anyhow::Result;
use sentei_runtime::HostTensor;

use crate::files;

/// Writes `tensors` to `FOLDER/NAME0.npy`, `FOLDER/NAME1.npy` and so on.
///
/// # Errors
/// When a file cannot be written; the error names it.
pub fn save(folder: &Path, name: &str, tensors: &[HostTensor]) -> Result<()> {
    for (index, tensor) in tensors.iter().enumerate() {
        files::write_atomic(&folder.join(format!("{name}{index}.npy")), &npy(tensor))?;
    }
    Ok(())
}

/// Format version 1.0: magic, header length, a Python dictionary padded to 64 bytes, then little-endian values in row-major
/// order.
fn npy(tensor: &HostTensor) -> Vec<u8> {
    const PREFIX: usize = 10;
    let shape: String = tensor.shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}", shape.trim_end());
    let padded = (PREFIX + header.len() + 1).next_multiple_of(64) - PREFIX;
    header.push_str(&" ".repeat(padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // at most a few hundred bytes: a tensor with more than 65535 / 3 axes cannot be made here
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(tensor.data.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(shape: Vec<usize>) -> String {
        let tensor = HostTensor::noise(&shape, 1);
        let bytes = npy(&tensor);
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((&bytes[..8], (10 + length) % 64), (&b"\x93NUMPY\x01\x00"[..], 0));
        assert_eq!(bytes.len(), 10 + length + 4 * tensor.data.len());
        String::from_utf8(bytes[10..10 + length].to_vec()).expect("text")
    }

    #[test]
    fn the_header_is_a_padded_python_dictionary() {
        let text = header(vec![2, 3]);
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,)}");
        assert!(text.ends_with(" \n"));
    }

    #[test]
    fn a_single_axis_and_no_axis_are_tuples_too() {
        assert!(header(vec![7]).contains("(7,)"));
        assert!(header(vec![]).contains("()"));
    }

    #[test]
    fn values_follow_in_row_major_order() {
        let tensor = HostTensor::new(vec![2], vec![1.0, -2.5]).expect("two values");
        assert_eq!(npy(&tensor)[128..], [0, 0, 128, 63, 0, 0, 32, 192]);
    }
}
