//! From what a reader found to a [`Dataset`]: one shape for all, labels, splits, checks.

use crate::dataset::{Dataset, Split};
use crate::error::DataError;
use crate::picture::Picture;
use crate::read::ReadOptions;
use crate::split::{Row, complete};
use crate::split_file::SplitFile;
use rayon::prelude::*;

/// Images of one shape, `[sample, channel, row, column]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub data: Vec<u8>,
}

impl Pixels {
    pub(crate) fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Brings all images to the channels and size asked for.
    pub(crate) fn shaped(self, name: &str, options: &ReadOptions) -> Result<Pixels, DataError> {
        let channels = options.channels.unwrap_or(self.channels);
        let (height, width) = options.size.unwrap_or((self.height, self.width));
        if (channels, height, width) == (self.channels, self.height, self.width) {
            return Ok(self);
        }
        let count = self.data.len() / self.image_len();
        count
            .checked_mul(channels * height * width)
            .filter(|&bytes| bytes as u64 <= options.byte_budget)
            .ok_or_else(|| DataError::OverBudget { name: name.into(), budget: options.byte_budget })?;
        let images: Vec<Vec<u8>> = self
            .data
            .par_chunks_exact(self.image_len())
            .map(|pixels| {
                let picture = Picture {
                    channels: self.channels,
                    height: self.height,
                    width: self.width,
                    pixels: pixels.to_vec(),
                };
                picture.with_channels(channels).resized((height, width)).pixels
            })
            .collect();
        Ok(Pixels { channels, height, width, data: images.concat() })
    }
}

/// A data set before its splits are complete.
#[derive(Debug)]
pub(crate) struct Draft {
    pub name: String,
    pub classes: Vec<String>,
    pub sample_names: Vec<String>,
    pub rows: Vec<Row>,
    pub pixels: Pixels,
    pub notes: Vec<String>,
}

impl Draft {
    /// Takes splits, groups, class names and, where there were none, labels from a split file with one row per image.
    ///
    /// `labels` are those of a labels file; a `label` column must agree with them.
    pub(crate) fn use_split_file(&mut self, file: &SplitFile, labels: Option<&[u32]>) -> Result<(), DataError> {
        let lines = file.by_index(self.rows.len())?;
        if let Some(classes) = file.classes()? {
            self.classes = classes;
        }
        for (index, line) in lines.into_iter().enumerate() {
            let named = line.class.as_ref().and_then(|class| self.classes.iter().position(|c| c == class));
            let label = line.label.or(named.map(|label| label as u32));
            let row = &mut self.rows[index];
            match (label, labels.map(|labels| labels[index])) {
                (Some(label), Some(stored)) if line.label.is_some() && label != stored => {
                    return Err(file.fault(format!(
                        "line {}: label {label}, but the labels file says {stored} for image {index}",
                        line.number
                    )));
                }
                (_, Some(stored)) => row.label = stored,
                (Some(label), None) => row.label = label,
                (None, None) if line.split == Some(Split::Dropped) => {}
                (None, None) => {
                    return Err(file.fault(format!("line {}: no label, and there is no labels file", line.number)));
                }
            }
            row.given = line.split.or(row.given);
            row.group = line.group.clone();
            if let Some(name) = &line.file {
                self.sample_names[index] = name.clone();
            }
        }
        self.notes.push(format!("labels, groups or splits taken from {}", file.path.display()));
        Ok(())
    }

    /// Checks, shapes the pixels and draws the splits that are not given.
    pub(crate) fn finish(mut self, options: &ReadOptions) -> Result<Dataset, DataError> {
        if self.classes.len() < 2 {
            return Err(DataError::TooFewClasses { name: self.name, found: self.classes.len() });
        }
        if let Some(row) = self.rows.iter().find(|row| row.label as usize >= self.classes.len()) {
            return Err(DataError::Option(format!(
                "`{}`: label {} found, but only {} class names",
                self.name,
                row.label,
                self.classes.len()
            )));
        }
        let splits = complete(&self.rows, options.split, options.seed);
        for (split, ratio) in [(Split::Val, options.split.val), (Split::Test, options.split.test)] {
            let given = self.rows.iter().any(|row| row.given == Some(split));
            if !given && splits.contains(&split) {
                self.notes.push(format!(
                    "{} split drawn with seed {}: {:.0} % of the training images{}",
                    split.name(),
                    options.seed,
                    100.0 * ratio,
                    if self.rows.iter().any(|row| row.group.is_some()) { ", whole groups" } else { " of each class" },
                ));
            }
        }
        if !splits.contains(&Split::Train) {
            return Err(DataError::NoTraining(self.name));
        }
        let pixels = self.pixels.shaped(&self.name, options)?;
        Ok(Dataset {
            name: self.name,
            classes: self.classes,
            channels: pixels.channels,
            height: pixels.height,
            width: pixels.width,
            images: pixels.data,
            labels: self.rows.iter().map(|row| row.label).collect(),
            sample_names: self.sample_names,
            splits,
            notes: self.notes,
        })
    }
}
