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
    insta::assert_snapshot!(format!("{}\n{}", verdict.headline, verdict.sentences.join("\n")), @r"
    Passed: file 7.41× smaller, weights 7.73× smaller, 2.16× faster, accuracy −0.5 points
    8,250 of 79,270 parameters remain (90.0 % of the prunable weights are zero).
    One image at a time, the pruned model is 2.16× faster than the dense one in tract (2 threads, Example CPU 2.1 GHz): 4.19 ms → 1.94 ms, ratio 2.16, 95 % sure between 2.15 and 2.17.
    Accuracy on 1,200 images of the test split: 95.6 % → 95.1 % (−0.5 points).
    Of 1,000 defects, the dense model passes 28 as good, the pruned one 31; of 200 good images, 5 and 6 are rejected.
    The hardest class is inclusion: 92.5 % of its images are recognised.
    The verdict changed for 5 images: 3 newly wrong, 1 newly right, 1 wrong both times.
    ");
}

#[test]
fn before_and_after_is_exactly_this_table() {
    insta::assert_snapshot!(tables::verdict(&sample::record()).markdown(), @r"
    | Measure                             |     Before |      After |        Change |
    |-------------------------------------|-----------:|-----------:|--------------:|
    | File                                |    312 KiB |   42.1 KiB | 7.41× smaller |
    | File, gzip                          |    290 KiB |   39.1 KiB | 7.41× smaller |
    | Weights in memory                   |    310 KiB |   40.1 KiB | 7.73× smaller |
    | Activation arena                    |    384 KiB |    384 KiB |          same |
    | Steady RSS                          |   16.8 MiB |   16.3 MiB | 1.03× smaller |
    | Peak RSS                            |   19.0 MiB |   18.2 MiB | 1.04× smaller |
    | Latency, tract (cpu), 2 threads     |    4.19 ms |    1.94 ms |  2.16× faster |
    | Accuracy                            |     95.6 % |     95.1 % |   −0.5 points |
    | Balanced accuracy                   |     95.6 % |     95.1 % |   −0.5 points |
    | Missed defects                      | 28 of 1000 | 31 of 1000 |            +3 |
    | False alarms                        |   5 of 200 |   6 of 200 |            +1 |
    | Defects found at 1.0 % false alarms |     93.2 % |     92.7 % |   −0.5 points |
    | Defects found at 5.0 % false alarms |     96.0 % |     95.5 % |   −0.5 points |
    | Non-zero parameters                 |     79.3 k |      8,250 |   9.61× fewer |
    | MACs executed                       |     38.3 M |     4.36 M |   8.78× fewer |
    | MACs, dense equivalent              |     38.3 M |     38.3 M |          same |
    ");
}

#[test]
fn recall_is_exactly_this_table() {
    insta::assert_snapshot!(tables::recall(&sample::record()).markdown(), @r#"
    | Class                 | Images | Found before | Found after |      Change |  95 % interval | Precision after |
    |-----------------------|-------:|-------------:|------------:|------------:|---------------:|----------------:|
    | ok                    |    200 |       97.5 % |      97.0 % | −0.5 points | 93.6 to 98.6 % |          86.2 % |
    | scratch               |    200 |       94.5 % |      94.0 % | −0.5 points | 89.8 to 96.5 % |          98.4 % |
    | pit                   |    200 |       96.0 % |      95.5 % | −0.5 points | 91.7 to 97.6 % |          95.5 % |
    | inclusion             |    200 |       93.5 % |      92.5 % | −1.0 points | 88.0 to 95.4 % |          97.9 % |
    | crack                 |    200 |       95.0 % |      95.0 % | ±0.0 points | 91.0 to 97.3 % |          96.4 % |
    | &lt;patch> &amp; "co" |    200 |       97.0 % |      96.5 % | −0.5 points | 93.0 to 98.3 % |          97.5 % |
    "#);
}

#[test]
fn layers_are_exactly_this_table() {
    insta::assert_snapshot!(tables::layers(&sample::record().pruned[1].layers).markdown(), @r"
    | Layer | Operator | Shape     | Weights |  Zeros |    Bytes |   MACs | Dense MACs | Kernel              |    Time | Why                             |
    |-------|----------|-----------|--------:|-------:|---------:|-------:|-----------:|---------------------|--------:|---------------------------------|
    | conv1 | Conv     | 16×1×3×3  |     144 |  0.0 % |    576 B |  590 k |      590 k | tract_dense         | 49.5 µs | dense is faster at this density |
    | conv2 | Conv     | 32×16×3×3 |   4,608 | 90.0 % | 2.25 KiB |  472 k |     4.72 M | f32_planes_8x1_avx2 | 43.6 µs | timed at load                   |
    | conv3 | Conv     | 64×32×3×3 |  18,432 | 90.0 % | 9.00 KiB | 1.89 M |     18.9 M | f32_planes_8x1_avx2 | 0.11 ms | timed at load                   |
    | conv4 | Conv     | 96×64×3×3 |  55,296 | 90.0 % | 27.0 KiB | 1.42 M |     14.2 M | f32_planes_8x1_avx2 | 90.8 µs | timed at load                   |
    | fc    | Gemm     | 6×96×1×1  |     576 | 89.9 % |    290 B |     58 |        576 | f32_planes_8x1_avx2 | 20.0 µs | timed at load                   |
    ");
}

#[test]
fn latency_is_exactly_this_table() {
    insta::assert_snapshot!(tables::latency(&sample::record()).markdown(), @r"
    | Model       | Engine               |    Load | First run |     p50 |     p90 |     p99 |     MAD | Samples | Ratio to first (95 %) |
    |-------------|----------------------|--------:|----------:|--------:|--------:|--------:|--------:|--------:|----------------------:|
    | dense       | tract cpu, 2 threads | 18.0 ms |   8.20 ms | 4.19 ms | 4.25 ms | 4.99 ms | 36.2 µs |     200 |  1.00× (1.00 to 1.00) |
    | 80 % sparse | tract cpu, 2 threads | 18.0 ms |   5.80 ms | 2.97 ms | 3.01 ms | 3.53 ms | 24.2 µs |     200 |  1.41× (1.41 to 1.42) |
    | 90 % sparse | tract cpu, 2 threads | 18.0 ms |   3.80 ms | 1.94 ms | 1.97 ms | 2.30 ms | 15.8 µs |     200 |  2.16× (2.15 to 2.17) |
    | 95 % sparse | tract cpu, 2 threads | 18.0 ms |   2.70 ms | 1.38 ms | 1.40 ms | 1.64 ms | 11.7 µs |     200 |  3.04× (3.02 to 3.05) |
    ");
}

#[test]
fn confusion_is_exactly_this_table() {
    let record = sample::record();
    insta::assert_snapshot!(tables::confusion(record.pruned[1].quality().unwrap()).markdown(), @r#"
    | True class            |  ok | scratch | pit | inclusion | crack | &lt;patch> &amp; "co" |
    |-----------------------|----:|--------:|----:|----------:|------:|----------------------:|
    | ok                    | 194 |       3 |   3 |         · |     · |                     · |
    | scratch               |   6 |     188 |   6 |         · |     · |                     · |
    | pit                   |   5 |       · | 191 |         4 |     · |                     · |
    | inclusion             |   8 |       · |   · |       185 |     7 |                     · |
    | crack                 |   5 |       · |   · |         · |   190 |                     5 |
    | &lt;patch> &amp; "co" |   7 |       · |   · |         · |     · |                   193 |
    "#);
}
