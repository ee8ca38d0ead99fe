// SPDX-License-Identifier: GPL-2.0-only
/* linux/virtio.h, linux/scatterlist.h: adding buffers to the rings. */
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <linux/virtio.h>

#include "tsnic.h"

struct virtqueue *glue_rx_vq(struct tsnic *nic)
{
	return nic->rx;
}

struct virtqueue *glue_tx_vq(struct tsnic *nic)
{
	return nic->tx;
}

/*
 * The kernel's function takes a pointer to const since Linux 6.4, like the one for
 * glue_is_broken().
 */
unsigned int glue_ring_size(struct virtqueue *vq)
{
	return virtqueue_get_vring_size(vq);
}

bool glue_is_broken(struct virtqueue *vq)
{
	return virtqueue_is_broken(vq);
}

unsigned int glue_num_free(struct virtqueue *vq)
{
	return vq->num_free;
}

int glue_add_in(struct virtqueue *vq, struct sk_buff *skb, unsigned int length)
{
	struct scatterlist sg;

	sg_init_one(&sg, skb->data, length);
	return virtqueue_add_inbuf(vq, &sg, 1, skb, GFP_ATOMIC);
}

/*
 * The header goes in front of the frame if there is room that is the skb's own, else into the skb's
 * control block.
 */
int glue_add_out(struct tsnic *nic, struct sk_buff *skb, const void *header, unsigned int length)
{
	int used;

	if (WARN_ON_ONCE(length > sizeof(glue_tx_cb(skb)->header)))
		return -EINVAL;
	if (!skb_header_cloned(skb) && skb_headroom(skb) >= length) {
		memcpy(__skb_push(skb, length), header, length);
		sg_init_table(nic->sg, skb_shinfo(skb)->nr_frags + 1);
		used = skb_to_sgvec(skb, nic->sg, 0, skb->len);
		__skb_pull(skb, length);
	} else {
		memcpy(glue_tx_cb(skb)->header, header, length);
		sg_init_table(nic->sg, skb_shinfo(skb)->nr_frags + 2);
		sg_set_buf(nic->sg, glue_tx_cb(skb)->header, length);
		used = skb_to_sgvec(skb, nic->sg + 1, 0, skb->len);
		if (used >= 0)
			used++;
	}
	if (used < 0)
		return used;
	return virtqueue_add_outbuf(nic->tx, nic->sg, used, skb, GFP_ATOMIC);
}

int glue_add_registration(struct tsnic *nic, const void *header, unsigned int length)
{
	struct scatterlist out, in;
	struct scatterlist *chain[] = { &out, &in };

	memcpy(nic->registration, header, length);
	sg_init_one(&out, nic->registration, length);
	sg_init_one(&in, nic->page, nic->page_size);
	return virtqueue_add_sgs(nic->tx, chain, 1, 1, nic->registration, GFP_ATOMIC);
}

bool glue_is_registration(struct tsnic *nic, const void *token)
{
	return token == nic->registration;
}
