//! Opening a data set: works out what lies at a path and hands it to its reader.

use crate::dataset::{Dataset, Split};
use crate::error::DataError;
use crate::samples::{Draft, Pixels};
use crate::split::{Row, SplitRatios};
use crate::split_file::SplitFile;
use crate::{cifar, idx, members, picture};
use std::io::Read;
use std::path::{Path, PathBuf};

/// How to read a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Height and width, in pixels, to resize all images to; `None` keeps their size, which must then be the same for all.
    pub size: Option<(usize, usize)>,
    /// 1 or 3; `None` keeps what is stored, grey when every image is grey.
    pub channels: Option<usize>,
    /// CSV that assigns the splits; `None` uses a `split.csv` beside the images when there is one.
    pub split_file: Option<PathBuf>,
    /// Fractions drawn for a validation or test split that nothing assigns.
    pub split: SplitRatios,
    /// Seed of that draw.
    pub seed: u64,
    /// Most bytes that files (after decompression) and most bytes that pixels may take; hostile files stop here.
    pub byte_budget: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            size: None,
            channels: None,
            split_file: None,
            split: SplitRatios::default(),
            seed: 0,
            byte_budget: 4 << 30,
        }
    }
}

/// Reads the data set at `path`.
///
/// | at `path` | read as |
/// |---|---|
/// | folder of class folders with PNG, JPEG, BMP or PNM files | one class per folder, in name order |
/// | folder with `train/`, `val/`, `test/`, each with class folders | the same, splits given |
/// | `.tar` or `.tar.gz` of either | the same |
/// | IDX images file, plain or gzip | labels from the labels file beside it, or from the split file |
/// | folder with `train-images…` and `t10k-images…` IDX files | both, the second as the test split |
/// | folder with one IDX images file or one tar archive | that file |
/// | folder with CIFAR-10 or CIFAR-100 binary batches | all batches, `test*.bin` as the test split |
///
/// A split that neither the folders nor a split file assign is drawn from the training images, stratified by class,
/// or by whole groups when the split file has a `group` column. Samples are in name order, or in file order for IDX and CIFAR.
///
/// # Errors
/// A [`DataError`] that names the file; bad input never panics.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    options.split.check()?;
    picture::check_shape(options.size, options.channels)?;
    let metadata = std::fs::metadata(path).map_err(DataError::io(path, options.byte_budget))?;
    let dataset = if metadata.is_dir() { open_folder(path, options) } else { open_file(path, options) };
    dataset?.finish(options)
}

fn open_folder(path: &Path, options: &ReadOptions) -> Result<Draft, DataError> {
    let budget = options.byte_budget;
    let files = files_of(path, budget)?;
    let images: Vec<PathBuf> = files.iter().filter(|file| idx::is_images_name(file)).cloned().collect();
    let split_pair: Vec<(PathBuf, Option<Split>)> =
        images.iter().map(|file| (file.clone(), idx::split_of_name(file))).collect();
    let of = |split| split_pair.iter().filter(|(_, s)| *s == Some(split)).count();
    match images.len() {
        0 => {}
        1 => return open_idx(path, &[(images[0].clone(), None)], true, options),
        2 if of(Split::Train) == 1 && of(Split::Test) == 1 => {
            return open_idx(path, &split_pair, false, options);
        }
        _ => {
            return Err(DataError::Unrecognised {
                path: path.to_path_buf(),
                reason: format!("holds {} IDX images files; name one of them", images.len()),
            });
        }
    }
    if let Some((batches, label_bytes)) = cifar::detect(path) {
        let mut draft = cifar::read(path, &batches, label_bytes, budget)?;
        if let Some(split_file) = split_file_for(path, false, options)? {
            let labels: Vec<u32> = draft.rows.iter().map(|row| row.label).collect();
            draft.use_split_file(&split_file, Some(&labels))?;
        }
        return Ok(draft);
    }
    let tree = members::read_folder(path, budget)?;
    if tree.files.is_empty() {
        let archives: Vec<&PathBuf> = files.iter().filter(|file| is_tar_name(file)).collect();
        if let [only] = archives[..] {
            return open_file(only, options);
        }
        if tree.folders.is_empty() {
            return Err(DataError::Unrecognised {
                path: path.to_path_buf(),
                reason: "no class folders with images, no IDX images file, no tar archive, no CIFAR batches".into(),
            });
        }
    }
    let split_file = split_file_for(path, true, options)?;
    members::draft(&name_of(path), tree, split_file.as_ref(), options)
}

fn open_file(path: &Path, options: &ReadOptions) -> Result<Draft, DataError> {
    let budget = options.byte_budget;
    let mut head = Vec::new();
    idx::open_stream(path, budget)?.take(512).read_to_end(&mut head).map_err(DataError::io(path, budget))?;
    if head.len() >= 4 && head[..3] == [0, 0, 8] && (1..=4).contains(&head[3]) {
        return open_idx(path, &[(path.to_path_buf(), None)], true, options);
    }
    if head.get(257..262) == Some(b"ustar") || is_tar_name(path) {
        let folder = path.parent().unwrap_or(Path::new("."));
        let split_file = split_file_for(folder, true, options)?;
        return members::draft(&name_of(path), members::read_tar(path, budget)?, split_file.as_ref(), options);
    }
    Err(DataError::Unrecognised {
        path: path.to_path_buf(),
        reason: "is neither an IDX images file of u8 nor a tar archive, plain or gzip; for images or CIFAR batches name the folder".into(),
    })
}

/// Reads IDX images with their labels; several files follow each other.
fn open_idx(
    named: &Path,
    sets: &[(PathBuf, Option<Split>)],
    search_split_file: bool,
    options: &ReadOptions,
) -> Result<Draft, DataError> {
    let budget = options.byte_budget;
    let mut pixels: Option<Pixels> = None;
    let (mut rows, mut sample_names) = (Vec::new(), Vec::new());
    let mut labels: Option<Vec<u32>> = Some(Vec::new());
    let first = &sets[0].0;
    let folder = match first.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let files = files_of(folder, budget)?;
    let split_file = split_file_for(folder, search_split_file, options)?;
    for (path, split) in sets {
        let left = budget.saturating_sub(pixels.as_ref().map_or(0, |p| p.data.len() as u64));
        let (count, more) = idx::images(path, left)?;
        match idx::labels_beside(path, &files)? {
            Some(labels_path) => {
                let of = idx::labels(&labels_path, budget)?;
                if of.len() != count {
                    return Err(DataError::format(
                        &labels_path,
                        format!("{} labels for the {count} images of {}", of.len(), path.display()),
                    ));
                }
                if let Some(labels) = &mut labels {
                    labels.extend(of);
                }
            }
            None if split_file.is_some() => labels = None,
            None => {
                return Err(DataError::format(
                    path,
                    "no labels file (`…labels-idx1-ubyte`) lies beside it, and no split file gives labels",
                ));
            }
        }
        rows.extend((0..count).map(|_| Row { given: *split, ..Row::default() }));
        let stem = name_of(path);
        sample_names.extend((0..count).map(|index| format!("{stem}#{index}")));
        pixels = Some(match pixels {
            None => more,
            Some(mut all) => {
                if (all.channels, all.height, all.width) != (more.channels, more.height, more.width) {
                    return Err(DataError::MixedSizes {
                        first: name_of(first),
                        first_size: (all.height, all.width),
                        other: stem,
                        other_size: (more.height, more.width),
                    });
                }
                all.data.extend(more.data);
                all
            }
        });
    }
    let count = labels.as_ref().and_then(|labels| labels.iter().max()).map_or(0, |max| max + 1);
    for (row, &label) in rows.iter_mut().zip(labels.iter().flatten()) {
        row.label = label;
    }
    let mut draft = Draft {
        name: name_of(if sets.len() > 1 { named } else { first }),
        classes: (0..count).map(|label| label.to_string()).collect(),
        sample_names,
        rows,
        pixels: pixels.ok_or_else(|| DataError::format(named, "no images file"))?,
        notes: vec![],
    };
    if named != first {
        let read: Vec<String> = sets.iter().map(|(path, _)| name_of(path)).collect();
        draft.notes.push(format!("read the IDX files {} of {}", read.join(" and "), named.display()));
    }
    if let Some(split_file) = split_file {
        draft.use_split_file(&split_file, labels.as_deref())?;
    }
    Ok(draft)
}

/// The split file that was asked for, or `split.csv` in `folder`.
fn split_file_for(folder: &Path, search: bool, options: &ReadOptions) -> Result<Option<SplitFile>, DataError> {
    let beside = folder.join("split.csv");
    match &options.split_file {
        Some(path) => SplitFile::read(path, options.byte_budget).map(Some),
        None if search && beside.is_file() => SplitFile::read(&beside, options.byte_budget).map(Some),
        None => Ok(None),
    }
}

fn files_of(folder: &Path, budget: u64) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder, budget))? {
        let path = entry.map_err(DataError::io(folder, budget))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_tar_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

/// File or folder name for reports, without archive and compression endings.
fn name_of(path: &Path) -> String {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let name = full.file_name().map_or_else(|| full.display().to_string(), |n| n.to_string_lossy().into_owned());
    let mut name = name.as_str();
    for end in [".gz", ".tgz", ".tar"] {
        name = name.strip_suffix(end).unwrap_or(name);
    }
    name.to_string()
}
