// SPDX-License-Identifier: GPL-2.0-only
/* linux/netdevice.h: NAPI. */
#include <linux/bottom_half.h>
#include <linux/netdevice.h>

#include "tsnic.h"

/*
 * Linux 4.11 inserted NAPI_STATE_MISSED before NAPI_STATE_DISABLE, so the numbers are this
 * kernel's, never constants.
 */
const unsigned int glue_napi_sched_bit = NAPI_STATE_SCHED;
const unsigned int glue_napi_disable_bit = NAPI_STATE_DISABLE;

struct napi_struct *glue_rx_napi(struct tsnic *nic)
{
	return &nic->rx_napi;
}

struct napi_struct *glue_tx_napi(struct tsnic *nic)
{
	return &nic->tx_napi;
}

struct tsnic *glue_nic_of_rx_napi(struct napi_struct *napi)
{
	return container_of(napi, struct tsnic, rx_napi);
}

struct tsnic *glue_nic_of_tx_napi(struct napi_struct *napi)
{
	return container_of(napi, struct tsnic, tx_napi);
}

unsigned long *glue_napi_state(struct napi_struct *napi)
{
	return &napi->state;
}

void glue_napi_add(struct tsnic *nic)
{
	netif_napi_add(nic->dev, &nic->rx_napi, tsnic_rx_poll);
	netif_napi_add_tx(nic->dev, &nic->tx_napi, tsnic_tx_poll);
}

void glue_napi_del(struct tsnic *nic)
{
	netif_napi_del(&nic->rx_napi);
	netif_napi_del(&nic->tx_napi);
}

/* Bottom halves off, or hard interrupts. */
void glue_napi_schedule(struct napi_struct *napi)
{
	napi_schedule(napi);
}

/*
 * From process context the softirq must be let run: napi_schedule() alone would leave it to the
 * next interrupt.
 */
void glue_napi_schedule_bh(struct napi_struct *napi)
{
	local_bh_disable();
	napi_schedule(napi);
	local_bh_enable();
}

/*
 * Returns when every poll that had begun has returned: polls run with bottom halves off, which an
 * RCU grace period waits for.
 */
void glue_napi_grace(void)
{
	synchronize_net();
}

void glue_gro_receive(struct napi_struct *napi, struct sk_buff *skb)
{
	napi_gro_receive(napi, skb);
}
