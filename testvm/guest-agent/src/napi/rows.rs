// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rows of the protocol's transition tables, and which of them a step has met: a comparison is
//! worth what it has covered.

use napi_state::v6_1::DeferredStop;

use super::model::{Model, Situation};
use super::step::{
    POLL_COMPLETED, POLL_WATCHDOG, POLLS, Poll, QUEUED, RETURNED, Seen, Step, WATCHDOG,
};

macro_rules! rows {
    ($($operation:literal { $($name:ident: $text:literal,)* })*) => {
        /// A row of a transition table; what it says is in [`ROWS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Row { $($($name,)*)* }

        /// All rows: which, of what function, and what it says.
        pub const ROWS: &[(Row, &str, &str)] = &[$($((Row::$name, $operation, $text),)*)*];
    };
}

rows! {
    "napi_schedule_prep" {
        PrepDisable: "DISABLE: unchanged, false",
        PrepFree: "free: SCHED set, true",
        PrepOwned: "SCHED: MISSED set, false",
    }
    "napi_schedule_prep of 4.10.0" {
        V4_10Disable: "DISABLE: unchanged, false",
        V4_10Free: "free: SCHED set, true",
        V4_10Owned: "SCHED: unchanged, false",
    }
    "napi_schedule" {
        ScheduleDisable: "DISABLE: unchanged",
        ScheduleFree: "free: SCHED set, a poll scheduled",
        ScheduleOwned: "SCHED: MISSED set",
    }
    "__napi_schedule" {
        QueueSoftirq: "by softirq",
        QueueThread: "THREADED: SCHED_THREADED set",
    }
    "napi_if_scheduled_mark_missed" {
        MissedDisable: "DISABLE: unchanged, true",
        MissedFree: "free: unchanged, false",
        MissedOwned: "SCHED: MISSED set, true",
    }
    "napi_complete_done" {
        CompleteNpsvc: "NPSVC: unchanged, false",
        CompleteBusy: "IN_BUSY_POLL: unchanged, false",
        CompleteMissed: "MISSED: SCHED kept, a poll scheduled, false",
        CompleteMissedThread: "MISSED, THREADED: SCHED kept, the thread woken, false",
        CompleteDeferred: "deferred: SCHED cleared, watchdog, false",
        CompleteDeferredInVain: "deferred, but no timeout: SCHED cleared, true",
        CompleteHeld: "GRO holds packets: SCHED cleared, watchdog, true",
        CompleteFree: "else: SCHED cleared, true",
    }
    "napi_watchdog" {
        WatchdogDisable: "DISABLE: unchanged",
        WatchdogOwned: "SCHED: unchanged, no MISSED",
        WatchdogFree: "free: SCHED set, a poll scheduled",
        WatchdogPrefer: "free, PREFER_BUSY_POLL: cleared",
    }
    "napi_busy_loop" {
        BusyDisable: "DISABLE: not taken",
        BusyOwned: "SCHED: not taken",
        BusyOther: "IN_BUSY_POLL: not taken",
        BusyPrefer: "not taken, prefers: PREFER_BUSY_POLL set",
        BusyTaken: "free: SCHED and IN_BUSY_POLL set, one poll",
    }
    "busy_poll_stop" {
        StopMissed: "MISSED from the loop: cleared",
        StopWatchdogFirst: "prefers, deferred: watchdog before the last poll",
        StopWatchdogOnly: "prefers, deferred: no last poll, SCHED cleared, watchdog started",
        StopCompleted: "last poll completes: SCHED cleared",
        StopDeferred: "last poll is deferred: SCHED cleared, the device silent",
        StopInterrupted: "last poll was interrupted: a poll scheduled",
        StopNpsvc: "NPSVC: SCHED kept",
        StopBudget: "last poll uses its budget: a poll scheduled",
        StopBudgetWatchdog: "the same, watchdog running: SCHED cleared",
        StopBudgetThenWatchdog: "the same, SCHED cleared, then the watchdog started",
    }
    "napi_disable" {
        Disable: "SCHED and NPSVC set",
        DisableCleared: "THREADED or PREFER_BUSY_POLL: cleared",
        DisableMissed: "MISSED: kept",
        DisableWatchdog: "watchdog: cancelled",
    }
    "napi_enable" {
        Enable: "SCHED and NPSVC cleared",
        EnableThreaded: "threaded: THREADED set, too",
        EnableMissed: "MISSED: kept",
    }
}

/// Calls `met` with each row that this step has met: by how things were before it, and by what was
/// seen.
pub fn rows(step: Step, before: &Situation, seen: &Seen, mut met: impl FnMut(Row)) {
    let bits = Model::BITS;
    let had = |mask| before.word & mask != 0;
    let owner = |disable, owned, free| {
        if had(bits.disable_mask()) {
            disable
        } else if had(bits.sched_mask()) {
            owned
        } else {
            free
        }
    };
    let flag = |flag| seen.flags & flag != 0;
    match step {
        Step::Look | Step::Set(_) | Step::Clear(_) | Step::Settings(_) => {}
        Step::Prep => met(owner(Row::PrepDisable, Row::PrepOwned, Row::PrepFree)),
        Step::V4_10 => met(owner(Row::V4_10Disable, Row::V4_10Owned, Row::V4_10Free)),
        Step::Schedule => met(owner(Row::ScheduleDisable, Row::ScheduleOwned, Row::ScheduleFree)),
        Step::Missed => met(owner(Row::MissedDisable, Row::MissedOwned, Row::MissedFree)),
        Step::Queue => met(if flag(QUEUED) { Row::QueueSoftirq } else { Row::QueueThread }),
        Step::Complete { .. } => met(if had(bits.npsvc_mask()) {
            Row::CompleteNpsvc
        } else if had(bits.in_busy_poll_mask()) {
            Row::CompleteBusy
        } else if had(bits.missed_mask()) {
            if flag(QUEUED) { Row::CompleteMissed } else { Row::CompleteMissedThread }
        } else if !flag(RETURNED) {
            Row::CompleteDeferred
        } else if flag(WATCHDOG) && !before.watchdog {
            Row::CompleteHeld
        } else if seen.deferrals < before.deferrals && !before.settings.timeout {
            Row::CompleteDeferredInVain
        } else {
            Row::CompleteFree
        }),
        Step::Watchdog => {
            met(owner(Row::WatchdogDisable, Row::WatchdogOwned, Row::WatchdogFree));
            if !had(bits.disable_mask() | bits.sched_mask()) && had(bits.prefer_busy_poll_mask()) {
                met(Row::WatchdogPrefer);
            }
        }
        Step::Busy { prefer, polls } if seen.polls > 0 => {
            busy_rows(prefer, polls, before, seen, met);
        }
        Step::Busy { prefer, .. } => {
            met(owner(Row::BusyDisable, Row::BusyOwned, Row::BusyOther));
            if prefer {
                met(Row::BusyPrefer);
            }
        }
        Step::Disable => {
            met(Row::Disable);
            for (is, row) in [
                (had(bits.threaded_mask() | bits.prefer_busy_poll_mask()), Row::DisableCleared),
                (had(bits.missed_mask()), Row::DisableMissed),
                (before.watchdog, Row::DisableWatchdog),
            ] {
                if is {
                    met(row);
                }
            }
        }
        Step::Enable => {
            met(if before.settings.threaded { Row::EnableThreaded } else { Row::Enable });
            if had(bits.missed_mask()) {
                met(Row::EnableMissed);
            }
        }
    }
}

/// Of a busy loop that got the instance.
fn busy_rows(
    prefer: bool,
    [first, last]: [Poll; POLLS],
    before: &Situation,
    seen: &Seen,
    mut met: impl FnMut(Row),
) {
    let bits = Model::BITS;
    let had = |mask| before.word & mask != 0;
    let last_flag = |flag| seen.poll_flags[1] & flag != 0;
    met(Row::BusyTaken);
    if had(bits.missed_mask()) || first.irq_before || (first.work < 8 && first.irq_after) {
        met(Row::StopMissed);
    }
    let deferred = prefer && before.settings.timeout && before.settings.defer_hard_irqs > 0;
    let form = deferred.then_some(before.deferred_stop);
    if form == Some(DeferredStop::WatchdogOnly) {
        met(Row::StopWatchdogOnly);
        return;
    }
    if form == Some(DeferredStop::WatchdogThenPoll) && !before.watchdog && last_flag(POLL_WATCHDOG)
    {
        met(Row::StopWatchdogFirst);
    }
    met(match last.work {
        8 if form == Some(DeferredStop::WatchdogThenPoll) => Row::StopBudgetWatchdog,
        8 if form == Some(DeferredStop::PollThenWatchdog) => Row::StopBudgetThenWatchdog,
        8 => Row::StopBudget,
        _ if had(bits.npsvc_mask()) => Row::StopNpsvc,
        _ if last.irq_before => Row::StopInterrupted,
        _ if last_flag(POLL_COMPLETED) => Row::StopCompleted,
        _ => Row::StopDeferred,
    });
}

/// Whether a kernel whose preferred busy loops end like that can meet a row.
pub fn applies(row: Row, form: DeferredStop) -> bool {
    match row {
        Row::StopWatchdogFirst | Row::StopBudgetWatchdog => form == DeferredStop::WatchdogThenPoll,
        Row::StopBudgetThenWatchdog => form == DeferredStop::PollThenWatchdog,
        Row::StopWatchdogOnly => form == DeferredStop::WatchdogOnly,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_their_place_in_the_table() {
        for (place, (row, operation, text)) in ROWS.iter().enumerate() {
            assert_eq!(*row as usize, place, "{operation}: {text}");
        }
    }
}
