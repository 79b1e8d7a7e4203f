//! Split file: a CSV whose rows say, per image, the split and optionally label, class name and group.

use crate::dataset::Split;
use crate::error::DataError;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One row; what its columns said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub number: u64,
    pub index: Option<usize>,
    pub file: Option<String>,
    pub split: Option<Split>,
    pub label: Option<u32>,
    pub class: Option<String>,
    pub group: Option<String>,
}

/// A split file in row order. Every row has an index, a file, or both.
#[derive(Debug)]
pub(crate) struct SplitFile {
    pub path: PathBuf,
    pub lines: Vec<Line>,
}

impl SplitFile {
    /// Reads columns `index`, `file`, `split`, `label`, `class`, `group`; others are ignored.
    pub(crate) fn read(path: &Path, budget: u64) -> Result<SplitFile, DataError> {
        let file = std::fs::File::open(path).map_err(DataError::io(path, budget))?;
        let size = file.metadata().map_err(DataError::io(path, budget))?.len();
        if size > budget {
            return Err(DataError::OverBudget { name: path.display().to_string(), budget });
        }
        let fault = |reason: String| DataError::SplitFile { path: path.to_path_buf(), reason };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|e| fault(e.to_string()))?.clone();
        let column =
            |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        let columns = ["index", "file", "split", "label", "class", "group"].map(column);
        let [index, member, split, _, class, group] = columns;
        if index.is_none() && member.is_none() {
            return Err(fault("needs a column `index` or `file`".into()));
        }
        if split.is_none() && class.is_none() && group.is_none() {
            return Err(fault("needs a column `split`, `class` or `group`".into()));
        }
        let mut lines = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| fault(e.to_string()))?;
            let number = record.position().map_or(0, csv::Position::line);
            let [index, file, split, label, class, group] =
                columns.map(|c| c.and_then(|c| record.get(c)).filter(|text| !text.is_empty()));
            let parse = |what: &str, text: Option<&str>| {
                text.map(|t| {
                    t.parse::<u32>().map_err(|_| fault(format!("line {number}: {what} `{t}` is not a number")))
                })
                .transpose()
            };
            let split = split
                .map(|t| {
                    split_named(t)
                        .ok_or_else(|| fault(format!("line {number}: split `{t}` is none of train, val, test, drop*")))
                })
                .transpose()?;
            if index.is_none() && file.is_none() {
                return Err(fault(format!("line {number}: neither index nor file is given")));
            }
            lines.push(Line {
                number,
                index: parse("index", index)?.map(|i| i as usize),
                file: file.map(|f| f.trim_start_matches("./").replace('\\', "/")),
                split,
                label: parse("label", label)?,
                class: class.map(str::to_string),
                group: group.map(str::to_string),
            });
        }
        Ok(SplitFile { path: path.to_path_buf(), lines })
    }

    pub(crate) fn fault(&self, reason: impl Into<String>) -> DataError {
        DataError::SplitFile { path: self.path.clone(), reason: reason.into() }
    }

    /// Rows in image order, for images known by number only: every image exactly once.
    pub(crate) fn by_index(&self, images: usize) -> Result<Vec<&Line>, DataError> {
        if self.lines.len() != images {
            return Err(self.fault(format!("has {} rows for {images} images", self.lines.len())));
        }
        let mut out: Vec<Option<&Line>> = vec![None; images];
        for (position, line) in self.lines.iter().enumerate() {
            let index = line.index.unwrap_or(position);
            let Some(slot) = out.get_mut(index) else {
                return Err(self.fault(format!("line {}: index {index} is not below {images}", line.number)));
            };
            if slot.replace(line).is_some() {
                return Err(self.fault(format!("line {}: index {index} appears twice", line.number)));
            }
        }
        // As many rows as images and none twice: every slot is filled.
        Ok(out.into_iter().flatten().collect())
    }

    /// For each image name, its row; `None` for an image the file does not name.
    ///
    /// A row must name an image that exists, once. Names match in full, or without the folders that all names share.
    pub(crate) fn by_name(&self, names: &[String], shared_prefix: &str) -> Result<Vec<Option<&Line>>, DataError> {
        let position: HashMap<&str, usize> = names
            .iter()
            .enumerate()
            .flat_map(|(i, name)| [(name.as_str(), i), (name.strip_prefix(shared_prefix).unwrap_or(name), i)])
            .collect();
        let mut out = vec![None; names.len()];
        for line in &self.lines {
            let Some(file) = &line.file else {
                return Err(self.fault(format!("line {}: needs a `file` to match images by name", line.number)));
            };
            let Some(&index) = position.get(file.as_str()) else {
                return Err(self.fault(format!("line {}: there is no image `{file}`", line.number)));
            };
            if out[index].replace(line).is_some() {
                return Err(self.fault(format!("line {}: image `{file}` appears twice", line.number)));
            }
        }
        Ok(out)
    }

    /// Class names from the `class` column, in order of `label` where given, else sorted; `None` without that column.
    ///
    /// Only rows that are not dropped define classes, unless they carry a label.
    pub(crate) fn classes(&self) -> Result<Option<Vec<String>>, DataError> {
        let named: Vec<&Line> = self.lines.iter().filter(|line| line.class.is_some()).collect();
        if named.is_empty() {
            return Ok(None);
        }
        let mut by_label: BTreeMap<u32, &str> = BTreeMap::new();
        let mut unlabelled: Vec<&str> = Vec::new();
        for line in named {
            let class = line.class.as_deref().unwrap_or_default();
            match line.label {
                Some(label) => {
                    let first = by_label.entry(label).or_insert(class);
                    if *first != class {
                        return Err(self.fault(format!(
                            "line {}: label {label} is class `{first}` before and `{class}` here",
                            line.number
                        )));
                    }
                }
                None if line.split != Some(Split::Dropped) => unlabelled.push(class),
                None => {}
            }
        }
        if by_label.is_empty() {
            unlabelled.sort_unstable();
            unlabelled.dedup();
            return Ok(Some(unlabelled.into_iter().map(str::to_string).collect()));
        }
        if by_label.keys().copied().ne(0..by_label.len() as u32) {
            return Err(self.fault("labels do not run from 0 without gaps"));
        }
        Ok(Some(by_label.into_values().map(str::to_string).collect()))
    }
}

/// The split a word stands for, in split files and as folder names.
pub(crate) fn split_named(text: &str) -> Option<Split> {
    match text.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        other if other.starts_with("drop") => Some(Split::Dropped),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SplitFile, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.csv");
        std::fs::write(&path, text).unwrap();
        SplitFile::read(&path, 1 << 20)
    }

    #[test]
    fn columns_are_found_by_name_and_rows_by_index() {
        let file = read("split,index,class,label\nval,1,b,1\ndrop_multi,0,a,0\n").unwrap();
        let rows = file.by_index(2).unwrap();
        assert_eq!((rows[0].split, rows[1].split), (Some(Split::Dropped), Some(Split::Val)));
        assert_eq!(file.classes().unwrap().unwrap(), ["a", "b"]);
    }

    #[test]
    fn without_index_the_rows_are_in_image_order() {
        let file = read("file,split\nx.png,test\ny.png,train\n").unwrap();
        assert_eq!(file.by_index(2).unwrap()[0].split, Some(Split::Test));
        assert_eq!(file.classes().unwrap(), None);
    }

    #[test]
    fn names_match_in_full_or_without_the_shared_folder() {
        let file = read("file,split\na/x.png,test\nroot/b/y.png,train\n").unwrap();
        let names = ["root/a/x.png", "root/b/y.png", "root/b/z.png"].map(String::from);
        let rows = file.by_name(&names, "root/").unwrap();
        let splits: Vec<_> = rows.iter().map(|row| row.and_then(|r| r.split)).collect();
        assert_eq!(splits, [Some(Split::Test), Some(Split::Train), None]);
    }

    #[test]
    fn every_malformed_file_is_an_error_with_its_reason() {
        let reason = |text: &str| read(text).unwrap_err().to_string();
        assert!(reason("split\ntrain\n").contains("`index` or `file`"));
        assert!(reason("index\n0\n").contains("needs a column `split`"));
        assert!(reason("index,split\n0,maybe\n").contains("line 2: split `maybe`"));
        assert!(reason("index,split\nx,train\n").contains("index `x` is not a number"));
        assert!(reason("index,split\n0,train,extra\n").contains("split file"));
        assert!(reason("index,split\n,train\n").contains("neither index nor file"));
        let rows = |text: &str, n| read(text).unwrap().by_index(n).unwrap_err().to_string();
        assert!(rows("index,split\n0,train\n0,val\n", 2).contains("appears twice"));
        assert!(rows("index,split\n0,train\n5,val\n", 2).contains("not below 2"));
        assert!(rows("index,split\n0,train\n", 2).contains("1 rows for 2 images"));
        let names = ["a.png".to_string()];
        let named = |text: &str| read(text).unwrap().by_name(&names, "").unwrap_err().to_string();
        assert!(named("file,split\nb.png,train\n").contains("no image `b.png`"));
        assert!(named("file,split\na.png,train\na.png,val\n").contains("appears twice"));
        assert!(named("index,split\n0,train\n").contains("needs a `file`"));
        let classes = |text: &str| read(text).unwrap().classes().unwrap_err().to_string();
        assert!(classes("index,class,label\n0,a,0\n1,b,0\n").contains("class `a` before"));
        assert!(classes("index,class,label\n0,a,0\n1,b,2\n").contains("gaps"));
    }
}
