//! Which shared libraries a provider needs, and which of them this machine lacks.
//!
//! A provider of ONNX Runtime is a shared library beside the main one, and names what it needs in its ELF header. Reading that
//! names every missing library at once; the loader stops at the first.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::options::Provider;

/// cuDNN is opened by the CUDA provider when the first convolution runs, so its header does not name it.
const CUDNN: &str = "libcudnn.so.9";

/// Names of the libraries that `provider` needs and the loader will not find, for the ONNX Runtime library at `library`.
///
/// A provider's own file that is absent is the one name given. Empty for providers inside the main library, and where libraries
/// are not ELF files.
pub(super) fn missing(provider: Provider, library: &Path) -> Vec<String> {
    let pip = pip_folders(library);
    let absent = |name: &String| !on_loader_path(name) && find_in(&pip, name).is_none();
    match needed_by(provider, library) {
        Ok(names) => names.into_iter().filter(absent).collect(),
        Err(file) => vec![file],
    }
}

/// Loads what `provider` needs from NVIDIA's Python packages beside the library, where the loader would not look.
pub(super) fn preload(provider: Provider, library: &Path) {
    let pip = pip_folders(library);
    let Ok(names) = needed_by(provider, library) else { return };
    let mut open: Vec<PathBuf> =
        names.iter().filter(|name| !on_loader_path(name)).filter_map(|name| find_in(&pip, name)).collect();
    // one may need another: what fails is tried again as long as something else succeeds, then left for the provider to name
    while !open.is_empty() {
        let before = open.len();
        open.retain(|path| ort::util::preload_dylib(path).is_err());
        if open.len() == before {
            return;
        }
    }
}

/// Names that the provider's files need, or the provider's file that is not beside the library.
fn needed_by(provider: Provider, library: &Path) -> Result<Vec<String>, String> {
    let files: &[&str] = match provider {
        Provider::Cuda => &["libonnxruntime_providers_cuda.so"],
        // what TensorRT does not take runs on CUDA
        Provider::Tensorrt => &["libonnxruntime_providers_tensorrt.so", "libonnxruntime_providers_cuda.so"],
        Provider::Cpu | Provider::Xnnpack | Provider::Acl => return Ok(Vec::new()),
    };
    if cfg!(not(target_os = "linux")) {
        return Ok(Vec::new());
    }
    let folder = fs::canonicalize(library).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for file in files {
        if !folder.join(file).is_file() {
            return Err((*file).to_owned());
        }
        let found = needed(&folder.join(file)).unwrap_or_default();
        for name in found.into_iter().chain([CUDNN.to_owned()]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Folders of NVIDIA's Python packages in the environment that `library` is part of.
fn pip_folders(library: &Path) -> Vec<PathBuf> {
    // .../site-packages/onnxruntime/capi/libonnxruntime.so
    let Some(packages) = library.ancestors().nth(3) else { return Vec::new() };
    let list = fs::read_dir(packages.join("nvidia")).into_iter().flatten().filter_map(Result::ok);
    let mut folders: Vec<PathBuf> = list.map(|entry| entry.path().join("lib")).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.push(packages.join("tensorrt_libs"));
    folders
}

fn find_in(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Whether the loader finds a library of this name: in LD_LIBRARY_PATH, its cache, or its own folders.
fn on_loader_path(name: &str) -> bool {
    let paths = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    let own = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(PathBuf::from);
    let multiarch = ["/lib", "/usr/lib"].map(|folder| Path::new(folder).join(&triple));
    let mut folders = env::split_paths(&paths).chain(own).chain(multiarch);
    folders.any(|folder| folder.join(name).is_file()) || fs::read("/etc/ld.so.cache").is_ok_and(|it| cached(&it, name))
}

/// Whether the loader's cache has a path that ends in this name; paths in it end with a zero byte.
fn cached(cache: &[u8], name: &str) -> bool {
    let end = format!("/{name}\0").into_bytes();
    cache.windows(end.len()).any(|window| window == end)
}

/// Most program headers, and most bytes of the dynamic section, of any file that is looked at.
const MOST_HEADERS: u16 = 256;
const MOST_DYNAMIC: u64 = 1 << 16;

/// Names of the shared libraries that a 64-bit little-endian ELF file needs, in its order.
fn needed(path: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let header = read_at(&mut file, 0, 64)?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no 64-bit little-endian ELF file"));
    }
    let (headers, entry, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56).min(MOST_HEADERS));
    let (mut loads, mut dynamic) = (Vec::new(), None);
    for index in 0..u64::from(count) {
        let header = read_at(&mut file, headers.saturating_add(index * u64::from(entry)), 56)?;
        let (offset, address, bytes) = (u64_at(&header, 8), u64_at(&header, 16), u64_at(&header, 32));
        match header[0] {
            1 => loads.push((address, offset, bytes)),
            2 => dynamic = Some((offset, bytes.min(MOST_DYNAMIC))),
            _ => {}
        }
    }
    let Some((offset, bytes)) = dynamic else { return Ok(Vec::new()) };
    let section = read_at(&mut file, offset, bytes)?;
    let entries: Vec<(u64, u64)> = section.chunks_exact(16).map(|pair| (u64_at(pair, 0), u64_at(pair, 8))).collect();
    let strings = entries.iter().find(|(tag, _)| *tag == 5).map(|(_, address)| *address);
    let offset = |address: u64| {
        let inside = loads.iter().find(|(start, _, bytes)| address >= *start && address - start < *bytes);
        inside.and_then(|(start, offset, _)| offset.checked_add(address - start))
    };
    let Some(strings) = strings.and_then(offset) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for (_, at) in entries.iter().filter(|(tag, _)| *tag == 1) {
        let text = read_at(&mut file, strings.saturating_add(*at), 256)?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        names.push(String::from_utf8_lossy(&text[..end]).into_owned());
    }
    Ok(names)
}

/// `bytes` from `offset` on; what lies behind the end of the file is zero.
fn read_at(file: &mut File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut found = Vec::new();
    file.take(bytes).read_to_end(&mut found)?;
    found.resize(usize::try_from(bytes).unwrap_or(0), 0);
    Ok(found)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little", target_env = "gnu"))]
    #[test]
    fn this_program_needs_the_c_library_and_the_loader_finds_it() {
        let names = needed(&env::current_exe().unwrap()).unwrap();
        assert!(names.contains(&"libc.so.6".to_owned()), "{names:?}");
        assert!(on_loader_path("libc.so.6"));
        assert!(!on_loader_path("libnobody-has-this.so.1"));
        // nothing of ONNX Runtime or CUDA is linked, whatever features are on
        let foreign =
            |name: &String| ["onnx", "cuda", "cublas", "cudnn", "nvinfer"].iter().any(|part| name.contains(part));
        assert!(!names.iter().any(foreign), "{names:?}");
    }

    #[test]
    fn a_file_that_is_no_library_names_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.so");
        for bytes in [&b""[..], b"text", b"\x7fELF\x02\x01", &[0xff; 200]] {
            fs::write(&path, bytes).unwrap();
            assert!(needed(&path).unwrap_or_default().is_empty());
        }
        let mut hostile = b"\x7fELF\x02\x01".to_vec();
        hostile.resize(400, 0xff);
        fs::write(&path, hostile).unwrap();
        assert!(needed(&path).unwrap_or_default().is_empty());
    }

    #[test]
    fn the_loader_s_cache_is_searched_for_whole_names() {
        let cache = b"libx.so.1\0/usr/lib/libx.so.1\0/usr/lib/liby.so.12\0";
        assert!(cached(cache, "libx.so.1") && cached(cache, "liby.so.12"));
        assert!(!cached(cache, "liby.so.1") && !cached(cache, "x.so.1"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_without_the_provider_s_file_names_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        fs::write(&library, b"").unwrap();
        assert_eq!(missing(Provider::Cuda, &library), ["libonnxruntime_providers_cuda.so"]);
        assert_eq!(missing(Provider::Tensorrt, &library), ["libonnxruntime_providers_tensorrt.so"]);
        assert!(missing(Provider::Xnnpack, &library).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn libraries_of_pip_packages_beside_it_count_as_found() {
        let root = tempfile::tempdir().unwrap();
        let capi = root.path().join("onnxruntime/capi");
        let (cudnn, library) = (root.path().join("nvidia/cudnn/lib"), capi.join("libonnxruntime.so"));
        for folder in [&capi, &cudnn] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in [&library, &capi.join("libonnxruntime_providers_cuda.so")] {
            fs::write(file, b"").unwrap();
        }
        let has_cudnn = on_loader_path(CUDNN);
        assert_eq!(missing(Provider::Cuda, &library).is_empty(), has_cudnn);
        fs::write(cudnn.join(CUDNN), b"").unwrap();
        assert!(missing(Provider::Cuda, &library).is_empty());
    }
}
