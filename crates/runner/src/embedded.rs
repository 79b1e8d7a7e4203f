//! A model at the end of the program itself, so that one file is all a board needs.
//!
//! Behind the program follow the model, its length as eight bytes (little-endian) and [`MAGIC`]. Loaders and `strip` pass over
//! what lies behind the sections of a program.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::RunnerError;
use crate::files;

/// The last eight bytes of a program that carries a model.
pub const MAGIC: &[u8; 8] = b"sentei\x00\x01";

const TRAILER: u64 = 16;

/// A program with a model behind it; an earlier model is replaced.
pub fn attach(program: &[u8], model: &[u8]) -> Vec<u8> {
    let program = match model_length(program) {
        Some(length) => &program[..program.len() - length - TRAILER as usize],
        None => program,
    };
    [program, model, &(model.len() as u64).to_le_bytes(), MAGIC].concat()
}

/// The length of the model at the end of `program`, if it carries one.
fn model_length(program: &[u8]) -> Option<usize> {
    let trailer = program.last_chunk::<{ TRAILER as usize }>()?;
    let length = length_in(trailer)?;
    usize::try_from(length).ok().filter(|length| *length <= program.len() - trailer.len())
}

fn length_in(trailer: &[u8; TRAILER as usize]) -> Option<u64> {
    let (length, magic) = trailer.split_first_chunk::<8>()?;
    (magic == MAGIC).then(|| u64::from_le_bytes(*length))
}

/// The model inside the program at `path`, without reading the rest of it; `None` if it carries none.
///
/// # Errors
/// [`RunnerError::Io`] when it cannot be read, [`RunnerError::Description`] when it is damaged.
pub fn model_in(path: &Path) -> Result<Option<Vec<u8>>, RunnerError> {
    let mut file = File::open(path).map_err(RunnerError::io("reading", path))?;
    let mut read = || -> std::io::Result<Option<Result<Vec<u8>, u64>>> {
        let size = file.seek(SeekFrom::End(0))?;
        let Some(start) = size.checked_sub(TRAILER) else { return Ok(None) };
        file.seek(SeekFrom::Start(start))?;
        let mut trailer = [0; TRAILER as usize];
        file.read_exact(&mut trailer)?;
        let Some(length) = length_in(&trailer) else { return Ok(None) };
        let (Some(start), Ok(capacity)) = (start.checked_sub(length), usize::try_from(length)) else {
            return Ok(Some(Err(length)));
        };
        file.seek(SeekFrom::Start(start))?;
        let mut model = vec![0; capacity];
        file.read_exact(&mut model)?;
        Ok(Some(Ok(model)))
    };
    match read().map_err(RunnerError::io("reading", path))? {
        None => Ok(None),
        Some(Ok(model)) => Ok(Some(model)),
        Some(Err(length)) => Err(RunnerError::Description(format!(
            "{} is damaged: it is too short for the model of {length} bytes that it says to carry",
            path.display()
        ))),
    }
}

/// The ONNX file at `path`, or the one inside the program there.
///
/// # Errors
/// As [`model_in`].
pub fn read(path: &Path) -> Result<Vec<u8>, RunnerError> {
    const PROGRAM: &[u8; 4] = b"\x7fELF";
    let mut first = [0; 4];
    let is_program = File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *PROGRAM;
    let carried = if is_program { model_in(path)? } else { None };
    carried.map_or_else(|| files::read(path), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_behind_the_program_and_replaced_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let found = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            model_in(&path)
        };
        assert_eq!(found(b"program").unwrap(), None);
        assert_eq!(found(b"a program without a model in it").unwrap(), None);
        let one = attach(b"program", b"model one");
        assert_eq!(found(&one).unwrap().unwrap(), b"model one");
        let two = attach(&one, b"two");
        assert_eq!(two.len(), 7 + 3 + 16);
        assert_eq!(found(&two).unwrap().unwrap(), b"two");
    }

    #[test]
    fn a_length_that_cannot_be_is_damage_and_not_an_allocation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let mut bytes = attach(b"program", b"model");
        let at = bytes.len() - 16;
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(model_in(&path).unwrap_err().to_string().contains("is damaged"));
    }
}
