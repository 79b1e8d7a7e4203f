//! A study is a folder with `report.md`, `report.json` and its plots, each written whole or not at all.

use std::path::Path;

use anyhow::{Context, Result};
use sentei_report::plot::Plot;
use serde::Serialize;

use crate::files;

/// What an experiment leaves behind for people and for scripts.
pub struct Study;

impl Study {
    /// Writes a study into `dir`, which is made when it is not there; files of an earlier study of that name are replaced.
    ///
    /// * `markdown`: the report; plots that it does not show itself are appended to it;
    /// * `json`: the same in numbers;
    /// * `plots`: file name without `.svg`, and the plot.
    ///
    /// # Errors
    /// When a plot has nothing to show, or nothing can be written there.
    pub fn write(dir: &Path, markdown: &str, json: &impl Serialize, plots: &[(&str, Plot)]) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {} (choose another with -o)", dir.display()))?;
        let mut page = markdown.trim_end().to_string() + "\n";
        for (name, plot) in plots {
            let file = format!("{name}.svg");
            files::write_atomic(&dir.join(&file), plot.svg()?.as_bytes())?;
            if !page.contains(&format!("({file})")) {
                page += &format!("\n![{}]({file})\n", plot.title.replace(['[', ']'], ""));
            }
        }
        let numbers = serde_json::to_string_pretty(json).context("writing the study as JSON")? + "\n";
        files::write_atomic(&dir.join("report.json"), numbers.as_bytes())?;
        Ok(files::write_atomic(&dir.join("report.md"), page.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use sentei_report::plot::{Point, Series};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_study_shows_each_plot_once() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let series = vec![Series { name: "a".into(), points: vec![Point::new(1.0, 2.0)], line: true }];
        let plot = Plot { title: "T".into(), series, ..Plot::default() };
        let dir = folder.path().join("deep").join("study");
        let plots = [("shown", plot.clone()), ("other", plot)];
        Study::write(&dir, "# Title\n\n![x](shown.svg)\n", &json!({ "n": 1 }), &plots).expect("written");
        let page = files::read_text(&dir.join("report.md")).expect("there");
        assert_eq!(page, "# Title\n\n![x](shown.svg)\n\n![T](other.svg)\n");
        assert!(files::read_text(&dir.join("other.svg")).expect("there").starts_with("<svg"));
        assert_eq!(files::read_text(&dir.join("report.json")).expect("there"), "{\n  \"n\": 1\n}\n");
    }
}
