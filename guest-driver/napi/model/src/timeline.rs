// SPDX-License-Identifier: GPL-2.0-only
//! An execution as kernel developers write races down: two columns, time downwards.

use std::fmt::Write as _;

use napi_state::Bits;

use crate::device::Kind;
use crate::scenario::{Owner, Scenario};
use crate::trace::{Event, Who};
use crate::verdict::{Execution, Violation};

/// Characters of the left column.
const LEFT: usize = 46;

/// Renders an execution. Left is the first owner, right everybody else.
#[must_use]
pub fn render(execution: &Execution, scenario: &Scenario, layout: Bits) -> String {
    let mut text = String::new();
    let heading = scenario.owners.first().map_or("an interrupt", |owner| Owner::name(*owner));
    line(&mut text, 0, &format!("thread 1: {heading}"));
    text.truncate(text.trim_end().len());
    let width = text.lines().last().map_or(0, str::len);
    let _ = writeln!(text, "{:1$}thread 2 (same CPU or not)\n", "", LEFT.saturating_sub(width));
    let mut last = None;
    let (mut produced, mut consumed) = (scenario.waiting, 0);
    for (who, event) in &execution.events {
        let mut words = words(*event, layout);
        match *event {
            Event::Published(number) => produced = number,
            Event::Consumed { ci, .. } => consumed = ci,
            // The events are in the order in which they happened; on a weakly ordered machine a
            // read may return what was there before.
            Event::Empty if produced > consumed => {
                let _ = write!(words, ", by a stale read: packet {produced} is there");
            }
            _ => {}
        }
        if last.is_some_and(|last| last != *who)
            && last.map(|last| execution.column(last)) != Some(execution.column(*who))
        {
            text.push('\n');
        }
        last = Some(*who);
        line(
            &mut text,
            execution.column(*who),
            &format!(
                "{}{words}",
                if execution.column(*who) == 0 { String::new() } else { speaker(*who) }
            ),
        );
    }
    if let Some(violation) = execution.violation {
        let _ = writeln!(text, "\n=> {}", ending(violation, execution, scenario));
    }
    text
}

fn line(text: &mut String, column: usize, words: &str) {
    let (indent, width) = if column == 0 { (0, LEFT - 2) } else { (LEFT, 60) };
    let mut rest = words;
    let mut hang = 0;
    while !rest.is_empty() {
        let room = width - hang;
        let end =
            if rest.len() <= room { rest.len() } else { rest[..room].rfind(' ').unwrap_or(room) };
        let _ = writeln!(text, "{:1$}{2}", "", indent + hang, &rest[..end]);
        rest = rest[end..].trim_start();
        hang = 2;
    }
}

/// Who speaks in the right column.
fn speaker(who: Who) -> String {
    match who {
        Who::Owner(0) => String::new(),
        Who::Owner(n) => format!("[thread {}] ", n + 2),
        Who::Device => "device: ".to_owned(),
        Who::Interrupt(0) => "irq: ".to_owned(),
        Who::Interrupt(n) => format!("irq {}: ", n + 1),
        Who::Timer(n) => format!("timer {}: ", n + 1),
    }
}

fn words(event: Event, layout: Bits) -> String {
    let bits = |mask| names(mask, layout);
    match event {
        Event::Word { function, before, after } if before == after => {
            format!("{function}: finds {} set, changes nothing", bits(before))
        }
        Event::Word { function, before, after } => {
            let set = after & !before;
            let cleared = before & !after;
            let change = [("sets", set), ("clears", cleared)]
                .into_iter()
                .filter(|(_, mask)| *mask != 0)
                .map(|(verb, mask)| format!("{verb} {}", bits(mask)))
                .collect::<Vec<_>>()
                .join(" and ");
            format!("{function}: {change}")
        }
        Event::Handled { taken: true } => "will poll".to_owned(),
        Event::Handled { taken: false } => "does nothing more".to_owned(),
        Event::PollBegins { scheduled: true } => "softirq: napi->poll()".to_owned(),
        Event::PollBegins { scheduled: false } => "napi->poll()".to_owned(),
        Event::Consumed { packets: 1, ci } => format!("reads packet {ci} from the ring"),
        Event::Consumed { packets, ci } => {
            format!("reads packets {} to {ci} from the ring", ci - packets + 1)
        }
        Event::Empty => "finds the ring empty".to_owned(),
        Event::Exhausted => "budget used up".to_owned(),
        Event::Completed { arm: true } => "napi_complete_done() returns true".to_owned(),
        Event::Completed { arm: false } => "napi_complete_done() returns false".to_owned(),
        Event::Armed { ci: Some(ci), irq_seen: Some(seen) } => {
            format!("rearm_irq(), {ci} consumed, irq_seen {seen}")
        }
        Event::Armed { ci: Some(ci), .. } => format!("rearm_irq(), {ci} consumed"),
        Event::Armed { ci: None, .. } => "rearm_irq()".to_owned(),
        Event::Seen(number) => format!("irq_seen is {number}"),
        Event::CallsLost(number) => format!("calls packet {number} lost"),
        Event::Published(number) => format!("packet {number} is in the ring"),
        Event::Raised { signaled, .. } => format!("interrupt, for all packets up to {signaled}"),
        Event::Disabled => "napi_disable() returns".to_owned(),
        Event::Stuck => "napi_disable(): SCHED is set, and nobody is left to clear it".to_owned(),
    }
}

/// Bits by name.
fn names(mask: usize, layout: Bits) -> String {
    let known = [
        ("SCHED", layout.sched_mask()),
        ("MISSED", layout.missed_mask()),
        ("DISABLE", layout.disable_mask()),
        ("NPSVC", layout.npsvc_mask()),
        ("IN_BUSY_POLL", layout.in_busy_poll_mask()),
        ("PREFER_BUSY_POLL", layout.prefer_busy_poll_mask()),
        ("THREADED", layout.threaded_mask()),
        ("SCHED_THREADED", layout.sched_threaded_mask()),
    ];
    let names: Vec<_> =
        known.iter().filter(|(_, bit)| mask & bit != 0).map(|(name, _)| *name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn ending(violation: Violation, execution: &Execution, scenario: &Scenario) -> String {
    let what = match violation {
        Violation::Lost => {
            return format!(
                "a packet is in the ring, SCHED is clear, and the device {}",
                silence(execution, scenario)
            );
        }
        Violation::OwnedByNobody => "SCHED is set, and no poll is scheduled",
        Violation::DisableNeverReturns => "napi_disable() sleeps and looks, for ever",
        Violation::NotDisabled => "napi_disable() has returned, and the instance is free",
        Violation::NotRescheduled => "packets may be left, and no poll is scheduled",
        Violation::CalledLost => "the device called a packet lost whose poll was still to come",
        Violation::DeviceWrong => "the device's own verdict differs",
    };
    what.to_owned()
}

/// Why the device says nothing about the last packet.
fn silence(execution: &Execution, scenario: &Scenario) -> &'static str {
    let (mut produced, mut signaled, mut armed) = (scenario.waiting, 0, scenario.armed);
    for (_, event) in &execution.events {
        match event {
            Event::Published(number) => produced = *number,
            Event::Raised { signaled: up_to, .. } => (signaled, armed) = (*up_to, false),
            Event::Armed { .. } => armed = true,
            _ => {}
        }
    }
    match (armed, scenario.device) {
        _ if signaled == produced => "has interrupted for it already",
        (false, _) => "is not armed, and no timer runs",
        (true, Kind::EdgeTriggered) => "was not armed when it came, and does not look back",
        (true, Kind::OneShot | Kind::LevelTriggered) => "is armed, and owes an interrupt for it",
    }
}
