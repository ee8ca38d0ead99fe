// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtio features: what the device offers, and what of it was taken.

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_bindings::virtio_config::{
    VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_IN_ORDER, VIRTIO_F_VERSION_1,
};

/// A set of virtio feature bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Everything this device can do. Segmentation offloads are left out on purpose: one timestamp
    /// is one packet. `VIRTIO_F_ACCESS_PLATFORM` is never among them, because the shared queue page
    /// is shared by physical address.
    pub const OFFERED: Self = Self(
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_F_IN_ORDER
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_NET_F_MRG_RXBUF
            | 1 << VIRTIO_NET_F_CSUM
            | 1 << VIRTIO_NET_F_GUEST_CSUM
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
    );

    /// The same, with several queue pairs, of which a driver uses as many as it likes.
    #[must_use]
    pub const fn offered(pairs: usize) -> Self {
        let mq = if pairs > 1 { 1 << VIRTIO_NET_F_MQ } else { 0 };
        Self(Self::OFFERED.0 | mq)
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & 1 << bit != 0
    }

    /// Interrupts and kicks are suppressed by index instead of by flag.
    #[must_use]
    pub const fn event_idx(self) -> bool {
        self.has(VIRTIO_RING_F_EVENT_IDX)
    }

    /// A descriptor may refer to a table of descriptors.
    #[must_use]
    pub const fn indirect(self) -> bool {
        self.has(VIRTIO_RING_F_INDIRECT_DESC)
    }

    /// A received frame may take several chains.
    #[must_use]
    pub const fn mergeable(self) -> bool {
        self.has(VIRTIO_NET_F_MRG_RXBUF)
    }

    /// The guest may leave a checksum for the device to complete.
    #[must_use]
    pub const fn csum(self) -> bool {
        self.has(VIRTIO_NET_F_CSUM)
    }

    /// The guest takes frames whose checksum is not complete, or was already checked.
    #[must_use]
    pub const fn guest_csum(self) -> bool {
        self.has(VIRTIO_NET_F_GUEST_CSUM)
    }

    /// Descriptors hold addresses of a platform IOMMU instead of physical ones.
    #[must_use]
    pub const fn access_platform(self) -> bool {
        self.has(VIRTIO_F_ACCESS_PLATFORM)
    }

    /// Bytes of the header before every frame (virtio 1.x, 5.1.6): the last field is missing for a
    /// legacy driver that takes no mergeable buffers.
    #[must_use]
    pub const fn header_len(self) -> usize {
        if self.has(VIRTIO_F_VERSION_1) || self.mergeable() { 12 } else { 10 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_iommu_is_never_offered() {
        assert!(!Features::OFFERED.access_platform());
    }

    #[test]
    fn only_a_legacy_driver_without_mergeable_buffers_has_the_short_header() {
        assert_eq!(Features(0).header_len(), 10);
        assert_eq!(Features(1 << VIRTIO_NET_F_MRG_RXBUF).header_len(), 12);
        assert_eq!(Features(1 << VIRTIO_F_VERSION_1).header_len(), 12);
    }
}
