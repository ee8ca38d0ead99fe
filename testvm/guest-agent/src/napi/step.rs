// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Steps, and what is seen of them: the two structs of `guest-driver/kbuild/tsnic_napicheck.c`.

use std::fmt::{self, Display};

use napi_state::Bits;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Polls of one busy loop of one turn: the loop's, and that of `busy_poll_stop()`.
pub const POLLS: usize = 2;

/// One step: a call of one of the kernel's functions, or what another part of the kernel does to
/// the word meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Look,
    /// `napi_schedule_prep()`; if it takes the instance, a later [`Step::Queue`] or anything else
    /// may follow.
    Prep,
    /// The expression that `napi_schedule_prep()` was before Linux 4.11.
    V4_10,
    /// `napi_schedule()`.
    Schedule,
    /// `__napi_schedule()`.
    Queue,
    /// `napi_if_scheduled_mark_missed()`.
    Missed,
    /// `napi_complete_done()`.
    Complete {
        /// Packets that the poll has found, 0 to 63.
        work: u8,
    },
    /// `napi_watchdog()`.
    Watchdog,
    /// `napi_busy_loop()` of one turn.
    Busy {
        /// The socket prefers busy polling.
        prefer: bool,
        /// What the polls do, if the loop gets the instance.
        polls: [Poll; POLLS],
    },
    /// `napi_disable()`.
    Disable,
    /// `napi_enable()`.
    Enable,
    /// `set_bit()` for each bit of a mask.
    Set(u16),
    /// `clear_bit()` for each bit of a mask.
    Clear(u16),
    /// What surrounds the word changes.
    Settings(Settings),
}

/// What a poll function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Packets found; with 8, the budget, it does not complete.
    pub work: u8,
    /// An interrupt comes before it completes.
    pub irq_before: bool,
    /// An interrupt comes when it has completed.
    pub irq_after: bool,
    /// GRO holds some of the packets.
    pub held: bool,
}

/// What surrounds the word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `gro_flush_timeout` is not 0.
    pub timeout: bool,
    /// GRO holds packets.
    pub held: bool,
    /// The device is set to threaded NAPI.
    pub threaded: bool,
    /// `napi_defer_hard_irqs`.
    pub defer_hard_irqs: u8,
}

/// `struct step` of the module.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Record {
    /// `OP_*`.
    pub op: u8,
    /// As the operation has it.
    pub flags: u8,
    /// As the operation has it.
    pub value: u16,
    /// `POLL_*`, for `OP_BUSY`.
    pub polls: [u16; POLLS],
}

impl From<Step> for Record {
    fn from(step: Step) -> Self {
        let op = |op| Self { op, ..Self::default() };
        match step {
            Step::Look => op(0),
            Step::Prep => op(1),
            Step::V4_10 => op(2),
            Step::Schedule => op(3),
            Step::Queue => op(4),
            Step::Missed => op(5),
            Step::Complete { work } => Self { value: work.into(), ..op(6) },
            Step::Watchdog => op(7),
            Step::Busy { prefer, polls } => {
                let poll = |poll: Poll| {
                    u16::from(poll.work)
                        | (u16::from(poll.irq_before) << 4)
                        | (u16::from(poll.irq_after) << 5)
                        | (u16::from(poll.held) << 6)
                };
                Self { flags: prefer.into(), polls: polls.map(poll), ..op(8) }
            }
            Step::Disable => op(9),
            Step::Enable => op(10),
            Step::Set(mask) => Self { value: mask, ..op(11) },
            Step::Clear(mask) => Self { value: mask, ..op(12) },
            Step::Settings(Settings { timeout, held, threaded, defer_hard_irqs }) => {
                let flags = u8::from(timeout) | (u8::from(held) << 1) | (u8::from(threaded) << 2);
                Self { flags, value: defer_hard_irqs.into(), ..op(13) }
            }
        }
    }
}

/// `struct seen` of the module: everything observable after a step. Equal when the kernel and the
/// model agree.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Seen {
    /// The state word.
    pub word: u64,
    /// The state word at the beginning of each poll.
    pub poll_word: [u64; POLLS],
    /// `napi_struct::defer_hard_irqs_count`.
    pub deferrals: u32,
    /// [`RETURNED`] and the like.
    pub flags: u8,
    /// Polls that were called.
    pub polls: u8,
    /// [`POLL_COMPLETED`] and the like, for each poll.
    pub poll_flags: [u8; POLLS],
}

/// In [`Seen::flags`]: the function returned true.
pub const RETURNED: u8 = 1;
/// In [`Seen::flags`]: a poll by softirq was scheduled.
pub const QUEUED: u8 = 2;
/// In [`Seen::flags`]: the watchdog is running.
pub const WATCHDOG: u8 = 4;
/// In [`Seen::flags`]: GRO holds packets.
pub const HELD: u8 = 8;
/// In [`Seen::flags`]: a poll ran that no step had asked for.
pub const STRAY: u8 = 16;
/// In [`Seen::poll_flags`]: `napi_complete_done()` returned true.
pub const POLL_COMPLETED: u8 = 1;
/// In [`Seen::poll_flags`]: the watchdog was running when the poll began.
pub const POLL_WATCHDOG: u8 = 2;

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Look => f.write_str("nothing"),
            Self::Prep => f.write_str("napi_schedule_prep()"),
            Self::V4_10 => f.write_str("napi_schedule_prep() of 4.10.0"),
            Self::Schedule => f.write_str("napi_schedule()"),
            Self::Queue => f.write_str("__napi_schedule()"),
            Self::Missed => f.write_str("napi_if_scheduled_mark_missed()"),
            Self::Complete { work } => write!(f, "napi_complete_done({work})"),
            Self::Watchdog => f.write_str("napi_watchdog()"),
            Self::Busy { prefer, polls: [first, last] } => {
                let prefer = if prefer { "prefer, " } else { "" };
                write!(f, "napi_busy_loop({prefer}poll {first}, last poll {last})")
            }
            Self::Disable => f.write_str("napi_disable()"),
            Self::Enable => f.write_str("napi_enable()"),
            Self::Set(mask) => write!(f, "set_bit({})", Names(mask.into())),
            Self::Clear(mask) => write!(f, "clear_bit({})", Names(mask.into())),
            Self::Settings(Settings { timeout, held, threaded, defer_hard_irqs }) => write!(
                f,
                "gro_flush_timeout {}, napi_defer_hard_irqs {defer_hard_irqs}, threaded {}, GRO holds {}",
                if timeout { "on" } else { "off" },
                if threaded { "on" } else { "off" },
                if held { "packets" } else { "nothing" },
            ),
        }
    }
}

impl Display for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "finds {}", self.work)?;
        for (is, text) in [
            (self.irq_before, ", interrupt before"),
            (self.irq_after, ", interrupt after"),
            (self.held, ", GRO holds some"),
        ] {
            f.write_str(if is { text } else { "" })?;
        }
        Ok(())
    }
}

/// `NAPI_STATE_LISTED`, which is no part of the protocol: it never changes.
pub const LISTED: usize = 1 << 4;

/// A word by the names of its bits.
struct Names(u64);

impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = Bits::LINUX_6_1;
        let mut left = self.0;
        let mut between = "";
        for (mask, name) in [
            (bits.sched_mask(), "SCHED"),
            (bits.missed_mask(), "MISSED"),
            (bits.disable_mask(), "DISABLE"),
            (bits.npsvc_mask(), "NPSVC"),
            (LISTED, "LISTED"),
            (bits.in_busy_poll_mask(), "IN_BUSY_POLL"),
            (bits.prefer_busy_poll_mask(), "PREFER_BUSY_POLL"),
            (bits.threaded_mask(), "THREADED"),
            (bits.sched_threaded_mask(), "SCHED_THREADED"),
        ] {
            let mask = mask as u64;
            if left & mask != 0 {
                left &= !mask;
                write!(f, "{between}{name}")?;
                between = "|";
            }
        }
        if left != 0 || between.is_empty() { write!(f, "{between}{left:#x}") } else { Ok(()) }
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, returned {}", Names(self.word), self.flags & RETURNED != 0)?;
        let name = |f: &mut fmt::Formatter<'_>, flags: u8, flag: u8, text: &str| {
            f.write_str(if flags & flag == 0 { "" } else { text })
        };
        name(f, self.flags, QUEUED, ", queued")?;
        name(f, self.flags, WATCHDOG, ", watchdog running")?;
        name(f, self.flags, HELD, ", GRO holds packets")?;
        name(f, self.flags, STRAY, ", STRAY POLL")?;
        write!(f, ", {} deferrals left", self.deferrals)?;
        for poll in 0..POLLS.min(self.polls.into()) {
            write!(f, "; poll {} at {}", poll + 1, Names(self.poll_word[poll]))?;
            name(f, self.poll_flags[poll], POLL_WATCHDOG, ", watchdog running")?;
            name(f, self.poll_flags[poll], POLL_COMPLETED, ", completed")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_laid_out_as_the_module_has_them() {
        let polls = [
            Poll { work: 8, irq_before: true, irq_after: false, held: false },
            Poll { work: 0, irq_before: false, irq_after: true, held: true },
        ];
        let record = Record::from(Step::Busy { prefer: true, polls });
        assert_eq!(record.as_bytes(), [8, 1, 0, 0, 0x18, 0, 0x60, 0]);
        let settings = Settings { timeout: true, held: false, threaded: true, defer_hard_irqs: 3 };
        assert_eq!(Record::from(Step::Settings(settings)).as_bytes(), [13, 5, 3, 0, 0, 0, 0, 0]);
        assert_eq!(size_of::<Seen>(), 32);
    }

    #[test]
    fn a_word_reads_as_its_bits() {
        assert_eq!(Names(0b11).to_string(), "SCHED|MISSED");
        assert_eq!(Names(0x8011).to_string(), "SCHED|LISTED|0x8000");
        assert_eq!(Names(0).to_string(), "0x0");
    }
}
