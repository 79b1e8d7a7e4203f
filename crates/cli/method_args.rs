//! How to prune, by name: flags that `prune` and `shrink` share.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::Args;
use sentei_graph::{Graph, Op};
use sentei_prune::config::PruneConfig;
use sentei_prune::granularity::Granularity;
use sentei_prune::methods::{Method, method, methods};
use sentei_prune::{Layer, LayerKind, layers, prunable_layers};

use crate::exit::usage;
use crate::recipe::{Recipe, RecipeArgs};

/// Flags that choose how to prune.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "How to prune (a method, or its parts one by one)")]
pub struct MethodArgs {
    /// Method of a paper, listed below by --help [default: what the recipe's [prune] table says]
    #[arg(long, value_name = "M")]
    pub method: Option<String>,
    /// How much each layer keeps: global, uniform, uniform_plus, erk, or TOML such as '{ global = { floor = 0.02 } }'
    #[arg(long, value_name = "NAME|TOML")]
    distribution: Option<String>,
    /// What is removed together: unstructured, 2:4 (or any N:M: N of every M weights along the input channels stay, which
    /// fixes the density), block (4 neighbouring output channels), 1x4 (or any RxC: R output times C input channels), or TOML such as
    /// '{ block = { rows = 8 } }'
    #[arg(long, value_name = "NAME|N:M|RxC|TOML")]
    granularity: Option<String>,
    /// When weights go: one_shot, iterative, cubic, ac_dc, rigl, set, reselect, or TOML such as '{ iterative = { rounds = 5 } }'
    #[arg(long, value_name = "NAME|TOML")]
    schedule: Option<String>,
    /// What the optimiser moves: plain, sign_in, ham, sr_ste, or TOML such as '{ sign_in = { reset_period = 2 } }'
    #[arg(long, value_name = "NAME|TOML")]
    parameterisation: Option<String>,
}

impl MethodArgs {
    /// The recipe that [`MethodArgs::overlay`] starts from: without the file's own method when the flags name another.
    ///
    /// # Errors
    /// As [`RecipeArgs::resolve`].
    pub fn resolve(&self, recipe: &RecipeArgs) -> Result<Recipe> {
        if self.method.is_some() { recipe.resolve_without_method() } else { recipe.resolve() }
    }

    /// Puts the flags that were given over the recipe: first the method, then its parts.
    ///
    /// # Errors
    /// Exit code 2 with a name that is not known, naming those that are.
    pub fn overlay(&self, recipe: &mut Recipe) -> Result<()> {
        if let Some(name) = &self.method {
            recipe.method = Some(name.clone());
            apply(name, &mut recipe.prune, "--method")?;
        }
        let prune = &mut recipe.prune;
        if let Some(text) = &self.distribution {
            prune.distribution = one("distribution", text)?.distribution;
        }
        if let Some(text) = &self.granularity {
            prune.granularity = one("granularity", &pattern(text))?.granularity;
        }
        if let Some(text) = &self.schedule {
            prune.schedule = one("schedule", text)?.schedule;
        }
        if let Some(text) = &self.parameterisation {
            prune.parameterisation = one("parameterisation", text)?.parameterisation;
        }
        forget_if_changed(recipe);
        Ok(())
    }
}

/// Takes the method's name off a recipe that is something else by now: it would undo the flags when the recipe is read again.
pub fn forget_if_changed(recipe: &mut Recipe) {
    let found = recipe.method.as_ref().and_then(|name| method(name));
    if found.is_some_and(|m| m.configure(&recipe.prune) != recipe.prune) {
        recipe.method = None;
    }
}

/// Makes `prune` the method of that name.
///
/// * `place`: the flag or key that holds the name.
///
/// # Errors
/// Exit code 2 when there is none, naming those that are.
pub fn apply(name: &str, prune: &mut PruneConfig, place: &str) -> Result<()> {
    let Some(found) = method(name) else {
        let names: Vec<&str> = methods().iter().map(|m| m.name).chain([crate::prune_blocks::METHOD]).collect();
        return usage(format!("{place} `{name}` is unknown; there are: {}", names.join(", ")));
    };
    *prune = found.configure(prune);
    Ok(())
}

/// Whether epochs of retraining change what `method` does: some retrain for none, some train from initial weights.
pub fn obeys_retrain_epochs(method: &Method, recipe: &Recipe) -> bool {
    let epochs = |retrain: u64| {
        let mut base = recipe.prune.clone();
        base.retrain.epochs = retrain;
        method.configure(&base).training_epochs(&recipe.train)
    };
    epochs(1) != epochs(2)
}

/// `2:4` and `1x4` as the TOML they stand for; anything else as it is.
fn pattern(text: &str) -> String {
    let numbers = |between: char| {
        let (a, b) = text.split_once(between)?;
        Some((a.trim().parse::<usize>().ok()?, b.trim().parse::<usize>().ok()?))
    };
    match (numbers(':'), numbers('x')) {
        (Some((n, m)), _) => format!("{{ n_m = {{ n = {n}, m = {m} }} }}"),
        (_, Some((rows, columns))) => format!("{{ block = {{ rows = {rows}, columns = {columns} }} }}"),
        _ => text.to_string(),
    }
}

/// Which layers stay dense under an N:M pattern and why, and which have it for nothing, in a sentence; `None` when there
/// are none, or no pattern.
pub fn left_dense(graph: &Graph, prune: &PruneConfig) -> Option<String> {
    let pattern = prune.granularity;
    let Granularity::NM { m, .. } = pattern else { return None };
    let taking_part = prunable_layers(graph, prune.prunable_set());
    let narrow = pattern.left_dense(&taking_part);
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for layer in layers(graph) {
        let inputs = layer.shape.get(1).copied().unwrap_or(0);
        let takes_part = taking_part.contains(&layer);
        let has_pattern = takes_part && !narrow.contains(&layer.name.as_str());
        let why = match has_pattern {
            false if layer.kind == LayerKind::Depthwise => "depthwise, left dense",
            false if !takes_part => "not pruned (prune_first, prune_last), left dense",
            false => "too few input channels, left dense",
            true if is_grouped(graph, &layer) => "has the pattern, but TensorRT runs grouped convolutions dense",
            true if !inputs.is_multiple_of(m) => "has the pattern, but no whole groups: TensorRT runs it dense",
            true => continue,
        };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(layer.name),
            None => reasons.push((why, vec![layer.name])),
        }
    }
    let parts: Vec<String> = reasons.iter().map(|(why, names)| format!("{why}: {}", names.join(", "))).collect();
    (!parts.is_empty()).then(|| format!("{pattern}: {}", parts.join("; ")))
}

/// Whether a convolution with several groups reads the weight of `layer`.
fn is_grouped(graph: &Graph, layer: &Layer) -> bool {
    let node = graph.nodes().find(|(_, node)| graph.name(node.output) == layer.node);
    matches!(node, Some((_, node)) if matches!(&node.op, Op::Conv(conv) if conv.groups > 1))
}

/// A `[prune]` table with this one key, from a name or from TOML.
fn one(key: &str, text: &str) -> Result<PruneConfig> {
    let value = if text.trim_start().starts_with('{') { text.to_string() } else { format!("{text:?}") };
    let parsed = toml::from_str(&format!("{key} = {value}"));
    parsed.or_else(|e| usage(format!("--{key} `{text}`: {}", e.message()))).context("reading a flag as TOML")
}

/// Every method with one line, for `--help` of verbs that prune one model.
pub fn help() -> String {
    let blocks = (crate::prune_blocks::METHOD, "remove whole residual blocks that matter least", "Tang et al. 2023");
    list(Some(blocks))
        + "\nA method that \"trains\" first starts from trained weights: with `prune` those of MODEL, with `shrink` those of the\n\
         dense baseline; afterwards it retrains as [prune.retrain] says. One that removes initial weights starts from the\n\
         weights of MODEL as they are, which should be initial ones (`train --initial FILE` writes them), or with `shrink`\n\
         from those the baseline started from; it then trains for the whole [train] budget.\n\
         \nWhat is removed together (--granularity) goes with every method:\n  \
         unstructured  single weights: most accurate at a given density, run by the sparse kernels\n  \
         2:4, N:M      N of every M weights along the input channels stay, so no --density;\n                \
         TensorRT can run 2:4 sparse where that is faster (`inspect` says which layers qualify);\n                \
         narrower layers stay dense; not with rigl and set\n  \
         block, RxC    4 neighbouring output channels lose the same weights, or R output times C input channels;\n                \
         --density counts blocks; 1x4 is what convolutions in bytes skip (bench --kernels int8)"
}

/// The same for `sweep`, which knows methods that remove weights.
pub fn sweep_help() -> String {
    list(None)
        + "\nA method that \"trains\" first starts from the dense network of its seed, which all of them share, and then retrains as\n\
         [prune.retrain] says (--retrain-epochs). One that removes initial weights starts from those of its seed and trains for\n\
         the whole [train] budget (--epochs). sr-init removes blocks, which no sparsity counts: prune --method sr-init\n\
         --controls compares it with random blocks, the dense network and the small one trained from scratch. n-m\n\
         and sr-ste have one sparsity only, so they are no part of `all`."
}

fn list(more: Option<(&str, &str, &str)>) -> String {
    let rows: Vec<_> = methods().iter().map(|m| (m.name, m.about, m.paper)).chain(more).collect();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut text = "Methods:\n".to_string();
    for (name, about, paper) in rows {
        let _ = writeln!(text, "  {name:width$}  {about} ({paper})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentei_prune::schedule::{Exchange, Schedule};

    fn overlay(args: MethodArgs) -> Result<Recipe> {
        let mut recipe = Recipe::load("inspect")?;
        args.overlay(&mut recipe)?;
        Ok(recipe)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn flags_win_over_the_method_and_the_method_over_the_recipe() {
        let rigl = overlay(MethodArgs { method: some("rigl"), ..MethodArgs::default() }).expect("known");
        assert_eq!((rigl.prune.schedule, rigl.method.as_deref()), (Schedule::RIGL, Some("rigl")));
        let schedule = some("{ set = { every_steps = 5 } }");
        let set = overlay(MethodArgs { method: some("rigl"), schedule, ..MethodArgs::default() }).expect("known");
        assert!(matches!(set.prune.schedule, Schedule::Set(Exchange { every_steps: 5, .. })));
        assert_eq!((set.prune.start, set.method), (rigl.prune.start, None));
    }

    #[test]
    fn a_method_of_the_flags_does_not_inherit_from_the_recipes_own() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "method = \"lomp\"\n[prune.retrain]\nepochs = 7\n").expect("written");
        let recipe = RecipeArgs { recipe: some(&file.path().display().to_string()), ..RecipeArgs::default() };
        let resolved = |method: Option<String>| {
            let args = MethodArgs { method, ..MethodArgs::default() };
            let mut found = args.resolve(&recipe).expect("reads");
            args.overlay(&mut found).expect("known");
            found
        };
        assert_eq!(resolved(None).prune.retrain.epochs, 0, "lomp does not retrain");
        let magnitude = resolved(some("magnitude"));
        assert_eq!((magnitude.prune.retrain.epochs, magnitude.method.as_deref()), (7, Some("magnitude")));
        assert_eq!(magnitude.prune.distribution, Default::default());
        let mut changed = resolved(None);
        changed.prune.retrain.epochs = 3;
        forget_if_changed(&mut changed);
        assert_eq!(changed.method, None, "read again, lomp would undo the three epochs");
    }

    #[test]
    fn granularities_have_short_names() {
        let given = |text| overlay(MethodArgs { granularity: some(text), ..MethodArgs::default() });
        for (text, expected) in [
            ("2:4", Granularity::TWO_OF_FOUR),
            ("1:4", Granularity::NM { n: 1, m: 4 }),
            ("block", Granularity::Block { rows: 4, columns: 1 }),
            ("{ block = { rows = 8 } }", Granularity::Block { rows: 8, columns: 1 }),
            ("1x4", Granularity::Block { rows: 1, columns: 4 }),
            ("unstructured", Granularity::Unstructured),
        ] {
            assert_eq!(given(text).expect("known").prune.granularity, expected, "{text}");
        }
        let error = format!("{:#}", given("two:4").expect_err("no numbers"));
        assert!(error.contains("two:4") && error.contains("unstructured"), "{error}");
        // A pattern that cannot be is refused where every recipe is checked.
        assert!(given("4:2").expect("numbers").check().is_err());
        let pattern = MethodArgs { method: some("n-m"), granularity: some("1:4"), ..MethodArgs::default() };
        assert_eq!(overlay(pattern).expect("known").method.as_deref(), Some("n-m"), "another N:M is still that method");
    }

    #[test]
    fn unknown_names_say_which_are_known() {
        let text = |args| format!("{:#}", overlay(args).expect_err("unknown"));
        assert!(text(MethodArgs { method: some("sipn"), ..MethodArgs::default() }).contains("magnitude"));
        assert!(
            text(MethodArgs { distribution: some("erc"), ..MethodArgs::default() }).contains("--distribution `erc`")
        );
        assert!(help().lines().count() > 20);
        let rows = |text: &str| text.lines().filter(|l| l.starts_with("  sr-init ")).count();
        assert_eq!((rows(&help()), rows(&sweep_help())), (1, 0), "a sweep lists what it takes");
    }

    #[test]
    fn layers_that_a_pattern_passes_by_are_named_with_the_reason() {
        let graph = Graph::parse(
            "x = input f32[1,3,8,8]
             a = Conv(x, stem[8,3,3,3]) pad=1
             b = Conv(a, dw[8,1,3,3]) groups=8 pad=1
             c = Conv(b, halves[12,4,1,1]) groups=2
             d = Conv(c, whole[6,12,1,1])
             p = GlobalAveragePool(d)
             f = Flatten(p)
             y = Gemm(f, ragged[8,6], p1[8])
             z = Gemm(y, last[2,8])",
        )
        .expect("a graph");
        let pattern =
            PruneConfig { granularity: Granularity::TWO_OF_FOUR, prune_last: false, ..PruneConfig::default() };
        assert_eq!(
            left_dense(&graph, &pattern).expect("some"),
            "2:4: too few input channels, left dense: stem; depthwise, left dense: dw; has the pattern, but TensorRT runs \
             grouped convolutions dense: halves; has the pattern, but no whole groups: TensorRT runs it dense: ragged; not \
             pruned (prune_first, prune_last), left dense: last"
        );
        assert_eq!(left_dense(&graph, &PruneConfig::default()), None);
        let plain = Graph::parse("x = input f32[1,8]\ny = Gemm(x, w[4,8])").expect("a graph");
        assert_eq!(left_dense(&plain, &PruneConfig { prune_last: true, ..pattern }), None);
    }
}
