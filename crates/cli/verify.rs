//! `sentei verify`: recomputes the hashes of a run folder, link by link.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::lineage::Lineage;
use crate::output::Output;
use crate::{data_recipe, files};

/// Recomputes every hash of a run: data, recipe, seed, each file, and what each file was made from.
#[derive(clap::Args)]
pub struct Args {
    /// Run folder, as written by `sentei shrink`
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Where the images lie now, if they moved
    #[arg(long, value_name = "PATH", conflicts_with = "skip_data")]
    data: Option<String>,
    /// Do not read the images again (the data link stays unchecked)
    #[arg(long)]
    skip_data: bool,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let lineage = Lineage::read(&args.run)?;
    let mut broken = lineage.broken(&args.run)?;
    let recipe = files::read_text(&args.run.join("recipe.toml"))?;
    let data_checked = !args.skip_data;
    if data_checked {
        let mut data = toml::from_str::<DataOnly>(&recipe)?.data;
        data.source = args.data.clone().unwrap_or(data.source);
        let found = data_recipe::open(&data)
            .context("reading the images of the run (--data if they moved, --skip-data to leave them out)")?
            .manifest_sha256();
        if found != lineage.data.manifest_sha256 {
            broken.push(format!("the images at {} are not those of this run", lineage.data.source));
        }
    }
    for link in &lineage.files {
        let mark = if broken.iter().any(|b| b.starts_with(&format!("{} ", link.name))) { "BROKEN" } else { "ok" };
        out.say(format!("{mark:6} {}  {}  from {}", &link.sha256[..12], link.name, link.from.join(", ")));
    }
    out.say(match (data_checked, broken.is_empty()) {
        (false, _) => "images not checked (--skip-data)".to_string(),
        (true, _) => format!("images {}: {}", lineage.data.source, &lineage.data.manifest_sha256[..12]),
    });
    out.object(&json!({
        "run_dir": args.run,
        "intact": broken.is_empty(),
        "broken": broken,
        "data_checked": data_checked,
        "files": lineage.files,
    }));
    if !broken.is_empty() {
        bail!("{} is not what its lineage says: {}", args.run.display(), broken.join("; "));
    }
    out.say("every link holds");
    Ok(())
}

/// The one table of a recipe that says which images a run saw; the rest needs a build with `prune` to be understood.
#[derive(serde::Deserialize)]
struct DataOnly {
    data: data_recipe::DataRecipe,
}
