//! The exporters on a made-up run: exact tables, a page that fetches nothing, names that cannot break out.

mod sample;

use sentei_report::export::{Pictures, report_html, report_json, report_markdown, shrink_json};
use sentei_report::record::{RunRecord, Variant};
use sentei_report::tables;
use sentei_report::verdict::Verdict;

/// The page of the sample run; also left in the build folder for someone to look at.
fn page() -> String {
    let page = report_html(&sample::record(), &sample::pictures()).unwrap();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    std::fs::write(path, &page).unwrap();
    page
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = page();
    for needle in ["http://", "https://", "<script", "<link", "<iframe", "@import", "url(", "src=\"//"] {
        assert!(!page.contains(needle), "{needle}");
    }
    for (index, _) in page.match_indices(" src=\"") {
        assert!(page[index..].starts_with(" src=\"data:image/png;base64,"), "{}", &page[index..index + 60]);
    }
    for (index, _) in page.match_indices(" href=\"") {
        assert!(page[index..].starts_with(" href=\"#"), "{}", &page[index..index + 40]);
    }
}

#[test]
fn names_are_escaped_everywhere_in_the_page() {
    let page = page();
    assert!(!page.contains("<patch>") && page.contains("&lt;patch&gt;"));
    assert!(!page.contains("<img src=x"));
}

#[test]
fn every_anchor_of_the_page_exists() {
    let page = page();
    for part in page.split(" href=\"#").skip(1) {
        let id = part.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn only_real_png_files_become_pictures() {
    let page = page();
    assert_eq!(page.matches("data:image/png;base64,").count(), 2);
    assert_eq!(page.matches("no picture").count(), 3);
}

#[test]
fn each_chart_is_well_formed_svg_once() {
    let page = page();
    // recall, sparsity, latency, size, and three training curves.
    assert_eq!(page.matches("<svg").count(), 7);
    assert_eq!(page.matches("</svg>").count(), 7);
    assert!(!page.contains("NaN"));
}

#[test]
fn an_empty_record_still_makes_every_report() {
    let record = RunRecord::default();
    assert!(report_html(&record, &Pictures::new()).unwrap().contains("Dense model, nothing pruned"));
    assert!(report_markdown(&record).unwrap().contains("Dense model, nothing pruned"));
    assert!(report_json(&record).is_ok());
}

#[test]
fn a_record_that_contradicts_itself_is_refused_by_each_exporter() {
    let record = RunRecord { pruned: vec![Variant::default()], chosen: 3, ..RunRecord::default() };
    assert!(report_html(&record, &Pictures::new()).is_err());
    assert!(report_markdown(&record).is_err());
    assert!(report_json(&record).is_err());
}

#[test]
fn the_json_report_reads_back_as_the_same_record() {
    let record = sample::record();
    let text = report_json(&record).unwrap();
    assert_eq!(RunRecord::from_json(&text).unwrap(), record);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["derived"]["pruned"].as_array().unwrap().len(), 3);
}

#[test]
fn the_shrink_object_has_every_key_of_the_contract() {
    let value = shrink_json(&sample::record(), "runs/inspect-90", 258.75);
    for key in ["run_dir", "seconds", "sparsity", "gate", "baseline", "pruned"] {
        assert!(!value[key].is_null(), "{key}");
    }
    let model = "accuracy balanced_accuracy params nonzero file_bytes gzip_bytes weight_bytes macs p50_ms \
                 steady_rss_bytes peak_rss_bytes";
    for key in model.split_whitespace() {
        assert!(value["baseline"][key].is_number() && value["pruned"][key].is_number(), "{key}");
    }
}

#[test]
fn the_verdict_is_said_in_plain_words() {
    let verdict = Verdict::of(&sample::record());
    insta::assert_snapshot!(format!("{}\n{}", verdict.headline, verdict.sentences.join("\n")), @"");
}

#[test]
fn before_and_after_is_exactly_this_table() {
    insta::assert_snapshot!(tables::verdict(&sample::record()).markdown(), @"");
}

#[test]
fn recall_is_exactly_this_table() {
    insta::assert_snapshot!(tables::recall(&sample::record()).markdown(), @"");
}

#[test]
fn layers_are_exactly_this_table() {
    insta::assert_snapshot!(tables::layers(&sample::record().pruned[1].layers).markdown(), @"");
}

#[test]
fn latency_is_exactly_this_table() {
    insta::assert_snapshot!(tables::latency(&sample::record()).markdown(), @"");
}

#[test]
fn confusion_is_exactly_this_table() {
    let record = sample::record();
    insta::assert_snapshot!(tables::confusion(record.pruned[1].quality().unwrap()).markdown(), @"");
}
