//! The values of a network at one moment, and how to put them back.

use candle_core::Tensor;
use sha2::{Digest, Sha256};

use crate::{Net, PruneError};

/// One value: its name, shape and numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Every parameter and buffer of a network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub params: Vec<Value>,
    pub buffers: Vec<Value>,
}

impl Snapshot {
    pub(crate) fn of(net: &Net) -> Result<Snapshot, PruneError> {
        let value = |(name, tensor): (&str, &Tensor)| {
            Ok(Value { name: name.into(), shape: tensor.dims().to_vec(), data: flat(tensor)? })
        };
        let params =
            net.vars().iter().map(|p| value((&p.name, p.var.as_tensor()))).collect::<Result<_, PruneError>>()?;
        let buffers = net.buffers().map(value).collect::<Result<_, PruneError>>()?;
        Ok(Snapshot { params, buffers })
    }

    pub(crate) fn restore(&self, net: &mut Net) -> Result<(), PruneError> {
        let device = net.device().clone();
        let tensor = |v: &Value| Tensor::from_slice(&v.data, v.shape.as_slice(), &device);
        for value in &self.params {
            net.set_var(&value.name, &tensor(value)?)?;
        }
        for value in &self.buffers {
            net.set_buffer(&value.name, &tensor(value)?)?;
        }
        Ok(())
    }

    /// Adds names, shapes and values to a hash.
    pub(crate) fn hash(&self, hash: &mut Sha256) {
        for value in self.params.iter().chain(&self.buffers) {
            hash.update(format!("{} {:?} ", value.name, value.shape));
            value.data.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
    }

    /// SHA-256, in hex, over names, shapes and values.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        self.hash(&mut hash);
        hex(hash)
    }
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The current numbers of one parameter, flat.
///
/// # Errors
/// [`PruneError::Missing`] for an unknown name.
pub fn values(net: &Net, name: &str) -> Result<Vec<f32>, PruneError> {
    let missing = || PruneError::Missing { kind: "parameter", name: name.into() };
    flat(net.var(name).ok_or_else(missing)?.var.as_tensor())
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>, PruneError> {
    Ok(tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?)
}
