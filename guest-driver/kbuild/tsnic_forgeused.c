// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts an entry into the used ring of one of an interface's queues that the device has not been
 * given: what a device that breaks virtio's rules does. Once, when the module is loaded, after the
 * device has added none for QUIET_MS.
 */
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/device/bus.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/string.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

static char *queue = "rx";
module_param(queue, charp, 0444);
MODULE_PARM_DESC(queue, "the queue's name: rx or tx");

static char *interface = "eth0";
module_param(interface, charp, 0444);
MODULE_PARM_DESC(interface, "the interface's name");

#define QUIET_MS 50

static u16 used_idx(struct virtqueue *vq)
{
	return virtio16_to_cpu(vq->vdev, READ_ONCE(virtqueue_get_vring(vq)->used->idx));
}

/* The ring's used index, once it stands still. */
static u16 quiet_idx(struct virtqueue *vq)
{
	u16 before, idx = used_idx(vq);

	do {
		before = idx;
		msleep(QUIET_MS);
		idx = used_idx(vq);
	} while (idx != before);
	return idx;
}

static void forge(struct virtqueue *vq)
{
	const struct vring *ring = virtqueue_get_vring(vq);
	u16 idx = quiet_idx(vq);
	struct vring_used_elem *used = &ring->used->ring[idx & (ring->num - 1)];
	unsigned long flags;

	/* One more than the largest id. */
	used->id = cpu_to_virtio32(vq->vdev, ring->num);
	used->len = cpu_to_virtio32(vq->vdev, 0);
	virtio_wmb(false);
	WRITE_ONCE(ring->used->idx, cpu_to_virtio16(vq->vdev, idx + 1));
	local_irq_save(flags);
	vring_interrupt(0, vq);
	local_irq_restore(flags);
}

static bool is_virtio(const struct device *parent)
{
	return parent && parent->bus && !strcmp(parent->bus->name, "virtio");
}

static int __init forgeused_init(void)
{
	struct net_device *dev;
	struct virtqueue *vq;
	int result = -ENODEV;

	/* Keeps the driver from deleting the queues. */
	rtnl_lock();
	dev = __dev_get_by_name(&init_net, interface);
	if (!dev || !is_virtio(dev->dev.parent))
		goto out;
	virtio_device_for_each_vq(dev_to_virtio(dev->dev.parent), vq) {
		if (!strcmp(vq->name, queue)) {
			forge(vq);
			result = 0;
		}
	}
out:
	rtnl_unlock();
	return result;
}

static void __exit forgeused_exit(void)
{
}

module_init(forgeused_init);
module_exit(forgeused_exit);
MODULE_DESCRIPTION("tsnic test: a device that gives back what it was not given");
MODULE_AUTHOR("The tsnic authors");
MODULE_LICENSE("GPL");
