// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client of QEMU's machine protocol: JSON objects a line; commands are answered in order, with
//! events between.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Error;
use super::family::{Family, Waiting};
use super::lines::JsonLines;
use super::parts::QEMU;

/// QEMU answers at once, or when it has stopped the guest and its devices.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection on which commands are accepted.
#[derive(Debug)]
pub(super) struct Qmp {
    lines: JsonLines,
}

/// What QEMU says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Message {
    Greeting {
        #[serde(rename = "QMP")]
        _qmp: Value,
    },
    Event {
        #[serde(rename = "event")]
        _event: String,
    },
    Return {
        #[serde(rename = "return")]
        value: Value,
    },
    Error {
        error: Refusal,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Connects to QEMU's socket and ends the negotiation phase.
    pub fn connect(path: &Path, family: &mut Family) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut qmp = Self { lines: JsonLines::new(stream) };
        qmp.execute("qmp_capabilities", &json!({}), family)?;
        Ok(qmp)
    }

    /// Sends a command and waits for its answer; events and the greeting are of no interest here.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: &Value,
        family: &mut Family,
    ) -> Result<Value, Error> {
        let request = json!({"execute": command, "arguments": arguments});
        let doing = request.to_string();
        self.lines.send(&request).map_err(|source| family.diagnose(QEMU, &doing, source))?;
        loop {
            let limit = family.scale.limit(LIMIT);
            let received =
                self.lines.receive(limit, &mut || family.check(&doing).map_err(Waiting::Died));
            match received.map_err(|waiting| family.explain(QEMU, &doing, waiting))? {
                Message::Return { value } => return Ok(value),
                Message::Error { error } => {
                    return Err(Error::Refused { who: QEMU, doing, message: error.desc });
                }
                Message::Greeting { .. } | Message::Event { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Message {
        serde_json::from_str(line).expect("a message")
    }

    #[test]
    fn the_four_kinds_of_message_are_told_apart() {
        assert!(matches!(
            read(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#),
            Message::Greeting { .. }
        ));
        assert!(matches!(
            read(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#),
            Message::Event { .. }
        ));
        assert_eq!(
            read(r#"{"return": {"running": true}}"#),
            Message::Return { value: json!({"running": true}) }
        );
        let error = Refusal { desc: "no".into() };
        assert_eq!(
            read(r#"{"error": {"class": "GenericError", "desc": "no"}}"#),
            Message::Error { error }
        );
    }
}
