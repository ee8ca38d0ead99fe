// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the data path counts. One list, from which everybody who names a counter is made.

use crate::rx_irq::RxIrq;

/// Calls `$callback!` with every counter, its documentation before its name.
#[macro_export]
macro_rules! for_each_counter {
    ($callback:ident) => {
        $callback! {
            /// Frames put into the guest's memory.
            rx_frames,
            /// Their bytes, without header.
            rx_bytes,
            /// Used entries they took: more than `rx_frames` when buffers were merged.
            rx_completions,
            /// Frames lost because the guest had posted too few buffers.
            rx_no_buffers,
            /// Frames lost because no buffers of the ring could ever hold them, or only in more
            /// pieces than a session may read.
            rx_too_big,
            /// Frames lost because the receive queue was not running, or broken; those that had
            /// waited in a port, only when the queue is reset.
            rx_not_running,
            /// Frames lost because their open checksum was outside of them, or they were to be cut
            /// into segments.
            rx_malformed,
            /// Frames lost because the guest's buffer for them was not in memory that the front end
            /// shares.
            rx_unshared,
            /// Receive interrupts raised.
            rx_interrupts,
            /// Frames taken from the guest.
            tx_frames,
            /// Their bytes, without header.
            tx_bytes,
            /// Transmit interrupts raised.
            tx_interrupts,
            /// Transmit chains that were no proper frame, and dropped.
            tx_malformed,
            /// Transmit chains lost because they were not in memory that the front end shares.
            tx_unshared,
            /// Frames the port did not take.
            tx_port_errors,
            /// Times the port's interface went away.
            port_detached,
            /// Times it came back and was attached to again.
            port_reattached,
            /// Times a queue was found broken and left alone until its reset.
            queues_broken,
            /// Shared queue pages accepted.
            registrations,
            /// Shared queue pages refused.
            registrations_refused,
            /// Shared queue pages forgotten because a queue was reset, the front end left, or their
            /// memory went away.
            pages_forgotten,
            /// Arms processed.
            arms,
            /// Commands of the driver in the mailbox of its page.
            commands,
            /// Of these: unknown, or an argument was out of range.
            commands_refused,
            /// Interrupts that a policy held back, in both directions.
            interrupts_held,
            /// Interrupts that a policy dropped.
            interrupts_dropped,
            /// Interrupts that a policy raised though none was requested: duplicates included.
            interrupts_spurious,
            /// Frames that a packet policy lost on the wire, in both directions.
            frames_dropped_by_policy,
            /// Copies of frames that a packet policy made.
            frames_duplicated,
            /// Frames that a packet policy held for later ones to overtake.
            frames_reordered,
            /// Frames in which a packet policy flipped a bit.
            frames_corrupted,
            /// Frames that a packet policy held for a time.
            frames_delayed,
            /// Frames that a packet policy held less long than it should have, or did not copy,
            /// because too many were on the wire.
            frames_not_held,
            /// Spurious interrupts raised by the stall detector, in both directions.
            nudges,
            /// Verdicts of the stall detector, on both vectors.
            stalls,
            /// Times the stall detector contradicted the loss detector.
            detector_disagreements,
            /// Rendezvous released.
            releases,
            /// Front ends that have connected.
            connections,
            /// Packets lost until the next one: verdicts of the loss detector.
            lost,
            /// Packets lost until the next one because a policy dropped their interrupt.
            lost_to_drops,
            /// Packets that looked lost and were found by another poll.
            rescued,
            /// Packets that looked lost, whatever became of them.
            loss_candidates,
            /// Arms whose consumer index could not be true.
            ci_errors,
        }
    };
}

macro_rules! define {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of one queue pair, from the start of the process. None ever goes back.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }
    };
}

for_each_counter!(define);

impl Counters {
    /// Adds what the detector of a page's queue has counted: for good when the page is no longer in
    /// use.
    pub fn add_losses(&mut self, irq: &RxIrq) {
        let detector = irq.detector();
        let tally = detector.tally();
        self.lost += tally.lost;
        self.rescued += tally.rescued;
        self.lost_to_drops += tally.dropped;
        self.loss_candidates += detector.candidates();
        self.ci_errors += irq.interrupts().ci_errors();
    }
}
