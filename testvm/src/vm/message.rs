// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests and replies as they are shown in errors.

use serde::Serialize;

use guest_protocol as agent;

use super::error::Error;
use super::parts::AGENT;

/// Characters of a request or reply that are shown. A reply with a log in it has up to a megabyte.
const SHOWN: usize = 400;

/// A request or reply as text, for messages: its beginning.
pub(super) fn describe(message: &impl Serialize) -> String {
    let text = serde_json::to_string(message).unwrap_or_else(|error| error.to_string());
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

/// The error of an answer to something else than was asked.
pub(super) fn unexpected(who: &'static str, doing: &str, reply: &impl Serialize) -> Error {
    Error::Unexpected { who, doing: doing.to_owned(), reply: describe(reply) }
}

/// The agent's answer to what it was asked, unless it is that it could not do it, or not in time.
pub(super) fn accepted(doing: &str, reply: agent::Reply) -> Result<agent::Reply, Error> {
    let (who, doing) = (AGENT, doing.to_owned());
    match reply {
        agent::Reply::Error { message } => Err(Error::Refused { who, doing, message }),
        agent::Reply::Late { message } => Err(Error::Late { who, doing, message }),
        reply => Ok(reply),
    }
}

/// The same for what has no result.
pub(super) fn carried_out(doing: &str, reply: agent::Reply) -> Result<(), Error> {
    match accepted(doing, reply)? {
        agent::Reply::Done => Ok(()),
        other => Err(unexpected(AGENT, doing, &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_described_as_they_are_sent() {
        assert_eq!(describe(&tsnic_protocol::Request::Status), r#"{"request":"status"}"#);
    }

    #[test]
    fn a_long_reply_is_cut() {
        let reply = guest_protocol::Reply::Text { text: "\u{20ac}".repeat(300_000) };
        let whole = serde_json::to_string(&reply).expect("JSON");
        let said = unexpected("The guest agent", "status", &reply).to_string();
        assert!(said.ends_with(&format!("... ({} bytes)", whole.len())), "{said}");
        assert_eq!(said.matches('\u{20ac}').count(), SHOWN - whole.find('\u{20ac}').expect("one"));
    }
}
