//! One shell script on the board at a time, with a time limit, over a link that may drop.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::address::Address;

/// What a script gave.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The program that makes the link is not on this machine.
    #[error("`{program}` cannot be started: {why}")]
    NoProgram {
        /// `ssh`, `adb`, `sh`.
        program: String,
        /// The system's words.
        why: String,
    },
    /// The link could not be made, or broke.
    #[error("{0}")]
    Dropped(String),
    /// The script did not end in time.
    #[error("no answer within {0:.0?}")]
    TimedOut(Duration),
}

/// A way to run scripts on a board.
#[derive(Clone, Debug)]
pub struct Link {
    address: Address,
}

/// How often a running script is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the output of a script that has ended is waited for.
const AFTERWARDS: Duration = Duration::from_secs(10);

impl Link {
    /// A link to `address`; nothing is started yet.
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Runs `script` in a POSIX shell of the board.
    ///
    /// * `input`: its standard input.
    /// * `limit`: after which it is given up; it may go on on the board.
    ///
    /// # Errors
    /// [`LinkError`]; a script that fails is an answer with a status.
    pub fn run(&self, script: &str, input: &[u8], limit: Duration) -> Result<Answer, LinkError> {
        let mut command = self.command(script);
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| LinkError::NoProgram { program, why: error.to_string() })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = input.to_vec();
        // a script that does not read its input closes it
        thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
        let (out, err) = (read_all(stdout), read_all(stderr));
        let status = wait(&mut child, limit)?;
        let bytes = |pipe: Receiver<Vec<u8>>| pipe.recv_timeout(AFTERWARDS).unwrap_or_default();
        let (out, err) = (bytes(out), String::from_utf8_lossy(&bytes(err)).trim().to_owned());
        match self.dropped(status, &err) {
            Some(why) => Err(LinkError::Dropped(why)),
            None => Ok(Answer { status, out, err }),
        }
    }

    fn command(&self, script: &str) -> Command {
        match &self.address {
            Address::Ssh { host, port } => {
                let named = std::env::var("SENTEI_SSH").unwrap_or_default();
                let mut words = named.split_whitespace();
                let mut command = Command::new(words.next().unwrap_or("ssh"));
                command.args(words);
                // a dead link is noticed after 15 s of silence; whoever needs a password has to use a key
                for option in [
                    "BatchMode=yes",
                    "LogLevel=ERROR",
                    "ConnectTimeout=10",
                    "ServerAliveInterval=5",
                    "ServerAliveCountMax=3",
                ] {
                    command.args(["-o", option]);
                }
                command.args(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
                command.args([host, "--", &format!("exec sh -c {}", quote(script))]);
                command
            }
            Address::Adb { serial } => {
                let mut command = Command::new("adb");
                command.args(["-s", serial, "shell", "-T", &format!("sh -c {}", quote(script))]);
                command
            }
            Address::Local | Address::Qemu { .. } => {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command
            }
        }
    }

    /// Whether a status is the link's and not the script's.
    fn dropped(&self, status: i32, err: &str) -> Option<String> {
        let last = || err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("the connection was lost").to_owned();
        match &self.address {
            Address::Ssh { .. } | Address::Adb { .. } if status == 255 => Some(last()),
            // the bridge's own failures; a script's status comes through otherwise
            Address::Adb { .. } if status != 0 && (err.starts_with("error: ") || err.starts_with("adb: ")) => {
                Some(last())
            }
            // the shell on this side was killed
            _ if status < 0 => Some(last()),
            _ => None,
        }
    }
}

/// Reads a pipe on a thread of its own: what a killed script has started may hold it open for ever.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (done, all) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // a pipe that breaks has given what it had
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        let _ = done.send(bytes);
    });
    all
}

fn wait(child: &mut Child, limit: Duration) -> Result<i32, LinkError> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.code().unwrap_or(-1)),
            Ok(None) if started.elapsed() >= limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(LinkError::TimedOut(limit));
            }
            Ok(None) => thread::sleep(PAUSE),
            Err(error) => return Err(LinkError::Dropped(error.to_string())),
        }
    }
}

/// A word of a POSIX shell that means `text`.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_script_gets_its_input_and_gives_status_and_both_outputs() {
        let link = Link::new(Address::Local);
        let answer = link.run("cat; echo oops >&2; exit 3", b"bytes \0 \xff", LIMIT).unwrap();
        assert_eq!((answer.status, answer.out.as_slice(), answer.err.as_str()), (3, &b"bytes \0 \xff"[..], "oops"));
    }

    #[test]
    fn a_script_that_hangs_is_given_up() {
        let link = Link::new(Address::Local);
        let started = Instant::now();
        let error = link.run("sleep 60", b"", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, LinkError::TimedOut(_)) && started.elapsed() < LIMIT);
    }

    #[test]
    fn a_large_input_that_nobody_reads_does_not_block() {
        let link = Link::new(Address::Local);
        assert_eq!(link.run("exit 0", &vec![0; 4 << 20], LIMIT).unwrap().status, 0);
    }

    #[test]
    fn only_the_clients_own_failures_are_a_dropped_link() {
        let ssh = Link::new("ssh://h".parse().unwrap());
        assert_eq!(
            ssh.dropped(255, "x\nclient_loop: send disconnect: Broken pipe\n").as_deref(),
            Some("client_loop: send disconnect: Broken pipe")
        );
        assert_eq!(ssh.dropped(1, "cat: no such file"), None);
        let adb = Link::new("adb://s".parse().unwrap());
        assert_eq!(adb.dropped(1, "error: device 's' not found").as_deref(), Some("error: device 's' not found"));
        assert_eq!(adb.dropped(1, "grep: nothing"), None);
    }

    #[test]
    fn quoted_words_come_through_a_second_shell() {
        let link = Link::new(Address::Local);
        let text = "it's $HOME `x` \"y\"\n*";
        let inner = format!("printf %s {}", quote(text));
        let answer = link.run(&format!("sh -c {}", quote(&inner)), b"", LIMIT).unwrap();
        assert_eq!(answer.text(), text);
    }
}
