// SPDX-License-Identifier: GPL-2.0-only
//! Which packets get hardware timestamps: the `hwtstamp` configuration.

use core::sync::atomic::{AtomicU32, Ordering};

const RX: u32 = 1;
const TX: u32 = 2;

/// `HWTSTAMP_TX_OFF` (kernel's user interface, fixed for ever).
pub const TX_OFF: i32 = 0;
/// `HWTSTAMP_TX_ON`.
pub const TX_ON: i32 = 1;
/// `HWTSTAMP_FILTER_NONE`.
pub const FILTER_NONE: i32 = 0;
/// `HWTSTAMP_FILTER_ALL`.
pub const FILTER_ALL: i32 = 1;
/// `HWTSTAMP_FILTER_NTP_ALL`, the last filter there is.
const FILTER_LAST: i32 = 15;

/// The device or the driver cannot timestamp the packets that were asked for (`-ERANGE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// A timestamp configuration: an `HWTSTAMP_TX_*` and an `HWTSTAMP_FILTER_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampConfig {
    /// `HWTSTAMP_TX_*`.
    pub tx_type: i32,
    /// `HWTSTAMP_FILTER_*`.
    pub rx_filter: i32,
}

/// What the device can timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Able {
    /// Received frames.
    pub rx: bool,
    /// Sent frames.
    pub tx: bool,
}

/// The configuration in force. Off at first.
#[derive(Debug)]
pub struct Stamping(AtomicU32);

impl Stamping {
    /// Off.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Received frames get timestamps.
    #[must_use]
    pub fn rx(&self) -> bool {
        self.0.load(Ordering::Relaxed) & RX != 0
    }

    /// Sent frames that ask for one get a timestamp.
    #[must_use]
    pub fn tx(&self) -> bool {
        self.0.load(Ordering::Relaxed) & TX != 0
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> StampConfig {
        StampConfig {
            tx_type: if self.tx() { TX_ON } else { TX_OFF },
            rx_filter: if self.rx() { FILTER_ALL } else { FILTER_NONE },
        }
    }

    /// Puts a configuration in force and returns it as it is in force: every filter but "none"
    /// becomes "all", which serves whoever wanted less.
    ///
    /// # Errors
    /// [`Unsupported`]; nothing has changed then.
    pub fn set(&self, wanted: StampConfig, able: Able) -> Result<StampConfig, Unsupported> {
        let mut word = 0;
        match wanted.rx_filter {
            FILTER_NONE => {}
            FILTER_ALL..=FILTER_LAST if able.rx => word |= RX,
            _ => return Err(Unsupported),
        }
        match wanted.tx_type {
            TX_OFF => {}
            TX_ON if able.tx => word |= TX,
            _ => return Err(Unsupported),
        }
        self.0.store(word, Ordering::Relaxed);
        Ok(self.config())
    }
}

impl Default for Stamping {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Able = Able { rx: true, tx: true };

    #[test]
    fn every_filter_is_upscaled_to_all() {
        let stamping = Stamping::new();
        for rx_filter in FILTER_ALL..=FILTER_LAST {
            let set = stamping.set(StampConfig { tx_type: TX_OFF, rx_filter }, BOTH);
            assert_eq!(set, Ok(StampConfig { tx_type: TX_OFF, rx_filter: FILTER_ALL }));
            assert!(stamping.rx() && !stamping.tx());
        }
        let off = StampConfig { tx_type: TX_ON, rx_filter: FILTER_NONE };
        assert_eq!(stamping.set(off, BOTH), Ok(off));
        assert!(!stamping.rx() && stamping.tx());
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let stamping = Stamping::new();
        let all = StampConfig { tx_type: TX_ON, rx_filter: FILTER_ALL };
        assert_eq!(stamping.set(all, Able { rx: true, tx: false }), Err(Unsupported));
        assert_eq!(stamping.set(all, Able { rx: false, tx: true }), Err(Unsupported));
        for (tx_type, rx_filter) in [(2, 0), (-1, 0), (0, 16), (0, -1)] {
            assert_eq!(stamping.set(StampConfig { tx_type, rx_filter }, BOTH), Err(Unsupported));
        }
        assert_eq!(stamping.config(), StampConfig { tx_type: TX_OFF, rx_filter: FILTER_NONE });
    }
}
