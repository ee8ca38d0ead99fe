// SPDX-License-Identifier: GPL-2.0-only
/* linux/virtio_config.h: finding the queues, reading the configuration. */
#include <linux/etherdevice.h>
#include <linux/gfp.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include "tsnic.h"

struct tsnic *glue_nic_alloc(struct virtio_device *vdev, unsigned int page_size,
			     unsigned int registration_size)
{
	struct net_device *dev = alloc_etherdev(sizeof(struct tsnic *));
	struct tsnic *nic = kzalloc(sizeof(*nic) + tsnic_state_size(), GFP_KERNEL);
	void *registration = kzalloc(registration_size, GFP_KERNEL);

	if (!dev || !nic || !registration) {
		kfree(registration);
		kfree(nic);
		if (dev)
			free_netdev(dev);
		return NULL;
	}
	*(struct tsnic **)netdev_priv(dev) = nic;
	nic->dev = dev;
	nic->vdev = vdev;
	nic->registration = registration;
	nic->page = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN, get_order(page_size));
	nic->page_size = page_size;
	spin_lock_init(&nic->config_lock);
	glue_init_deferred(nic);
	glue_napi_add(nic);
	vdev->priv = nic;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	/*
	 * The kernel's virtio_net turns configuration changes off when its interface goes down, and
	 * off they stay for the next driver of the device. What changes before the link is looked
	 * at, at the end of probe, need not be told.
	 */
	virtio_config_driver_enable(vdev);
#endif
	SET_NETDEV_DEV(dev, &vdev->dev);
	return nic;
}

void glue_nic_free(struct tsnic *nic)
{
	nic->vdev->priv = NULL;
	glue_napi_del(nic);
	if (nic->page)
		free_pages((unsigned long)nic->page, get_order(nic->page_size));
	kfree(nic->registration);
	free_netdev(nic->dev);
	kfree(nic);
}

void *glue_state(struct tsnic *nic)
{
	return nic->rust;
}

void *glue_page(struct tsnic *nic)
{
	return nic->page;
}

struct virtio_device *glue_vdev(struct tsnic *nic)
{
	return nic->vdev;
}

struct tsnic *glue_nic_of_dev(struct net_device *dev)
{
	return glue_of_dev(dev);
}

struct tsnic *glue_nic_of_vdev(struct virtio_device *vdev)
{
	return vdev->priv;
}

struct tsnic *glue_nic_of_vq(struct virtqueue *vq)
{
	return vq->vdev->priv;
}

bool glue_has_feature(struct virtio_device *vdev, unsigned int bit)
{
	return virtio_has_feature(vdev, bit);
}

void glue_error(struct virtio_device *vdev, const char *text)
{
	dev_err(&vdev->dev, "%s\n", text);
}

int glue_find_vqs(struct tsnic *nic)
{
	struct virtqueue *vqs[2];
	int err;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	struct virtqueue_info info[] = { { "rx", tsnic_rx_interrupt }, { "tx", tsnic_tx_interrupt } };

	err = virtio_find_vqs(nic->vdev, 2, vqs, info, NULL);
#else
	vq_callback_t *callbacks[] = { tsnic_rx_interrupt, tsnic_tx_interrupt };
	static const char *const names[] = { "rx", "tx" };

	err = virtio_find_vqs(nic->vdev, 2, vqs, callbacks, names, NULL);
#endif
	if (err)
		return err;
	nic->rx = vqs[0];
	nic->tx = vqs[1];
	return 0;
}

void glue_del_vqs(struct tsnic *nic)
{
	nic->vdev->config->del_vqs(nic->vdev);
}

void glue_reset(struct tsnic *nic)
{
	virtio_reset_device(nic->vdev);
}

void glue_device_ready(struct tsnic *nic)
{
	virtio_device_ready(nic->vdev);
}

void glue_read_mac(struct tsnic *nic, u8 *mac)
{
	virtio_cread_bytes(nic->vdev, offsetof(struct virtio_net_config, mac), mac, ETH_ALEN);
}

u16 glue_read_status(struct tsnic *nic)
{
	u16 status;

	virtio_cread_le(nic->vdev, struct virtio_net_config, status, &status);
	return status;
}

u16 glue_read_mtu(struct tsnic *nic)
{
	u16 mtu;

	virtio_cread_le(nic->vdev, struct virtio_net_config, mtu, &mtu);
	return mtu;
}
