//! What can be seen of a finished program from outside: what it asks of a board, and what its bytes are made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The glibc that a program needs at least, for example `2.17`; `None` for one without version requirements, as a static one.
///
/// Required versions stand as `GLIBC_2.17` in the table of dynamic strings.
///
/// # Errors
/// When the bytes are no program.
pub fn glibc(program: &[u8]) -> Result<Option<String>> {
    let file = object::File::parse(program).context("reading the program's sections")?;
    let Some(strings) = file.section_by_name(".dynstr") else { return Ok(None) };
    let strings = strings.data().context("reading the names of the program")?;
    let versions = strings.split(|byte| *byte == 0).filter_map(|name| {
        let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        Some((numbers?, version.to_owned()))
    });
    Ok(versions.max().map(|(_, version)| version))
}

/// Bytes of a program by what they are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// Bytes per section that lies in the file, largest first.
    pub sections: Vec<(String, u64)>,
    /// Bytes of code and constants per crate, largest first; needs a program with symbols.
    pub crates: Vec<(String, u64)>,
}

/// Takes a program with symbols apart.
///
/// # Errors
/// When the bytes are no program.
pub fn parts(program: &[u8]) -> Result<Parts> {
    let file = object::File::parse(program).context("reading the program's sections")?;
    let mut sections = BTreeMap::new();
    for section in file.sections() {
        let name = section.name().unwrap_or("?");
        let inside = section.file_range().map_or(0, |(_, bytes)| bytes);
        // symbols and debugging tables are not in the stripped program
        if inside > 0 && ![".symtab", ".strtab", ".shstrtab"].contains(&name) && !name.starts_with(".debug") {
            *sections.entry(name.to_owned()).or_insert(0) += inside;
        }
    }
    let mut crates = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data)) {
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name().unwrap_or("?")));
        *crates.entry(owner(&name)).or_insert(0) += symbol.size();
    }
    Ok(Parts { sections: largest_first(sections), crates: largest_first(crates) })
}

fn largest_first(parts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut parts: Vec<(String, u64)> = parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    parts
}

/// The crate whose code a symbol is: `tract_core` of `<tract_core::ops::Conv as core::clone::Clone>::clone`. What has no path is
/// assembly or C.
fn owner(name: &str) -> String {
    let path = name.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let path =
        ["dyn ", "mut ", "impl ", "const "].iter().fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
    let first = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    if path[first..].starts_with("::") { path[..first].into() } else { "assembly, C and unnamed".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_belongs_to_the_crate_of_its_type() {
        assert_eq!(owner("tract_core::ops::cnn::Conv::new"), "tract_core");
        assert_eq!(owner("<tract_core::ops::Conv as core::clone::Clone>::clone"), "tract_core");
        assert_eq!(owner("<&mut serde_json::de::Deserializer<R> as serde::Deserializer>::f"), "serde_json");
        assert_eq!(owner("<dyn core::any::Any>::is"), "core");
        assert_eq!(owner("arm64simd_mmm_f32_8x8_gen"), "assembly, C and unnamed");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_program_has_a_text_section_and_its_glibc_is_found() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let parts = parts(&program).unwrap();
        assert!(parts.sections.iter().any(|(name, bytes)| name == ".text" && *bytes > 10_000));
        assert!(cfg!(target_env = "musl") || glibc(&program).unwrap().unwrap().starts_with("2."));
        assert!(glibc(b"no program").is_err());
    }
}
