//! Every reader on tiny files written here, and every way such files can be wrong.

use image::{GrayImage, ImageFormat, RgbImage};
use sentei_data::{DataError, Dataset, ReadOptions, Split, SplitRatios, open, read_picture};
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::{TempDir, tempdir};

fn options() -> ReadOptions {
    ReadOptions { split: SplitRatios { val: 0.25, test: 0.25 }, seed: 1, ..ReadOptions::default() }
}

fn read(path: &Path) -> Dataset {
    open(path, &options()).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(path: &Path) -> String {
    open(path, &options()).expect_err("must be refused").to_string()
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn encoded(value: u8, side: u32, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    GrayImage::from_pixel(side, side, image::Luma([value])).write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// Classes `bad` and `good`, four images each, in four formats.
fn class_folders(root: &Path) {
    let formats =
        [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("bmp", ImageFormat::Bmp), ("pgm", ImageFormat::Pnm)];
    for (class, value) in [("good", 200), ("bad", 50)] {
        for (ending, format) in formats {
            write(&root.join(class).join(format!("x.{ending}")), encoded(value, 4, format));
        }
    }
}

fn idx(dims: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| out.extend(dim.to_be_bytes()));
    out.extend(bytes);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn tar_of(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn png(value: u8) -> Vec<u8> {
    encoded(value, 2, ImageFormat::Png)
}

/// An IDX pair of eight 1x2 images: image i is `[i, i]`, its label `i % 2`.
fn idx_pair(folder: &Path, prefix: &str, zip: bool) {
    let images: Vec<u8> = (0..8).flat_map(|i| [i, i]).collect();
    let labels: Vec<u8> = (0..8).map(|i| i % 2).collect();
    let (images, labels) = (idx(&[8, 1, 2], &images), idx(&[8], &labels));
    let (ending, images, labels) = if zip { (".gz", gzip(&images), gzip(&labels)) } else { ("", images, labels) };
    write(&folder.join(format!("{prefix}images-idx3-ubyte{ending}")), images);
    write(&folder.join(format!("{prefix}labels-idx1-ubyte{ending}")), labels);
}

fn fresh() -> TempDir {
    tempdir().unwrap()
}

#[test]
fn a_folder_of_class_folders_is_read_in_all_formats() {
    let folder = fresh();
    class_folders(folder.path());
    write(&folder.path().join("good/readme.txt"), "no image");
    write(&folder.path().join(".hidden/x.png"), "broken");
    let data = read(folder.path());
    assert_eq!(data.classes, ["bad", "good"]);
    assert_eq!((data.channels, data.height, data.width, data.len()), (1, 4, 4, 8));
    assert_eq!(data.sample_names[0], "bad/x.bmp");
    for index in 0..8 {
        let expected = if data.labels[index] == 0 { 50i32 } else { 200 };
        assert!(
            data.image(index).iter().all(|&p| (i32::from(p) - expected).abs() <= 1),
            "{}",
            data.sample_names[index]
        );
    }
    for split in [Split::Val, Split::Test] {
        assert_eq!(data.class_counts(split), [1, 1]);
    }
    assert!(data.notes.iter().any(|note| note.contains("test split drawn")), "{:?}", data.notes);
}

#[test]
fn train_val_and_test_folders_give_the_splits() {
    let folder = fresh();
    for (name, value) in [("train/a/1.png", 1), ("train/b/1.png", 2), ("valid/a/1.png", 3), ("test/b/1.png", 4)] {
        write(&folder.path().join(name), png(value));
    }
    let data = read(folder.path());
    assert_eq!(data.sample_names, ["test/b/1.png", "train/a/1.png", "train/b/1.png", "valid/a/1.png"]);
    assert_eq!(data.splits, [Split::Test, Split::Train, Split::Train, Split::Val]);
    assert_eq!(data.labels, [1, 0, 1, 0]);
}

#[test]
fn a_tar_reads_like_its_folder_plain_or_gzip_and_below_a_common_folder() {
    let members: Vec<(String, Vec<u8>)> =
        (0..8u8).map(|i| (format!("./set/{}/{i}.png", if i < 4 { "a" } else { "b" }), png(i))).collect();
    let members: Vec<(&str, Vec<u8>)> = members.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let folder = fresh();
    for (name, bytes) in &members {
        write(&folder.path().join("files").join(name), bytes);
    }
    let plain = folder.path().join("plain.tar");
    let zipped = folder.path().join("zipped.tar.gz");
    write(&plain, tar_of(&members));
    write(&zipped, gzip(&tar_of(&members)));
    let hash = read(&plain).manifest_sha256();
    assert_eq!(read(&zipped).manifest_sha256(), hash);
    let from_folder = read(&folder.path().join("files"));
    assert_eq!((from_folder.images, from_folder.splits), (read(&plain).images, read(&plain).splits));
    assert_eq!(read(&plain).name, "plain");
}

#[test]
fn colour_is_kept_unless_every_image_is_grey_and_can_be_asked_for() {
    let folder = fresh();
    class_folders(folder.path());
    let mut colour = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 4, image::Rgb([255, 0, 0])).write_to(&mut colour, ImageFormat::Png).unwrap();
    write(&folder.path().join("good/red.png"), colour.into_inner());
    let data = read(folder.path());
    assert_eq!(data.channels, 3);
    let red = data.sample_names.iter().position(|name| name.ends_with("red.png")).unwrap();
    assert_eq!(data.image(red)[..17], [[255; 16].as_slice(), &[0]].concat());
    let grey = open(folder.path(), &ReadOptions { channels: Some(1), ..options() }).unwrap();
    assert_eq!((grey.channels, grey.image(red)[0]), (1, 76));
}

#[test]
fn mixed_sizes_need_a_size_and_the_error_says_so() {
    let folder = fresh();
    class_folders(folder.path());
    write(&folder.path().join("good/big.png"), encoded(200, 9, ImageFormat::Png));
    let message = refused(folder.path());
    assert!(message.contains("good/big.png") && message.contains("9x9") && message.contains("--size"), "{message}");
    let data = open(folder.path(), &ReadOptions { size: Some((3, 5)), ..options() }).unwrap();
    assert_eq!((data.height, data.width, data.image_len()), (3, 5, 15));
}

#[test]
fn an_idx_pair_reads_plain_zipped_by_file_and_by_folder() {
    let folder = fresh();
    idx_pair(&folder.path().join("plain"), "set-", false);
    idx_pair(&folder.path().join("zip"), "set-", true);
    let plain = read(&folder.path().join("plain/set-images-idx3-ubyte"));
    assert_eq!((plain.len(), plain.channels, plain.height, plain.width), (8, 1, 1, 2));
    assert_eq!((plain.image(3), plain.labels[3], plain.classes.len()), (&[3, 3][..], 1, 2));
    let zipped = read(&folder.path().join("zip"));
    assert_eq!(zipped.manifest_sha256(), plain.manifest_sha256());
    let resized =
        open(&folder.path().join("zip"), &ReadOptions { size: Some((2, 4)), channels: Some(3), ..options() }).unwrap();
    assert_eq!(resized.image(7), [7; 24]);
}

#[test]
fn an_mnist_folder_keeps_its_test_images_and_draws_validation_from_training() {
    let folder = fresh();
    idx_pair(folder.path(), "train-", true);
    idx_pair(folder.path(), "t10k-", true);
    let data = read(folder.path());
    let of_train: Vec<Split> =
        (0..16).filter(|&i| data.sample_names[i].starts_with("train")).map(|i| data.splits[i]).collect();
    assert!(!of_train.contains(&Split::Test));
    assert_eq!((data.class_counts(Split::Train), data.class_counts(Split::Val)), (vec![3, 3], vec![1, 1]));
    assert_eq!(data.class_counts(Split::Test), [4, 4]);
}

#[test]
fn a_split_file_beside_an_idx_file_gives_names_classes_and_splits() {
    let folder = fresh();
    idx_pair(folder.path(), "set-", false);
    let mut csv = String::from("index,file,label,class,group,split\n");
    for i in 0..8 {
        let split = ["train", "val", "test", "drop_blurred"][i / 2];
        csv += &format!("{i},p{i}.jpg,{},{},{i},{split}\n", i % 2, ["fine", "torn"][i % 2]);
    }
    write(&folder.path().join("split.csv"), csv);
    let data = read(folder.path());
    assert_eq!(data.classes, ["fine", "torn"]);
    assert_eq!(data.sample_names[5], "p5.jpg");
    assert_eq!(data.indices(Split::Test), [4, 5]);
    assert_eq!(data.indices(Split::Dropped), [6, 7]);
    assert!(data.notes.iter().any(|note| note.contains("split.csv")));

    fs::remove_file(folder.path().join("set-labels-idx1-ubyte")).unwrap();
    assert_eq!(read(folder.path()).labels, data.labels, "labels come from the split file when no labels file is there");
}

#[test]
fn a_split_file_that_contradicts_the_labels_is_refused() {
    let folder = fresh();
    idx_pair(folder.path(), "set-", false);
    let rows: String = (0..8).map(|i| format!("{i},0,train\n")).collect();
    write(&folder.path().join("split.csv"), format!("index,label,split\n{rows}"));
    let message = refused(folder.path());
    assert!(message.contains("line 3") && message.contains("labels file says 1"), "{message}");
}

#[test]
fn a_split_file_sorts_a_tar_and_a_group_column_keeps_groups_together() {
    let folder = fresh();
    let members: Vec<(String, Vec<u8>)> =
        (0..40u8).map(|i| (format!("{}/{i:02}.png", ["a", "b"][usize::from(i % 2)]), png(i))).collect();
    let members: Vec<(&str, Vec<u8>)> = members.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    write(&folder.path().join("set.tar"), tar_of(&members));
    let rows: String = members.iter().take(39).map(|(n, b)| format!("{n},g{}\n", b.len() % 7)).collect();
    let groups = folder.path().join("groups.csv");
    write(&groups, format!("file,group\n{rows}"));
    let data = open(&folder.path().join("set.tar"), &ReadOptions { split_file: Some(groups), ..options() }).unwrap();
    assert_eq!(data.len(), 39);
    assert!(data.notes.iter().any(|note| note.starts_with("1 image(s)")), "{:?}", data.notes);

    write(
        &folder.path().join("split.csv"),
        "file,split\na/00.png,test\nb/01.png,train\na/02.png,train\nb/03.png,val\n",
    );
    let data = read(folder.path());
    assert_eq!(data.splits, [Split::Test, Split::Train, Split::Train, Split::Val]);
    assert_eq!(data.labels, [0, 0, 1, 1]);
}

#[test]
fn a_split_file_with_a_class_column_labels_a_flat_folder() {
    let folder = fresh();
    let mut csv = String::from("file,class\n");
    for i in 0..8 {
        write(&folder.path().join(format!("images/{i}.png")), png(i));
        csv += &format!("images/{i}.png,{}\n", ["ok", "bad"][usize::from(i % 2)]);
    }
    write(&folder.path().join("split.csv"), csv);
    let data = read(folder.path());
    assert_eq!((data.classes.as_slice(), &data.labels[..3]), (&["bad".to_string(), "ok".into()][..], &[1, 0, 1][..]));
}

#[test]
fn cifar_batches_are_read_with_names_and_labels() {
    let folder = fresh();
    let record = |label: u8| [vec![label], vec![label; 3072]].concat();
    write(&folder.path().join("data_batch_1.bin"), [0, 1, 0, 1, 0, 1, 0, 1].map(record).concat());
    write(&folder.path().join("test_batch.bin"), [1, 0].map(record).concat());
    write(&folder.path().join("batches.meta.txt"), "cat\ndog\n\n");
    let data = read(folder.path());
    assert_eq!((data.classes.as_slice(), data.channels, data.height), (&["cat".to_string(), "dog".into()][..], 3, 32));
    assert_eq!((data.class_counts(Split::Test), data.image(1)[3071]), (vec![1, 1], 1));
    assert_eq!(data.class_counts(Split::Val), [1, 1]);

    let hundred = fresh();
    let record = |fine: u8| [vec![9, fine], vec![fine; 3072]].concat();
    write(&hundred.path().join("train.bin"), [0, 1, 2, 2].map(record).concat());
    assert_eq!(read(hundred.path()).labels, [0, 1, 2, 2]);

    write(&folder.path().join("test_batch.bin"), [0; 100]);
    assert!(refused(folder.path()).contains("3073-byte records"));
}

#[test]
fn broken_folders_are_refused_with_the_name_of_the_culprit() {
    let folder = fresh();
    assert!(refused(folder.path()).contains("no class folders"));
    assert!(refused(&folder.path().join("missing")).contains("missing"));
    class_folders(folder.path());
    fs::create_dir(folder.path().join("empty_class")).unwrap();
    assert!(refused(folder.path()).contains("`empty_class`"));
    fs::remove_dir(folder.path().join("empty_class")).unwrap();
    write(&folder.path().join("good/broken.jpg"), b"\xff\xd8\xff\xe0 not really");
    assert!(refused(folder.path()).contains("good/broken.jpg"));

    let one = fresh();
    write(&one.path().join("only/1.png"), png(1));
    assert!(refused(one.path()).contains("at least 2"));
    let text = one.path().join("notes.txt");
    write(&text, "hello");
    assert!(refused(&text).contains("neither an IDX"));
}

#[test]
fn broken_archives_and_idx_sets_are_refused() {
    let folder = fresh();
    let tar = tar_of(&[("a/1.png", png(1)), ("b/1.png", vec![7; 5000])]);
    let cut = folder.path().join("cut.tar");
    write(&cut, &tar[..2500]);
    assert!(!refused(&cut).is_empty());
    let damaged = folder.path().join("damaged.tar.gz");
    write(&damaged, &gzip(&tar)[..60]);
    assert!(refused(&damaged).contains("damaged.tar.gz"));

    let set = fresh();
    idx_pair(set.path(), "set-", false);
    write(&set.path().join("set-labels-idx1-ubyte"), idx(&[7], &[0; 7]));
    assert!(refused(set.path()).contains("7 labels for the 8 images"));
    write(&set.path().join("set-labels-idx1-ubyte"), idx(&[8], &[0; 8]));
    assert!(refused(set.path()).contains("1 class"));
    assert!(refused(&set.path().join("set-labels-idx1-ubyte")).contains("are not images"));
    fs::remove_file(set.path().join("set-labels-idx1-ubyte")).unwrap();
    assert!(refused(set.path()).contains("no labels file"));
    for extra in ["b-images-idx3-ubyte", "c-images-idx3-ubyte"] {
        write(&set.path().join(extra), idx(&[0, 1, 1], &[]));
    }
    assert!(refused(set.path()).contains("3 IDX images files"));
}

#[test]
fn bombs_stop_at_the_byte_budget() {
    let small = ReadOptions { byte_budget: 20_000, ..options() };
    let folder = fresh();
    let bomb = folder.path().join("bomb.tar.gz");
    write(&bomb, gzip(&tar_of(&[("a/1.png", vec![0; 1 << 20]), ("b/1.png", png(1))])));
    assert!(matches!(open(&bomb, &small), Err(DataError::OverBudget { .. })));
    let skipped = folder.path().join("skipped.tar.gz");
    write(&skipped, gzip(&tar_of(&[("a/huge.txt", vec![0; 1 << 20]), ("b/1.png", png(1))])));
    assert!(matches!(open(&skipped, &small), Err(DataError::OverBudget { .. })));

    let pictures = fresh();
    for class in ["a", "b"] {
        write(&pictures.path().join(class).join("1.png"), encoded(1, 120, ImageFormat::Png));
    }
    assert!(matches!(open(pictures.path(), &small), Err(DataError::OverBudget { .. })));
    assert!(open(pictures.path(), &ReadOptions { size: Some((8, 8)), ..small.clone() }).is_ok());

    idx_pair(&folder.path().join("idx"), "set-", false);
    let enlarged = ReadOptions { size: Some((100, 100)), ..small };
    assert!(matches!(open(&folder.path().join("idx"), &enlarged), Err(DataError::OverBudget { .. })));
}

#[test]
fn options_out_of_range_are_refused() {
    let folder = fresh();
    class_folders(folder.path());
    for wrong in [
        ReadOptions { channels: Some(2), ..options() },
        ReadOptions { size: Some((0, 4)), ..options() },
        ReadOptions { split: SplitRatios { val: 0.6, test: 0.6 }, ..options() },
    ] {
        assert!(matches!(open(folder.path(), &wrong), Err(DataError::Option(_))));
    }
    let nowhere = ReadOptions { split_file: Some(folder.path().join("nowhere.csv")), ..options() };
    assert!(open(folder.path(), &nowhere).unwrap_err().to_string().contains("nowhere.csv"));
    write(&folder.path().join("split.csv"), "file,split\ngood/x.png,val\nbad/x.png,test\n");
    assert!(matches!(open(folder.path(), &options()), Err(DataError::NoTraining(_))));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = fresh();
    class_folders(folder.path());
    let name = std::ffi::OsStr::from_bytes(b"good/\xff.png");
    if fs::write(folder.path().join(name), png(1)).is_ok() {
        assert!(matches!(open(folder.path(), &options()), Err(DataError::NotUtf8(_))));
    } else {
        eprintln!("SKIPPED: this file system takes UTF-8 names only");
    }
}

#[test]
fn one_picture_is_brought_to_the_shape_of_the_network() {
    let folder = fresh();
    let path = folder.path().join("x.png");
    write(&path, encoded(90, 6, ImageFormat::Png));
    let picture = read_picture(&path, 3, (2, 3)).unwrap();
    assert_eq!((picture.channels, picture.height, picture.width, picture.pixels), (3, 2, 3, vec![90; 18]));
    assert!(matches!(read_picture(&path, 4, (2, 3)), Err(DataError::Option(_))));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_never_panic(at in 0usize..4000, value: u8, cut in 0usize..4000, kind in 0usize..3) {
        let mut bytes = match kind {
            0 => tar_of(&[("a/1.png", png(1)), ("b/1.pgm", encoded(2, 3, ImageFormat::Pnm)), ("b/2.bmp", encoded(3, 3, ImageFormat::Bmp))]),
            1 => gzip(&tar_of(&[("a/1.jpg", encoded(9, 8, ImageFormat::Jpeg)), ("b/1.png", png(1))])),
            _ => idx(&[8, 1, 2], &[5; 16]),
        };
        let place = at % bytes.len();
        bytes[place] = value;
        bytes.truncate(bytes.len().max(cut + 1) - cut);
        let folder = fresh();
        let path = folder.path().join(["set.tar", "set.tar.gz", "set-images-idx3-ubyte"][kind]);
        write(&path, bytes);
        write(&folder.path().join("set-labels-idx1-ubyte"), idx(&[8], &[0, 1, 0, 1, 0, 1, 0, 1]));
        let _ = open(&path, &ReadOptions { byte_budget: 1 << 20, size: Some((4, 4)), ..options() });
    }
}
