// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registration header: the device-readable part of the chain by which a driver gives the
//! device its shared queue page.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Counter, MAGIC, QUEUE_PAGE_SIZE, RX_RECORDS, TX_RECORDS, VERSION};

/// What the driver says when it posts its page.
///
/// The chain is posted on the pair's own **transmit** virtqueue: one device-readable descriptor
/// with this header, then one device-**writable** descriptor that is the page itself. Virtio-net
/// has no writable transmit descriptors, so no other driver, and no program in the guest, can say
/// this. The device returns the chain at once, with `used.len` = [`QUEUE_PAGE_SIZE`] when it
/// accepts and 0 when it refuses, and by contract goes on using the memory until the device is
/// reset. Acceptance is `used.len` != 0 **and** [`crate::Identity::generation`] equal to this
/// header's: a VMM completes transmit chains on its own, with length 0, while the backend is away.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Registration {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`VERSION`].
    pub version: U16,
    /// Queue pair this page serves: 0 for the first.
    pub pair: U16,
    /// Chosen by the driver, never 0, different for each post; the device echoes it.
    pub generation: U32,
    /// [`QUEUE_PAGE_SIZE`].
    pub page_size: U32,
    /// [`RX_RECORDS`].
    pub rx_records: U16,
    /// [`TX_RECORDS`].
    pub tx_records: U16,
    /// Receive used-ring entries consumed since the queue was started (the baseline of `ci`).
    pub rx_ci: U32,
    /// Transmit used-ring entries consumed since the queue was started.
    pub tx_ci: U32,
    /// Arm sequence number last written: the device takes the next different one as an arm.
    pub arm: U32,
    /// Must be 0.
    pub reserved: [U32; 2],
}

const _: () = assert!(size_of::<Registration>() == 40);

/// Why a registration header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationError {
    /// The first word is not [`MAGIC`].
    Magic(u32),
    /// The layout version is not [`VERSION`].
    Version(u16),
    /// The pair number is not the one whose queue carried the chain.
    Pair(u16),
    /// Generation 0 means "none".
    Generation,
    /// The page size, or a record count, is not the one of this version.
    Size(u32),
    /// A reserved word is set.
    Reserved,
}

impl core::fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Magic(m) => write!(f, "Magic is {m:#010x}, not {MAGIC:#010x}"),
            Self::Version(v) => write!(f, "Layout version is {v}, not {VERSION}"),
            Self::Pair(p) => {
                write!(f, "The shared queue page is for queue pair {p}, posted on another")
            }
            Self::Generation => f.write_str("Generation is 0"),
            Self::Size(s) => write!(f, "Size or record count {s} is not that of version {VERSION}"),
            Self::Reserved => f.write_str("Reserved word is not 0"),
        }
    }
}

impl core::error::Error for RegistrationError {}

impl Registration {
    /// A header for `pair` with everything fixed by this version filled in.
    #[inline]
    #[must_use]
    pub fn new(pair: u16, generation: u32, rx_ci: Counter, tx_ci: Counter, arm: Counter) -> Self {
        Self {
            magic: MAGIC.into(),
            version: VERSION.into(),
            pair: pair.into(),
            generation: generation.into(),
            page_size: QUEUE_PAGE_SIZE.into(),
            rx_records: RX_RECORDS.into(),
            tx_records: TX_RECORDS.into(),
            rx_ci: rx_ci.0.into(),
            tx_ci: tx_ci.0.into(),
            arm: arm.0.into(),
            reserved: [0.into(); 2],
        }
    }

    /// Checks everything that can be checked without the rings.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self, pair: u16) -> Result<(), RegistrationError> {
        if self.magic.get() != MAGIC {
            return Err(RegistrationError::Magic(self.magic.get()));
        }
        if self.version.get() != VERSION {
            return Err(RegistrationError::Version(self.version.get()));
        }
        if self.pair.get() != pair {
            return Err(RegistrationError::Pair(self.pair.get()));
        }
        if self.generation.get() == 0 {
            return Err(RegistrationError::Generation);
        }
        if self.page_size.get() != QUEUE_PAGE_SIZE {
            return Err(RegistrationError::Size(self.page_size.get()));
        }
        for (count, expected) in [(self.rx_records, RX_RECORDS), (self.tx_records, TX_RECORDS)] {
            if count.get() != expected {
                return Err(RegistrationError::Size(count.get().into()));
            }
        }
        if self.reserved.iter().any(|word| word.get() != 0) {
            return Err(RegistrationError::Reserved);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Registration {
        Registration::new(0, 7, Counter(3), Counter(4), Counter(5))
    }

    #[test]
    fn a_good_header_passes_and_survives_the_wire() {
        let header = good();
        assert_eq!(header.check(0), Ok(()));
        assert_eq!(Registration::read_from_bytes(header.as_bytes()).unwrap(), header);
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Break = fn(&mut Registration);
        let cases: [(Break, RegistrationError); 7] = [
            (|h| h.magic = 1.into(), RegistrationError::Magic(1)),
            (|h| h.version = 9.into(), RegistrationError::Version(9)),
            (|h| h.pair = 1.into(), RegistrationError::Pair(1)),
            (|h| h.generation = 0.into(), RegistrationError::Generation),
            (|h| h.page_size = 4096.into(), RegistrationError::Size(4096)),
            (|h| h.tx_records = 3.into(), RegistrationError::Size(3)),
            (|h| h.reserved[1] = 1.into(), RegistrationError::Reserved),
        ];
        for (damage, expected) in cases {
            let mut header = good();
            damage(&mut header);
            assert_eq!(header.check(0), Err(expected));
        }
    }
}
