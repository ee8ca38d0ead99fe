// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The comparison itself, with a second model in the kernel's place.

use DeferredStop::{PollThenWatchdog, WatchdogOnly, WatchdogThenPoll};
use step::{LISTED, QUEUED, RETURNED};

use super::*;

/// A model whose observations pass through `change`.
struct Changed<F: FnMut(Step, &mut Seen)>(Model, F);

impl<F: FnMut(Step, &mut Seen)> Subject for Changed<F> {
    fn run(&mut self, steps: &[Step]) -> Result<Vec<Seen>, Error> {
        let permitted =
            steps.iter().take_while(|step| draw::permitted(**step, &self.0.situation()));
        Ok(permitted
            .map(|&step| {
                let mut seen = self.0.step(step);
                (self.1)(step, &mut seen);
                seen
            })
            .collect())
    }
}

fn compared(change: impl FnMut(Step, &mut Seen)) -> NapiReport {
    compare(&mut Changed(Model::new(LISTED, WatchdogThenPoll), change), 1, 20_000)
        .expect("a report")
}

#[test]
fn a_run_meets_every_row_of_every_table() {
    for (kernel, told) in [
        (WatchdogThenPoll, "before 58e2330bd455"),
        (PollThenWatchdog, "(58e2330bd455)"),
        (WatchdogOnly, "7599c13dbe7a"),
    ] {
        let mut kernel = Changed(Model::new(LISTED, kernel), |_, _| ());
        let report = compare(&mut kernel, 1, 20_000).expect("a report");
        assert_eq!((report.steps, &report.mismatch), (20_000, &None));
        assert!(report.busy_poll_stop.contains(told), "{}", report.busy_poll_stop);
        let unmet: Vec<_> = report.rows.iter().filter(|row| row.count == 0).collect();
        assert!(unmet.is_empty(), "{unmet:?}");
    }
}

/// What the probe is for: each form of the kernel differs from the model of each other.
#[test]
fn a_model_of_another_end_of_busy_polling_is_a_mismatch() {
    let forms = [WatchdogThenPoll, PollThenWatchdog, WatchdogOnly];
    for (kernel, model) in forms.into_iter().flat_map(|kernel| forms.map(|model| (kernel, model))) {
        let mut subject = Changed(Model::new(LISTED, kernel), |_, _| ());
        let report = compare_from(&mut subject, &Model::new(LISTED, model), &[], 1, 20_000)
            .expect("a report");
        assert_eq!(report.mismatch.is_some(), kernel != model, "{kernel:?}, {model:?}");
    }
}

#[test]
fn one_different_bit_in_one_step_is_found_and_told_with_what_came_before() {
    let mut left = 5_000;
    let report = compared(|step, seen| {
        left -= 1;
        if left <= 0 && step == Step::Missed && seen.flags & RETURNED != 0 {
            seen.word ^= 2;
            left = i32::MAX;
        }
    });
    let text = report.mismatch.expect("a mismatch");
    assert!((4_000..6_000).contains(&report.steps), "{}", report.steps);
    assert_eq!(text.lines().filter(|line| line.starts_with("step ")).count(), SHOWN + 1, "{text}");
    let last: Vec<_> = text.lines().rev().take(3).collect();
    assert!(last[2].ends_with("napi_if_scheduled_mark_missed()"), "{text}");
    assert!(last[1].contains("kernel") && !last[1].contains("MISSED"), "{text}");
    assert!(last[0].contains("model") && last[0].contains("MISSED"), "{text}");
}

#[test]
fn every_kind_of_observation_is_compared() {
    let changes: [fn(&mut Seen); 7] = [
        |seen| seen.word ^= LISTED as u64,
        |seen| seen.poll_word[1] ^= 1 << 6,
        |seen| seen.poll_flags[0] ^= 1,
        |seen| seen.polls ^= 1,
        |seen| seen.deferrals += 1,
        |seen| seen.flags ^= QUEUED,
        |seen| seen.flags ^= RETURNED,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let report = compared(|step, seen| {
            if matches!(step, Step::Busy { .. }) {
                change(seen);
            }
        });
        assert!(report.mismatch.is_some(), "change {number} was not seen");
    }
}

#[test]
fn a_step_that_is_refused_is_an_error_that_names_it() {
    struct Lazy(Model);
    impl Subject for Lazy {
        fn run(&mut self, steps: &[Step]) -> Result<Vec<Seen>, Error> {
            Ok(steps.iter().take(3).map(|&step| self.0.step(step)).collect())
        }
    }
    let error = compare(&mut Lazy(Model::new(0, WatchdogThenPoll)), 1, 100).expect_err("refused");
    assert!(error.chain().contains("step 5"), "{}", error.chain());
}

#[test]
fn an_instance_that_is_not_idle_cannot_be_compared() {
    let error = compare(&mut Changed(Model::new(LISTED | 1, WatchdogThenPoll), |_, _| ()), 1, 100)
        .expect_err("owned");
    assert!(error.chain().contains("0x11"), "{}", error.chain());
}
