// SPDX-License-Identifier: GPL-2.0-only
/*
 * The channel for test modules: lets one find the rendezvous cells from inside a poll. The driver
 * itself never calls it.
 */
#include <linux/export.h>
#include <linux/netdevice.h>
#include <linux/virtio.h>

#include "tsnic.h"

bool tsnic_is_rx_napi(const struct napi_struct *napi)
{
	return READ_ONCE(napi->poll) == tsnic_rx_poll;
}
EXPORT_SYMBOL_GPL(tsnic_is_rx_napi);

bool tsnic_rendezvous(struct napi_struct *napi, struct tsnic_rendezvous *rendezvous)
{
	return tsnic_is_rx_napi(napi) &&
	       tsnic_rendezvous_cells(glue_nic_of_rx_napi(napi), rendezvous);
}
EXPORT_SYMBOL_GPL(tsnic_rendezvous);

void tsnic_rendezvous_kick(struct napi_struct *napi)
{
	virtqueue_notify(glue_nic_of_rx_napi(napi)->rx);
}
EXPORT_SYMBOL_GPL(tsnic_rendezvous_kick);
