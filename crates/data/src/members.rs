//! Image trees: a folder, or a tar archive, with one sub-folder per class, optionally below `train/`, `val/`, `test/`.

use crate::dataset::Split;
use crate::error::DataError;
use crate::idx::open_stream;
use crate::picture::{Picture, decode};
use crate::read::ReadOptions;
use crate::samples::{Draft, Pixels};
use crate::split::Row;
use crate::split_file::{SplitFile, split_named};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Folders inside folders that are followed.
const MAX_DEPTH: usize = 16;
const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pnm"];

/// Encoded image files by relative name, and every folder seen.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub files: Vec<(String, Vec<u8>)>,
    pub folders: BTreeSet<String>,
}

fn is_image(name: &str) -> bool {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    !stem.is_empty() && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// Reads all images below a folder; hidden files and folders are left out.
pub(crate) fn read_folder(root: &Path, budget: u64) -> Result<Tree, DataError> {
    let mut tree = Tree::default();
    let mut left = budget;
    walk(root, root, 0, budget, &mut left, &mut tree)?;
    Ok(tree)
}

fn walk(root: &Path, at: &Path, depth: usize, budget: u64, left: &mut u64, tree: &mut Tree) -> Result<(), DataError> {
    for entry in std::fs::read_dir(at).map_err(DataError::io(at, budget))? {
        let path = entry.map_err(DataError::io(at, budget))?.path();
        let metadata = std::fs::metadata(&path).map_err(DataError::io(&path, budget))?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let Some(name) = relative.to_str().map(|name| name.replace('\\', "/")) else {
            if metadata.is_dir() || is_image(&relative.to_string_lossy()) {
                return Err(DataError::NotUtf8(relative.to_string_lossy().into_owned()));
            }
            continue;
        };
        if is_hidden(&name) {
            continue;
        }
        if metadata.is_dir() {
            if depth == MAX_DEPTH {
                return Err(DataError::Unrecognised {
                    path,
                    reason: format!("folders are nested deeper than {MAX_DEPTH}"),
                });
            }
            tree.folders.insert(name);
            walk(root, &path, depth + 1, budget, left, tree)?;
        } else if metadata.is_file() && is_image(&name) {
            *left = left
                .checked_sub(metadata.len())
                .ok_or_else(|| DataError::OverBudget { name: path.display().to_string(), budget })?;
            tree.files.push((name, std::fs::read(&path).map_err(DataError::io(&path, budget))?));
        }
    }
    Ok(())
}

/// Reads all images of a tar archive, plain or gzip. Nothing is written, so member paths cannot do harm.
pub(crate) fn read_tar(path: &Path, budget: u64) -> Result<Tree, DataError> {
    let io = DataError::io(path, budget);
    let mut tree = Tree::default();
    let mut archive = tar::Archive::new(open_stream(path, budget)?);
    for entry in archive.entries().map_err(&io)? {
        let mut entry = entry.map_err(&io)?;
        let raw = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        let Ok(name) = std::str::from_utf8(&raw) else {
            let lossy = String::from_utf8_lossy(&raw).into_owned();
            if kind.is_dir() || is_image(&lossy) {
                return Err(DataError::NotUtf8(lossy));
            }
            continue;
        };
        let name = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
        if name.is_empty() || is_hidden(&name) {
            continue;
        }
        if kind.is_dir() {
            tree.folders.insert(name);
        } else if kind.is_file() && is_image(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(&io)?;
            if bytes.len() as u64 != entry.size() {
                return Err(DataError::format(
                    path,
                    format!("member `{name}` has {} of {} bytes; the archive is cut short", bytes.len(), entry.size()),
                ));
            }
            let mut folder = name.as_str();
            while let Some((parent, _)) = folder.rsplit_once('/') {
                tree.folders.insert(parent.to_string());
                folder = parent;
            }
            tree.files.push((name, bytes));
        }
    }
    Ok(tree)
}

/// Where classes sit: below `prefix` (ends in `/` or is empty), and below split folders if `splits`.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    prefix: String,
    splits: bool,
}

fn layout(names: &[String]) -> Layout {
    let mut prefix = String::new();
    loop {
        let rest: Vec<&str> =
            names.iter().filter_map(|n| n.strip_prefix(&prefix)).filter(|n| n.contains('/')).collect();
        let firsts: BTreeSet<&str> = rest.iter().filter_map(|n| n.split('/').next()).collect();
        let deeper = rest.iter().all(|n| n.matches('/').count() >= 2);
        let is_split = |name: &str| split_named(name).is_some_and(|split| split != Split::Dropped);
        if deeper && !firsts.is_empty() && firsts.iter().all(|first| is_split(first)) {
            return Layout { prefix, splits: true };
        }
        let only = firsts.first().copied().filter(|_| deeper && firsts.len() == 1 && rest.len() == names.len());
        let Some(only) = only else { return Layout { prefix, splits: false } };
        prefix = format!("{prefix}{only}/");
    }
}

impl Layout {
    /// Split folder and class folder of an image; `None` for an image outside class folders.
    fn place<'n>(&self, name: &'n str) -> Option<(Option<Split>, &'n str)> {
        let mut parts = name.strip_prefix(&self.prefix)?.split('/');
        let split = if self.splits { Some(split_named(parts.next()?)?) } else { None };
        let class = parts.next()?;
        parts.next().map(|_| (split, class))
    }

    /// Whether a folder is a class folder.
    fn is_class_folder(&self, folder: &str) -> bool {
        let depth = if self.splits { 2 } else { 1 };
        folder.strip_prefix(&self.prefix).is_some_and(|rest| rest.split('/').count() == depth)
    }
}

/// Decodes a tree and works out labels and splits.
pub(crate) fn draft(
    name: &str,
    mut tree: Tree,
    split_file: Option<&SplitFile>,
    options: &ReadOptions,
) -> Result<Draft, DataError> {
    tree.files.sort();
    let names: Vec<String> = tree.files.iter().map(|(name, _)| name.clone()).collect();
    let layout = layout(&names);
    let lines = split_file.map(|file| file.by_name(&names, &layout.prefix)).transpose()?;
    let own_classes = split_file.map(SplitFile::classes).transpose()?.flatten();
    if own_classes.is_none() {
        let empty = tree.folders.iter().find(|folder| {
            let inside = format!("{folder}/");
            layout.is_class_folder(folder) && !names.iter().any(|name| name.starts_with(&inside))
        });
        if let Some(folder) = empty {
            return Err(DataError::EmptyClass(folder.clone()));
        }
    }

    let mut notes = Vec::new();
    let mut chosen: Vec<(String, Row, Vec<u8>)> = Vec::new();
    let mut class_of: Vec<Option<String>> = Vec::new();
    let (mut outside, mut unnamed) = (0usize, 0usize);
    for (index, (name, bytes)) in tree.files.into_iter().enumerate() {
        let line = lines.as_ref().map(|lines| lines[index]);
        if line == Some(None) {
            unnamed += 1;
            continue;
        }
        let line = line.flatten();
        let place = layout.place(&name);
        let class = line.and_then(|l| l.class.clone()).or(place.map(|(_, class)| class.to_string()));
        let given = line.and_then(|l| l.split).or(place.and_then(|(split, _)| split));
        if class.is_none() && given != Some(Split::Dropped) {
            outside += 1;
            continue;
        }
        let row = Row { label: 0, group: line.and_then(|l| l.group.clone()), given };
        class_of.push(class);
        chosen.push((name, row, bytes));
    }
    if outside > 0 {
        notes.push(format!("{outside} image(s) outside class folders are left out"));
    }
    if unnamed > 0 {
        notes.push(format!("{unnamed} image(s) that the split file does not name are left out"));
    }
    if let Some(file) = split_file {
        notes.push(format!("labels, groups or splits taken from {}", file.path.display()));
    }
    let classes = own_classes.unwrap_or_else(|| {
        let set: BTreeSet<String> = class_of.iter().flatten().cloned().collect();
        set.into_iter().collect()
    });
    if classes.len() < 2 {
        return Err(DataError::TooFewClasses { name: name.to_string(), found: classes.len() });
    }
    for ((sample, row, _), class) in chosen.iter_mut().zip(&class_of) {
        match class.as_ref().map(|class| classes.iter().position(|known| known == class)) {
            Some(Some(label)) => row.label = label as u32,
            // A dropped image may have no class, or one that no kept image has.
            _ if row.given == Some(Split::Dropped) => {}
            _ => {
                return Err(DataError::Image {
                    name: sample.clone(),
                    reason: format!("its class is none of {}", classes.join(", ")),
                });
            }
        }
    }

    let (sample_names, (rows, encoded)): (Vec<_>, (Vec<_>, Vec<_>)) =
        chosen.into_iter().map(|(name, row, bytes)| (name, (row, bytes))).unzip();
    let pixels = decode_all(name, &sample_names, encoded, options)?;
    Ok(Draft { name: name.to_string(), classes, sample_names, rows, pixels, notes })
}

/// Decodes in parallel; the result does not depend on the number of threads.
fn decode_all(set: &str, names: &[String], encoded: Vec<Vec<u8>>, options: &ReadOptions) -> Result<Pixels, DataError> {
    let held = AtomicU64::new(0);
    let results: Vec<Result<Picture, DataError>> = names
        .par_iter()
        .zip(encoded)
        .map(|(name, bytes)| {
            let mut picture = decode(name, &bytes)?;
            if let Some(channels) = options.channels {
                picture = picture.with_channels(channels);
            }
            if let Some(size) = options.size {
                picture = picture.resized(size);
            }
            let bytes = picture.pixels.len() as u64;
            if held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > options.byte_budget {
                return Err(DataError::OverBudget { name: set.to_string(), budget: options.byte_budget });
            }
            Ok(picture)
        })
        .collect();
    // The first error in sample order, so that the message is the same on every run.
    let pictures = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let Some(first) = pictures.first() else {
        return Ok(Pixels { channels: options.channels.unwrap_or(1), height: 1, width: 1, data: vec![] });
    };
    let (height, width) = (first.height, first.width);
    let channels = pictures.iter().map(|p| p.channels).max().unwrap_or(1);
    if let Some(at) = pictures.iter().position(|p| (p.height, p.width) != (height, width)) {
        return Err(DataError::MixedSizes {
            first: names[0].clone(),
            first_size: (height, width),
            other: names[at].clone(),
            other_size: (pictures[at].height, pictures[at].width),
        });
    }
    let total = (pictures.len() as u64).saturating_mul((channels * height * width) as u64);
    if total > options.byte_budget {
        return Err(DataError::OverBudget { name: set.to_string(), budget: options.byte_budget });
    }
    let mut data = Vec::with_capacity(total as usize);
    for picture in pictures {
        data.extend(picture.with_channels(channels).pixels);
    }
    Ok(Pixels { channels, height, width, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Layout {
        layout(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn classes_are_found_at_the_top_below_one_folder_and_below_splits() {
        assert_eq!(of(&["a/1.png", "b/1.png"]), Layout { prefix: "".into(), splits: false });
        assert_eq!(of(&["set/a/1.png", "set/b/1.png"]), Layout { prefix: "set/".into(), splits: false });
        assert_eq!(of(&["set/train/a/1.png", "set/test/a/2.png"]), Layout { prefix: "set/".into(), splits: true });
        assert_eq!(of(&["train/a/1.png", "train/b/2.png"]), Layout { prefix: "".into(), splits: true });
        assert_eq!(of(&["x.png"]), Layout { prefix: "".into(), splits: false });
        assert_eq!(of(&[]), Layout { prefix: "".into(), splits: false });
    }

    #[test]
    fn deeper_folders_belong_to_the_class_above_them() {
        let layout = of(&["a/day1/1.png", "b/1.png"]);
        assert_eq!(layout.place("a/day1/1.png"), Some((None, "a")));
        assert_eq!(layout.place("stray.png"), None);
        assert!(layout.is_class_folder("a") && !layout.is_class_folder("a/day1"));
    }

    #[test]
    fn hidden_files_and_other_extensions_are_no_images() {
        assert!(is_image("a/b.JPG") && is_image("x.pgm"));
        assert!(!is_image("a/readme.txt") && !is_image("png") && !is_image(".png"));
        assert!(is_hidden("a/._x.png") && is_hidden("__MACOSX/a.png") && !is_hidden("a/x.png"));
    }
}
