// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::control::protocol::{RandomReport, Status, WatchReport, WatchRun};

fn watch() -> Request {
    Request::WatchStart(WatchRun { seed: 1, port: 80, strike_per_mille: 0 })
}

fn finished() -> Answer {
    Answer::Finished(Box::new(Finished::Watch(WatchReport::default())))
}

fn message(reply: Reply) -> String {
    match reply {
        Reply::Error { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_watch_is_told_when_it_starts_and_when_it_ends() {
    let mut desk = Desk::default();
    assert!(matches!(desk.request(1, watch()), Ok(Command::Start(RunRequest::Watch(_)))));
    assert_eq!(desk.answer(Answer::Started), Some((1, Reply::WatchStarted)));
    assert_eq!(desk.request(1, Request::WatchStop), Ok(Command::StopWatch));
    assert_eq!(desk.answer(Answer::Stopping), None);
    assert!(desk.owes(1));
    assert_eq!(desk.answer(finished()), Some((1, Reply::Watch(WatchReport::default()))));
    assert!(!desk.owes(1));
}

#[test]
fn the_status_goes_to_those_who_asked_in_their_order() {
    let mut desk = Desk::default();
    for client in [3, 1, 2] {
        assert_eq!(desk.request(client, Request::Status), Ok(Command::Status));
    }
    for client in [3, 1, 2] {
        assert_eq!(desk.answer(Answer::Status(Status::default())), Some((client, Reply::Status(Status::default()))));
    }
}

#[test]
fn one_run_at_a_time_and_the_others_are_told_whose_it_is() {
    let mut desk = Desk::default();
    desk.request(1, watch()).expect("the first");
    assert!(message(desk.request(2, watch()).unwrap_err()).contains("A watch is on, started by another connection"));
    assert!(message(desk.request(1, watch()).unwrap_err()).contains("started by this connection"));
    assert_eq!(
        message(desk.request(2, Request::WatchStop).unwrap_err()),
        "The watch was started by another connection"
    );
}

#[test]
fn a_refused_start_is_told_and_leaves_the_desk_free() {
    let mut desk = Desk::default();
    desk.request(1, watch()).expect("sent");
    assert_eq!(desk.answer(Answer::Refused("no".into())), Some((1, error("no".into()))));
    assert!(!desk.owes(1));
    assert!(desk.request(2, watch()).is_ok());
    assert_eq!(message(Desk::default().request(1, Request::WatchStop).unwrap_err()), "No watch is on");
}

#[test]
fn a_client_that_goes_cancels_its_run_and_only_its_own() {
    let mut desk = Desk::default();
    desk.request(1, watch()).expect("sent");
    assert_eq!(desk.gone(2), None);
    assert_eq!(desk.gone(1), Some(Command::Cancel));
    assert_eq!(desk.gone(1), None);
}

#[test]
fn what_a_cancelled_run_still_had_to_say_is_not_taken_for_the_next_ones() {
    let mut desk = Desk::default();
    desk.request(1, watch()).expect("sent");
    assert_eq!(desk.answer(Answer::Started), Some((1, Reply::WatchStarted)));
    desk.gone(1).expect("cancels");
    desk.request(2, watch()).expect("sent behind it");
    assert_eq!(desk.answer(Answer::Progress { done: 1, total: 2 }), None);
    assert_eq!(desk.answer(finished()), None);
    assert_eq!(desk.answer(Answer::Cancelled), None);
    assert_eq!(desk.answer(Answer::Started), Some((2, Reply::WatchStarted)));
    assert_eq!(desk.answer(finished()), Some((2, Reply::Watch(WatchReport::default()))));
}

#[test]
fn a_watch_that_ends_while_it_is_being_stopped_is_told_once() {
    let mut desk = Desk::default();
    desk.request(1, watch()).expect("sent");
    desk.answer(Answer::Started);
    desk.request(1, Request::WatchStop).expect("sent");
    let failed = Answer::Finished(Box::new(Finished::Failed("gone".into())));
    assert_eq!(desk.answer(failed), Some((1, error("gone".into()))));
    desk.request(1, watch()).expect("the next one, before the data path has answered");
    assert_eq!(desk.answer(Answer::Refused("No watch is on".into())), None);
    assert_eq!(desk.answer(Answer::Started), Some((1, Reply::WatchStarted)), "the refusal was not for the start");
}

#[test]
fn each_kind_of_result_has_its_reply() {
    assert_eq!(finished_reply(Finished::Random(RandomReport::default())), Reply::Random(RandomReport::default()));
    assert_eq!(finished_reply(Finished::Failed("x".into())), error("x".into()));
}
