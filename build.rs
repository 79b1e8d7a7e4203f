//! Packs the sources of the runner into the program, so that `sentei build` makes runners wherever cargo is, from exactly the
//! sources that this program was built with.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};

/// The rooms that a board needs.
const ROOMS: &[&str] = &["kernels", "data", "report", "runtime", "runner"];

fn main() {
    let root = PathBuf::from(env("CARGO_MANIFEST_DIR"));
    let mut files =
        vec![("Cargo.toml".to_owned(), manifest(&root)), ("Cargo.lock".to_owned(), read(&root.join("Cargo.lock")))];
    for room in ROOMS {
        let folder = format!("crates/{room}");
        let manifest = format!("{folder}/Cargo.toml");
        files.push((manifest.clone(), member(&root.join(manifest))));
        add_all(&root, &format!("{folder}/src"), &mut files);
        let script = format!("{folder}/build.rs");
        if root.join(&script).exists() {
            add(&root, &script, &mut files);
        }
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-changed=Cargo.toml\ncargo:rerun-if-changed=Cargo.lock\ncargo:rerun-if-changed=build.rs");
    files.sort();
    let path = PathBuf::from(env("OUT_DIR")).join("runner-source.tar.gz");
    fs::write(&path, archive(&files)).expect("the output folder is writable");
    println!("cargo:rustc-env=SENTEI_HOST={}", env("HOST"));
}

fn env(name: &str) -> String {
    std::env::var(name).expect("cargo sets it")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

fn add(root: &Path, name: &str, files: &mut Vec<(String, Vec<u8>)>) {
    files.push((name.to_owned(), read(&root.join(name))));
}

fn add_all(root: &Path, folder: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(folder)).expect("a room has sources") {
        let entry = entry.expect("readable folder");
        let name = format!("{folder}/{}", entry.file_name().to_str().expect("sources have plain names"));
        if entry.path().is_dir() { add_all(root, &name, files) } else { add(root, &name, files) }
    }
}

/// The workspace without this package, the other rooms and the profiles of other programs.
fn manifest(root: &Path) -> Vec<u8> {
    let mut manifest = table(&root.join("Cargo.toml"));
    manifest.retain(|key, _| key == "workspace" || key == "profile");
    let members: Vec<String> = ROOMS.iter().map(|room| format!("crates/{room}")).collect();
    manifest["workspace"]["members"] = members.into();
    let profiles = manifest["profile"].as_table_mut().expect("a table");
    profiles.retain(|name, _| name == "release" || name == "runner");
    // settings of single crates would override those for size
    profiles["release"].as_table_mut().expect("a table").remove("package");
    toml::to_string(&manifest).expect("it was read from TOML").into_bytes()
}

/// A member without what only its tests and benchmarks need.
fn member(path: &Path) -> Vec<u8> {
    let mut manifest = table(path);
    manifest.retain(|key, _| !["bench", "example", "test", "dev-dependencies"].contains(&key));
    toml::to_string(&manifest).expect("it was read from TOML").into_bytes()
}

fn table(path: &Path) -> toml::Table {
    String::from_utf8(read(path)).expect("manifests are UTF-8").parse().expect("cargo has read it before")
}

/// The same bytes for the same files: no times, no owners.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, &bytes[..]).expect("memory takes it");
    }
    let mut packed = archive.into_inner().expect("memory takes it");
    packed.flush().expect("memory takes it");
    packed.finish().expect("memory takes it")
}
