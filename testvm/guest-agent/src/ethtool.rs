// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ethtool reads and sets (`SIOCETHTOOL`).

use guest_protocol::Coalescing;
use nix::errno::Errno;

use crate::error::Error;
use crate::ifreq;

/// linux/sockios.h
const SIOCETHTOOL: u64 = 0x8946;
/// linux/ethtool.h
const ETHTOOL_GCOALESCE: u32 = 0x0e;
const ETHTOOL_SCOALESCE: u32 = 0x0f;

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

fn ioctl(name: &str, coalesce: &mut EthtoolCoalesce) -> Result<(), Errno> {
    // SAFETY: With the two commands of this file SIOCETHTOOL reads and writes one
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
