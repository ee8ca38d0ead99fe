// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hardware timestamps.

use crate::error::Error;
use crate::ifreq;

const FILTER_ALL: i32 = libc::HWTSTAMP_FILTER_ALL.cast_signed();

/// Turns hardware receive timestamps of every packet on, transmit timestamps off.
///
/// # Errors
/// The interface does not exist or has no hardware timestamps, or its driver does not grant "all
/// packets".
pub fn enable(name: &str) -> Result<(), Error> {
    let mut config = libc::hwtstamp_config {
        flags: 0,
        tx_type: libc::HWTSTAMP_TX_OFF.cast_signed(),
        rx_filter: FILTER_ALL,
    };
    // SAFETY: SIOCSHWTSTAMP reads and writes one `hwtstamp_config`.
    unsafe { ifreq::ioctl(name, libc::SIOCSHWTSTAMP, &mut config) }
        .map_err(Error::call(format!("Cannot turn hardware timestamps of {name} on")))?;
    if config.rx_filter == FILTER_ALL {
        Ok(())
    } else {
        Err(Error::TimestampFilter {
            name: name.to_owned(),
            asked: FILTER_ALL,
            granted: config.rx_filter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_no_hardware_clock() {
        let message = enable("lo").map_err(|e| e.chain()).unwrap_err();
        assert!(message.starts_with("Cannot turn hardware timestamps of lo on: "), "{message}");
    }
}
