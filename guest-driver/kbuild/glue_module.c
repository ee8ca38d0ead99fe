// SPDX-License-Identifier: GPL-2.0-only
/* linux/module.h, linux/moduleparam.h: the module and its parameters. */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/virtio.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>

#include "tsnic.h"

static int irq_mode_set(const char *value, const struct kernel_param *kp)
{
	return tsnic_irq_mode_set(value, strlen(value));
}

static int irq_mode_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", tsnic_irq_mode_get());
}

static const struct kernel_param_ops irq_mode_ops = {
	.set = irq_mode_set,
	.get = irq_mode_get,
};
module_param_cb(irq_mode, &irq_mode_ops, NULL, 0644);
MODULE_PARM_DESC(irq_mode,
		 "how a receive interrupt takes the NAPI: v4_11 (napi_schedule_prep) or "
		 "v4_10 (the expression of Linux 4.10.0); busy while an interface is up");

static int behaviour_set(const char *value, const struct kernel_param *kp)
{
	return tsnic_behaviour_set(value, strlen(value));
}

static int behaviour_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", tsnic_behaviour_get());
}

static const struct kernel_param_ops behaviour_ops = {
	.set = behaviour_set,
	.get = behaviour_get,
};
module_param_cb(behaviour, &behaviour_ops, NULL, 0644);
MODULE_PARM_DESC(behaviour,
		 "test: what the driver does wrong: right (nothing), out-of-memory (a poll that "
		 "consumed packets refills as if memory had run out), no-refill, no-kick");

static void config_changed(struct virtio_device *vdev)
{
	glue_schedule_config_work(vdev->priv);
}

static const struct virtio_device_id id_table[] = {
	{ VIRTIO_ID_NET, VIRTIO_DEV_ANY_ID },
	{ 0 },
};

static const unsigned int features[] = {
	VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC,
	VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS,
};

static struct virtio_driver tsnic_driver = {
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = id_table,
	.probe = tsnic_probe,
	.remove = tsnic_remove,
	.config_changed = config_changed,
#ifdef CONFIG_PM
	.freeze = tsnic_freeze,
	.restore = tsnic_restore,
#endif
};
module_virtio_driver(tsnic_driver);

/* No MODULE_DEVICE_TABLE: a machine must not load this by itself in place of virtio_net. */
MODULE_DESCRIPTION("tsnic: a NAPI driver for virtio-net that registers a shared queue page "
		   "with its device");
MODULE_AUTHOR("The tsnic authors");
MODULE_LICENSE("GPL");
