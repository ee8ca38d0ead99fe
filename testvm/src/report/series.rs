// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The samples that quantiles are taken of, for the machine-readable report.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};

/// Times of a run, each sample in the order in which it was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// From the packet's timestamp to the arm that covers it, of each packet never lost.
    #[serde(serialize_with = "on_one_line")]
    pub delivered_ns: Vec<u64>,
    /// How long it stayed stuck until the next packet, of each lost one.
    #[serde(serialize_with = "on_one_line")]
    pub stuck_ns: Vec<u64>,
}

/// Writes `samples` without line breaks, also into an indented file: there may be ten thousand.
pub(super) fn on_one_line<S: Serializer>(
    samples: &[u64],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serde_json::value::to_raw_value(samples).map_err(S::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_on_one_line_and_in_their_order() {
        let series = Series { delivered_ns: vec![30, 10, 20], stuck_ns: Vec::new() };
        let text = serde_json::to_string_pretty(&series).expect("JSON");
        assert_eq!(text, "{\n  \"delivered_ns\": [30,10,20],\n  \"stuck_ns\": []\n}");
    }
}
