//! Files go to the board by content: what is there already is not sent, and what was sent in part goes on where it ended.

use anyhow::{Result, bail};
use sentei_report::format;

use super::link::quote;
use super::patience::Patience;
use crate::exit::Failure;
use crate::files;

/// A file that a measurement needs on the board.
pub struct Parcel {
    /// What it is called in messages.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// SHA-256 of the content, which is its name on the board.
    pub sha256: String,
}

impl Parcel {
    /// A file with this content.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), sha256: files::sha256(&bytes), bytes }
    }
}

/// Bytes sent by one script. A link that drops loses at most these.
const PIECE: usize = 4 << 20;

/// Times that a file is sent anew because its hash was wrong.
const ATTEMPTS: usize = 3;

/// Sends `parcel` to `STORE/SHA256`, unless it is there. Returns the bytes that were sent.
///
/// * `store`: an existing folder of the board.
///
/// # Errors
/// When the disk of the board is full, or the time is spent; what was sent in part of a full disk's file is removed.
pub fn push(board: &mut Patience<'_>, store: &str, parcel: &Parcel) -> Result<u64> {
    let place = quote(&format!("{store}/{}", parcel.sha256));
    let part = quote(&format!("{store}/{}.part", parcel.sha256));
    let size = parcel.bytes.len();
    let doing = format!("sending {}", parcel.name);
    let mut sent = 0;
    for _ in 0..ATTEMPTS {
        loop {
            let ask = format!("if [ -f {place} ]; then echo done; else cat {part} 2>/dev/null | wc -c; fi");
            let answer = board.run(&doing, &ask, b"")?.text();
            if answer.trim() == "done" {
                return Ok(sent);
            }
            let have: usize = answer.trim().parse().unwrap_or(0);
            if have >= size {
                break;
            }
            let piece = &parcel.bytes[have..size.min(have + PIECE)];
            // a second copy of this script, after a link that was only thought dead, must not append twice
            let append = format!(
                "export LC_ALL=C; s=0; if [ \"$(cat {part} 2>/dev/null | wc -c)\" -eq {have} ]; then cat >> {part} || s=9; fi; \
                 df -Pk {} | tail -n 1; [ $s = 0 ] || {{ rm -f {part}; exit $s; }}",
                quote(store)
            );
            let answer = board.run(&doing, &append, piece)?;
            if answer.status != 0 && ["No space left", "Disk quota"].iter().any(|words| answer.err.contains(words)) {
                return Err(full(parcel, store, &answer.text()).into());
            }
            if answer.status != 0 {
                bail!("writing {} on the board: {} (choose another folder with --board-dir)", parcel.name, answer.err);
            }
            sent += piece.len() as u64;
        }
        let finish = format!(
            "set -- $(sha256sum {part}) && [ \"$1\" = {} ] && chmod 755 {part} && mv -f {part} {place} || {{ rm -f {part}; exit 9; }}",
            parcel.sha256
        );
        let answer = board.run(&doing, &finish, b"")?;
        if answer.status == 0 {
            return Ok(sent);
        }
        if answer.status != 9 || answer.err.contains("not found") {
            bail!("checking {} on the board: {}", parcel.name, answer.err);
        }
    }
    bail!("{} arrived damaged {ATTEMPTS} times: the board's memory, disk or link changes bytes", parcel.name)
}

/// * `df`: the line of `df -Pk` about the folder's file system.
fn full(parcel: &Parcel, store: &str, df: &str) -> Failure {
    let kibibytes = df.split_whitespace().nth(3).and_then(|free| free.parse::<u64>().ok());
    let free = kibibytes.map_or("too little".into(), |free| format::bytes(free * 1024));
    Failure::Limit(format!(
        "the board's disk is full: {} needs {}, {free} is free in {store} (choose another folder with --board-dir, or make room)",
        parcel.name,
        format::bytes(parcel.bytes.len() as u64)
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::address::Address;
    use super::super::link::Link;
    use super::*;
    use crate::output::Output;

    fn with_board(test: impl FnOnce(&mut Patience<'_>, &std::path::Path)) {
        let folder = tempfile::tempdir().unwrap();
        let link = Link::new(Address::Local);
        let mut board = Patience::new(&link, "local:".into(), Duration::from_secs(60), Output::default());
        test(&mut board, folder.path());
    }

    #[test]
    fn a_file_is_sent_once_and_then_found() {
        with_board(|board, folder| {
            let store = folder.to_str().unwrap();
            let parcel = Parcel::new("model", (0..PIECE + 1000).map(|i| i as u8).collect());
            assert_eq!(push(board, store, &parcel).unwrap(), parcel.bytes.len() as u64);
            assert_eq!(std::fs::read(folder.join(&parcel.sha256)).unwrap(), parcel.bytes);
            assert_eq!(push(board, store, &parcel).unwrap(), 0);
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "no part is left");
        });
    }

    #[test]
    fn what_was_sent_in_part_goes_on_where_it_ended() {
        with_board(|board, folder| {
            let parcel = Parcel::new("model", vec![7; 5000]);
            std::fs::write(folder.join(format!("{}.part", parcel.sha256)), vec![7; 3000]).unwrap();
            assert_eq!(push(board, folder.to_str().unwrap(), &parcel).unwrap(), 2000);
            assert_eq!(std::fs::read(folder.join(&parcel.sha256)).unwrap(), parcel.bytes);
        });
    }

    #[test]
    fn a_damaged_part_is_thrown_away_and_sent_anew() {
        with_board(|board, folder| {
            let parcel = Parcel::new("model", vec![7; 5000]);
            std::fs::write(folder.join(format!("{}.part", parcel.sha256)), vec![8; 9000]).unwrap();
            assert_eq!(push(board, folder.to_str().unwrap(), &parcel).unwrap(), 5000);
            assert_eq!(std::fs::read(folder.join(&parcel.sha256)).unwrap(), parcel.bytes);
        });
    }

    #[test]
    fn a_full_disk_is_named_with_what_is_needed_and_what_is_free() {
        let failure = full(&Parcel::new("m.onnx", vec![0; 3_000_000]), "/small", "tmpfs 1024 1000 24 98% /small");
        let text = failure.to_string();
        assert!(text.contains("m.onnx needs 2.86 MiB, 24.0 KiB is free in /small"), "{text}");
    }
}
