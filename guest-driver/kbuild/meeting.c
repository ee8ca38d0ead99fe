// SPDX-License-Identifier: GPL-2.0-only
/* The seam for test modules: lets one find the rendezvous cells from inside a poll. The driver itself never calls it. */
#include <linux/export.h>
#include <linux/netdevice.h>
#include <linux/virtio.h>

#include "tsnic.h"

bool tsnic_meeting(struct napi_struct *napi, struct tsnic_meeting *meeting)
{
	return READ_ONCE(napi->poll) == tsnic_rx_poll && tsnic_meeting_cells(glue_nic_of_rx_napi(napi), meeting);
}
EXPORT_SYMBOL_GPL(tsnic_meeting);

void tsnic_meeting_kick(struct napi_struct *napi)
{
	virtqueue_notify(glue_nic_of_rx_napi(napi)->rx);
}
EXPORT_SYMBOL_GPL(tsnic_meeting_kick);
