//! Where a board is: `ssh://user@host:port`, `adb://serial`, `local:`, `qemu:aarch64`.

use std::fmt;
use std::str::FromStr;

/// How a board is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// OpenSSH's client; keys, jump hosts and the like come from the user's configuration.
    Ssh {
        /// `user@host` or `host`.
        host: String,
        /// Port, where it is not that of the configuration.
        port: Option<u16>,
    },
    /// Android's debug bridge.
    Adb {
        /// Serial number, as `adb devices` prints it.
        serial: String,
    },
    /// This machine, through a shell: the same steps without a link.
    Local,
    /// This machine, the runner under user-mode emulation.
    Qemu {
        /// Processor as qemu calls it.
        machine: String,
    },
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // a word that begins with a dash would be an option of ssh or adb
        let plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_whitespace);
        let refused = || {
            format!(
                "`{text}` is no board: expected ssh://[user@]host[:port], adb://serial, local: or qemu:aarch64|arm|x86_64"
            )
        };
        if text == "local:" {
            return Ok(Self::Local);
        }
        if let Some(machine) = text.strip_prefix("qemu:") {
            let known = ["aarch64", "arm", "x86_64"].contains(&machine);
            return if known { Ok(Self::Qemu { machine: machine.into() }) } else { Err(refused()) };
        }
        if let Some(serial) = text.strip_prefix("adb://") {
            return if plain(serial) { Ok(Self::Adb { serial: serial.into() }) } else { Err(refused()) };
        }
        let rest = text.strip_prefix("ssh://").ok_or_else(refused)?.trim_end_matches('/');
        // an IPv6 address stands in brackets, so that its colons are no port
        let (host, port) = match rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| refused())?)),
            None => (rest, None),
        };
        let host = host.replace(['[', ']'], "");
        if !plain(&host) || host.contains('/') {
            return Err(refused());
        }
        Ok(Self::Ssh { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { host, port: None } => write!(f, "ssh://{host}"),
            Self::Ssh { host, port: Some(port) } => write!(f, "ssh://{host}:{port}"),
            Self::Adb { serial } => write!(f, "adb://{serial}"),
            Self::Local => write!(f, "local:"),
            Self::Qemu { machine } => write!(f, "qemu:{machine}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in
            ["ssh://pi@camera", "ssh://camera:2222", "adb://0123ABC", "adb://10.0.0.3:5555", "local:", "qemu:arm"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let port = Address::Ssh { host: "root@fe80::1".into(), port: Some(22) };
        assert_eq!("ssh://root@[fe80::1]:22".parse(), Ok(port));
    }

    #[test]
    fn what_is_no_board_is_refused_with_the_forms_that_are() {
        for text in [
            "camera",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a b",
            "ssh://h:port",
            "qemu:riscv",
            "adb://",
            "ssh://h/x",
        ] {
            assert!(text.parse::<Address>().unwrap_err().contains("expected ssh://"), "{text}");
        }
    }
}
