//! Constants of a file: widened to `f32` or `i64`, with the type they are stored in.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use half::{bf16, f16};
use sentei_graph::Tensor;

use crate::ConvertError;
use crate::proto::{TensorProto, dtype};

/// Where a constant's bytes lie in the file, for the inspection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Bytes in the file of everything this constant was computed from.
    pub bytes: u64,
    /// `gap4`, `gap8` or `mask` when it was packed.
    pub encoding: Option<&'static str>,
}

/// Elements of a constant, widened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// `float`, `float16`, `bfloat16`, `double`.
    Float(Vec<f32>),
    /// Every integer type and `bool`.
    Int(Vec<i64>),
}

/// One constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    /// Element type in the file or after the last `Cast`.
    pub dtype: i32,
    /// Axis lengths; empty for a scalar, zeros allowed.
    pub shape: Vec<usize>,
    /// Row-major elements.
    pub data: Data,
    /// Where it comes from.
    pub origin: Origin,
}

impl Constant {
    /// A computed list of integers.
    pub fn ints(shape: Vec<usize>, values: Vec<i64>) -> Self {
        Constant { dtype: dtype::I64, shape, data: Data::Int(values), origin: Origin::default() }
    }

    /// A computed float constant.
    pub fn floats(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Constant { dtype: dtype::F32, shape, data: Data::Float(values), origin: Origin::default() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// The elements, if they are integers.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(v) => Some(v),
            Data::Float(_) => None,
        }
    }

    /// The elements as a graph tensor, if they are floats.
    pub fn to_tensor(&self) -> Option<Tensor> {
        match &self.data {
            Data::Float(v) => Some(Tensor { shape: self.shape.clone(), data: v.clone() }),
            Data::Int(_) => None,
        }
    }

    /// The single element, widened.
    pub fn scalar(&self) -> Option<f32> {
        match &self.data {
            Data::Float(v) if v.len() == 1 => Some(v[0]),
            Data::Int(v) if v.len() == 1 => Some(v[0] as f32),
            _ => None,
        }
    }

    /// What it is, for messages: `float[3,1]`.
    pub fn describe(&self) -> String {
        let dims: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        format!("{}[{}]", dtype::name(self.dtype), dims.join(","))
    }
}

/// Reads constants, also those whose bytes lie beside the model.
#[derive(Clone, Debug)]
pub(crate) struct TensorReader {
    /// Folder of the model file; `None` refuses external data.
    pub directory: Option<PathBuf>,
    /// Most bytes one external tensor may have.
    pub max_bytes: u64,
}

impl TensorReader {
    /// Decodes a constant; every byte must be accounted for.
    pub fn read(&self, tensor: &TensorProto) -> Result<Constant, ConvertError> {
        let name = tensor.name.as_deref().unwrap_or("");
        let refuse = |expected: String, found: String| ConvertError::Tensor { name: name.to_string(), expected, found };
        let code = tensor.data_type.unwrap_or(0);
        let shape = shape_of(tensor)?;
        let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= i32::MAX as usize);
        let elements = elements.ok_or_else(|| refuse("at most 2^31-1 elements".into(), format!("{shape:?}")))?;
        let width = width(code).ok_or_else(|| refuse("a number type".into(), dtype::name(code)))?;
        let raw = if tensor.data_location == Some(1) {
            Some(Cow::Owned(self.external(tensor, name, (elements * width) as u64)?))
        } else {
            tensor.raw_data.as_deref().map(Cow::Borrowed)
        };
        let data = match raw {
            Some(bytes) if bytes.len() == elements * width => widen(code, &bytes),
            Some(bytes) => {
                return Err(refuse(
                    format!("{} bytes for {shape:?}", elements * width),
                    format!("{} bytes", bytes.len()),
                ));
            }
            None => from_lists(code, tensor),
        };
        let constant =
            Constant { dtype: code, shape, data, origin: Origin { bytes: (elements * width) as u64, encoding: None } };
        if constant.len() != elements {
            return Err(refuse(format!("{elements} elements"), format!("{}", constant.len())));
        }
        Ok(constant)
    }

    fn external(&self, tensor: &TensorProto, name: &str, expected: u64) -> Result<Vec<u8>, ConvertError> {
        let field = |key: &str| {
            let entry = tensor.external_data.iter().find(|e| e.key.as_deref() == Some(key));
            entry.and_then(|e| e.value.as_deref())
        };
        let location = field("location").unwrap_or("");
        let refuse = |why: String| ConvertError::External { name: name.into(), location: location.into(), why };
        let Some(directory) = &self.directory else {
            return Err(refuse("the folder of the model is not known here".into()));
        };
        let number = |key: &str| match field(key) {
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| refuse(format!("`{key}` is `{text}`, no number"))),
            None => Ok(None),
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(expected);
        if length != expected {
            return Err(refuse(format!("length {length}, the shape needs {expected} bytes")));
        }
        if expected > self.max_bytes {
            return Err(ConvertError::Limit {
                what: format!("external tensor `{name}`"),
                needed: expected,
                limit: self.max_bytes,
            });
        }
        let path = inside(directory, location).map_err(refuse)?;
        let mut file = File::open(&path).map_err(|e| refuse(e.to_string()))?;
        let size = file.metadata().map_err(|e| refuse(e.to_string()))?.len();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(refuse(format!("offset {offset} + length {length} exceeds the {size} bytes of the file")));
        }
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset)).map_err(|e| refuse(e.to_string()))?;
        file.read_exact(&mut bytes).map_err(|e| refuse(e.to_string()))?;
        Ok(bytes)
    }
}

/// The regular file at `location` below `directory`; links that lead outside are refused.
fn inside(directory: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !plain {
        return Err("must be a relative path inside the folder of the model".into());
    }
    let root = directory.canonicalize().map_err(|e| e.to_string())?;
    let path = root.join(relative).canonicalize().map_err(|e| e.to_string())?;
    if !path.starts_with(&root) || !path.is_file() {
        return Err("must be a file inside the folder of the model".into());
    }
    Ok(path)
}

/// Axis lengths of a tensor message.
pub(crate) fn shape_of(tensor: &TensorProto) -> Result<Vec<usize>, ConvertError> {
    let refuse = || ConvertError::Tensor {
        name: tensor.name.clone().unwrap_or_default(),
        expected: "axis lengths of at least 0".into(),
        found: format!("{:?}", tensor.dims),
    };
    tensor.dims.iter().map(|d| usize::try_from(*d).map_err(|_| refuse())).collect()
}

/// Bytes of one element.
fn width(code: i32) -> Option<usize> {
    match code {
        dtype::U8 | dtype::I8 | dtype::BOOL => Some(1),
        dtype::U16 | dtype::I16 | dtype::F16 | dtype::BF16 => Some(2),
        dtype::F32 | dtype::I32 | dtype::U32 => Some(4),
        dtype::I64 | dtype::U64 | dtype::F64 => Some(8),
        _ => None,
    }
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|c| read(*c)).collect()
}

/// Little-endian elements; `u64` above `i64::MAX` wraps, which no weight or index of a network reaches.
fn widen(code: i32, bytes: &[u8]) -> Data {
    match code {
        dtype::F32 => Data::Float(each(bytes, f32::from_le_bytes)),
        dtype::F16 => Data::Float(each(bytes, |b| f16::from_le_bytes(b).to_f32())),
        dtype::BF16 => Data::Float(each(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        dtype::F64 => Data::Float(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        dtype::I8 => Data::Int(each(bytes, |b| i64::from(i8::from_le_bytes(b)))),
        dtype::U16 => Data::Int(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        dtype::I16 => Data::Int(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        dtype::U32 => Data::Int(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        dtype::I32 => Data::Int(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        dtype::I64 => Data::Int(each(bytes, i64::from_le_bytes)),
        dtype::U64 => Data::Int(each(bytes, |b| u64::from_le_bytes(b) as i64)),
        _ => Data::Int(bytes.iter().map(|b| i64::from(*b)).collect()),
    }
}

/// Elements from the typed lists; the caller checks their number.
fn from_lists(code: i32, tensor: &TensorProto) -> Data {
    let bits = |v: &i32| *v as u16;
    match code {
        dtype::F32 => Data::Float(tensor.float_data.clone()),
        dtype::F64 => Data::Float(tensor.double_data.iter().map(|v| *v as f32).collect()),
        dtype::F16 => Data::Float(tensor.int32_data.iter().map(|v| f16::from_bits(bits(v)).to_f32()).collect()),
        dtype::BF16 => Data::Float(tensor.int32_data.iter().map(|v| bf16::from_bits(bits(v)).to_f32()).collect()),
        dtype::I64 => Data::Int(tensor.int64_data.clone()),
        dtype::U32 | dtype::U64 => Data::Int(tensor.uint64_data.iter().map(|v| *v as i64).collect()),
        _ => Data::Int(tensor.int32_data.iter().map(|v| i64::from(*v)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StringStringEntryProto;

    fn reader(directory: Option<PathBuf>) -> TensorReader {
        TensorReader { directory, max_bytes: 1 << 20 }
    }

    #[test]
    fn every_width_is_widened_from_little_endian_bytes() {
        let read = |code, bytes: &[u8]| reader(None).read(&TensorProto::raw("t", code, &[1], bytes.to_vec())).unwrap();
        assert_eq!(read(dtype::F16, &[0x00, 0x3e]).data, Data::Float(vec![1.5]));
        assert_eq!(read(dtype::F64, &2.5f64.to_le_bytes()).data, Data::Float(vec![2.5]));
        assert_eq!(read(dtype::I8, &[0x80]).data, Data::Int(vec![-128]));
        assert_eq!(read(dtype::U8, &[0x80]).data, Data::Int(vec![128]));
        assert_eq!(read(dtype::I64, &(-7i64).to_le_bytes()).data, Data::Int(vec![-7]));
    }

    #[test]
    fn missing_and_surplus_bytes_are_refused() {
        for bytes in [7, 9, 12] {
            let tensor = TensorProto::raw("w", dtype::F32, &[2], vec![0; bytes]);
            let text = reader(None).read(&tensor).unwrap_err().to_string();
            assert!(text.contains("`w`: expected 8 bytes"), "{text}");
        }
        let huge = TensorProto { dims: vec![1 << 40, 1 << 40], ..TensorProto::raw("w", dtype::F32, &[], vec![]) };
        assert!(reader(None).read(&huge).is_err());
        let negative = TensorProto { dims: vec![-1], ..TensorProto::raw("w", dtype::F32, &[], vec![]) };
        assert!(reader(None).read(&negative).is_err());
    }

    fn external(location: &str, offset: u64) -> TensorProto {
        let entry = |k: &str, v: String| StringStringEntryProto { key: Some(k.into()), value: Some(v) };
        TensorProto {
            raw_data: None,
            data_location: Some(1),
            external_data: vec![entry("location", location.into()), entry("offset", offset.to_string())],
            ..TensorProto::floats("w", &[2], &[])
        }
    }

    #[test]
    fn external_data_stays_inside_the_folder_and_inside_the_file() {
        let folder = std::env::temp_dir().join(format!("sentei-external-{}", std::process::id()));
        let model = folder.join("model");
        std::fs::create_dir_all(&model).unwrap();
        let bytes: Vec<u8> = [9.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(model.join("w.bin"), &bytes).unwrap();
        std::fs::write(folder.join("secret.bin"), &bytes).unwrap();
        let read = |location: &str, offset| reader(Some(model.clone())).read(&external(location, offset));
        assert_eq!(read("w.bin", 4).unwrap().data, Data::Float(vec![1.0, 2.0]));
        assert!(read("w.bin", 8).unwrap_err().to_string().contains("exceeds"));
        assert!(read("w.bin", u64::MAX).unwrap_err().to_string().contains("exceeds"));
        let absolute = folder.join("secret.bin").display().to_string();
        for outside in ["../secret.bin", absolute.as_str(), "", "a/../../secret.bin", "."] {
            assert!(read(outside, 0).is_err(), "{outside}");
        }
        assert!(reader(None).read(&external("w.bin", 4)).unwrap_err().to_string().contains("folder of the model"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
