// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;

use super::{LINE_MAX, RequestReader};
use crate::{Adjustment, PairRequest, Request};

fn feed(reader: &mut RequestReader, bytes: &[u8]) -> Vec<Result<PairRequest, String>> {
    let mut all = Vec::new();
    reader.feed(bytes, |line| all.push(line));
    all
}

#[test]
fn a_malformed_line_is_named_with_its_number_and_column_and_the_next_one_is_understood() {
    let mut reader = RequestReader::default();
    let all = feed(
        &mut reader,
        b"{\"request\":\"status\"}\n\n{\"request\":]\n{\"request\":\"status\"}\n",
    );
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], Ok(Request::Status.into()));
    assert_eq!(all[1], Err("Line 3 is not a request: expected value, column 12".into()));
    assert_eq!(all[2], Ok(Request::Status.into()));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    for (line, expected) in [
        (&b"{\"request\":\"dance\"}\n"[..], "unknown variant `dance`"),
        (b"{\"request\":\"natural\",\"seed\":1}\n", "missing field `trials`"),
        (
            b"{\"request\":\"monitor-start\",\"seed\":1,\"port\":70000,\"inject_per_mille\":1}\n",
            "expected u16",
        ),
        (b"[]\n", "expected a map"),
        (b"{}\n", "missing field `request`"),
        (b"\xff\xfe\n", "expected value"),
    ] {
        let all = feed(&mut RequestReader::default(), line);
        let Err(message) = &all[0] else { panic!("{all:?}") };
        assert!(
            message.starts_with("Line 1 is not a request: ") && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn an_oversized_line_is_told_once_and_skipped_to_its_end() {
    let mut reader = RequestReader::default();
    assert_eq!(feed(&mut reader, &vec![b' '; LINE_MAX]), []);
    assert_eq!(feed(&mut reader, b"x"), [Err(format!("Line 1 is longer than {LINE_MAX} bytes"))]);
    assert_eq!(feed(&mut reader, &vec![b'x'; 3 * LINE_MAX]), []);
    assert_eq!(feed(&mut reader, b"\n{\"request\":\"status\"}\n"), [Ok(Request::Status.into())]);
}

#[test]
fn a_last_line_may_lack_its_end() {
    let mut reader = RequestReader::default();
    assert_eq!(feed(&mut reader, b"{\"request\":\"status\"}"), []);
    let mut all = Vec::new();
    reader.finish(|line| all.push(line));
    assert_eq!(all, [Ok(Request::Status.into())]);
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_stream_is_cut(cuts in prop::collection::vec(0usize..120, 0..12)) {
        let stream = b"{\"request\":\"status\"}\nnonsense\n{\"request\":\"monitor-stop\"}\r\n\n{\"request\":\"status\"}\n";
        let whole = feed(&mut RequestReader::default(), stream);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut reader = RequestReader::default();
        let pieces: Vec<_> = cuts.windows(2).flat_map(|cut| feed(&mut reader, &stream[cut[0]..cut[1]])).collect();
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn no_bytes_make_it_keep_more_than_a_line(bytes in prop::collection::vec(any::<u8>(), 0..2000), times in 1usize..40) {
        let mut reader = RequestReader::default();
        for _ in 0..times {
            feed(&mut reader, &bytes);
            prop_assert!(reader.framer.buffer.len() <= LINE_MAX);
        }
    }
}

#[test]
fn a_request_names_its_pair_or_is_for_the_first_one() {
    let read = |line: &str| feed(&mut RequestReader::default(), format!("{line}\n").as_bytes());
    let second = PairRequest { pair: 1, request: Request::Status };
    assert_eq!(read(r#"{"request":"status","pair":1}"#), [Ok(second.clone())]);
    assert_eq!(read(r#"{"pair":1,"request":"status"}"#), [Ok(second.clone())]);
    assert_eq!(read(&serde_json::to_string(&second).unwrap()), [Ok(second)]);
    let moderation = r#"{"pair":3,"request":"moderation","vector":"tx","usecs":4}"#;
    assert!(matches!(
        &read(moderation)[..],
        [Ok(PairRequest { pair: 3, request: Request::Moderation(it) })] if it.usecs == 4
    ));
    for (line, wrong) in [
        (r#"{"request":"status","pair":-1}"#, "-1"),
        (r#"{"request":"status","pairs":1}"#, "pairs"),
        (r#"{"request":"schedule","vector":"rx","usec":1}"#, "usec"),
    ] {
        let [Err(why)] = &read(line)[..] else { panic!("{line} was taken") };
        assert!(why.contains(wrong), "{why}");
    }
}

#[test]
fn an_adjustment_of_the_clock_is_one_field() {
    let read = |line: &str| feed(&mut RequestReader::default(), format!("{line}\n").as_bytes());
    for (line, adjustment) in [
        (r#"{"request":"clock","step_ns":-1000000}"#, Adjustment::StepNs(-1_000_000)),
        (r#"{"request":"clock","rate_ppb":20000}"#, Adjustment::RatePpb(20_000)),
        (r#"{"request":"clock","set_ns":7}"#, Adjustment::SetNs(7)),
    ] {
        let request: PairRequest = Request::Clock(adjustment).into();
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
        assert_eq!(read(line), [Ok(request)]);
    }
    for wrong in ["", r#","step_us":1"#, r#","set_ns":1,"step_ns":1"#, r#","set_ns":-1"#] {
        let line = format!(r#"{{"request":"clock"{wrong}}}"#);
        assert!(matches!(&read(&line)[..], [Err(_)]), "{line} was taken");
    }
}
