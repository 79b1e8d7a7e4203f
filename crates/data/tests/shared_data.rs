//! The real data sets, where they are present beside the checkout.

use sentei_data::{Dataset, ReadOptions, Split, open};
use std::path::Path;

fn read(relative: &str) -> Option<Dataset> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(relative);
    if !path.exists() {
        eprintln!("SKIPPED: {relative} is not here");
        return None;
    }
    Some(open(&path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}")))
}

fn counts(data: &Dataset) -> [usize; 4] {
    [Split::Train, Split::Val, Split::Test, Split::Dropped].map(|split| data.indices(split).len())
}

#[test]
fn steel_surfaces_open_as_folder_idx_and_jpeg_archive_with_the_same_labels() {
    let Some(folder) = read("neu_cls") else { return };
    assert_eq!(counts(&folder), [1259, 270, 270, 1]);
    assert_eq!(folder.classes[5], "scratches");
    assert_eq!((folder.channels, folder.height), (1, 64));
    let idx = read("neu_cls/neu_cls_64-images-idx3-ubyte.gz").unwrap();
    assert_eq!(idx.manifest_sha256(), folder.manifest_sha256());
    let tar = read("neu_cls/neu_cls_200.tar").unwrap();
    assert_eq!(counts(&tar), [1259, 270, 270, 1]);
    assert_eq!((tar.channels, tar.height, tar.width), (1, 200, 200));
    for (index, name) in tar.sample_names.iter().enumerate() {
        let same = folder.sample_names.iter().position(|other| other == name).unwrap();
        assert_eq!((tar.labels[index], tar.splits[index]), (folder.labels[same], folder.splits[same]), "{name}");
    }
}

#[test]
fn magnetic_tiles_and_circuit_boards_use_the_split_beside_them() {
    if let Some(data) = read("magnetic_tile") {
        assert_eq!((counts(&data), data.height), ([937, 204, 203, 0], 128));
        assert_eq!(data.classes[4], "MT_Free");
    }
    if let Some(data) = read("deeppcb_patches/deeppcb_64-images-idx3-ubyte.gz") {
        assert_eq!(counts(&data), [6824, 1274, 3873, 1017]);
        assert_eq!(data.classes.len(), 7);
    }
}

#[test]
fn digits_and_clothes_keep_their_test_sets() {
    for name in ["mnist", "fashion_mnist"] {
        let Some(data) = read(name) else { continue };
        assert_eq!(counts(&data), [51_000, 9_000, 10_000, 0]);
        assert_eq!((data.classes.len(), data.height), (10, 28));
    }
}

#[test]
fn cifar_as_jpeg_reads_its_train_and_test_folders() {
    let Some(data) = read("cifar10_jpeg/cifar10_jpeg.tar.gz") else { return };
    assert_eq!(counts(&data), [42_500, 7_500, 10_000, 0]);
    assert_eq!((data.channels, data.height, data.classes[0].as_str()), (3, 32, "airplane"));
}
