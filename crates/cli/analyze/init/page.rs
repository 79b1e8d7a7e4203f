//! The report of a study for people.

use std::fmt::Write;

use sentei_data::{Dataset, Split};
use sentei_prune::config::{PruneConfig, SelectBy};
use sentei_prune::distribution::Distribution;
use sentei_prune::survivors::Survivors;
use sentei_report::ablation::{BLUNT_POINTS, ERRORS, Finding, LEARNED_POINTS, SLACK_POINTS, stated_confidence};
use sentei_report::format;
use sentei_report::stats::MeanInterval;
use sentei_report::table::Table;

use super::arm::Arm;
use super::collect::{Results, Share, Summary};
use super::plan::{CONTROL, InitPlan, Variant};

/// What is written and what is said.
pub struct Page {
    /// `report.md`.
    pub markdown: String,
    /// The table and the verdicts, for the terminal.
    pub summary: String,
}

/// Both texts of a study.
pub fn page(plan: &InitPlan, results: &Results, data: &Dataset) -> Page {
    let mut summary = accuracies(plan, results).markdown() + "\n";
    for method in &results.methods {
        let _ = writeln!(summary, "{}", verdict(method));
    }
    for alarm in results.alarms() {
        let _ = writeln!(summary, "\nALARM {alarm}");
    }
    for (job, why) in &results.failed {
        let _ = writeln!(summary, "\nmissing: {} {} seed {}: {why}", job.method, job.variant, job.seed);
    }
    let mut text = format!("# Masks at initialisation on {}\n\n{}\n", data.name, conditions(plan, data));
    let _ = writeln!(text, "## Accuracy and verdicts\n\n{summary}");
    let _ = writeln!(text, "{}", rule(plan));
    let _ = writeln!(text, "![Accuracy](accuracy.svg)\n\n## Layer densities\n\n{}", densities(results).markdown());
    let _ = writeln!(text, "![Layer densities](densities.svg)\n");
    let _ = writeln!(
        text,
        "As recipes: a random mask of the same densities, one per method. Put one into a TOML file with `[data]`, `[train]` and `model`.\n"
    );
    for method in results.methods.iter().filter(|m| m.name != CONTROL && !m.layers.is_empty()) {
        let _ = writeln!(text, "```toml\n{}```\n", per_layer(plan, method));
    }
    let _ = writeln!(text, "## What survives\n\n{SURVIVORS}\n");
    for method in &results.methods {
        let table = survivors(results, method);
        if !table.is_empty() {
            let _ = writeln!(text, "### {}\n\n{}", method.name, table.markdown());
        }
    }
    Page { markdown: text, summary }
}

const SURVIVORS: &str = "The kept weights of each layer, averaged over seeds: standard deviation in units of that of all the layer's weights \
before training, and kurtosis (3 for a normal distribution, 1.8 for a uniform one, towards 1 for two separate tails), for the original mask before and \
after training. KS is the two-sample Kolmogorov-Smirnov distance (0 same distribution, 1 disjoint, to within 0.005) between the original's survivors and \
those under the shuffled mask or fresh weights, before and after training. Means, histograms and single seeds are in `report.json`.";

fn conditions(plan: &InitPlan, data: &Dataset) -> String {
    let (recipe, control) = (&plan.recipe, &plan.control);
    let quality = match recipe.train.select_by {
        SelectBy::BalancedAccuracy => "balanced accuracy",
        SelectBy::Accuracy | SelectBy::Loss => "accuracy",
    };
    let [train, val] = [Split::Train, Split::Val].map(|s| data.class_counts(s).iter().sum::<usize>() as u64);
    let limit = match recipe.data.train_limit {
        Some(limit) => format!(
            " The training split was cut to at most {limit} images, as many of each class as there are, drawn with the data seed {}.",
            recipe.data.seed
        ),
        None => String::new(),
    };
    let left_out: Vec<&str> = [
        (control.prune_first, "the first layer"),
        (control.prune_last, "the last layer"),
        (control.prune_depthwise, "depthwise layers"),
    ]
    .iter()
    .filter(|(pruned, _)| !pruned)
    .map(|(_, what)| *what)
    .collect();
    let left_out = match left_out[..] {
        [] => "All layers are prunable.".to_string(),
        _ => format!("Not prunable: {}.", left_out.join(", ")),
    };
    let seeds: Vec<String> = plan.seeds.iter().map(ToString::to_string).collect();
    format!(
        "`{}`, {} of the prunable weights removed ({left_out}), {} training images, {} epochs for every arm and for the dense network, \
         {} epochs after pruning in the control `{CONTROL}`. Seeds {}; the arms of a seed share recipe, data order and budget, and \
         initial weights unless the variant draws new ones.{limit}\n\n\
         Figures are {quality} on the {} validation images, on which each run also chose its best epoch: fair between arms, a little \
         high for all of them. The test split was not read.\n",
        recipe.model,
        format::percent(control.sparsity.unwrap_or(0.0)),
        format::count(train),
        recipe.train.epochs,
        control.retrain.epochs,
        seeds.join(", "),
        format::count(val),
    )
}

fn rule(plan: &InitPlan) -> String {
    let seeds = plan.seeds.len();
    let confidence = match stated_confidence(seeds) {
        Some(share) => format!(
            "With {seeds} seeds, {ERRORS} standard errors cover the true difference in {} of cases",
            format::percent(share)
        ),
        None => "With one seed there is no standard error, so nothing can be told".into(),
    };
    format!(
        "The rule: a difference is variant minus original, paired by seed; its band is {ERRORS} standard errors of the mean plus \
         {SLACK_POINTS} point. *Positions matter* when the shuffled mask loses more than its band. *Only the layer densities matter* when neither \
         shuffle nor fresh weights lose more than theirs and both bands are at most {BLUNT_POINTS} points, so that a greater loss would have \
         shown. When fresh weights alone lose, *the initial weights matter*. Anything else, and an original less than \
         {LEARNED_POINTS} points above guessing: *cannot tell*. {confidence}. Each layer keeps at least {} of its weights in the control, and \
         at least {} where a method ranks the initial weights of the whole network.\n",
        format::percent(floor(&plan.control)),
        format::percent(plan.methods.iter().map(|m| floor(&m.prune)).fold(0.0, f64::max)),
    )
}

/// Least density of a layer under one ranking over all layers.
fn floor(prune: &PruneConfig) -> f64 {
    if let Distribution::Global { floor } = prune.distribution { floor } else { 0.0 }
}

/// One line: the finding, its evidence, its confidence.
fn verdict(method: &Summary) -> String {
    let change = |variant: Variant| {
        let change = method.variants.iter().find(|r| r.variant == variant)?.change?;
        Some(format!("{variant} {change}"))
    };
    let evidence: Vec<String> =
        [Variant::Shuffle, Variant::Reinit, Variant::Inversion].into_iter().filter_map(change).collect();
    let confidence = match (method.finding, stated_confidence(method.seeds)) {
        (Finding::Unclear | Finding::NothingLearned, _) | (_, None) => String::new(),
        (_, Some(share)) => format!("; {} confidence", format::percent(share)),
    };
    let remark = match (method.name == CONTROL && method.seeds > 0, method.finding) {
        (true, Finding::Positions) => " (the control breaks under shuffle, as it should)",
        (true, _) => {
            " (the control should break under shuffle: this study is too small or too easy to show what it asks)"
        }
        _ => "",
    };
    let evidence = if evidence.is_empty() { "nothing to compare".into() } else { evidence.join(", ") };
    format!("- **{}**: {}{remark} [{evidence}{confidence}]", method.name, method.finding.sentence(method.seeds))
}

fn accuracies(plan: &InitPlan, results: &Results) -> Table {
    let variants: Vec<Variant> = plan.variants.clone();
    let mut titles = vec!["Mask".to_string()];
    titles.extend(variants.iter().map(|v| format!("#{v}")));
    titles.extend(variants.iter().filter(|v| **v != Variant::Original).map(|v| format!("#{v} − original")));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let dense = ["dense".to_string(), format::or_unknown(results.dense.as_ref(), percents)];
    table.push(dense.map(Into::into));
    for method in &results.methods {
        let row = |v: &Variant| method.variants.iter().find(|r| r.variant == *v);
        let mut cells = vec![method.name.clone()];
        cells.extend(variants.iter().map(|v| format::or_unknown(row(v).and_then(|r| r.accuracy.as_ref()), percents)));
        let others = variants.iter().filter(|v| **v != Variant::Original);
        cells.extend(others.map(|v| format::or_unknown(row(v).and_then(|r| r.difference.as_ref()), difference)));
        table.push(cells.into_iter().map(Into::into));
    }
    table
}

/// Mean and half width in percent; the interval covers with [`super::collect::LEVEL`].
fn percents(found: &MeanInterval) -> String {
    match found.half() {
        // Wider than all fractions: it tells nothing else.
        Some(half) if half > 1.0 => format!("{:.1} ± >100 %", 100.0 * found.mean),
        Some(half) => format!("{:.1} ± {:.1} %", 100.0 * found.mean, 100.0 * half),
        None => format::percent(found.mean),
    }
}

fn difference(found: &MeanInterval) -> String {
    match found.half() {
        Some(half) => format!("{:+.1} ± {:.1}", 100.0 * found.mean, 100.0 * half),
        None => format!("{:+.1}", 100.0 * found.mean),
    }
}

fn densities(results: &Results) -> Table {
    let shown: Vec<&Summary> = results.methods.iter().filter(|m| !m.layers.is_empty()).collect();
    let mut titles = vec!["Layer".to_string(), "#Weights".to_string()];
    titles.extend(shown.iter().map(|m| format!("#{}", m.name)));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let layers: &[Share] = shown.first().map_or(&[], |m| &m.layers);
    for (i, layer) in layers.iter().enumerate() {
        let mut cells = vec![layer.layer.clone(), format::count(layer.weights)];
        cells.extend(shown.iter().map(|m| m.layers.get(i).map_or("n/a".into(), |s| format!("{:.4}", s.density()))));
        table.push(cells.into_iter().map(Into::into));
    }
    table
}

/// A recipe's `[prune]` table with the densities of a method and a random mask.
fn per_layer(plan: &InitPlan, method: &Summary) -> String {
    let control = &plan.control;
    let mut text = format!(
        "# {}: layer densities averaged over {} seeds\n[prune]\nstart = \"fresh\"\nscore = \"random\"\nprune_first = {}\nprune_last = {}\n\
         prune_depthwise = {}\n\n[prune.distribution.per_layer]\nothers = 1.0\n\n[prune.distribution.per_layer.densities]\n",
        method.name,
        plan.seeds.len(),
        control.prune_first,
        control.prune_last,
        control.prune_depthwise
    );
    for share in &method.layers {
        // A layer cannot be asked to keep nothing.
        let kept = share.kept.round().max(1.0);
        let name = share.layer.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "\"{name}\" = {:.9}", kept / share.weights.max(1) as f64);
    }
    text
}

fn survivors(results: &Results, method: &Summary) -> Table {
    let original = results.of_variant(&method.name, Variant::Original);
    let randomised: Vec<_> = [Variant::Shuffle, Variant::Reinit]
        .into_iter()
        .filter(|v| !results.of_variant(&method.name, *v).is_empty())
        .map(|v| (v, results.distances(&method.name, v)))
        .collect();
    let mut titles = vec!["Layer".to_string(), "#Kept".into(), "#Std before".into(), "#after".into()];
    titles.extend(["#Kurtosis before".to_string(), "#after".into()]);
    titles.extend(randomised.iter().flat_map(|(v, _)| [format!("#KS {v} before"), "#after".to_string()]));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for share in &method.layers {
        let mean = |of: fn(&Arm) -> &[Survivors], value: fn(&Survivors) -> Option<f64>| {
            let found = original.values().filter_map(|arm| of(arm).iter().find(|s| s.layer == share.layer));
            let values: Vec<f64> = found.filter_map(value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let scaled = |s: &Survivors| Some(s.std? / s.sigma).filter(|v| v.is_finite());
        let number = |v: Option<f64>| format::or_unknown(v, |v| format!("{v:.2}"));
        let mut cells = vec![share.layer.clone(), format!("{:.0}", share.kept)];
        cells.push(number(mean(|a| &a.before, scaled)));
        cells.push(number(mean(|a| &a.after, scaled)));
        cells.push(number(mean(|a| &a.before, |s| s.kurtosis)));
        cells.push(number(mean(|a| &a.after, |s| s.kurtosis)));
        for (_, distances) in &randomised {
            let row = distances.iter().find(|(layer, ..)| *layer == share.layer);
            cells.push(number(row.and_then(|r| r.1)));
            cells.push(number(row.and_then(|r| r.2)));
        }
        table.push(cells.into_iter().map(Into::into));
    }
    table
}

#[cfg(test)]
mod tests {
    use sentei_prune::survivors::BINS;

    use super::super::plan::{DENSE, Wish};
    use super::*;
    use crate::recipe::Recipe;

    fn survivors_of(layer: &str, weights: u64, kept: u64) -> Survivors {
        let sketch = (0..kept.min(50)).map(|i| i as f32 / 50.0).collect();
        let (mean, std, kurtosis) = (Some(0.0), Some(1.0), Some(3.0));
        let histogram = vec![kept / BINS as u64; BINS];
        Survivors { layer: layer.into(), weights, kept, mean, std, kurtosis, sigma: 1.0, histogram, outside: 0, sketch }
    }

    /// A finished study in which the control and `snip` lose when shuffled and `random-erk` does not.
    fn study() -> (InitPlan, Results) {
        let names = ["snip".to_string(), "random-erk".to_string()];
        let variants = [Variant::Original, Variant::Shuffle, Variant::Reinit];
        let wish =
            Wish { methods: &names, variants: &variants, seeds: 3, sparsity: 0.9, floor: 0.0, fine_tune_epochs: 2 };
        let plan = InitPlan::new(Recipe::default(), "hash".into(), &wish).expect("a plan");
        let arm = |job: &super::super::plan::Job| {
            let wobble = 0.002 * ((job.seed * 7 + job.variant as u64 * 3) % 3) as f64;
            let loses = job.method != "random-erk" && job.variant == Variant::Shuffle;
            let layers = vec![survivors_of("a.weight", 1000, 73), survivors_of("b.weight", 9000, 927 + job.seed)];
            let collapsed =
                if job.method == "snip" && job.variant == Variant::Shuffle { vec!["a.weight".into()] } else { vec![] };
            Arm {
                accuracy: 0.9 + wobble - if loses { 0.1 } else { 0.0 },
                kept: 1000,
                prunable: 10_000,
                collapsed,
                passes_signal: true,
                moved: None,
                before: layers.clone(),
                after: layers,
                seconds: 1.0,
            }
        };
        let arms = plan.jobs.iter().map(|job| (job.clone(), arm(job))).collect();
        let results = Results::of(&plan, arms, Vec::new(), 0.2, 0.0);
        (plan, results)
    }

    fn data() -> Dataset {
        let spec = sentei_data::InspectionSpec { train: 6, val: 6, test: 6, ..sentei_data::InspectionSpec::default() };
        sentei_data::inspection(&spec, 0)
    }

    #[test]
    fn verdicts_and_alarms_stand_in_the_summary() {
        let (plan, results) = study();
        let page = page(&plan, &results, &data());
        let line = |name: &str| {
            page.summary.lines().find(|l| l.starts_with(&format!("- **{name}**"))).expect("a verdict").to_string()
        };
        assert!(line("snip").contains("positions matter: keep the mask"), "{}", page.summary);
        assert!(line("random-erk").contains("only the layer densities matter"), "{}", page.summary);
        assert!(line(CONTROL).contains("as it should"), "{}", page.summary);
        assert!(line("snip").contains("81.6 % confidence"), "{}", page.summary);
        assert!(page.summary.contains("ALARM layer collapse: snip shuffle (seeds 0, 1, 2): a.weight kept no weight"));
        assert!(
            page.markdown.contains("| b.weight |   9,000 |") && page.markdown.contains("KS shuffle"),
            "{}",
            page.markdown
        );
        assert!(!page.markdown.contains(DENSE.to_uppercase().as_str()));
    }

    #[test]
    fn the_layer_table_of_a_method_reads_back_as_a_recipe_with_the_same_counts() {
        let (plan, results) = study();
        let recipe: Recipe = toml::from_str(&per_layer(&plan, &results.methods[0])).expect("valid TOML");
        recipe.check().expect("a recipe that can be run");
        let PruneConfig { distribution: Distribution::PerLayer { densities, .. }, .. } = recipe.prune else {
            panic!("expected densities per layer");
        };
        let counts: Vec<f64> =
            [("a.weight", 1000.0), ("b.weight", 9000.0)].map(|(l, n)| (densities[l] * n).round()).to_vec();
        assert_eq!(counts, [73.0, 928.0]);
    }
}
