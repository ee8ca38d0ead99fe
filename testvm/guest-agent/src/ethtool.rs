// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ethtool reads and sets (`SIOCETHTOOL`).

use guest_protocol::{Channels, Coalescing};
use nix::errno::Errno;

use crate::error::Error;
use crate::ifreq;

/// linux/sockios.h
const SIOCETHTOOL: u64 = 0x8946;
/// linux/ethtool.h
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_SCOALESCE: u32 = 0x0f;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;

/// `struct ethtool_coalesce` (linux/ethtool.h): 23 words, of which these are used.
#[repr(C)]
#[derive(Default)]
struct EthtoolCoalesce {
    cmd: u32,
    rx_usecs: u32,
    rx_frames: u32,
    _rx_irq: [u32; 2],
    tx_usecs: u32,
    tx_frames: u32,
    _tx_irq: [u32; 2],
    _stats_block: u32,
    adaptive_rx: u32,
    adaptive_tx: u32,
    _others: [u32; 11],
}

const _: () = assert!(size_of::<EthtoolCoalesce>() == 23 * 4);

/// `struct ethtool_channels` (linux/ethtool.h).
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    cmd: u32,
    _max_others: [u32; 3],
    max_combined: u32,
    _others: [u32; 3],
    combined: u32,
}

const _: () = assert!(size_of::<EthtoolChannels>() == 9 * 4);

/// The coalescing of an interface.
///
/// # Errors
/// The interface does not exist, or its driver has none.
pub fn coalescing(name: &str) -> Result<Coalescing, Error> {
    let mut coalesce = EthtoolCoalesce { cmd: ETHTOOL_GCOALESCE, ..EthtoolCoalesce::default() };
    ioctl(name, &mut coalesce).map_err(Error::call(format!("Cannot read coalescing of {name}")))?;
    let EthtoolCoalesce { rx_usecs, rx_frames, tx_usecs, tx_frames, .. } = coalesce;
    let [adaptive_rx, adaptive_tx] = [coalesce.adaptive_rx, coalesce.adaptive_tx].map(|it| it != 0);
    Ok(Coalescing { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx })
}

/// Sets the coalescing of an interface.
///
/// # Errors
/// The interface does not exist, or its driver refuses.
pub fn set_coalescing(name: &str, coalescing: Coalescing) -> Result<(), Error> {
    let Coalescing { rx_usecs, rx_frames, tx_usecs, tx_frames, adaptive_rx, adaptive_tx } =
        coalescing;
    let mut coalesce = EthtoolCoalesce {
        cmd: ETHTOOL_SCOALESCE,
        rx_usecs,
        rx_frames,
        tx_usecs,
        tx_frames,
        adaptive_rx: adaptive_rx.into(),
        adaptive_tx: adaptive_tx.into(),
        ..EthtoolCoalesce::default()
    };
    ioctl(name, &mut coalesce).map_err(Error::call(format!("Cannot set coalescing of {name}")))
}

/// The channels of an interface.
///
/// # Errors
/// The interface does not exist, or its driver has none.
pub fn channels(name: &str) -> Result<Channels, Error> {
    let channels =
        get_channels(name).map_err(Error::call(format!("Cannot read channels of {name}")))?;
    Ok(Channels { combined: channels.combined, max: channels.max_combined })
}

/// Sets the combined channels of an interface, and leaves the others alone.
///
/// # Errors
/// The interface does not exist, or its driver refuses.
pub fn set_channels(name: &str, combined: u32) -> Result<(), Error> {
    get_channels(name)
        .and_then(|now| {
            let mut wanted = EthtoolChannels { cmd: ETHTOOL_SCHANNELS, combined, ..now };
            // SAFETY: With this command SIOCETHTOOL reads one `ethtool_channels`.
            unsafe { ifreq::ioctl(name, SIOCETHTOOL, &mut wanted) }
        })
        .map_err(Error::call(format!("Cannot set channels of {name}")))
}

fn get_channels(name: &str) -> Result<EthtoolChannels, Errno> {
    let mut channels = EthtoolChannels { cmd: ETHTOOL_GCHANNELS, ..EthtoolChannels::default() };
    // SAFETY: With this command SIOCETHTOOL reads and writes one `ethtool_channels`.
    unsafe { ifreq::ioctl(name, SIOCETHTOOL, &mut channels) }.map(|()| channels)
}

fn ioctl(name: &str, coalesce: &mut EthtoolCoalesce) -> Result<(), Errno> {
    // SAFETY: With the two commands that come here SIOCETHTOOL reads and writes one
    // `ethtool_coalesce`.
    unsafe { ifreq::ioctl(name, SIOCETHTOOL, coalesce) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_no_coalescing() {
        let message = coalescing("lo").map_err(|error| error.chain()).unwrap_err();
        assert!(message.starts_with("Cannot read coalescing of lo: "), "{message}");
    }
}
