//! IDX files, plain or gzip: `00 00 08 ndim`, one big-endian `u32` per dimension, then bytes.

use crate::dataset::Split;
use crate::error::{Capped, DataError};
use crate::samples::Pixels;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Opens a file, unpacking gzip when it starts with the gzip magic; at most `budget` bytes come out.
pub(crate) fn open_stream(path: &Path, budget: u64) -> Result<Box<dyn Read>, DataError> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(DataError::io(path, budget))?);
    let gzip = file.fill_buf().map_err(DataError::io(path, budget))?.starts_with(&[0x1F, 0x8B]);
    Ok(if gzip {
        Box::new(Capped::new(MultiGzDecoder::new(file), budget))
    } else {
        Box::new(Capped::new(file, budget))
    })
}

/// Dimensions and bytes of one IDX file of unsigned bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Idx {
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Reads one IDX file; the header must account for every byte.
pub(crate) fn read(path: &Path, budget: u64) -> Result<Idx, DataError> {
    let mut stream = open_stream(path, budget)?;
    let mut fill = |buffer: &mut [u8]| {
        stream.read_exact(buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => DataError::format(path, "IDX header is cut short"),
            _ => DataError::io(path, budget)(error),
        })
    };
    let mut magic = [0u8; 4];
    fill(&mut magic)?;
    if magic[..2] != [0, 0] {
        return Err(DataError::format(path, format!("is no IDX file: starts with {:02x} {:02x}", magic[0], magic[1])));
    }
    if magic[2] != 0x08 {
        return Err(DataError::format(path, format!("IDX type 0x{:02x} found, only 0x08 (u8) is read", magic[2])));
    }
    if !(1..=4).contains(&magic[3]) {
        return Err(DataError::format(path, format!("{} IDX dimensions found, expected 1 to 4", magic[3])));
    }
    let mut dims = Vec::new();
    for _ in 0..magic[3] {
        let mut dim = [0u8; 4];
        fill(&mut dim)?;
        dims.push(u32::from_be_bytes(dim) as usize);
    }
    let expected = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim as u64))
        .filter(|&size| size <= budget)
        .ok_or_else(|| DataError::OverBudget { name: path.display().to_string(), budget })?;
    // Grows with the bytes that really come, not with what the header claims.
    let mut bytes = Vec::new();
    stream.take(expected + 1).read_to_end(&mut bytes).map_err(DataError::io(path, budget))?;
    match bytes.len() as u64 {
        found if found == expected => Ok(Idx { dims, bytes }),
        found if found < expected => {
            Err(DataError::format(path, format!("IDX dims {dims:?} need {expected} bytes, found {found}")))
        }
        _ => Err(DataError::format(path, format!("bytes follow the {expected} that IDX dims {dims:?} need"))),
    }
}

/// Images as planar pixels: `[n, h, w]`, `[n, c, h, w]` or `[n, h, w, c]` with 1 or 3 channels.
pub(crate) fn images(path: &Path, budget: u64) -> Result<(usize, Pixels), DataError> {
    let Idx { dims, bytes } = read(path, budget)?;
    let (count, channels, height, width, interleaved) = match dims[..] {
        [n, h, w] => (n, 1, h, w, false),
        [n, c @ (1 | 3), h, w] => (n, c, h, w, false),
        [n, h, w, c @ (1 | 3)] => (n, c, h, w, true),
        _ => return Err(DataError::format(path, format!("IDX dims {dims:?} are not images"))),
    };
    if count == 0 || height == 0 || width == 0 {
        return Err(DataError::format(path, format!("IDX dims {dims:?} hold no image")));
    }
    let data = if interleaved && channels == 3 {
        bytes
            .chunks_exact(3 * height * width)
            .flat_map(|image| (0..3).flat_map(|c| image.iter().skip(c).step_by(3).copied()))
            .collect()
    } else {
        bytes
    };
    Ok((count, Pixels { channels, height, width, data }))
}

/// Labels, one byte each.
pub(crate) fn labels(path: &Path, budget: u64) -> Result<Vec<u32>, DataError> {
    let Idx { dims, bytes } = read(path, budget)?;
    if dims.len() != 1 {
        return Err(DataError::format(path, format!("IDX dims {dims:?} are not labels, expected one dimension")));
    }
    Ok(bytes.into_iter().map(u32::from).collect())
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Whether the name looks like an IDX file of images.
pub(crate) fn is_images_name(path: &Path) -> bool {
    let name = file_name(path);
    name.contains("images") && name.contains("idx")
}

/// Which split an MNIST-style name stands for: `train-images...` or `t10k-images...` / `test-images...`.
pub(crate) fn split_of_name(path: &Path) -> Option<Split> {
    let name = file_name(path);
    if name.starts_with("train-") || name.starts_with("train_") {
        Some(Split::Train)
    } else if name.starts_with("t10k-") || name.starts_with("test-") || name.starts_with("test_") {
        Some(Split::Test)
    } else {
        None
    }
}

/// The labels file beside an images file: the same name with `labels-idx1`, else the labels file whose
/// beginning is the longest that the images file shares, else the only one. `None` when there is none.
pub(crate) fn labels_beside(images: &Path, folder_files: &[PathBuf]) -> Result<Option<PathBuf>, DataError> {
    let stem = |path: &Path, word: &str| file_name(path).split(word).next().unwrap_or_default().to_string();
    let image_stem = stem(images, "images");
    let candidates: Vec<&PathBuf> = folder_files
        .iter()
        .filter(|path| file_name(path).contains("labels") && file_name(path).contains("idx"))
        .collect();
    let fitting = candidates.iter().filter(|path| {
        let label_stem = stem(path, "labels");
        image_stem.starts_with(label_stem.trim_end_matches(['-', '_', '.']))
    });
    if let Some(best) = fitting.max_by_key(|path| stem(path, "labels").len()) {
        return Ok(Some((*best).clone()));
    }
    match candidates[..] {
        [] => Ok(None),
        [only] if split_of_name(only).is_none() => Ok(Some(only.clone())),
        _ => Err(DataError::format(images, "none of the labels files beside it has a matching name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn file(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| out.extend(dim.to_be_bytes()));
        out.extend(bytes);
        out
    }

    fn read_bytes(bytes: &[u8], budget: u64) -> Result<Idx, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x-images-idx3-ubyte");
        std::fs::write(&path, bytes).unwrap();
        read(&path, budget)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_files_read_the_same() {
        let plain = file(&[2, 1, 2], &[1, 2, 3, 4]);
        let expected = Idx { dims: vec![2, 1, 2], bytes: vec![1, 2, 3, 4] };
        assert_eq!(read_bytes(&plain, 1000).unwrap(), expected);
        assert_eq!(read_bytes(&gzip(&plain), 1000).unwrap(), expected);
    }

    #[test]
    fn interleaved_colour_becomes_planar() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        std::fs::write(&path, file(&[1, 2, 5, 3], &(0..30).collect::<Vec<u8>>())).unwrap();
        let (count, pixels) = images(&path, 1000).unwrap();
        assert_eq!((count, pixels.channels, pixels.height, pixels.width), (1, 3, 2, 5));
        assert_eq!(pixels.data[..3], [0, 3, 6]);
        assert_eq!(pixels.data[10], 1);
    }

    #[test]
    fn truncated_trailing_and_foreign_files_are_refused() {
        let reason = |bytes: &[u8]| read_bytes(bytes, 1000).unwrap_err().to_string();
        assert!(reason(&[0, 0, 8]).contains("cut short"));
        assert!(reason(&[0, 0, 8, 3, 0, 0]).contains("cut short"));
        assert!(reason(&file(&[2, 2], &[1, 2, 3])).contains("need 4 bytes, found 3"));
        assert!(reason(&file(&[2, 2], &[1; 5])).contains("bytes follow"));
        assert!(reason(b"\x89PNG....").contains("no IDX file"));
        assert!(reason(&[0, 0, 0x0D, 1, 0, 0, 0, 0]).contains("type 0x0d"));
        assert!(reason(&[0, 0, 8, 9]).contains("9 IDX dimensions"));
    }

    #[test]
    fn a_header_without_images_is_refused_whatever_its_other_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        std::fs::write(&path, file(&[0, u32::MAX, u32::MAX, 3], &[])).unwrap();
        assert!(images(&path, 1000).unwrap_err().to_string().contains("no image"));
    }

    #[test]
    fn sizes_that_overflow_or_pass_the_budget_are_refused_before_reading() {
        let huge = file(&[u32::MAX, u32::MAX, u32::MAX, u32::MAX], &[]);
        assert!(matches!(read_bytes(&huge, u64::MAX), Err(DataError::OverBudget { .. })));
        let big = file(&[1 << 20, 1 << 10], &[]);
        assert!(matches!(read_bytes(&big, 1 << 20), Err(DataError::OverBudget { .. })));
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_budget() {
        let bomb = gzip(&[&file(&[10], &[])[..], &vec![0u8; 1 << 20]].concat());
        assert!(matches!(read_bytes(&bomb, 4096), Err(DataError::Format { .. }))); // stops after 11 bytes
        let damaged = &gzip(&file(&[64], &[7; 64]))[..30];
        assert!(read_bytes(damaged, 4096).is_err());
    }

    #[test]
    fn labels_are_found_by_the_longest_shared_beginning() {
        let files: Vec<PathBuf> =
            ["neu-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte", "neu_64-images-idx3-ubyte.gz"]
                .map(PathBuf::from)
                .into();
        let find = |name: &str| labels_beside(Path::new(name), &files).unwrap();
        assert_eq!(find("neu_64-images-idx3-ubyte.gz"), Some(files[0].clone()));
        assert_eq!(find("train-images-idx3-ubyte.gz"), Some(files[1].clone()));
        assert!(labels_beside(Path::new("t10k-images-idx3-ubyte"), &files).is_err());
        assert_eq!(labels_beside(Path::new("a-images-idx3"), &[]).unwrap(), None);
    }
}
