// SPDX-License-Identifier: GPL-2.0-only
/* linux/skbuff.h, linux/etherdevice.h: packets. */
#include <linux/etherdevice.h>
#include <linux/skbuff.h>

#include "tsnic.h"

const unsigned int glue_max_skb_frags = MAX_SKB_FRAGS;

struct sk_buff *glue_skb_alloc(struct tsnic *nic, unsigned int length)
{
	return netdev_alloc_skb(nic->dev, length);
}

void glue_skb_free(struct sk_buff *skb)
{
	dev_kfree_skb_any(skb);
}

void glue_skb_consume(struct sk_buff *skb, int budget)
{
	napi_consume_skb(skb, budget);
}

const void *glue_skb_data(const struct sk_buff *skb)
{
	return skb->data;
}

unsigned int glue_skb_len(const struct sk_buff *skb)
{
	return skb->len;
}

void glue_skb_put_pull(struct sk_buff *skb, unsigned int length, unsigned int pull)
{
	skb_put(skb, length);
	__skb_pull(skb, pull);
}

/* @tail: the last part so far, NULL if there is none. */
void glue_skb_chain(struct sk_buff *head, struct sk_buff **tail, struct sk_buff *part)
{
	if (*tail)
		(*tail)->next = part;
	else
		skb_shinfo(head)->frag_list = part;
	*tail = part;
	head->len += part->len;
	head->data_len += part->len;
	head->truesize += part->truesize;
}

void glue_skb_csum_valid(struct sk_buff *skb)
{
	skb->ip_summed = CHECKSUM_UNNECESSARY;
}

bool glue_skb_csum_partial(struct sk_buff *skb, u16 start, u16 offset)
{
	return skb_partial_csum_set(skb, start, offset);
}

void glue_skb_hwtstamp(struct sk_buff *skb, u64 ns)
{
	skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(ns);
}

void glue_skb_type(struct tsnic *nic, struct sk_buff *skb)
{
	skb->protocol = eth_type_trans(skb, nic->dev);
}

void glue_skb_wish(const struct sk_buff *skb, struct tsnic_tx_wish *wish)
{
	wish->csum = skb->ip_summed == CHECKSUM_PARTIAL;
	wish->csum_start = wish->csum ? skb_checksum_start_offset(skb) : 0;
	wish->csum_offset = wish->csum ? skb->csum_offset : 0;
	wish->hwtstamp = skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP;
}

/*
 * If one is promised, tells the stack that a hardware timestamp will come, so that it makes none of
 * its own.
 */
void glue_skb_stamp_soon(struct sk_buff *skb, bool promised)
{
	glue_tx_cb(skb)->stamp_due = promised;
	if (promised)
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
}

void glue_skb_stamp_soft(struct sk_buff *skb)
{
	skb_tx_timestamp(skb);
}

bool glue_skb_stamp_due(const struct sk_buff *skb)
{
	return glue_tx_cb(skb)->stamp_due;
}

void glue_skb_stamped(struct sk_buff *skb, u64 ns)
{
	struct skb_shared_hwtstamps stamps = { .hwtstamp = ns_to_ktime(ns) };

	skb_tstamp_tx(skb, &stamps);
}

/*
 * The promised timestamp did not come. A software timestamp of now is late by the time the device
 * took, but is one.
 */
void glue_skb_unstamped(struct sk_buff *skb)
{
	skb_shinfo(skb)->tx_flags &= ~SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);
}
