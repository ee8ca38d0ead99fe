// SPDX-License-Identifier: Apache-2.0 OR MIT

use tsnic_protocol::{MonitorReport, MonitorSpec, NaturalReport};

use tsnic_core::run::{Finished, RunRequest};
use tsnic_core::spec;

use super::*;
use crate::net::status::PairStatus;

fn monitor() -> Request {
    Request::MonitorStart(MonitorSpec { seed: 1, port: 80, inject_per_mille: 0 })
}

fn finished() -> Answer {
    Answer::Finished(Box::new(Finished::Monitor(spec::MonitorReport::default())))
}

#[test]
fn a_traffic_monitor_is_told_when_it_starts_and_when_it_ends() {
    let mut dispatcher = Dispatcher::default();
    assert!(matches!(dispatcher.request(1, monitor()), Ok(Command::Start(RunRequest::Monitor(_)))));
    assert_eq!(dispatcher.answer(Answer::Started), Some((1, Reply::MonitorStarted)));
    assert_eq!(dispatcher.request(1, Request::MonitorStop), Ok(Command::StopMonitor));
    assert_eq!(dispatcher.answer(Answer::Stopping), None);
    assert!(dispatcher.owes(1));
    assert_eq!(dispatcher.answer(finished()), Some((1, Reply::Monitor(MonitorReport::default()))));
    assert!(!dispatcher.owes(1));
}

#[test]
fn the_status_goes_to_those_who_asked_in_their_order() {
    let mut dispatcher = Dispatcher::default();
    for client in [3, 1, 2] {
        assert_eq!(dispatcher.request(client, Request::Status), Ok(Command::Status));
    }
    for client in [3, 1, 2] {
        assert_eq!(
            dispatcher.answer(Answer::Status(Box::default())),
            Some((client, Reply::Status(convert::status(&PairStatus::default()).into())))
        );
    }
}

#[test]
fn one_run_at_a_time_and_the_others_are_told_whose_it_is() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.request(1, monitor()).expect("the first");
    assert!(
        dispatcher
            .request(2, monitor())
            .unwrap_err()
            .contains("A traffic monitor is on, started by another connection")
    );
    assert!(dispatcher.request(1, monitor()).unwrap_err().contains("started by this connection"));
    assert_eq!(
        dispatcher.request(2, Request::MonitorStop).unwrap_err(),
        "The traffic monitor was started by another connection"
    );
}

#[test]
fn a_refused_start_is_told_and_leaves_the_dispatcher_free() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.request(1, monitor()).expect("sent");
    assert_eq!(dispatcher.answer(Answer::Refused("no".into())), Some((1, error("no".into()))));
    assert!(!dispatcher.owes(1));
    assert!(dispatcher.request(2, monitor()).is_ok());
    assert_eq!(
        Dispatcher::default().request(1, Request::MonitorStop).unwrap_err(),
        "No traffic monitor is on"
    );
}

#[test]
fn a_client_that_goes_cancels_its_run_and_only_its_own() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.request(1, monitor()).expect("sent");
    assert_eq!(dispatcher.gone(2), None);
    assert_eq!(dispatcher.gone(1), Some(Command::Cancel));
    assert_eq!(dispatcher.gone(1), None);
}

#[test]
fn what_a_cancelled_run_still_had_to_say_is_not_taken_for_the_next_ones() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.request(1, monitor()).expect("sent");
    assert_eq!(dispatcher.answer(Answer::Started), Some((1, Reply::MonitorStarted)));
    dispatcher.gone(1).expect("cancels");
    dispatcher.request(2, monitor()).expect("sent behind it");
    assert_eq!(dispatcher.answer(Answer::Progress { done: 1, total: 2 }), None);
    assert_eq!(dispatcher.answer(finished()), None);
    assert_eq!(dispatcher.answer(Answer::Cancelled), None);
    assert_eq!(dispatcher.answer(Answer::Started), Some((2, Reply::MonitorStarted)));
    assert_eq!(dispatcher.answer(finished()), Some((2, Reply::Monitor(MonitorReport::default()))));
}

#[test]
fn a_traffic_monitor_that_ends_while_it_is_being_stopped_is_told_once() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.request(1, monitor()).expect("sent");
    dispatcher.answer(Answer::Started);
    dispatcher.request(1, Request::MonitorStop).expect("sent");
    let failed = Answer::Finished(Box::new(Finished::Failed("gone".into())));
    assert_eq!(dispatcher.answer(failed), Some((1, error("gone".into()))));
    dispatcher.request(1, monitor()).expect("the next one, before the data path has answered");
    assert_eq!(dispatcher.answer(Answer::Refused("No traffic monitor is on".into())), None);
    assert_eq!(
        dispatcher.answer(Answer::Started),
        Some((1, Reply::MonitorStarted)),
        "the refusal was not for the start"
    );
}

#[test]
fn each_kind_of_result_has_its_reply() {
    assert_eq!(
        convert::finished(Finished::Natural(spec::NaturalReport::default())),
        Reply::Natural(NaturalReport::default())
    );
    assert_eq!(convert::finished(Finished::Failed("x".into())), error("x".into()));
}
