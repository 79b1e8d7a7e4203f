//! One measurement on the board: it runs on by itself, so that a link that drops costs nothing, and is asked for until it is done.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use super::link::quote;
use super::patience::Patience;
use crate::exit::Failure;
use crate::files;

/// What tells one start of a board from the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How often a running measurement is asked for.
const ASK: Duration = Duration::from_millis(700);

/// Folders of one measurement on the board.
#[derive(Clone, Debug)]
pub struct Job {
    folder: String,
    /// The command that measures, in shell words; it runs inside the folder.
    command: String,
    /// What lies in the folder: a name, and the place it stands for.
    links: Vec<(String, String)>,
}

impl Job {
    /// * `root`: the folder of all measurements on the board.
    /// * `program`: path of the runner there, with what starts it.
    /// * `links`: names inside the job's folder and the files of the board that they stand for.
    pub fn new(root: &str, program: &str, arguments: &[String], links: Vec<(String, String)>) -> Self {
        let words: Vec<String> = arguments.iter().map(|word| quote(word)).collect();
        let command = format!("{program} {}", words.join(" "));
        // the same question has the same name, so that a second call finds what a first one began
        let id = &files::sha256(format!("{command}{links:?}").as_bytes())[..16];
        Self { folder: format!("{root}/jobs/{id}"), command, links }
    }

    /// What says, while files are still being sent, that they are needed: an empty folder beside the job's.
    pub fn marker(&self) -> String {
        format!("{}.sending", self.folder)
    }

    /// Starts the measurement, unless it is there already. Returns whether it was.
    ///
    /// # Errors
    /// When the board cannot start it.
    pub fn start(&self, board: &mut Patience<'_>) -> Result<bool> {
        let folder = quote(&self.folder);
        let links: Vec<String> =
            self.links.iter().map(|(name, place)| format!("ln -sf {} {}", quote(place), quote(name))).collect();
        let body = format!(
            "{} > out 2> err & echo $! > runner; wait $!; echo $? > status.new; mv status.new status",
            self.command
        );
        // mkdir says who was first: a script that is run twice starts one measurement
        let script = format!(
            "if ! mkdir {folder} 2>/dev/null; then [ -d {folder} ] && echo there && exit 0; mkdir {folder}; exit 1; fi\n\
             cd {folder} && {} && {{ \n\
             if command -v setsid >/dev/null; then setsid sh -c {body} </dev/null >/dev/null 2>&1 & \n\
             else nohup sh -c {body} </dev/null >/dev/null 2>&1 & fi\n\
             echo $! > pid; cat {BOOT} > boot 2>/dev/null; echo began; }}",
            links.join(" && "),
            body = quote(&body)
        );
        let answer = board.run("starting the measurement", &script, b"")?;
        match answer.text().trim() {
            "there" => Ok(true),
            "began" => Ok(false),
            _ => bail!("starting the measurement in {}: {}", self.folder, answer.err),
        }
    }

    /// Waits until the measurement has ended; returns what it wrote to its output file.
    ///
    /// # Errors
    /// When it failed, with its words; or when it took too long, after it was stopped. [`Failure::Spent`] when the board could not
    /// be asked: then it may go on.
    pub fn finish(&self, board: &mut Patience<'_>) -> Result<Vec<u8>> {
        let folder = quote(&self.folder);
        // after a restart of the board its number may be that of another process; and it may end between the two looks
        let ask = format!(
            "cd {folder} || exit 1; cat status 2>/dev/null && exit 0; \
             [ \"$(cat boot)\" = \"$(cat {BOOT} 2>/dev/null)\" ] && kill -0 \"$(cat pid)\" 2>/dev/null && echo running && exit 0; \
             sleep 1; cat status 2>/dev/null || echo dead"
        );
        let status = loop {
            let answer = board.run("measuring", &ask, b"")?.text();
            match answer.trim() {
                "running" if board.left() <= board.margin() => {
                    self.stop(board);
                    return Err(Failure::Limit(board.spent("measuring, and was stopped")).into());
                }
                "running" => thread::sleep(ASK),
                other => break other.to_owned(),
            }
        };
        if status == "0" {
            return self.pull(board);
        }
        let words = board.run("reading what went wrong", &format!("tail -n 5 {folder}/err"), b"")?.text();
        let words = words.trim().trim_start_matches("error: ").to_owned();
        match status.parse() {
            Ok(status @ 1..=6) => Err(Failure::OnBoard { status, words }.into()),
            Ok(126 | 127) => bail!(
                "the board cannot execute the runner: {words} (another processor or C library, or {} is mounted noexec: --board-dir)",
                self.folder
            ),
            Err(_) | Ok(128..) => {
                bail!("the measurement was killed on the board (out of memory, or restarted?) {words}")
            }
            Ok(_) => Err(Failure::OnBoard { status: 1, words }.into()),
        }
    }

    /// The result file, whole.
    fn pull(&self, board: &mut Patience<'_>) -> Result<Vec<u8>> {
        let file = quote(&format!("{}/result.json", self.folder));
        let hash = board.run("fetching the result", &format!("sha256sum {file}"), b"")?;
        let expected = hash.text().split_whitespace().next().unwrap_or_default().to_owned();
        for _ in 0..5 {
            let bytes = board.run("fetching the result", &format!("cat {file}"), b"")?.out;
            if files::sha256(&bytes) == expected {
                return Ok(bytes);
            }
        }
        bail!("the result in {} does not arrive whole: {}", self.folder, hash.err)
    }

    /// Ends the measurement; a board that does not answer goes on by itself.
    fn stop(&self, board: &Patience<'_>) {
        let script = format!(
            "cd {} && [ \"$(cat boot)\" = \"$(cat {BOOT} 2>/dev/null)\" ] || exit 0; \
             kill -9 -\"$(cat pid)\" 2>/dev/null || kill -9 \"$(cat pid)\"; kill -9 \"$(cat runner)\" 2>/dev/null",
            quote(&self.folder)
        );
        let _ = board.once(&script);
    }

    /// Removes the job's folder and its marker.
    pub fn clean(&self, board: &Patience<'_>) {
        let _ = board.once(&format!("rm -rf {} {}", quote(&self.folder), quote(&self.marker())));
    }

    /// Warnings and notes that the measurement printed.
    pub fn notes(&self, board: &Patience<'_>) -> Vec<String> {
        let answer = board.once(&format!("cat {}/err", quote(&self.folder)));
        let text = answer.map(|answer| answer.text()).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect()
    }
}
