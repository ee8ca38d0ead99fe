// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The transmit side of a session: frames out of the guest, and the registration of a shared queue
//! page.

use tsnic_abi::Counter;
use tsnic_core::arming::Interrupts;
use tsnic_core::rx_irq::RxIrq;
use tsnic_core::time::Instant;

use super::Session;
use crate::clock::Clock;
use crate::net::chain::ChainError;
use crate::net::pair::{PageState, TX};
use crate::net::queue_page::{QueuePage, Refusal, check_registration};
use crate::net::ring::{Ring, RingError};
use crate::net::tx::{self, Taken};
use crate::port::Port;

/// Chains of the transmit queue taken in one session.
const BUDGET: u32 = 256;

impl<'m, P: Port, C: Clock> Session<'m, '_, P, C> {
    /// Takes what the guest has to send.
    pub(super) fn transmit(&mut self) -> Result<(), RingError> {
        let Some(mut ring) = self.tx.take() else { return Ok(()) };
        let kicks = self.pair.kicks[TX];
        let now = self.pair.now();
        self.unkicked = self.pair.kick_asked == Some(kicks) && ring.has_untaken();
        let mut taken = 0;
        let result = loop {
            let mut frame = std::mem::take(&mut self.pair.tx_frame);
            let chain =
                tx::take(&mut ring, &self.view, &mut self.chain, self.pair.features, &mut frame);
            self.pair.tx_frame = frame;
            let chain = match chain {
                Ok(chain) => chain,
                Err(error) => break Err(error),
            };
            if let Some(chain) = chain {
                self.transmit_one(&mut ring, &chain, now);
                taken += 1;
                if taken < BUDGET && !ring.is_spent() {
                    continue;
                }
                self.again = true;
            }
            self.publish_transmitted(&mut ring);
            match ring.enable_notification() {
                Ok(true) if !self.again => {}
                Ok(more) => {
                    self.pair.kick_asked = (!more).then_some(kicks);
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
            // What was sent before the ring broke is given back all the same.
            self.publish_transmitted(&mut ring);
        }
        self.tx = Some(ring);
        result
    }

    fn publish_transmitted(&mut self, ring: &mut Ring<'m>) {
        let completions = ring.publish();
        if completions != 0 {
            let now = self.pair.now();
            let mut bytes = std::mem::take(&mut self.sent_bytes);
            // Each is a packet. The bytes of all count with the first.
            for _ in 0..completions {
                self.pair.paths[TX].published(1, std::mem::take(&mut bytes), now);
            }
        }
        self.interrupt_transmitted(ring);
    }

    fn transmit_one(&mut self, ring: &mut Ring<'m>, taken: &Taken, now: Instant) {
        let pair = &mut *self.pair;
        let (mut left, mut used_len) = (None, 0);
        match taken {
            Taken::Frame(header) => {
                pair.counters.tx_frames += 1;
                pair.counters.tx_bytes += pair.tx_frame.len() as u64;
                self.sent_bytes += pair.tx_frame.len() as u32;
                // Stamped when it has left. What the port refuses has not.
                match pair.port.send(now, *header, &pair.tx_frame) {
                    Ok(()) => left = Some(pair.clock.now().nic),
                    Err(_) => pair.counters.tx_port_errors += 1,
                }
            }
            Taken::Unshared(error) => {
                pair.counters.tx_unshared += 1;
                pair.unshared(error);
            }
            Taken::Bad(_) => pair.counters.tx_malformed += 1,
            Taken::Registration => used_len = self.register(ring),
            Taken::BadRegistration(error) => self.refuse(&Refusal::Memory(*error)),
        }
        if let (Some(cells), Some(page)) = (&self.cells, &mut self.pair.page) {
            cells.record_tx(page.tx_completed, left);
            page.tx_completed = page.tx_completed.plus(1);
        }
        ring.put_used(self.chain.head, used_len);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.pair.refused(&self.view, refusal);
        self.cells = None;
    }

    /// Takes a page over. Returns the length the chain is given back with.
    fn register(&mut self, ring: &Ring<'m>) -> u32 {
        let checked = check_registration(
            &self.chain,
            self.pair.number,
            self.pair.features,
            self.rx.is_some(),
        )
        .and_then(|(header, address)| {
            let cells = QueuePage::open(&self.view, address)
                .map_err(|source| Refusal::Memory(ChainError::Memory { writable: true, source }))?;
            let rx_used = self.rx.as_ref().ok_or(Refusal::NoReceiveQueue)?.next_used();
            Ok((header, address, cells, rx_used))
        });
        let (header, address, cells, rx_used) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                self.refuse(&refusal);
                return 0;
            }
        };
        self.pair.forget_page(Some(&self.view), "the driver posted another one");
        let (ci, arm) = (Counter(header.rx_ci.get()), Counter(header.arm.get()));
        let irq_seen = cells.progress().irq_seen;
        let irq = RxIrq::new(
            Interrupts::at_registration(ci, rx_used.0, arm, irq_seen).with_rearm(self.pair.rearm),
        );
        let generation = header.generation.get();
        cells.accept(self.pair.number, generation, irq.interrupts().fired());
        let tx_completed = Counter(header.tx_ci.get()).widen(ring.next_used().0);
        let command = cells.command_number();
        let requested = 0;
        self.pair.use_page(PageState {
            told: [0; 2],
            address,
            generation,
            tx_completed,
            requested,
            command,
            irq,
        });
        if let Some(rx) = &mut self.rx {
            // What the path held for its gate is gone, and the page may be, too, before it is polled.
            rx.forget_signal_used();
        }
        self.cells = Some(cells);
        tsnic_abi::QUEUE_PAGE_SIZE
    }
}
