// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Request latency, log-scale on both axes: a row a bucket, a column a run.

use std::fmt::{self, Formatter};

use super::super::buckets::{EDGES_US, MODE_US, index_of, range_us};
use super::super::rpc::RpcRun;

/// The longest bar. Three columns have to fit into the report's width.
const BAR: usize = 14;
/// A bar, its number, and the space to the next column.
const COLUMN: usize = BAR + 8;

pub(super) fn write(f: &mut Formatter<'_>, runs: &[&RpcRun]) -> fmt::Result {
    let most = runs.iter().flat_map(|run| run.buckets.counts).max().unwrap_or(0);
    let columns = runs.iter().map(|run| run.mode.to_string()).collect::<Vec<_>>();
    writeln!(f, "requests by latency, log scale")?;
    line(f, "latency", &columns, "")?;
    for index in shown(runs) {
        let columns =
            runs.iter().map(|run| column(run.buckets.counts[index], most)).collect::<Vec<_>>();
        let mark = if index == index_of(MODE_US) { "<- 200 ms: RTO" } else { "" };
        line(f, &label(index), &columns, mark)?;
    }
    Ok(())
}

/// A label, the columns, a mark; nothing is left blank at the end.
fn line(f: &mut Formatter<'_>, label: &str, columns: &[String], mark: &str) -> fmt::Result {
    let padded =
        columns.iter().fold(String::new(), |line, column| line + &format!("{column:<COLUMN$}"));
    writeln!(f, "{}", format!("{label:>16}  {padded}{mark}").trim_end())
}

/// The rows from the first to the last with a request, and always as far as the second mode: its
/// absence is a result.
fn shown(runs: &[&RpcRun]) -> std::ops::RangeInclusive<usize> {
    let used = |index: &usize| runs.iter().any(|run| run.buckets.counts[*index] > 0);
    let first = (0..=EDGES_US.len()).find(used).unwrap_or(0).min(index_of(MODE_US));
    let last = (0..=EDGES_US.len()).rfind(used).unwrap_or(0);
    first..=last.max(index_of(MODE_US) + 1).min(EDGES_US.len())
}

/// A bar and its number.
fn column(count: u32, most: u32) -> String {
    match count {
        0 => "|".to_owned(),
        _ => format!("|{} {count}", "#".repeat(bar(count, most))),
    }
}

/// Length of a bar: one character is one request, the longest bar is `most`, logarithmic in
/// between.
#[expect(clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a bar is 1 to BAR long")]
fn bar(count: u32, most: u32) -> usize {
    match count {
        0 => 0,
        _ if most <= 1 => 1,
        _ => 1 + (f64::from(count).ln() / f64::from(most).ln() * (BAR - 1) as f64).round() as usize,
    }
}

/// A bucket's range, in the unit of its upper end.
fn label(index: usize) -> String {
    match range_us(index) {
        (_, Some(to)) if index == 0 => format!("< {}", with_unit(to)),
        (from, Some(to)) if to < 1_000 => format!("{from} - {to} us"),
        (from, Some(to)) if to < 1_000_000 => {
            format!("{} - {} ms", decimal(from, 1_000), decimal(to, 1_000))
        }
        (from, Some(to)) => format!("{} - {} s", decimal(from, 1_000_000), decimal(to, 1_000_000)),
        (from, None) => format!(">= {}", with_unit(from)),
    }
}

fn with_unit(us: u64) -> String {
    match us {
        ..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", decimal(us, 1_000)),
        _ => format!("{} s", decimal(us, 1_000_000)),
    }
}

/// `us / unit` with one decimal where there is one: every edge has two digits at most.
fn decimal(us: u64, unit: u64) -> String {
    match us % unit * 10 / unit {
        0 => (us / unit).to_string(),
        tenth => format!("{}.{tenth}", us / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_labelled_in_the_unit_of_their_upper_end() {
        let labels: Vec<_> = (0..=EDGES_US.len()).map(label).collect();
        assert_eq!(labels[0], "< 30 us");
        assert_eq!(labels[1], "30 - 70 us");
        assert_eq!(labels[5], "0.7 - 1.5 ms");
        assert_eq!(labels[12], "150 - 300 ms");
        assert_eq!(labels[14], "0.7 - 1.5 s");
        assert_eq!(labels[15], ">= 1.5 s");
    }

    #[test]
    fn one_request_is_seen_beside_a_thousand() {
        assert_eq!(bar(0, 1000), 0);
        assert_eq!(bar(1, 1000), 1);
        assert_eq!(bar(1000, 1000), BAR);
        assert!((7..=8).contains(&bar(32, 1000)), "half the digits, half the bar");
        assert_eq!(bar(1, 1), 1);
    }
}
