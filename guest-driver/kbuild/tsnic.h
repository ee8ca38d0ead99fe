/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the C glue and the Rust half of tsnic.ko know of each other.
 *
 * glue_*() is C, called by Rust: a kernel macro or inline made linkable, or a difference between
 * kernel versions hidden; no policy. tsnic_*() is Rust, called by the kernel through the tables in
 * the glue. guest-driver/src/bridge/sys.rs is the same list in Rust: signatures.awk has the
 * compiler compare the two.
 */
#ifndef TSNIC_H
#define TSNIC_H

#include <linux/netdevice.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>

/* One network interface. Allocated by glue_nic_alloc(); zeroed; never moved. */
struct tsnic {
	struct net_device *dev;
	struct virtio_device *vdev;
	struct virtqueue *rx;
	struct virtqueue *tx;
	struct napi_struct rx_napi;
	struct napi_struct tx_napi;
	struct timer_list refill;
	struct work_struct config;
	/* Guards config_off: while it is set, no configuration work is queued. */
	spinlock_t config_lock;
	bool config_off;
	struct ptp_clock_info ptp_info;
	/* NULL when there is none. */
	struct ptp_clock *ptp;
	/* The shared queue page: 2^order pages in one piece, or NULL. */
	void *page;
	unsigned int page_size;
	/* Room for the registration header, in memory that a scatterlist may name. */
	void *registration;
	/* The transmit queue's lock guards it: virtio-net header, skb head, fragments. */
	struct scatterlist sg[MAX_SKB_FRAGS + 2];
	/* The Rust half's state. kmalloc() promises no more than this alignment. */
	u8 rust[] __aligned(8);
};

/* Numbers for ip -s link. */
struct tsnic_totals {
	u64 rx_packets, rx_bytes, rx_dropped;
	u64 tx_packets, tx_bytes, tx_dropped;
};

/* The control block of a packet in the transmit ring. */
struct tsnic_tx_cb {
	/* The virtio-net header, when there is no room for it in front of the frame. */
	u8 header[12];
	/*
	 * This driver has promised a hardware timestamp. SKBTX_IN_PROGRESS would not tell: the
	 * packet's clones share it.
	 */
	bool stamp_due;
};

/* Moderation of interrupts, as ethtool -C means it. */
struct tsnic_moderation {
	u32 rx_usecs, rx_frames, tx_usecs, tx_frames;
	bool adaptive_rx, adaptive_tx;
};

/* What a frame that is to be sent asks for. */
struct tsnic_tx_wish {
	u16 csum_start, csum_offset;
	bool csum, hwtstamp;
};

/* Where a rendezvous is arranged: cells of the shared queue page. See tsnic_rendezvous(). */
struct tsnic_rendezvous {
	const u32 *requested;
	u32 *arrived;
	u32 *point;
	const u32 *released;
	u32 before_complete;
};

/* Rust, called by the kernel (guest-driver/src/bridge/entry.rs). */
size_t tsnic_state_size(void);
int tsnic_probe(struct virtio_device *vdev);
void tsnic_remove(struct virtio_device *vdev);
int tsnic_freeze(struct virtio_device *vdev);
int tsnic_restore(struct virtio_device *vdev);
void tsnic_config(struct tsnic *nic);
void tsnic_rx_interrupt(struct virtqueue *vq);
void tsnic_tx_interrupt(struct virtqueue *vq);
int tsnic_rx_poll(struct napi_struct *napi, int budget);
int tsnic_tx_poll(struct napi_struct *napi, int budget);
void tsnic_refill(struct tsnic *nic);
int tsnic_open(struct net_device *dev);
int tsnic_stop(struct net_device *dev);
netdev_tx_t tsnic_xmit(struct sk_buff *skb, struct net_device *dev);
void tsnic_tx_timeout(struct net_device *dev);
void tsnic_totals(struct tsnic *nic, struct tsnic_totals *totals);
int tsnic_stamp_set(struct tsnic *nic, int *tx_type, int *rx_filter);
void tsnic_stamp_get(struct tsnic *nic, int *tx_type, int *rx_filter);
bool tsnic_stamp_able(struct tsnic *nic, bool *tx);
int tsnic_moderation_get(struct tsnic *nic, struct tsnic_moderation *moderation);
int tsnic_moderation_set(struct tsnic *nic, struct tsnic_moderation *moderation);
bool tsnic_has_clock(struct tsnic *nic);
int tsnic_clock_read(struct tsnic *nic, u64 *ns);
int tsnic_clock_set(struct tsnic *nic, s64 ns);
int tsnic_clock_step(struct tsnic *nic, s64 ns);
int tsnic_clock_rate(struct tsnic *nic, s64 rate);
unsigned int tsnic_stat_count(void);
void tsnic_stat_name(unsigned int index, u8 *name);
u64 tsnic_stat_value(struct tsnic *nic, unsigned int index);
int tsnic_irq_mode_set(const char *value, size_t length);
const char *tsnic_irq_mode_get(void);
int tsnic_behaviour_set(const char *value, size_t length);
const char *tsnic_behaviour_get(void);
bool tsnic_rendezvous_cells(struct tsnic *nic, struct tsnic_rendezvous *rendezvous);

/* For a test module (rendezvous.c): whether @napi is one of this driver's receive NAPIs. */
bool tsnic_is_rx_napi(const struct napi_struct *napi);
/*
 * For a test module (rendezvous.c): the rendezvous cells of the receive queue that @napi polls, or
 * false if @napi is not one of this driver's receive NAPIs, or its queue has no page.
 *
 * Context: only from inside the poll of @napi (for instance from a hook on napi_complete_done()).
 * The interface and its page cannot go away while the poll function runs: it has bottom halves off,
 * and device removal waits for an RCU grace period after the NAPI is disabled. (To wait for
 * NAPI_STATE_SCHED would not do: a poll gives it up before it returns.)
 */
bool tsnic_rendezvous(struct napi_struct *napi, struct tsnic_rendezvous *rendezvous);
/* Kicks that queue. Same context. */
void tsnic_rendezvous_kick(struct napi_struct *napi);

extern const struct net_device_ops glue_netdev_ops;
extern const struct ethtool_ops glue_ethtool_ops;

/* What glue files give each other. */
void glue_init_deferred(struct tsnic *nic);
int glue_ptp_index(struct tsnic *nic);
void glue_napi_add(struct tsnic *nic);
void glue_napi_del(struct tsnic *nic);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
struct kernel_hwtstamp_config;
int glue_hwtstamp_set(struct net_device *dev, struct kernel_hwtstamp_config *config,
		      struct netlink_ext_ack *extack);
int glue_hwtstamp_get(struct net_device *dev, struct kernel_hwtstamp_config *config);
#else
int glue_eth_ioctl(struct net_device *dev, struct ifreq *ifr, int cmd);
#endif

static inline struct tsnic_tx_cb *glue_tx_cb(const struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct tsnic_tx_cb) > sizeof(skb->cb));
	return (struct tsnic_tx_cb *)skb->cb;
}

static inline struct tsnic *glue_of_dev(struct net_device *dev)
{
	return *(struct tsnic **)netdev_priv(dev);
}

/* C, called by Rust. */
struct tsnic *glue_nic_alloc(struct virtio_device *vdev, unsigned int page_size,
			     unsigned int registration_size);
void glue_nic_free(struct tsnic *nic);
void *glue_state(struct tsnic *nic);
void *glue_page(struct tsnic *nic);
struct virtio_device *glue_vdev(struct tsnic *nic);
struct tsnic *glue_nic_of_dev(struct net_device *dev);
struct tsnic *glue_nic_of_vdev(struct virtio_device *vdev);
struct tsnic *glue_nic_of_vq(struct virtqueue *vq);
struct tsnic *glue_nic_of_rx_napi(struct napi_struct *napi);
struct tsnic *glue_nic_of_tx_napi(struct napi_struct *napi);

bool glue_has_feature(struct virtio_device *vdev, unsigned int bit);
void glue_error(struct virtio_device *vdev, const char *text);
int glue_find_vqs(struct tsnic *nic);
void glue_del_vqs(struct tsnic *nic);
void glue_reset(struct tsnic *nic);
void glue_device_ready(struct tsnic *nic);
void glue_read_mac(struct tsnic *nic, u8 *mac);
u16 glue_read_status(struct tsnic *nic);
u16 glue_read_mtu(struct tsnic *nic);
struct virtqueue *glue_rx_vq(struct tsnic *nic);
struct virtqueue *glue_tx_vq(struct tsnic *nic);
unsigned int glue_ring_size(struct virtqueue *vq);
unsigned int glue_num_free(struct virtqueue *vq);
bool glue_is_broken(struct virtqueue *vq);
int glue_add_in(struct virtqueue *vq, struct sk_buff *skb, unsigned int length);
int glue_add_out(struct tsnic *nic, struct sk_buff *skb, const void *header, unsigned int length);
int glue_add_registration(struct tsnic *nic, const void *header, unsigned int length);
bool glue_is_registration(struct tsnic *nic, const void *token);

void glue_netdev_setup(struct tsnic *nic, const u8 *mac, bool csum, bool guest_csum, u32 mtu,
		       u32 max_mtu, u16 headroom);
int glue_netdev_register(struct tsnic *nic);
void glue_netdev_unregister(struct tsnic *nic);
void glue_netdev_detach(struct tsnic *nic);
void glue_netdev_attach(struct tsnic *nic);
void glue_rtnl_lock(void);
void glue_rtnl_unlock(void);
void glue_carrier(struct tsnic *nic, bool up);
void glue_queue_stop(struct tsnic *nic);
void glue_queue_wake(struct tsnic *nic);
bool glue_queue_stopped(struct tsnic *nic);
void glue_tx_lock_bh(struct tsnic *nic);
void glue_tx_unlock_bh(struct tsnic *nic);
void glue_tx_lock(struct tsnic *nic);
void glue_tx_unlock(struct tsnic *nic);
bool glue_xmit_more(void);

extern const unsigned int glue_napi_sched_bit;
extern const unsigned int glue_napi_disable_bit;
struct napi_struct *glue_rx_napi(struct tsnic *nic);
struct napi_struct *glue_tx_napi(struct tsnic *nic);
unsigned long *glue_napi_state(struct napi_struct *napi);
void glue_napi_schedule(struct napi_struct *napi);
void glue_napi_schedule_bh(struct napi_struct *napi);
void glue_napi_grace(void);
void glue_gro_receive(struct napi_struct *napi, struct sk_buff *skb);

extern const unsigned int glue_max_skb_frags;
struct sk_buff *glue_skb_alloc(struct tsnic *nic, unsigned int length);
void glue_skb_free(struct sk_buff *skb);
void glue_skb_consume(struct sk_buff *skb, int budget);
const void *glue_skb_data(const struct sk_buff *skb);
unsigned int glue_skb_len(const struct sk_buff *skb);
void glue_skb_put_pull(struct sk_buff *skb, unsigned int length, unsigned int pull);
void glue_skb_chain(struct sk_buff *head, struct sk_buff **tail, struct sk_buff *part);
void glue_skb_csum_valid(struct sk_buff *skb);
bool glue_skb_csum_partial(struct sk_buff *skb, u16 start, u16 offset);
void glue_skb_hwtstamp(struct sk_buff *skb, u64 ns);
void glue_skb_type(struct tsnic *nic, struct sk_buff *skb);
void glue_skb_wish(const struct sk_buff *skb, struct tsnic_tx_wish *wish);
void glue_skb_stamp_soon(struct sk_buff *skb, bool promised);
void glue_skb_stamp_soft(struct sk_buff *skb);
bool glue_skb_stamp_due(const struct sk_buff *skb);
void glue_skb_stamped(struct sk_buff *skb, u64 ns);
void glue_skb_unstamped(struct sk_buff *skb);

void glue_sleep_us(unsigned int us);
void glue_ptp_register(struct tsnic *nic, int max_ppb);
void glue_ptp_unregister(struct tsnic *nic);
void glue_refill_in(struct tsnic *nic, unsigned int ms);
void glue_refill_cancel(struct tsnic *nic);
void glue_schedule_config_work(struct tsnic *nic);
void glue_config_off(struct tsnic *nic);
void glue_config_on(struct tsnic *nic);

#endif
