// SPDX-License-Identifier: GPL-2.0-only
/* linux/delay.h, linux/timer.h, linux/workqueue.h: what runs later. */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/workqueue.h>

#include "tsnic.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define timer_container_of from_timer
#endif

static void refill(struct timer_list *timer)
{
	struct tsnic *nic = timer_container_of(nic, timer, refill);

	tsnic_refill(nic);
}

static void config(struct work_struct *work)
{
	struct tsnic *nic = container_of(work, struct tsnic, config);

	tsnic_config(nic);
}

void glue_init_deferred(struct tsnic *nic)
{
	timer_setup(&nic->refill, refill, 0);
	INIT_WORK(&nic->config, config);
}

void glue_sleep_us(unsigned int us)
{
	usleep_range(us, 2 * us);
}

void glue_refill_in(struct tsnic *nic, unsigned int ms)
{
	mod_timer(&nic->refill, jiffies + msecs_to_jiffies(ms));
}

void glue_refill_cancel(struct tsnic *nic)
{
	timer_delete_sync(&nic->refill);
}

/* Any context. */
void glue_schedule_config_work(struct tsnic *nic)
{
	unsigned long flags;

	spin_lock_irqsave(&nic->config_lock, flags);
	if (!nic->config_off)
		schedule_work(&nic->config);
	spin_unlock_irqrestore(&nic->config_lock, flags);
}

/* After this no configuration work runs or will be queued, until glue_config_on(). May sleep. */
void glue_config_off(struct tsnic *nic)
{
	unsigned long flags;

	spin_lock_irqsave(&nic->config_lock, flags);
	nic->config_off = true;
	spin_unlock_irqrestore(&nic->config_lock, flags);
	cancel_work_sync(&nic->config);
}

void glue_config_on(struct tsnic *nic)
{
	unsigned long flags;

	spin_lock_irqsave(&nic->config_lock, flags);
	nic->config_off = false;
	spin_unlock_irqrestore(&nic->config_lock, flags);
}
