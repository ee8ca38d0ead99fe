// SPDX-License-Identifier: GPL-2.0-only
/* linux/ethtool.h */
#include <linux/ethtool.h>
#include <linux/net_tstamp.h>
#include <linux/version.h>

#include "tsnic.h"

static int get_sset_count(struct net_device *dev, int set)
{
	return set == ETH_SS_STATS ? tsnic_stat_count() : -EOPNOTSUPP;
}

static void get_strings(struct net_device *dev, u32 set, u8 *data)
{
	unsigned int i;

	if (set == ETH_SS_STATS)
		for (i = 0; i < tsnic_stat_count(); i++)
			tsnic_stat_name(i, data + i * ETH_GSTRING_LEN);
}

static void get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	unsigned int i;

	for (i = 0; i < tsnic_stat_count(); i++)
		data[i] = tsnic_stat_value(glue_of_dev(dev), i);
}

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->bus_info, dev_name(dev->dev.parent), sizeof(info->bus_info));
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static int get_ts_info(struct net_device *dev, struct kernel_ethtool_ts_info *info)
#else
static int get_ts_info(struct net_device *dev, struct ethtool_ts_info *info)
#endif
{
	bool tx = false;

	info->so_timestamping = SOF_TIMESTAMPING_TX_SOFTWARE |
				SOF_TIMESTAMPING_RX_SOFTWARE |
				SOF_TIMESTAMPING_SOFTWARE;
	info->phc_index = glue_ptp_index(glue_of_dev(dev));
	info->tx_types = BIT(HWTSTAMP_TX_OFF);
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE);
	if (tsnic_stamp_able(glue_of_dev(dev), &tx)) {
		info->so_timestamping |= SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
		info->rx_filters |= BIT(HWTSTAMP_FILTER_ALL);
	}
	if (tx) {
		info->so_timestamping |= SOF_TIMESTAMPING_TX_HARDWARE;
		info->tx_types |= BIT(HWTSTAMP_TX_ON);
	}
	return 0;
}

static int get_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
			struct kernel_ethtool_coalesce *kernel_coalesce,
			struct netlink_ext_ack *extack)
{
	struct tsnic_moderation moderation = {};
	int err = tsnic_moderation_get(glue_of_dev(dev), &moderation);

	if (err)
		return err;
	coalesce->rx_coalesce_usecs = moderation.rx_usecs;
	coalesce->rx_max_coalesced_frames = moderation.rx_frames;
	coalesce->tx_coalesce_usecs = moderation.tx_usecs;
	coalesce->tx_max_coalesced_frames = moderation.tx_frames;
	coalesce->use_adaptive_rx_coalesce = moderation.adaptive_rx;
	coalesce->use_adaptive_tx_coalesce = moderation.adaptive_tx;
	return 0;
}

static int set_coalesce(struct net_device *dev, struct ethtool_coalesce *coalesce,
			struct kernel_ethtool_coalesce *kernel_coalesce,
			struct netlink_ext_ack *extack)
{
	struct tsnic_moderation moderation = {
		.rx_usecs = coalesce->rx_coalesce_usecs,
		.rx_frames = coalesce->rx_max_coalesced_frames,
		.tx_usecs = coalesce->tx_coalesce_usecs,
		.tx_frames = coalesce->tx_max_coalesced_frames,
		.adaptive_rx = coalesce->use_adaptive_rx_coalesce,
		.adaptive_tx = coalesce->use_adaptive_tx_coalesce,
	};
	int err = tsnic_moderation_set(glue_of_dev(dev), &moderation);

	if (err == -ERANGE)
		NL_SET_ERR_MSG_MOD(extack, "The device does not moderate for as long, or for as many frames");
	else if (err == -ETIMEDOUT)
		NL_SET_ERR_MSG_MOD(extack, "The device has not answered");
	return err;
}

const struct ethtool_ops glue_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_USECS | ETHTOOL_COALESCE_MAX_FRAMES |
				     ETHTOOL_COALESCE_USE_ADAPTIVE,
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_coalesce = get_coalesce,
	.set_coalesce = set_coalesce,
	.get_sset_count = get_sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = get_ethtool_stats,
	.get_ts_info = get_ts_info,
};
