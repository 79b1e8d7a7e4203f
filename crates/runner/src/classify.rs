//! Images in, verdicts out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sentei_runtime::{Engine, HostTensor, LoadOptions, Session};

use crate::error::RunnerError;
use crate::preprocessing::Preprocessing;

/// A loaded model that knows its classes and how pixels become its input.
pub struct Classifier {
    name: PathBuf,
    session: Box<dyn Session>,
    preprocessing: Preprocessing,
    /// Channels, height, width.
    shape: [usize; 3],
}

/// What a model says about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Every class with its probability, most probable first.
    pub ranked: Vec<(String, f64)>,
    /// Time of the network, without reading the image.
    pub milliseconds: f64,
}

impl Classifier {
    /// Loads a model.
    ///
    /// * `name`: its file, for messages.
    /// * `bytes`: the ONNX file.
    ///
    /// # Errors
    /// [`RunnerError::Model`] from the engine; [`RunnerError::Description`] when the model does not say its classes and pixel
    /// scaling, or does not take one image.
    pub fn load(name: &Path, bytes: &[u8], engine: &dyn Engine, options: &LoadOptions) -> Result<Self, RunnerError> {
        let metadata = sentei_runtime::metadata(bytes).map_err(RunnerError::of_model(name))?;
        let Some(preprocessing) = Preprocessing::read(&metadata)? else {
            return Err(RunnerError::Description(format!(
                "{} does not say its classes and pixel scaling (write them with `sentei compile --classes --mean --std`)",
                name.display()
            )));
        };
        let session = engine.load(bytes, options).map_err(RunnerError::of_model(name))?;
        let facts = session.inputs();
        let shape: Vec<usize> = facts.iter().flat_map(|fact| &fact.shape).map(|d| d.unwrap_or(1)).collect();
        let ([_, channels, height, width], 1) = (&shape[..], facts.len()) else {
            return Err(RunnerError::Description(format!(
                "{} takes {} inputs of shape {shape:?}, expected one of shape [1, channels, height, width]",
                name.display(),
                facts.len()
            )));
        };
        let shape = [*channels, *height, *width];
        let scaled = preprocessing.normalise.mean.len();
        if scaled != shape[0] {
            return Err(RunnerError::Description(format!(
                "{} takes {} channels, its pixel scaling is for {scaled}",
                name.display(),
                shape[0]
            )));
        }
        Ok(Self { name: name.to_owned(), session, preprocessing, shape })
    }

    /// The loaded model.
    pub fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// Reads one image (PNG, JPEG, BMP, PNM), scales it to the model's input and runs it.
    ///
    /// # Errors
    /// [`RunnerError::Image`] for a file that is no image, [`RunnerError::Model`] when the run fails.
    pub fn classify(&mut self, image: &Path) -> Result<Verdict, RunnerError> {
        let [channels, height, width] = self.shape;
        let picture = sentei_data::read_picture(image, channels, (height, width))?;
        let values = self.preprocessing.normalise.image(&picture.pixels);
        let tensor = HostTensor::new(vec![1, channels, height, width], values);
        let tensor = tensor.map_err(RunnerError::of_model(&self.name))?;
        let started = Instant::now();
        let outputs = self.session.run(&[tensor]).map_err(RunnerError::of_model(&self.name))?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let logits = outputs.first().map(|output| &output.data[..]).unwrap_or_default();
        Ok(Verdict { ranked: rank(logits, &self.preprocessing.classes)?, milliseconds })
    }
}

/// Classes with their softmax probability, most probable first.
///
/// # Errors
/// [`RunnerError::Description`] when there are not as many logits as classes.
pub fn rank(logits: &[f32], classes: &[String]) -> Result<Vec<(String, f64)>, RunnerError> {
    if logits.len() != classes.len() || logits.is_empty() {
        return Err(RunnerError::Description(format!(
            "the model has {} outputs for {} classes",
            logits.len(),
            classes.len()
        )));
    }
    let mut ranked: Vec<(String, f64)> =
        classes.iter().cloned().zip(probabilities(logits).into_iter().map(f64::from)).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(ranked)
}

/// Softmax of one row of logits.
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|z| f64::from(z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / sum) as f32).collect()
}

/// The files named, and the images inside the folders named, in name order.
///
/// # Errors
/// [`RunnerError::Io`] for a folder that cannot be read, [`RunnerError::Description`] for one without images.
pub fn images(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RunnerError> {
    let is_image = |path: &Path| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| ["png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pnm"].contains(&e.as_str()))
    };
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(RunnerError::io("reading", path))?;
            let mut inside: Vec<PathBuf> =
                entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_image(p)).collect();
            inside.sort();
            if inside.is_empty() {
                return Err(RunnerError::Description(format!(
                    "{} holds no PNG, JPEG, BMP or PNM image",
                    path.display()
                )));
            }
            found.extend(inside);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_even_for_huge_logits() {
        let p = probabilities(&[1e4, 1e4, -1e4]);
        assert_eq!(p, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_most_probable_class_comes_first() {
        let ranked = rank(&[0.0, 2.0, 1.0], &["a".into(), "b".into(), "c".into()]).expect("fits");
        assert_eq!(ranked.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert!(rank(&[0.0], &[]).is_err() && rank(&[], &[]).is_err());
    }

    #[test]
    fn a_folder_gives_its_images_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpg", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = images(&[folder.path().to_owned(), "x.pgm".into()]).unwrap();
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.jpg", "b.PNG", "x.pgm"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(images(&[empty.path().to_owned()]).unwrap_err().to_string().contains("holds no PNG"));
    }
}
