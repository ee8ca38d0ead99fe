// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random steps.

use rand::{Rng, RngExt};

use super::model::{Model, Situation};
use super::step::{POLLS, Poll, Settings, Step};

/// Whether the kernel's function may be called now: it would warn, wait for ever or worse. As the
/// module has it.
pub fn permitted(step: Step, now: &Situation) -> bool {
    let bits = Model::BITS;
    let any = |mask| now.word & mask != 0;
    match step {
        Step::Queue => any(bits.sched_mask()),
        // Since Linux 6.14 an instance is found by busy pollers from its enable to its disable, and
        // to enable it twice would put it twice among those that are found.
        Step::Enable => !now.enabled && any(bits.sched_mask()),
        Step::Busy { .. } => now.enabled,
        Step::Complete { .. } => {
            any(bits.sched_mask() | bits.npsvc_mask() | bits.in_busy_poll_mask())
        }
        Step::Disable => now.enabled && !any(bits.sched_mask() | bits.npsvc_mask()),
        _ => true,
    }
}

/// The bits that other parts of the kernel set and clear than the functions that are compared:
/// netpoll, a busy poller and a disable on another processor, and the setting of threaded NAPI.
pub fn others_bits() -> [u16; 5] {
    let bits = Model::BITS;
    [
        bits.npsvc_mask(),
        bits.disable_mask(),
        bits.in_busy_poll_mask(),
        bits.prefer_busy_poll_mask(),
        bits.threaded_mask(),
    ]
    .map(|mask| mask as u16)
}

/// The next step: permitted, and such that what blocks the way (a disable, netpoll) is seldom and
/// does not stay.
pub fn draw(random: &mut impl Rng, now: &Situation) -> Step {
    loop {
        let step = any(random);
        if permitted(step, now) {
            return step;
        }
    }
}

fn any(random: &mut impl Rng) -> Step {
    match random.random_range(0..100) {
        0..8 => Step::Prep,
        8..14 => Step::V4_10,
        14..24 => Step::Schedule,
        24..28 => Step::Queue,
        28..36 => Step::Missed,
        36..56 => {
            Step::Complete { work: if random.random() { 0 } else { random.random_range(1..64) } }
        }
        56..62 => Step::Watchdog,
        62..74 => Step::Busy { prefer: random.random(), polls: [(); POLLS].map(|()| poll(random)) },
        74..77 => Step::Disable,
        77..81 => Step::Enable,
        81..86 => Step::Set(one_of_others(random)),
        86..90 => Step::Clear(one_of_others(random)),
        90..94 => Step::Clear(others_bits().into_iter().fold(0, |all, bit| all | bit)),
        _ => Step::Settings(Settings {
            timeout: random.random(),
            held: random.random(),
            threaded: random.random_ratio(1, 4),
            defer_hard_irqs: random.random_range(0u8..6).saturating_sub(2),
        }),
    }
}

fn one_of_others(random: &mut impl Rng) -> u16 {
    let bits = others_bits();
    bits[random.random_range(0..bits.len())]
}

fn poll(random: &mut impl Rng) -> Poll {
    Poll {
        work: random.random_range(0..=8),
        irq_before: random.random_ratio(1, 4),
        irq_after: random.random_ratio(1, 4),
        held: random.random_ratio(1, 4),
    }
}
