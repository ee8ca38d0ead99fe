// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The random run: packets at random gaps and nothing else. What is lost is lost by the guest's own
//! timing.
//!
//! A packet that may be lost holds the next one back: it would rescue it, and the verdict must not
//! be taken from an interrupt that is still under way.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::string::ToString as _;
use core::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tsnic_abi::{Counter, RX_RECORDS};

use super::loss::LossState;
use super::run::{
    Actions, Finished, Generated, Observation, PageView, PortPolicy, Publish, Published,
    StartError, Ticker,
};
use crate::spec::{Flow, RandomReport, RandomSpec};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// Most packets of a run: their times are kept in memory.
const PACKETS_MAX: u32 = 1_000_000;
/// Bound of every other wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at a packet that holds the next one back.
const LOOK: Duration = Duration::from_micros(100);

/// A random run under way.
#[derive(Debug)]
pub(super) struct Random {
    request: RandomSpec,
    rng: Pcg64Mcg,
    report: RandomReport,
    ticker: Ticker,
    generation: u32,
    serial: u32,
    /// Published and not covered by an arm yet, oldest first. Not longer than [`RX_RECORDS`]: no
    /// driver has more out at a time, so one that has let so many pass has polled on and on without
    /// arming, and is waited for.
    open: VecDeque<Packet>,
    /// The run waits for the queue to be idle before its first packet.
    settling: bool,
    /// When the next packet is due, and since when something else keeps it from being sent.
    due: Instant,
    waiting_since: Option<Instant>,
    unpublished_since: Option<Instant>,
    /// The publish that is asked for.
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    end: Counter,
    at: Instant,
    fate: Fate,
    /// Not one of the run's packets: it only ended a loss.
    extra: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// Has looked lost.
    Suspect,
    /// The next packet was due and it was lost.
    Lost,
    /// Given up.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    extra: bool,
    fate_of_others: Option<Fate>,
}

impl Random {
    pub(super) fn new(
        request: RandomSpec,
        now: Instant,
        generation: u32,
    ) -> Result<Self, StartError> {
        let field =
            |field, value: String, expected| Err(StartError::Field { field, value, expected });
        if request.packets == 0 || request.packets > PACKETS_MAX {
            return field("packets", request.packets.to_string(), "between 1 and 1000000");
        }
        let (from, to) = request.gap_us;
        if from > to {
            return field("gap_us", format!("({from}, {to})"), "in ascending order");
        }
        let rng = Pcg64Mcg::seed_from_u64(request.seed);
        Ok(Self {
            request,
            rng,
            report: RandomReport::default(),
            ticker: Ticker::new(now),
            generation,
            serial: 0,
            open: VecDeque::new(),
            settling: true,
            due: now,
            waiting_since: None,
            unpublished_since: None,
            pending: None,
        })
    }

    pub(super) const fn flow(&self) -> Flow {
        self.request.flow
    }

    /// One step. The run wants no rendezvous.
    pub(super) fn step(&mut self, now: Instant, seen: &Observation) -> Actions {
        let mut actions = Actions { port: PortPolicy::Shut, ..Actions::default() };
        let page = seen.page.as_ref().filter(|page| page.generation == self.generation);
        let result = match page {
            Some(page) => self.run(now, page, &mut actions),
            None => Err(format!(
                "The shared queue page was withdrawn or posted again after {} packets",
                self.report.sent
            )),
        };
        match result {
            Ok(false) => {
                if self.ticker.due(now) {
                    actions.progress = Some((self.report.sent, self.request.packets));
                }
            }
            Ok(true) => {
                actions.finished =
                    Some(Box::new(Finished::Random(core::mem::take(&mut self.report))));
            }
            Err(why) => actions.finished = Some(Box::new(Finished::Failed(why))),
        }
        actions
    }

    /// True when the run is over.
    fn run(
        &mut self,
        now: Instant,
        page: &PageView,
        actions: &mut Actions,
    ) -> Result<bool, String> {
        self.collect(now, page);
        let loss_state = page.irq.loss_state(&page.progress);
        if loss_state == LossState::Lost {
            for packet in self.open.iter_mut().filter(|packet| packet.fate == Fate::Open) {
                packet.fate = Fate::Suspect;
            }
        }
        let all_sent = self.report.sent == self.request.packets;
        if all_sent && self.open.is_empty() {
            return Ok(true);
        }
        if now < self.due {
            actions.wake_at(self.due);
            return Ok(false);
        }
        if self.unpublished_since.is_some_and(|since| now.since(since) >= PATIENCE) {
            let sent = self.report.sent;
            return Err(format!(
                "For {PATIENCE:?} no packet could be published, for want of receive buffers as a rule, after {sent} packets"
            ));
        }
        let lost = loss_state == LossState::Lost;
        let free = if self.settling {
            page.irq.is_idle(&page.progress)
        } else {
            loss_state == LossState::Clear
        };
        // The driver gives buffers back and does not tell how far it has come.
        let full = self.open.len() >= usize::from(RX_RECORDS);
        if lost && !full {
            // A loss of earlier traffic, at the start, or of the last packet: ended by a packet
            // that does not count.
            self.ask(self.settling || all_sent, Some(Fate::Lost), actions);
        } else if free && !all_sent && !full {
            self.settling = false;
            self.ask(false, None, actions);
        } else {
            let waited = now.since(*self.waiting_since.get_or_insert(now));
            if full && waited >= PATIENCE {
                let open = self.open.len();
                return Err(format!(
                    "The driver has not armed for {open} packets within {PATIENCE:?}: {}",
                    page.irq
                ));
            }
            if waited >= PATIENCE {
                return self.waited_too_long(all_sent, page, actions);
            }
            actions.step_again(now, LOOK);
        }
        Ok(false)
    }

    fn waited_too_long(
        &mut self,
        all_sent: bool,
        page: &PageView,
        actions: &mut Actions,
    ) -> Result<bool, String> {
        let state = format!("{}; {}", page.irq, page.progress);
        if self.settling {
            return Err(format!("The queue was not idle within {PATIENCE:?}: {state}"));
        }
        self.waiting_since = None;
        if all_sent {
            self.report.inconclusive +=
                self.open.iter().filter(|packet| !packet.extra).count() as u32;
            return Ok(true);
        }
        self.ask(false, Some(Fate::Unknown), actions);
        Ok(false)
    }

    /// Tallies the packets the driver has consumed.
    fn collect(&mut self, now: Instant, page: &PageView) {
        let covered_at = page.irq.armed_at().unwrap_or(now);
        while let Some(packet) = self.open.front().copied() {
            if !page.irq.interrupts().covered(packet.end) {
                break;
            }
            self.open.pop_front();
            self.waiting_since = None;
            if packet.extra {
                continue;
            }
            let age_ns = u64::try_from(covered_at.since(packet.at).as_nanos()).unwrap_or(u64::MAX);
            match packet.fate {
                Fate::Open => self.report.delivered_ns.push(age_ns),
                Fate::Suspect => self.report.rescued += 1,
                Fate::Lost => {
                    self.report.lost += 1;
                    self.report.stuck_ns.push(age_ns);
                }
                Fate::Unknown => self.report.inconclusive += 1,
            }
        }
    }

    fn ask(&mut self, extra: bool, fate_of_others: Option<Fate>, actions: &mut Actions) {
        self.pending = Some(Pending { extra, fate_of_others });
        let kind = if extra { Generated::Next } else { Generated::Random };
        actions.publish = Some(Publish::Generated { kind, serial: self.serial });
    }

    pub(super) fn published(&mut self, published: Published) {
        let Some(pending) = self.pending.take() else { return };
        if let Some(fate) = pending.fate_of_others {
            self.open.iter_mut().for_each(|packet| packet.fate = fate);
        }
        let Published { end, at, .. } = published;
        self.open.push_back(Packet { end, at, fate: Fate::Open, extra: pending.extra });
        self.serial = self.serial.wrapping_add(1);
        self.waiting_since = None;
        self.unpublished_since = None;
        let mut gap = Duration::ZERO;
        if !pending.extra {
            self.report.sent += 1;
            let (from, to) = self.request.gap_us;
            gap = Duration::from_micros(self.rng.random_range(from..=to).into());
        }
        self.due = at.plus(gap);
    }

    /// The packet could not be published, as a rule because the guest had no buffers: tried again
    /// until it has waited too long.
    pub(super) fn publish_failed(&mut self, now: Instant) {
        self.pending = None;
        self.unpublished_since.get_or_insert(now);
        self.due = now.plus(Duration::from_millis(1));
    }
}
