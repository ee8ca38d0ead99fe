// SPDX-License-Identifier: GPL-2.0-only
/*
 * linux/net_tstamp.h: the hardware timestamp configuration, by ndo since Linux 6.6, by ioctl
 * before.
 */
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "tsnic.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)

int glue_hwtstamp_set(struct net_device *dev, struct kernel_hwtstamp_config *config,
		      struct netlink_ext_ack *extack)
{
	return tsnic_stamp_set(glue_of_dev(dev), &config->tx_type, &config->rx_filter);
}

int glue_hwtstamp_get(struct net_device *dev, struct kernel_hwtstamp_config *config)
{
	tsnic_stamp_get(glue_of_dev(dev), &config->tx_type, &config->rx_filter);
	return 0;
}

#else

int glue_eth_ioctl(struct net_device *dev, struct ifreq *ifr, int cmd)
{
	struct hwtstamp_config config = {};
	int err;

	switch (cmd) {
	case SIOCSHWTSTAMP:
		if (copy_from_user(&config, ifr->ifr_data, sizeof(config)))
			return -EFAULT;
		if (config.flags)
			return -EINVAL;
		err = tsnic_stamp_set(glue_of_dev(dev), &config.tx_type, &config.rx_filter);
		if (err)
			return err;
		break;
	case SIOCGHWTSTAMP:
		tsnic_stamp_get(glue_of_dev(dev), &config.tx_type, &config.rx_filter);
		break;
	default:
		return -EOPNOTSUPP;
	}
	return copy_to_user(ifr->ifr_data, &config, sizeof(config)) ? -EFAULT : 0;
}

#endif
