// SPDX-License-Identifier: GPL-2.0-only
/* linux/netdevice.h, linux/rtnetlink.h: the interface. */
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

#include "tsnic.h"

static void get_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct tsnic_totals totals;

	tsnic_totals(glue_of_dev(dev), &totals);
	stats->rx_packets = totals.rx_packets;
	stats->rx_bytes = totals.rx_bytes;
	stats->rx_dropped = totals.rx_dropped;
	stats->tx_packets = totals.tx_packets;
	stats->tx_bytes = totals.tx_bytes;
	stats->tx_dropped = totals.tx_dropped;
}

static void tx_timeout(struct net_device *dev, unsigned int txqueue)
{
	tsnic_tx_timeout(dev);
}

const struct net_device_ops glue_netdev_ops = {
	.ndo_open = tsnic_open,
	.ndo_stop = tsnic_stop,
	.ndo_start_xmit = tsnic_xmit,
	.ndo_tx_timeout = tx_timeout,
	.ndo_get_stats64 = get_stats64,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = eth_mac_addr,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	.ndo_hwtstamp_set = glue_hwtstamp_set,
	.ndo_hwtstamp_get = glue_hwtstamp_get,
#else
	.ndo_eth_ioctl = glue_eth_ioctl,
#endif
};

void glue_netdev_setup(struct tsnic *nic, const u8 *mac, bool csum, bool guest_csum, u32 mtu,
		       u32 max_mtu, u16 headroom)
{
	struct net_device *dev = nic->dev;

	dev->netdev_ops = &glue_netdev_ops;
	dev->ethtool_ops = &glue_ethtool_ops;
	dev->needed_headroom = headroom;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = max_mtu;
	dev->mtu = mtu;
	dev->features |= NETIF_F_HIGHDMA;
	if (csum)
		dev->hw_features |= NETIF_F_HW_CSUM | NETIF_F_SG;
	dev->features |= dev->hw_features;
	if (guest_csum)
		dev->features |= NETIF_F_RXCSUM;
	dev->vlan_features = dev->features;
	if (mac && is_valid_ether_addr(mac))
		eth_hw_addr_set(dev, mac);
	else
		eth_hw_addr_random(dev);
	netif_carrier_off(dev);
}

/*
 * Registered and DRIVER_OK in one step: ndo_open must not be called before the device may be
 * kicked.
 */
int glue_netdev_register(struct tsnic *nic)
{
	int err;

	rtnl_lock();
	err = register_netdevice(nic->dev);
	if (!err)
		virtio_device_ready(nic->vdev);
	rtnl_unlock();
	return err;
}

void glue_netdev_unregister(struct tsnic *nic)
{
	unregister_netdev(nic->dev);
}

/*
 * The stack transmits no more, once nobody holds the transmit queue's lock; and does not open the
 * interface.
 */
void glue_netdev_detach(struct tsnic *nic)
{
	netif_device_detach(nic->dev);
}

void glue_netdev_attach(struct tsnic *nic)
{
	netif_device_attach(nic->dev);
}

void glue_rtnl_lock(void)
{
	rtnl_lock();
}

void glue_rtnl_unlock(void)
{
	rtnl_unlock();
}

void glue_carrier(struct tsnic *nic, bool up)
{
	if (up)
		netif_carrier_on(nic->dev);
	else
		netif_carrier_off(nic->dev);
}

void glue_queue_stop(struct tsnic *nic)
{
	netif_stop_queue(nic->dev);
}

void glue_queue_wake(struct tsnic *nic)
{
	netif_wake_queue(nic->dev);
}

bool glue_queue_stopped(struct tsnic *nic)
{
	return netif_queue_stopped(nic->dev);
}

void glue_tx_lock_bh(struct tsnic *nic)
{
	__netif_tx_lock_bh(netdev_get_tx_queue(nic->dev, 0));
}

void glue_tx_unlock_bh(struct tsnic *nic)
{
	__netif_tx_unlock_bh(netdev_get_tx_queue(nic->dev, 0));
}

/* Bottom halves are off already. */
void glue_tx_lock(struct tsnic *nic)
{
	__netif_tx_lock(netdev_get_tx_queue(nic->dev, 0), smp_processor_id());
}

void glue_tx_unlock(struct tsnic *nic)
{
	__netif_tx_unlock(netdev_get_tx_queue(nic->dev, 0));
}

bool glue_xmit_more(void)
{
	return netdev_xmit_more();
}
