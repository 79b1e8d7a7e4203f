//! Takes the tables for unwinding out of a finished program: a tenth of a runner, which is built to end at a panic and never unwinds.
//! The compiler cannot leave them out, because the standard library comes with them, and zig's linker keeps them.
//!
//! A linker puts them at the end of the first loaded segment. What lies behind them in the file moves forward by whole pages, so
//! that every other byte is loaded to the address it had.

/// Kinds of program headers.
const NULL: u32 = 0;
const LOAD: u32 = 1;
const EH_FRAME: u32 = 0x6474_e550;

/// Fields of a 64-bit ELF header: where the tables of program headers and sections begin, and how many entries they have.
const PROGRAM_HEADERS: (usize, usize) = (32, 56);
const SECTIONS: (usize, usize) = (40, 60);
const PROGRAM_HEADER: usize = 56;
const SECTION: usize = 64;

/// The program without its tables for unwinding; `None` when it is no 64-bit little-endian program, or they do not lie as expected.
pub fn without_tables(program: &[u8]) -> Option<Vec<u8>> {
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let mut bytes = program.to_vec();
    let headers = table(&bytes, PROGRAM_HEADERS, PROGRAM_HEADER)?;
    let of_kind = |bytes: &[u8], kind: u32| headers.iter().copied().find(|at| word(bytes, *at) == Some(kind));
    let frames = of_kind(&bytes, EH_FRAME)?;
    let first = of_kind(&bytes, LOAD)?;
    let (begin, segment, size) = (long(&bytes, frames + 8)?, long(&bytes, first + 8)?, long(&bytes, first + 32)?);
    let end = segment.checked_add(size)?;
    // from the search table on, the segment has nothing else: it is followed by the tables alone
    let inside = begin > segment && begin < end;
    let sections = table(&bytes, SECTIONS, SECTION)?;
    let behind = |at: &&usize| long(&bytes, **at + 24).is_some_and(|offset| (begin..end).contains(&offset));
    let alone = sections.iter().filter(behind).filter(|at| word(&bytes, **at + 4) != Some(NULL)).count() == 2;
    let next = headers.iter().filter(|at| word(&bytes, **at) == Some(LOAD));
    let next =
        next.filter_map(|at| long(&bytes, at + 8).zip(long(&bytes, at + 48))).find(|(offset, _)| *offset >= end)?;
    let align = next.1.max(1);
    let shift = (next.0 - begin) / align * align;
    if !inside || !alone || shift == 0 {
        return None;
    }
    for at in headers {
        let offset = long(&bytes, at + 8)?;
        if at == frames {
            put(&mut bytes, at, &NULL.to_le_bytes())?;
        } else if at == first {
            put(&mut bytes, at + 32, &(begin - segment).to_le_bytes())?;
            put(&mut bytes, at + 40, &(begin - segment).to_le_bytes())?;
        } else if offset >= end {
            put(&mut bytes, at + 8, &(offset - shift).to_le_bytes())?;
        }
    }
    for at in sections {
        let offset = long(&bytes, at + 24)?;
        if (begin..end).contains(&offset) {
            put(&mut bytes, at + 4, &NULL.to_le_bytes())?;
            put(&mut bytes, at + 32, &0u64.to_le_bytes())?;
        } else if offset >= end {
            put(&mut bytes, at + 24, &(offset - shift).to_le_bytes())?;
        }
    }
    let sections = long(&bytes, SECTIONS.0)?;
    put(&mut bytes, SECTIONS.0, &(sections.checked_sub(shift)?).to_le_bytes())?;
    let (begin, shift) = (usize::try_from(begin).ok()?, usize::try_from(shift).ok()?);
    bytes.drain(begin..begin.checked_add(shift)?);
    Some(bytes)
}

/// Where the entries of a table begin.
fn table(bytes: &[u8], (place, count): (usize, usize), entry: usize) -> Option<Vec<usize>> {
    let start = usize::try_from(long(bytes, place)?).ok()?;
    let entries = usize::from(u16::from_le_bytes(*bytes.get(count..)?.first_chunk()?));
    let end = start.checked_add(entries * entry)?;
    (start > 0 && end <= bytes.len()).then(|| (0..entries).map(|index| start + index * entry).collect())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at.checked_add(value.len())?)?.copy_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSegment};

    use super::*;

    /// A program of two loaded segments: constants with tables behind them, and code; pages of 4096 bytes.
    fn program() -> Vec<u8> {
        let mut bytes = vec![0; 0x9000];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[6] = 1;
        put(&mut bytes, 16, &[2, 0, 62, 0, 1]).unwrap();
        put(&mut bytes, 32, &64u64.to_le_bytes()).unwrap();
        put(&mut bytes, 40, &0x8800u64.to_le_bytes()).unwrap();
        put(&mut bytes, 52, &[64, 0, 56, 0, 3, 0, 64, 0, 5, 0, 4, 0]).unwrap();
        let headers = [
            (LOAD, 0u64, 0x40_0000u64, 0x6f00u64),
            (LOAD, 0x7080, 0x40_8080, 0x800),
            (EH_FRAME, 0x1100, 0x40_1100, 0x100),
        ];
        for (index, (kind, offset, address, size)) in headers.into_iter().enumerate() {
            let at = 64 + index * PROGRAM_HEADER;
            put(&mut bytes, at, &kind.to_le_bytes()).unwrap();
            for (place, value) in [(8, offset), (16, address), (32, size), (40, size), (48, 0x1000)] {
                put(&mut bytes, at + place, &value.to_le_bytes()).unwrap();
            }
        }
        let sections =
            [(0u32, 0u64, 0u64), (1, 0x1100, 0x100), (1, 0x1200, 0x5d00), (1, 0x7080, 0x800), (3, 0x8f00, 1)];
        for (index, (kind, offset, size)) in sections.into_iter().enumerate() {
            let at = 0x8800 + index * SECTION;
            put(&mut bytes, at + 4, &kind.to_le_bytes()).unwrap();
            put(&mut bytes, at + 24, &offset.to_le_bytes()).unwrap();
            put(&mut bytes, at + 32, &size.to_le_bytes()).unwrap();
        }
        (0x7080..0x7880).for_each(|at| bytes[at] = at as u8);
        bytes
    }

    #[test]
    fn every_other_byte_is_loaded_to_the_address_it_had() {
        let before = program();
        let after = without_tables(&before).expect("as a linker lays it out");
        assert_eq!(before.len() - after.len(), 0x5000, "whole pages");
        let loaded = |bytes: &[u8]| -> Vec<(u64, u64, Vec<u8>)> {
            let file = object::File::parse(bytes).expect("still a program");
            file.segments()
                .map(|s| (s.address(), s.file_range().0 % 0x1000, s.data().expect("inside").to_vec()))
                .collect()
        };
        let (before, after) = (loaded(&before), loaded(&after));
        assert_eq!(before[1], after[1], "code");
        assert_eq!(after[0].2.len(), 0x1100, "constants end where the tables began");
        // the headers themselves have changed
        assert_eq!(before[0].2[0x200..0x1100], after[0].2[0x200..]);
    }

    #[test]
    fn what_is_laid_out_otherwise_stays_as_it_is() {
        assert_eq!(without_tables(b"no program"), None);
        assert_eq!(without_tables(&program()[..100]), None);
        let mut third = program();
        // another section behind the tables, in the same segment
        put(&mut third, 0x8800 + 3 * SECTION + 24, &0x6e00u64.to_le_bytes()).unwrap();
        assert_eq!(without_tables(&third), None);
        let once = without_tables(&program()).unwrap();
        assert_eq!(without_tables(&once), None, "they are gone");
    }
}
